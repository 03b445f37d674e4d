"""Reinforcement learning: Gymnasium environment, policy network and training."""
