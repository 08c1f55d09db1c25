"""/metrics on a listener of its own: those who may not see it cannot reach it, and a scrape during
overload waits behind no client."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from prometheus_client import CollectorRegistry

from serving.metrics.exposition import render

log = logging.getLogger("luminanet.metrics")

PATH = "/metrics"
CLIENT_S = 10
"""How long a scraper may take to send its request."""


@contextmanager
def answering(registry: CollectorRegistry, listener: socket.socket) -> Iterator[None]:
    """Within it, scrapes on `listener` are answered, each by a thread; it is closed at the end."""
    address = listener.getsockname()[:2]
    server = ThreadingHTTPServer(address, partial(_Scrape, registry), bind_and_activate=False)
    server.socket.close()
    server.socket, server.server_port = listener, address[1]
    thread = Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    log.info("metrics on http://%s:%d%s", *address, PATH)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Scrape(BaseHTTPRequestHandler):
    timeout = CLIENT_S

    def __init__(self, registry: CollectorRegistry, *connection: object) -> None:
        self._registry = registry
        super().__init__(*connection)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        status, kind = 404, "text/plain"
        body = f"only {PATH} is here\n".encode()
        if self.path.partition("?")[0] == PATH:
            status = 200
            body, kind = render(self._registry, ",".join(self.headers.get_all("Accept", [])))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def version_string(self) -> str:
        return "luminanet"

    def log_message(self, *_: object) -> None:
        """Says nothing: a scrape is not news."""
