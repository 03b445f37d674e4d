"""Worlds: catalogue, users, logs model and reward tables."""

from sim.world.world import LogsModel, Split, World

__all__ = ["LogsModel", "Split", "World"]
