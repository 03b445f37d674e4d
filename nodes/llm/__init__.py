"""Language of the roles: models by name, prompts and replies."""
