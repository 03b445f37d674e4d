"""Border of a LangGraph server: accounts, what each may reach, limits on requests."""
