"""Tools of the roles: worlds, categories, grounding and leave risk."""
