"""Chroma backend: connection, layout of records, search, time to live and index repair."""
