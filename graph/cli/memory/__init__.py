"""Command `billp memory`: list, search, export, import and forget records."""
