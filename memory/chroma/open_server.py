"""Getting at a Chroma server, or at the proxy before it: who lets in whom, and who trusts whom."""

import re
import ssl
from base64 import b64encode
from collections.abc import Mapping
from functools import partial
from typing import cast
from urllib.parse import SplitResult, unquote, urlsplit

import chromadb
import httpx
from chromadb.api.client import Client
from chromadb.api.fastapi import FastAPI

from memory.chroma.connection import Connection, caused_by, client_settings, without
from memory.chroma.errors import BadStoreError
from memory.chroma.worker import within

MAJOR = "1."
"""Versions of a server that speak as this client does."""
VERSION_PATTERN = re.compile(r"\d+(\.\w+){1,4}")
SECRET_FROM = 4
"""Characters of a header's value from which on no message shows it: shorter ones are in any message by chance."""
REFUSED = (401, 403, 407)
"""Answers to somebody who lacks the credentials."""
VERSIONS = ("api/v2/version", "api/v1/version")
"""Where servers say which version they are; those of other major versions know little else that the client asks."""
PATIENCE = 5.0
"""Seconds to wait for that answer."""
PROBED = 2.0
"""Seconds to wait for a sign of life of a server that left a call without an answer."""


def open_server(url: str, headers: Mapping[str, str], ca: str | None, seconds: float) -> Connection:
    """Open a Chroma server.

    Args:
        url: Its address, which may have a name and a password.
        headers: Sent with each request.
        ca: PEM file with the authority that its certificate is checked against; None for the public ones.
        seconds: To wait for each answer at most.

    Raises:
        BadStoreError: The address is none, or no server of this major version answers there, lets us in and is who it
            says.
    """
    place, parts = public_url(url)
    sent = dict(headers) | _credentials(place, parts, headers)
    secrets = tuple(
        {part for value in sent.values() for part in (value, value.rpartition(" ")[2]) if len(part) >= SECRET_FROM}
    )
    tls = parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    # A path (a proxy's) is only kept by Chroma's client if it gets the whole address.
    host = f"{place.rstrip('/')}" if parts.path.strip("/") else str(parts.hostname)

    def made() -> Client:
        client = chromadb.HttpClient(host=host, port=port, ssl=tls, headers=sent, settings=client_settings(ca))
        return cast(Client, client)

    try:
        # Chroma's client asks as it is made, and waits without end.
        client = within(seconds, made, lambda client: client.close())
        # It has no setting for that, so what it sends requests with is told.
        cast(FastAPI, client._server)._session.timeout = httpx.Timeout(seconds)
        version = client.get_version()
    except (TimeoutError, httpx.TimeoutException) as error:
        _, cause = without(secrets, error)
        raise BadStoreError(
            f"The Chroma server at {place} does not answer within {seconds:g} seconds: check that it runs, correct "
            "BILLP_CHROMA_URL, or set BILLP_CHROMA_SECONDS to more."
        ) from cause
    except Exception as error:  # as in chroma_calls
        _, cause = without(secrets, error)
        told = (
            _unreachable(place, secrets, error) or _other_version(place, sent, ca) or _no_server(place, secrets, error)
        )
        raise BadStoreError(told) from cause
    if not version.startswith(MAJOR):
        client.close()
        raise BadStoreError(_wrong_version(place, version))
    alive = partial(_lives, place, sent, ca)
    return Connection(
        client, place, "check that the server runs", shared=True, secrets=secrets, seconds=seconds, alive=alive
    )


def _lives(place: str, headers: Mapping[str, str], ca: str | None) -> bool:
    """Say whether anything answers at `place`."""
    url, trusted = f"{place.rstrip('/')}/api/v2/heartbeat", ssl.create_default_context(cafile=ca)
    try:
        httpx.get(url, headers=dict(headers), verify=trusted, timeout=PROBED)
    except httpx.HTTPError:
        return False
    return True


def _credentials(place: str, parts: SplitResult, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the header for the name and password of an address, if it has them."""
    if parts.username is None:
        return {}
    if any(name.lower() == "authorization" for name in headers):
        raise BadStoreError(
            f"There are two credentials for {place}, in the address and in a header Authorization: keep one of them."
        )
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}


def _unreachable(place: str, secrets: tuple[str, ...], error: Exception) -> str | None:
    """Return who does not trust whom at `place`, and what to do; None where that is not what is wrong."""
    if untrusted := caused_by(error, ssl.SSLCertVerificationError):
        return (
            f"The server at {place} is not trusted ({untrusted.verify_message}): name the file with the certificate "
            "of the authority that signed its own in BILLP_CHROMA_CA."
        )
    refused = caused_by(error, httpx.HTTPStatusError)
    if refused and refused.response.status_code in REFUSED:
        return (
            f"The server at {place} lets nobody in with these credentials ({refused.response.status_code}): correct "
            "BILLP_CHROMA_HEADERS, or name and password in BILLP_CHROMA_URL."
        )
    return None


def _other_version(place: str, headers: Mapping[str, str], ca: str | None) -> str | None:
    """Return that a Chroma of another major version answers at `place`, if one does."""
    for path in VERSIONS:
        try:
            answer = httpx.get(
                f"{place.rstrip('/')}/{path}",
                headers=dict(headers),
                verify=ssl.create_default_context(cafile=ca),
                timeout=PATIENCE,
            )
            version = answer.json() if answer.is_success else None
        except (httpx.HTTPError, ValueError, OSError):
            continue
        if isinstance(version, str) and VERSION_PATTERN.fullmatch(version) and not version.startswith(MAJOR):
            return _wrong_version(place, version)
    return None


def _wrong_version(place: str, version: str) -> str:
    return f"The Chroma server at {place} has version {version}: version {MAJOR}x is needed."


def _no_server(place: str, secrets: tuple[str, ...], error: Exception) -> str:
    shown, _ = without(secrets, error)
    return (
        f"No Chroma server answers at {place} ({shown}): start one with `chroma run --path FOLDER`, "
        "or correct BILLP_CHROMA_URL."
    )


def public_url(url: str) -> tuple[str, SplitResult]:
    """Return a URL without credentials, as messages may name it, and its parts.

    Raises:
        BadStoreError: It is no http(s) URL.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    place = f"{parts.scheme}://{host}{parts.path}"
    try:
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        valid = False
    if not valid:
        raise BadStoreError(f"{place} is no address of a Chroma server: write http://HOST:PORT or https://HOST:PORT.")
    return place, parts
