"""The integrations, each tested where its framework is installed."""
