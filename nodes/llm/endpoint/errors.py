"""Faults between client and endpoint, with messages that hold no secret.

A fault is told by the status and the words of the server, or by the kind of the client's error. The clients of all
providers share these kinds, so no class of a client is named here.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

from nodes.llm.endpoint.complaints import Complaint, complaint
from nodes.llm.endpoint.refusals import NOT_IMPLEMENTED, VAGUE, refused
from nodes.llm.endpoint.settings import Endpoint, proxies

# Statuses after which the same request may succeed, like all from 500 except "not implemented".
PASSING = {408, 409, 425, 429}
# Statuses that concern the prompt, not the caller: refused by a filter, too long.
ABOUT_THE_PROMPT = {400, 413, 422}
# Words of a refused key; some servers send them with 400, 429 or 500.
BAD_KEY = re.compile(
    r"(?:invalid|incorrect|missing|wrong|expired|no)\W{1,3}(?:\w+\W{1,3}){0,3}?api[ _-]?key"
    r"|api[ _-]?key\W{1,3}(?:\w+\W{1,3}){0,4}?(?:not valid|invalid|incorrect|expired|missing|not found|required)"
    r"|api_key_invalid|invalid_api_key|authentication[ _]error|unauthori[sz]ed",
    re.IGNORECASE,
)
# Words of a spent quota or credit. The last ones also stand for a limit a minute, if the server says how long to wait.
SPENT = re.compile(
    r"insufficient[ _](?:quota|balance|funds|credits?)|credit balance is too low|billing_hard_limit|billing_not_active",
    re.IGNORECASE,
)
PERHAPS_SPENT = re.compile(r"exceeded your current quota|quota_exceeded|check your plan and billing", re.IGNORECASE)
# Words of a passing fault inside an answer whose status says that all is well.
MAY_PASS = re.compile(
    r"overload|try again|temporar|timed? ?out|rate[ _-]?limit|too many requests|unavailable|internal (?:server )?error"
    r"|busy|loading",
    re.IGNORECASE,
)
PAYMENT_REQUIRED = 402
# Kinds of the clients' errors, by the names of their classes.
TIMEOUT_ERRORS = {"TimeoutError", "TimeoutException", "APITimeoutError"}
# Errors of a request that no attempt can send: a line break in a header, a letter that no header may hold, no address.
UNSENDABLE = {"LocalProtocolError", "InvalidURL", "UnsupportedProtocol", "UnicodeEncodeError"}
CONNECTION_ERRORS = {"TransportError", "ConnectionError", "APIConnectionError", "SSLError", "gaierror"}
NOT_REACHED = {"ConnectError", "ConnectTimeout", "ConnectionRefusedError", "gaierror", "ProxyError"}
CERTIFICATE_ERRORS = {"SSLCertVerificationError"}
UNREADABLE = {"JSONDecodeError", "UnicodeDecodeError"}
MISSHAPEN = {"ValueError", "TypeError", "KeyError", "IndexError", "AttributeError"}


class Fault(Exception):
    """Failed attempt.

    Attributes:
        passing: Whether another attempt may succeed.
        about_prompt: Whether the fault concerns the prompt, so that other prompts may succeed.
        connected: Whether the server was reached.
        wait: Seconds to wait before the next attempt, as requested by the server; None without a request.
        refused: Parameters that the server may have refused.
        vague: Whether the server may have refused the schema in words that do not name it.
        remedy: What to check or change; "" for the address, the key and the model's name.
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
        vague: bool = False,
        remedy: str = "",
    ) -> None:
        super().__init__(said)
        self.passing = passing
        self.about_prompt = about_prompt
        self.connected = connected
        self.wait = wait
        self.refused = refused
        self.vague = vague
        self.remedy = remedy


@contextmanager
def translated(endpoint: Endpoint) -> Iterator[None]:
    """Turn every error of the client into a `Fault` without secrets.

    Traces, logs and checkpoints keep the errors of a model, and some servers repeat the key in an error message.
    """
    try:
        yield
    except Fault:
        raise
    except Exception as error:
        raise _readable_fault(error, endpoint) from None


def told_fault(said: Complaint, status: int | None, endpoint: Endpoint, wait: float | None = None) -> Fault:
    """Return the fault that a server tells by a status and a body.

    Args:
        said: The body.
        status: Status of the answer, or that inside a body which came as if all were well; None if there is none.
        endpoint: The endpoint, for its secrets.
        wait: Seconds to wait by the headers; None if missing.
    """
    wait = said.wait if wait is None else wait
    passing = bool(MAY_PASS.search(said.text)) if status is None else status in PASSING or status >= 500
    passing = passing and status != NOT_IMPLEMENTED
    remedy = ""
    bad_key = status in (401, 403) or bool(BAD_KEY.search(said.text))
    spent = bool(SPENT.search(said.text)) or (wait is None and bool(PERHAPS_SPENT.search(said.text)))
    if spent or status == PAYMENT_REQUIRED:
        passing, remedy = False, "the quota or credit of the key is spent: check the plan and the bill at the provider"
    elif bad_key:
        passing = False
    where = "an error in place of a reply" if status is None else f"status {status}"
    return Fault(
        endpoint.without_secrets(f"{where}, {said.words or 'without a reason'}"),
        passing=passing,
        about_prompt=status in ABOUT_THE_PROMPT and not bad_key and not spent,
        wait=wait,
        refused=frozenset() if bad_key or spent else refused(status, said.text),
        vague=status in VAGUE and not bad_key and not spent,
        remedy=remedy,
    )


