"""Connection to a Chroma server or its proxy: authentication, TLS, version check."""

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
"""Prefix of the server versions that this client supports."""
VERSION_PATTERN = re.compile(r"\d+(\.\w+){1,4}")
SECRET_FROM = 4
"""Length of a header's value from which messages hide it. A shorter one may occur in any message by chance."""
REFUSED = (401, 403, 407)
"""Status codes for missing or wrong credentials."""
VERSIONS = ("api/v2/version", "api/v1/version")
"""Paths of the version of a server. Servers of other major versions lack most of the other paths."""
PATIENCE = 5.0
"""Longest wait for the version, in seconds."""
PROBED = 2.0
"""Longest wait for a heartbeat after a call got no answer, in seconds."""


def open_server(url: str, headers: Mapping[str, str], ca: str | None, seconds: float) -> Connection:
    """Open a Chroma server.

    Args:
        url: Its address, which may contain a name and a password.
        headers: Headers of each request.
        ca: PEM file with the authority that its certificate is checked against. None for the public authorities.
        seconds: Longest wait for each answer.

    Raises:
        BadStoreError: The address is invalid, no server of this major version answers there, or it rejects the
            credentials, or its certificate is not trusted.
    """
    place, parts = public_url(url)
    sent = dict(headers) | _credentials(place, parts, headers)
    secrets = tuple(
        {part for value in sent.values() for part in (value, value.rpartition(" ")[2]) if len(part) >= SECRET_FROM}
    )
    tls = parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    # Chroma's client keeps a path, such as a proxy's, only if it gets the whole address as host.
    host = f"{place.rstrip('/')}" if parts.path.strip("/") else str(parts.hostname)

    def made() -> Client:
        client = chromadb.HttpClient(host=host, port=port, ssl=tls, headers=sent, settings=client_settings(ca))
        return cast(Client, client)

    try:
        # Chroma's client sends a request when it is created, and waits without limit.
        client = within(seconds, made, lambda client: client.close())
        # It has no setting for a time limit, so the limit is set on its HTTP session.
        cast(FastAPI, client._server)._session.timeout = httpx.Timeout(seconds)
        version = client.get_version()
    except (TimeoutError, httpx.TimeoutException) as error:
        _, cause = without(secrets, error)
        raise BadStoreError(
            f"The Chroma server at {place} does not answer within {seconds:g} seconds: check that it runs, correct "
            "BILLP_CHROMA_URL, or set BILLP_CHROMA_SECONDS to more."
        ) from cause
    except Exception as error:  # As in `chroma_calls`.
        _, cause = without(secrets, error)
        message = (
            _unreachable(place, secrets, error) or _other_version(place, sent, ca) or _no_server(place, secrets, error)
        )
        raise BadStoreError(message) from cause
    if not version.startswith(MAJOR):
        client.close()
        raise BadStoreError(_wrong_version(place, version))
    alive = partial(_lives, place, sent, ca)
    return Connection(
        client, place, "check that the server runs", shared=True, secrets=secrets, seconds=seconds, alive=alive
    )


def _lives(place: str, headers: Mapping[str, str], ca: str | None) -> bool:
    """Return whether any server answers at `place`."""
    url, trusted = f"{place.rstrip('/')}/api/v2/heartbeat", ssl.create_default_context(cafile=ca)
    try:
        httpx.get(url, headers=dict(headers), verify=trusted, timeout=PROBED)
    except httpx.HTTPError:
        return False
    return True


def _credentials(place: str, parts: SplitResult, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the header for the name and password in an address. Empty if it has none."""
    if parts.username is None:
        return {}
    if any(name.lower() == "authorization" for name in headers):
        raise BadStoreError(
            f"There are two credentials for {place}, in the address and in a header Authorization: keep one of them."
        )
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}


def _unreachable(place: str, secrets: tuple[str, ...], error: Exception) -> str | None:
    """Return a message for an untrusted certificate or rejected credentials. None for any other error."""
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
    """Return a message if a Chroma server of another major version answers at `place`. None otherwise."""
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
    """Return a URL without credentials, for messages, and its parts.

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
