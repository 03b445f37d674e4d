"""The language of the roles: models by name, prompts, replies."""
