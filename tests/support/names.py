"""A name server on loopback, which answers for SRV records what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self, cast

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

Record = tuple[int, int, str]
"""Priority, port and target of an SRV record."""


class NameServer(asyncio.DatagramProtocol):
    """``zone`` maps names to their records. While ``silent``, it answers nothing."""

    def __init__(self, **zone: Sequence[Record]) -> None:
        self.zone = {name.replace("_", "."): list(records) for name, records in zone.items()}
        self.silent = False
        self.asked = 0
        self._transport: asyncio.DatagramTransport | None = None

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Self]:
        """It answers, and is the one that this process asks."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: self, ("127.0.0.1", 0))
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = ["127.0.0.1"]
        resolver.port = transport.get_extra_info("sockname")[1]
        resolver.lifetime = 0.5
        before: Any = dns.asyncresolver.default_resolver
        dns.asyncresolver.default_resolver = resolver
        try:
            yield self
        finally:
            dns.asyncresolver.default_resolver = before
            transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self.asked += 1
        if self.silent:
            return
        query = dns.message.from_wire(data)
        (question,) = query.question
        answer = dns.message.make_response(query, recursion_available=True)
        records = self.zone.get(question.name.to_text(omit_final_dot=True), [])
        if not records:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif question.rdtype == dns.rdatatype.SRV:
            texts = [f"{priority} 5 {port} {target}." for priority, port, target in records]
            answer.answer.append(dns.rrset.from_text(question.name, 1, "IN", "SRV", *texts))
        assert self._transport is not None
        self._transport.sendto(answer.to_wire(), addr)
