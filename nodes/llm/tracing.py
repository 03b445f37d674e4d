"""LangSmith traces at a bounded cost, also if LangSmith refuses them or never answers."""

import itertools
import logging
import os
from collections.abc import Callable
from multiprocessing.util import Finalize

from langsmith import Client, configure
from langsmith.utils import LangSmithRetry, tracing_is_enabled

logger = logging.getLogger(__name__)
# Seconds that the exit of a process waits for traces.
WAIT = 10.0
# Milliseconds for a connection and for an answer; LangSmith itself bounds the requests that carry traces alike.
TIMEOUTS = (3_000, 10_000)
# LangSmith's settings: daemon threads, and no compression, which would use a pool of threads that each exit waits for.
SETTINGS = {"LANGSMITH_USE_DAEMON": "true", "LANGSMITH_DISABLE_RUN_COMPRESSION": "true"}
# LangSmith tries a request three times; further ones after a failed connection would only delay the exit.
RETRIES = LangSmithRetry(
    connect=0,
    read=0,
    status=3,
    status_forcelist=(429, 500, 502, 503, 504),
    allowed_methods=None,
    backoff_factor=0.5,
    raise_on_status=False,
)
REMEDY = "check LANGSMITH_ENDPOINT and LANGSMITH_API_KEY, or set LANGSMITH_TRACING=false"
_losses = itertools.count()
# Client of this process, as one entry.
_clients: list[Client] = []


def bound_traces(first: Callable[[], bool] = lambda: next(_losses) == 0) -> None:
    """Bound the cost of traces in a process: one warning if some are lost, and at most 10 seconds before its exit.

    LangSmith's shared client is replaced, so this is for the programs of this project alone. It has no effect if
    tracing is off.

    Args:
        first: Function called for each loss, which returns True at the first one. Processes that share it warn once.
    """
    if _clients or not tracing_is_enabled():
        return
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)

    def warn(reason: object) -> None:
        if first():
            logger.warning("LangSmith does not receive all traces (%s): %s", reason, REMEDY)

    # LangSmith's own warnings are several lines for each request. The client's thread may warn as soon as it is made.
    logging.getLogger("langsmith.client").addFilter(lambda record: record.levelno < logging.WARNING)
    client = Client(
        retry_config=RETRIES, timeout_ms=TIMEOUTS, tracing_error_callback=lambda error: warn(type(error).__name__)
    )
    configure(client=client)
    _clients.append(client)

    def send() -> None:
        try:
            client.flush(WAIT)
            if client.tracing_queue is not None and client.tracing_queue.unfinished_tasks:
                warn(f"no answer within {WAIT:g} seconds")
        except KeyboardInterrupt:
            # An interrupt ends the wait.
            pass

    # Worker processes run no functions of `atexit`.
    Finalize(None, send, exitpriority=0)
