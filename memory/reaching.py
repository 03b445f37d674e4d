"""Getting at a Chroma server, or at the proxy before it: who lets in whom, and who trusts whom."""

import ssl
from base64 import b64encode
from collections.abc import Mapping
from typing import cast
from urllib.parse import SplitResult, unquote, urlsplit

import chromadb
import httpx
from chromadb.api.client import Client

from memory.connection import Connection, caused_by, client_settings, without
from memory.errors import BadStoreError

MAJOR = "1."
"""Versions of a server that speak as this client does."""
SECRET_FROM = 4
"""Characters of a header's value from which on no message shows it: shorter ones are in any message by chance."""
REFUSED = (401, 403, 407)
"""Answers to somebody who lacks the credentials."""


def open_server(url: str, headers: Mapping[str, str], ca: str | None) -> Connection:
    """Open a Chroma server.

    Args:
        url: Its address, which may have a name and a password.
        headers: Sent with each request.
        ca: PEM file with the authority that its certificate is checked against; None for the public ones.

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
    try:
        made = chromadb.HttpClient(host=host, port=port, ssl=tls, headers=sent, settings=client_settings(ca))
        client = cast(Client, made)
        version = client.get_version()
    except Exception as error:  # as in chroma_calls
        _, cause = without(secrets, error)
        raise BadStoreError(_unreachable(place, secrets, error)) from cause
    if not version.startswith(MAJOR):
        client.close()
        raise BadStoreError(f"The Chroma server at {place} has version {version}: version {MAJOR}x is needed.")
    return Connection(client, place, "check that the server runs", shared=True, secrets=secrets)


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


def _unreachable(place: str, secrets: tuple[str, ...], error: Exception) -> str:
    """Return why there is no server at `place`, and what to do."""
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
