"""Simulation: catalogue, users, rewards, the leave rule, data sets, policies and metrics."""
