"""Application of the server for `langgraph.json`: the page in the browser, and the border around LangGraph's routes."""

from graph.server.app import bordered, with_accounts
from graph.web.data import data_routes
from graph.web.page import page_routes

app = bordered(page_routes(data_routes(graphs=True, accounts=with_accounts())))
