"""A LangGraph server, as the commands with `--server` reach it."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from sim.errors import BillpError

# Seconds until nobody answers, and until a run that is waited for is asked about again.
CONNECT_SECONDS = 10.0
WAIT_SECONDS = 3600.0


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[LangGraphClient]:
    """Yield a client of the LangGraph server at `url`, which shows the token of BILLP_TOKEN, or LANGGRAPH_API_KEY.

    Raises:
        BillpError: The server does not answer, or refuses a request.
    """
    token = os.environ.get("BILLP_TOKEN", "")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    place = url.rpartition("@")[2] if "@" in url else url
    try:
        timeout = (CONNECT_SECONDS, WAIT_SECONDS, WAIT_SECONDS, CONNECT_SECONDS)
        # Left to itself, the client would send the key of LangSmith to whatever server it is.
        key = os.environ.get("LANGGRAPH_API_KEY")
        async with get_client(url=url, api_key=key, headers=headers, timeout=timeout) as client:
            yield client
    except httpx.HTTPStatusError as error:
        raise BillpError(f"the server at {place} refuses: {error.response.text[:200]}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise BillpError(f"no LangGraph server answers at {place}: `make dev` starts one") from error


async def check_server(url: str) -> None:
    """Ask the LangGraph server at `url` once, so that a wrong address is known before anything waits for it patiently.

    Raises:
        BillpError: The server does not answer, or refuses.
    """
    async with connected(url) as client:
        await client.assistants.search(limit=1)
