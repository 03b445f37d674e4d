"""Metrics of visits: totals, calibration, diversity, with bootstrap intervals over users."""

from sim.metrics.summary import paired, summarize, unpaired

__all__ = ["paired", "summarize", "unpaired"]
