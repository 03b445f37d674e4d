"""What can go wrong between a client and an endpoint, in words that hold no secret."""

from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from time import time

import openai

from nodes.llm.endpoint.settings import Endpoint

# Statuses after which the same request may succeed; of those from 500 on, only "not implemented" stays.
PASSING = {408, 409, 425, 429}
NOT_IMPLEMENTED = 501
# Statuses that are about what was asked, not about who asks: refused by a filter, too long.
ABOUT_THE_PROMPT = {400, 413, 422}
# How servers refuse a parameter that a visit can do without: their statuses, and what they call it.
REFUSALS = {
    "response_format": ({400, 422, 500, NOT_IMPLEMENTED}, ("response_format", "json_schema", "grammar")),
    "temperature": ({400, 422}, ("temperature",)),
    "max_completion_tokens": ({400, 422}, ("max_completion_tokens",)),
}


class Fault(Exception):
    """An attempt that failed.

    Attributes:
        passing: Whether another attempt may succeed.
        about_prompt: Whether it is about what was asked, so that other prompts may succeed.
        connected: Whether the server was there.
        wait: Seconds after which the server wants to be asked again, if it said so.
        refused: The parameters that the server may have refused.
    """

    def __init__(
        self,
        said: str,
        *,
        passing: bool,
        about_prompt: bool = False,
        connected: bool = True,
        wait: float | None = None,
        refused: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(said)
        self.passing = passing
        self.about_prompt = about_prompt
        self.connected = connected
        self.wait = wait
        self.refused = refused


@contextmanager
def translated(endpoint: Endpoint) -> Iterator[None]:
    """Turn whatever the client raises into a `Fault`.

    Traces, logs and checkpoints keep what a model raises, and servers are known to repeat a key in what they say.
    """
    try:
        yield
    except openai.APIStatusError as error:
        raise _status_fault(error, endpoint) from None
    except (openai.APITimeoutError, TimeoutError):
        raise Fault("it did not answer in time", passing=True) from None
    except openai.APIConnectionError as error:
        # The words of such an error hold addresses, its kind does not.
        kind = type(_origin(error)).__name__
        raise Fault(f"Connection failed, {kind}", passing=True, connected="Connect" not in kind) from None
    except Fault:
        raise
    except Exception as error:
        # The client reads what came from outside: a proxy's page instead of JSON, half a stream, no choices.
        raise Fault(f"what it sent is no reply, {type(error).__name__}", passing=True) from None


def _status_fault(error: openai.APIStatusError, endpoint: Endpoint) -> Fault:
    status, message = error.status_code, error.message
    spent = status == 429 and "insufficient_quota" in message
    refused = [
        name
        for name, (statuses, words) in REFUSALS.items()
        if status in statuses and any(word in message for word in words)
    ]
    return Fault(
        endpoint.without_secrets(f"status {status}, {message}"),
        passing=(status in PASSING or status >= 500) and status != NOT_IMPLEMENTED and not spent,
        about_prompt=status in ABOUT_THE_PROMPT,
        wait=_retry_after(error.response.headers.get("retry-after-ms"), error.response.headers.get("retry-after")),
        refused=frozenset(refused),
    )


def _origin(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _retry_after(milliseconds: str | None, seconds_or_date: str | None) -> float | None:
    """Return the seconds that `Retry-After` asks for; None where it says nothing usable."""
    for text, divisor in ((milliseconds, 1000), (seconds_or_date, 1)):
        try:
            return max(0.0, float(text or "") / divisor)
        except ValueError:
            continue
    try:
        return max(0.0, parsedate_to_datetime(seconds_or_date or "").timestamp() - time())
    except ValueError:
        return None
