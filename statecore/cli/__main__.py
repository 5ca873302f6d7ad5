"""The command line, for ``python -m statecore.cli``."""

from statecore.cli import main

main()
