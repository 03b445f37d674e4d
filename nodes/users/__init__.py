"""Roles of the user: simulated user, LLM or person."""
