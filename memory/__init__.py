"""What is remembered: a LangGraph store on Chroma, and which records a role gets to see."""
