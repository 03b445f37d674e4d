"""The tools of the roles: categories, shortlist, grounding."""
