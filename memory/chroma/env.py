"""Environment settings of the memory: embedding, Chroma server, time to live."""

import os
import ssl
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

from langchain_core.embeddings import Embeddings
from langgraph.store.base import TTLConfig
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from memory.chroma.errors import BadStoreError
from memory.chroma.ttl import LONGEST

# RFC 9110: a name is a token; a value is visible characters with blanks between them.
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", max_length=200)]
_HeaderValue = Annotated[str, Field(pattern=r"^[!-~]+([ \t]+[!-~]+)*$", max_length=8_000)]
_HEADERS = TypeAdapter(dict[_Name, _HeaderValue])


CHROMA_SECONDS = 30.0
"""Default of the longest wait for an answer of a Chroma server."""
_SECONDS = TypeAdapter(Annotated[float, Field(gt=0, le=3_600, allow_inf_nan=False)])


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers that can be sent.

    Raises:
        BadStoreError: A header is invalid. The message contains no value.
    """
    try:
        return _HEADERS.validate_python(dict(headers))
    except ValidationError:
        # Without the cause, since pydantic's message shows the input.
        raise BadStoreError(
            "The headers for the Chroma server cannot be sent: names are of letters, digits and hyphens, values of "
            "visible ASCII characters."
        ) from None


def check_ca(path: str | Path) -> str:
    """Return the path of a readable certificate file.

    Raises:
        BadStoreError: The file cannot be read, or holds no certificate.
    """
    try:
        ssl.create_default_context(cafile=str(path))
    except OSError as error:  # ssl.SSLError is a subclass.
        raise BadStoreError(
            f"{path} holds no certificate ({error.strerror or error}): name a PEM file with that of the authority "
            "which signed the Chroma server's (BILLP_CHROMA_CA)."
        ) from error
    return str(path)


def configured_headers() -> dict[str, str]:
    """Return the headers in BILLP_CHROMA_HEADERS, a JSON object. Empty if not set.

    Raises:
        BadStoreError: The setting is no such object. The message contains no value.
    """
    text = os.environ.get("BILLP_CHROMA_HEADERS", "").strip()
    try:
        return _HEADERS.validate_json(text) if text else {}
    except ValidationError:
        raise BadStoreError(
            'BILLP_CHROMA_HEADERS is no JSON object of headers: write {"NAME": "VALUE"}, names of letters, digits and '
            "hyphens, values of visible ASCII characters."
        ) from None


def check_seconds(seconds: float | str) -> float:
    """Return the longest wait for an answer of a Chroma server.

    Raises:
        BadStoreError: It is no number of seconds above 0 and up to 3600.
    """
    try:
        return _SECONDS.validate_python(seconds)
    except ValidationError:
        raise BadStoreError(
            f"The wait for the Chroma server (BILLP_CHROMA_SECONDS) is {str(seconds)[:80]!r}: use seconds, more than 0 "
            "and at most 3600."
        ) from None


def configured_seconds() -> float:
    """Return the longest wait in BILLP_CHROMA_SECONDS, 30 if not set.

    Raises:
        BadStoreError: It is no number of seconds above 0 and up to 3600.
    """
    return check_seconds(os.environ.get("BILLP_CHROMA_SECONDS", "").strip() or CHROMA_SECONDS)


def configured_ca() -> str | None:
    """Return the path in BILLP_CHROMA_CA. None if not set."""
    return os.environ.get("BILLP_CHROMA_CA", "").strip() or None


def chosen_embedding() -> Embeddings | None:
    """Return the embedding named by BILLP_EMBEDDING. None if not set.

    Packages provide embeddings as entry points `billp.embeddings`, each a function that creates one.

    Raises:
        BadStoreError: The name is unknown, or the embedding cannot be loaded.
    """
    name = os.environ.get("BILLP_EMBEDDING", "").strip()
    if not name:
        return None
    known = {entry.name: entry for entry in entry_points(group="billp.embeddings")}
    if name not in known:
        there = f"there are {', '.join(sorted(known))}" if known else "no installed package brings any"
        raise BadStoreError(f"BILLP_EMBEDDING names {name[:80]!r}: {there}; not set, it is the bundled MiniLM.")
    try:
        made = known[name].load()()
    except Exception as error:  # Code of another package may raise anything.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadStoreError(f"The embedding {name} (BILLP_EMBEDDING) cannot be loaded: {reason}.") from error
    if not isinstance(made, Embeddings):
        raise BadStoreError(f"The embedding {name} (BILLP_EMBEDDING) is none of LangChain's Embeddings.")
    return made


class _TtlSettings(BaseModel):
    """`store.ttl` of langgraph.json. Further fields of LangGraph are ignored."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    refresh_on_read: bool = True
    default_ttl: float | None = Field(None, gt=0, le=LONGEST)
    sweep_interval_minutes: int | None = Field(None, gt=0, le=LONGEST)


class _Store(BaseModel):
    model_config = ConfigDict(extra="ignore")

    ttl: _TtlSettings | None = None


def configured_ttl() -> TTLConfig | None:
    """Return the setting `store.ttl` of langgraph.json. None if missing.

    LangGraph's server calls a custom store without arguments, but its launcher (`langgraph dev`, the image) puts the
    whole setting `store` into LANGGRAPH_STORE.

    Raises:
        BadStoreError: The setting is invalid.
    """
    text = os.environ.get("LANGGRAPH_STORE", "").strip()
    try:
        store = TypeAdapter(_Store | None).validate_json(text or "null")
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise BadStoreError(
            f"The setting store of langgraph.json cannot be used ({'.'.join(map(str, fault['loc']))}: {fault['msg']}): "
            "`ttl` takes default_ttl and sweep_interval_minutes in minutes, and refresh_on_read."
        ) from error
    if store is None or store.ttl is None:
        return None
    return TTLConfig(
        refresh_on_read=store.ttl.refresh_on_read,
        default_ttl=store.ttl.default_ttl,
        sweep_interval_minutes=store.ttl.sweep_interval_minutes,
    )
