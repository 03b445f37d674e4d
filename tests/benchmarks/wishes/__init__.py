"""Benchmark of wishes: the share of the first five items that meet what a person asked for."""
