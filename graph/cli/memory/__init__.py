"""The command `billp memory`: list, search, export, import and forget records."""
