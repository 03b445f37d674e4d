"""Helpers for the page in the browser: its libraries, and a browser that watches it."""
