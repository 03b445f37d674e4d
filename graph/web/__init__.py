"""Page in the browser: visits, stepping, a person's visit, memory and studies, served beside LangGraph's own routes."""
