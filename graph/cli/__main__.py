"""`python -m graph.cli`: the command `billp`."""

from graph.cli import main

main()
