"""Graphs of a visit, studies over many visits, their reports, and the command line."""
