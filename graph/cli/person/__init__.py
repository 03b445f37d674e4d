"""Visit of a person in a terminal."""
