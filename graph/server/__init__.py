"""Border of a LangGraph server: accounts, the access of each account, limits on requests; client of a server."""
