"""Faults between client and endpoint, with messages that hold no secret."""

from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from time import time

import openai

from nodes.llm.endpoint.settings import Endpoint

# Statuses after which the same request may succeed, like all from 500 except "not implemented".
PASSING = {408, 409, 425, 429}
NOT_IMPLEMENTED = 501
# Statuses that concern the prompt, not the caller: refused by a filter, too long.
ABOUT_THE_PROMPT = {400, 413, 422}
# Refusals of an optional parameter: statuses of the servers, and their words for the parameter.
REFUSALS = {
    "response_format": ({400, 422, 500, NOT_IMPLEMENTED}, ("response_format", "json_schema", "grammar")),
    "temperature": ({400, 422}, ("temperature",)),
    "max_completion_tokens": ({400, 422}, ("max_completion_tokens",)),
}


class Fault(Exception):
    """Failed attempt.

    Attributes:
        passing: Whether another attempt may succeed.
        about_prompt: Whether the fault concerns the prompt, so that other prompts may succeed.
        connected: Whether the server was reached.
        wait: Seconds to wait before the next attempt, as requested by the server; None without a request.
        refused: Parameters that the server may have refused.
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
    """Turn every error of the client into a `Fault` without secrets.

    Traces, logs and checkpoints keep the errors of a model, and some servers repeat the key in an error message.
    """
    try:
        yield
    except openai.APIStatusError as error:
        raise _status_fault(error, endpoint) from None
    except (openai.APITimeoutError, TimeoutError):
        raise Fault("it did not answer in time", passing=True) from None
    except openai.APIConnectionError as error:
        # Keep only the kind of the error: its message holds addresses.
        kind = type(_origin(error)).__name__
        raise Fault(f"Connection failed, {kind}", passing=True, connected="Connect" not in kind) from None
    except Fault:
        raise
    except Exception as error:
        # The client fails on an invalid reply: a proxy's page instead of JSON, half a stream, no choices.
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
    """Return the seconds that `Retry-After` asks for; None if missing or unusable."""
    for text, divisor in ((milliseconds, 1000), (seconds_or_date, 1)):
        try:
            return max(0.0, float(text or "") / divisor)
        except ValueError:
            continue
    try:
        return max(0.0, parsedate_to_datetime(seconds_or_date or "").timestamp() - time())
    except ValueError:
        return None
