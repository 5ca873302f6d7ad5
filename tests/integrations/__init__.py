"""What stands behind the frameworks, tested where they are installed."""
