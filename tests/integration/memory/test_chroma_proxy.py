"""`ChromaStore` on a Chroma server behind a reverse proxy with TLS and a required header."""

import json
import logging
import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory.chroma.errors import BadStoreError, StoreError
from memory.store import ChromaStore, create_store
from tests.commands import billp
from tests.proxies import ReverseProxy, self_signed
from tests.stores import FakeEmbeddings, chroma

pytestmark = pytest.mark.slow

UNTOLD = "s3cret-of-the-proxy"
HEADERS = {"X-Api-Key": UNTOLD}
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")


@pytest.fixture
def proxy(chroma_url: str) -> Iterator[ReverseProxy]:
    with ReverseProxy(chroma_url, "X-Api-Key", UNTOLD) as proxy:
        yield proxy


def use(store: ChromaStore) -> None:
    store.put(("proxied", "b"), "k", {"x": "red", "y": "blue"}, index=["x", "y"], ttl=10)
    assert [(item.key, item.score) for item in store.search(("proxied", "b"), query="blue")] == [("k", 1.0)]
    assert store.list_namespaces(prefix=("proxied",)) == [("proxied", "b")]
    # The server is shared, so the sweep may delete expired records of other tests, and keeps this one.
    store.sweep_ttl()
    assert store.get(("proxied", "b"), "k") is not None
    store.delete(("proxied", "b"), "k")
    assert store.get(("proxied", "b"), "k") is None


def hides(error: BaseException, caplog: pytest.LogCaptureFixture) -> bool:
    """Return whether the secret is missing from the error with all its causes, and from the log."""
    return UNTOLD not in "".join(traceback.format_exception(error)) + caplog.text


def test_a_header_lets_in_and_is_never_shown(proxy: ReverseProxy, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with chroma(proxy.url, headers=HEADERS) as store:
        use(store)
        assert proxy.passed > 5 and UNTOLD not in repr(store.connection)
        proxy.value = "another"
        with pytest.raises(StoreError, match=r"failed \(no entry with …\): check that the server runs") as caught:
            store.get(("proxied", "b"), "k")
        assert hides(caught.value, caplog)
    with pytest.raises(BadStoreError, match=r"rejects these credentials \(401\)") as refused:
        chroma(proxy.url, headers=HEADERS)
    assert hides(refused.value, caplog) and "\n" not in str(refused.value)


def test_without_the_header_nobody_gets_in(proxy: ReverseProxy) -> None:
    with pytest.raises(BadStoreError, match="correct BILLP_CHROMA_HEADERS"):
        chroma(proxy.url)
    assert proxy.passed == 0


def test_name_and_password_of_the_address_are_such_a_header(chroma_url: str) -> None:
    with ReverseProxy(chroma_url, "Authorization", "Basic bWU6cEBzcw==") as proxy:
        address = proxy.url.replace("//", "//me:p%40ss@")
        with chroma(address) as store:
            use(store)
        with pytest.raises(BadStoreError, match="two credentials") as caught:
            chroma(address, headers={"authorization": "Bearer other"})
    assert "p%40ss" not in str(caught.value) and "other" not in str(caught.value)


@needs_openssl
def test_a_certificate_counts_once_its_authority_is_named(chroma_url: str, tmp_path: Path) -> None:
    both, certificate = self_signed(tmp_path)
    with ReverseProxy(chroma_url, "X-Api-Key", UNTOLD, both) as proxy:
        with chroma(proxy.url, headers=HEADERS, ca=certificate) as store:
            use(store)
        passed = proxy.passed
        with pytest.raises(BadStoreError, match=r"is not trusted \(self.signed certificate\): .* BILLP_CHROMA_CA"):
            chroma(proxy.url, headers=HEADERS)
        other = tmp_path / "other"
        other.mkdir()
        with pytest.raises(BadStoreError, match="is not trusted"):
            chroma(proxy.url, headers=HEADERS, ca=self_signed(other)[1])
        # An untrusted server receives no secret.
        assert proxy.passed == passed


@pytest.fixture
def settings(chroma_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Environment for a proxy with header and TLS."""
    both, certificate = self_signed(tmp_path)
    with ReverseProxy(chroma_url, "X-Api-Key", UNTOLD, both) as proxy:
        settings = {
            "BILLP_CHROMA_URL": proxy.url,
            "BILLP_CHROMA_HEADERS": json.dumps(HEADERS),
            "BILLP_CHROMA_CA": str(certificate),
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        yield settings


@needs_openssl
async def test_the_environment_names_headers_and_authority(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memory.store.shared_embeddings", FakeEmbeddings)
    async with create_store() as store:
        use(store)


@needs_openssl
def test_commands_go_by_the_environment_too(settings: dict[str, str], tmp_path: Path) -> None:
    chroma(settings["BILLP_CHROMA_URL"], headers=HEADERS, ca=settings["BILLP_CHROMA_CA"]).close()
    run = billp(tmp_path / "home", "memory", "list")
    # The requests pass the proxy and fail at the embedding, which is another one than the store's.
    assert run.returncode == 2 and "created with the embedding fake" in run.stderr and UNTOLD not in run.stderr


@pytest.mark.parametrize(
    "text", [UNTOLD, f'["{UNTOLD}"]', f'{{"X Key": "{UNTOLD}"}}', f'{{"X-Key": "{UNTOLD}\\n"}}', f'{{"{UNTOLD}": 1}}']
)
async def test_headers_that_cannot_be_sent_are_refused_unseen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    monkeypatch.setenv("BILLP_CHROMA_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("BILLP_CHROMA_HEADERS", text)
    with pytest.raises(BadStoreError, match="BILLP_CHROMA_HEADERS is not a JSON object") as caught:
        async with create_store():
            pass
    assert hides(caught.value, caplog)


def test_headers_of_another_kind_are_refused_unseen(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(BadStoreError, match="cannot be sent") as caught:
        chroma("http://127.0.0.1:9", headers={"X-Key": f"{UNTOLD}\r\nX-Other: 1"})
    assert hides(caught.value, caplog)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_authority_that_is_none_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(BadStoreError, match=rf"{file} holds no certificate") as caught:
        chroma("https://127.0.0.1:9", ca=file)
    assert "\n" not in str(caught.value)
