"""Sockets that listen."""

from __future__ import annotations

import socket

from tenfold.runtime.listeners import bind


def test_a_listener_names_its_protocol_so_that_small_answers_go_at_once_on_every_loop() -> None:
    with bind("127.0.0.1", 0, where="http.port") as listener:
        assert listener.proto == socket.IPPROTO_TCP
