"""`python -m orchestrator` is the command `paretoray`."""

from orchestrator.cli import main

main()
