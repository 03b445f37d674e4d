"""The world outside: catalogue, users, rewards, the leave rule, datasets, policies and metrics."""
