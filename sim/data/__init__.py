"""Ratings data: streaming readers, collector and data sets."""
