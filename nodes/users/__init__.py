"""Roles that play the user: simulated, LLM or person."""
