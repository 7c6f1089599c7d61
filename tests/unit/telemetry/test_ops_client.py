"""Whoever asks an operations listener keeps its token to that listener."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tenfold.telemetry.ops_client import ask


class Elsewhere(BaseHTTPRequestHandler):
    """Sends everybody on to itself, and notes who comes with what."""

    seen: list[tuple[str, str | None]] = []

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers["authorization"]))
        self.send_response(302)
        self.send_header("location", "/other")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def port() -> Iterator[int]:
    Elsewhere.seen.clear()
    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_redirect_is_an_answer_and_the_token_goes_no_further(port: int) -> None:
    assert ask(f"http://127.0.0.1:{port}/metrics?a=1", "secret").status == 302
    assert Elsewhere.seen == [("/metrics?a=1", "Bearer secret")]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "nonsense", "http://", "ftp://127.0.0.1/"])
def test_what_is_no_address_of_a_listener_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="http://"):
        ask(url)
