"""Servers for tests live as long as the run, whoever started them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from support.servers import Redis


def test_a_server_outlives_the_thread_that_started_it() -> None:
    server = Redis()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(server.start).result()
    try:
        time.sleep(0.3)  # nothing tells that nothing happens
        assert server.ready()
    finally:
        server.stop()
