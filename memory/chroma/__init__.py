"""Chroma engine: connection, layout of records, search, expiry and index repair."""
