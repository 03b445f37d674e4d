"""Exact search without Chroma: unit vectors, scores and filters."""
