"""Ratings: streaming readers, collector and data sets."""
