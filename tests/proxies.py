"""Reverse proxy on a free loopback port, as before a Chroma server: checks a header, with or without TLS."""

import http.client
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from tests.processes import run


class ReverseProxy:
    """Proxy that forwards requests with the right header, and refuses others with a page that repeats the request.

    Args:
        target: URL of the server.
        name: Name of the header.
        value: Required value of the header.
        certificate: PEM file with certificate and key; None for plain HTTP.
    """

    def __init__(self, target: str, name: str, value: str, certificate: Path | None = None) -> None:
        proxy = self
        self.value = value
        self.passed = 0
        host = urlsplit(target).netloc

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                given = self.headers.get(name, "")
                if given != proxy.value:
                    self.send(401, f"no entry with {given}".encode(), "text/plain")
                    return
                proxy.passed += 1
                connection = http.client.HTTPConnection(host, timeout=30)
                try:
                    kind = {"Content-Type": self.headers.get("Content-Type", "application/json")}
                    connection.request(self.command, self.path, body, kind)
                    response = connection.getresponse()
                    self.send(response.status, response.read(), response.headers.get("Content-Type", ""))
                finally:
                    connection.close()

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def send(self, status: int, content: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        scheme = "https" if certificate else "http"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Create a certificate for 127.0.0.1; return the server's file, with the key, and the clients' file."""
    certificate, both = folder / "ca.pem", folder / "server.pem"
    run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", str(both), "-out", str(certificate), "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
    )
    both.write_bytes(both.read_bytes() + certificate.read_bytes())
    return both, certificate
