"""Client of a LangGraph server, for the commands with `--server`."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from sim.errors import BillpError

# Timeouts in seconds: to connect, and to wait for a run before its status is requested again.
CONNECT_SECONDS = 10.0
WAIT_SECONDS = 3600.0


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[LangGraphClient]:
    """Yield a client of the LangGraph server at `url`, with the token in BILLP_TOKEN or LANGGRAPH_API_KEY.

    Raises:
        BillpError: The server does not answer, or refuses a request.
    """
    token = os.environ.get("BILLP_TOKEN", "")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    place = url.rpartition("@")[2] if "@" in url else url
    try:
        timeout = (CONNECT_SECONDS, WAIT_SECONDS, WAIT_SECONDS, CONNECT_SECONDS)
        # Without an explicit key, the client would send the LangSmith key to any server.
        key = os.environ.get("LANGGRAPH_API_KEY")
        async with get_client(url=url, api_key=key, headers=headers, timeout=timeout) as client:
            yield client
    except httpx.HTTPStatusError as error:
        raise BillpError(f"the server at {place} refused the request: {error.response.text[:200]}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise BillpError(f"no LangGraph server answers at {place}: start one with `make dev`") from error


async def check_server(url: str) -> None:
    """Send one request to the LangGraph server at `url`, so that a wrong address fails before any retries.

    Raises:
        BillpError: The server does not answer, or refuses the request.
    """
    async with connected(url) as client:
        await client.assistants.search(limit=1)
