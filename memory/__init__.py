"""Memory of the recommender: a LangGraph store on Chroma, its records, and recall."""