def reply_fault(body: bytes, endpoint: Endpoint) -> Fault | None:
    """Return the fault of a whole body that came with a status of success; None for a reply of OpenAI's form.

    Some servers send a stream without its type: it is no fault. An event starts with a field's name, a comment with a
    colon.
    """
    if body.lstrip().startswith((b"data:", b"event:", b":")):
        return None
    value = _json(body)
    if not isinstance(value, dict):
        return _no_json_fault(complaint(body), endpoint)
    choices = value.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    error = value.get("error") or (first.get("error") if isinstance(first, dict) else None)
    if error or "choices" not in value:
        told = complaint({"error": error} if error else value)
        return told_fault(told, told.status, endpoint)
    if not isinstance(first, dict):
        return Fault(f"its reply has no choices (`choices` is {_shown(choices)})", passing=True)
    if not isinstance(first.get("message"), dict):
        return Fault(f"its reply has no message (`message` is {_shown(first.get('message'))})", passing=True)
    return None


def _no_json_fault(said: Complaint, endpoint: Endpoint) -> Fault:
    if not said.text:
        return Fault("it sent an empty body in place of a reply", passing=True)
    if said.words.startswith("a web page"):
        # A login page stays what it is; a proxy may show such a page while the server behind it starts again.
        return Fault(endpoint.without_secrets(f"it sent {said.words}, in place of a reply"), passing=endpoint.answered)
    return Fault(endpoint.without_secrets(f"it sent no reply but {said.words!r}"), passing=True)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _shown(value: object) -> str:
    return "null" if value is None else "empty" if value == [] else f"of the type {type(value).__name__}"


def _readable_fault(error: Exception, endpoint: Endpoint) -> Fault:
    try:
        return _fault_of(error, endpoint)
    except Exception:  # An error about the client's error would show the latter, and the key in it, in its traceback.
        return Fault(f"its error cannot be read, {type(error).__name__}", passing=True)


def _fault_of(error: Exception, endpoint: Endpoint) -> Fault:
    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, Fault):
            return one
    names = {kind.__name__ for one in chain for kind in type(one).__mro__}
    for one in chain:
        if (status := _status_of(one)) is not None:
            return told_fault(complaint(_body_of(one)), status, endpoint, _wait_of(one))
    if names & UNSENDABLE:
        return Fault(
            f"its request cannot be sent ({_first_kind(chain, UNSENDABLE)})",
            passing=False,
            remedy=f"{endpoint.remedy}; a key has no line break and no other letters than those of ASCII",
        )
    if names & TIMEOUT_ERRORS:
        return Fault("it did not answer in time", passing=True, connected="ConnectTimeout" not in names)
    if names & CERTIFICATE_ERRORS:
        return Fault(
            "its certificate is not trusted", passing=False, remedy="name the file of its authority in SSL_CERT_FILE"
        )
    body = getattr(error, "body", None)
    if body and not names & CONNECTION_ERRORS:
        # An error inside a stream has a body and no status.
        said = complaint(body)
        return told_fault(said, said.status, endpoint)
    if names & CONNECTION_ERRORS:
        # Keep only the kind of the error: its message holds addresses.
        said_kind = type(chain[-1]).__name__
        # Some clients replace every error of a connection by the plainest.
        missed = bool(names & NOT_REACHED) or type(chain[-1]) is ConnectionError
        through = [*proxies()]
        told = f", through the proxy of {' or '.join(through)}" if through else ""
        return Fault(f"Connection failed, {said_kind}{told}", passing=True, connected=not missed)
    if names & UNREADABLE:
        return Fault("it sent a piece of a reply that is no JSON", passing=True)
    if names & MISSHAPEN:
        return Fault("its reply does not have the form of a reply", passing=True)
    return Fault(f"its client failed, {type(error).__name__}", passing=True)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those behind it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _first_kind(chain: list[BaseException], kinds: set[str]) -> str:
    return next(type(one).__name__ for one in chain if {kind.__name__ for kind in type(one).__mro__} & kinds)


def _status_of(error: BaseException) -> int | None:
    """Return the status in a client's error, by the attributes under which the clients of LangChain keep it."""
    response = getattr(error, "response", None)
    inside = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
    for found in (getattr(error, "status_code", None), getattr(response, "status_code", None), inside):
        if isinstance(found, int) and not isinstance(found, bool) and found >= 400:
            return found
    code = getattr(error, "code", None)
    return code if isinstance(code, int) and 400 <= code < 600 else None


def _body_of(error: BaseException) -> object:
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return response.get("Error") or response
    try:
        text = getattr(response, "text", None)
    except RuntimeError:  # The body of a stream may not have been read.
        text = None
    # In some clients, `text` is a method.
    if isinstance(text, str):
        return text
    return getattr(error, "body", None) or getattr(error, "error", None) or str(error)


def _wait_of(error: BaseException) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", None)
    return None if headers is None else _retry_after(headers.get("retry-after-ms"), headers.get("retry-after"))


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
