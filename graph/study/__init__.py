"""Studies: train variants, test them and write the results."""

from graph.study.run import run_study

__all__ = ["run_study"]
