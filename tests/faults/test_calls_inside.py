"""G30: no call out reaches what only we can reach, however the address is written, named, renamed or redirected to."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Sequence
from typing import Any

import httpcore2
import pytest

from support.callee import calling
from support.chain import Reply
from support.trials import Trials, soak
from tenfold.client import HttpClient, network
from tenfold.client.contract import Incoming, Outgoing, Transport
from tenfold.client.transport import HttpTransport
from tenfold.errors import AddressRefused, DependencyUnavailable
from tenfold.guard.addresses import IPAddress

pytestmark = pytest.mark.anyio

INNER = [
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
]  # fmt: skip
INNER_6 = ["::/127", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8", "2001:db8::/32", "100::/64"]


def inner(dice: random.Random) -> IPAddress:
    """An address that is not public, IPv4 in half of the cases."""
    net = ipaddress.ip_network(dice.choice(INNER if dice.random() < 0.5 else INNER_6))
    return net.network_address + dice.randrange(net.num_addresses)


def carried(dice: random.Random, address: IPAddress) -> IPAddress:
    """An IPv4 address as itself or inside an IPv6 one."""
    if address.version == 6 or dice.random() < 0.4:
        return address
    a, b, c, d = address.packed
    form = dice.choice(["::ffff:{}", "64:ff9b::{}", "64:ff9b:1::{}", "::{}", "6to4", "teredo"])
    if form == "6to4":
        return ipaddress.ip_address(f"2002:{a:02x}{b:02x}:{c:02x}{d:02x}::1")
    if form == "teredo":
        return ipaddress.ip_address(f"2001:0:102:304::{255 - a:02x}{255 - b:02x}:{255 - c:02x}{255 - d:02x}")
    return ipaddress.ip_address(form.format(address))


def written(dice: random.Random, address: IPAddress) -> str:
    """A host of a URL that stands for the address."""
    address = carried(dice, address)
    if address.version == 6:
        return f"[{address if dice.random() < 0.5 else address.exploded}]"
    a, b, c, d = address.packed
    value = int(address)
    return dice.choice([
        str(address), f"{address}.", str(value), hex(value), f"0{value:o}", f"{a}.{value & 0xFFFFFF}", f"{a}.{b}.{c << 8 | d}",
        f"{a:#x}.{b:#x}.{c:#x}.{d:#x}", f"0{a:o}.0{b:o}.0{c:o}.0{d:o}", f"0{a:o}.{b}.{c:#x}.{d}",
    ])  # fmt: skip


def leads_inside(text: str) -> bool:
    """The judge: by the standard library, and by where tunnels lead."""
    address = ipaddress.ip_address(text)
    if address.version == 4:
        return not address.is_global or address.is_multicast
    low = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    within: list[IPAddress] = [each for each in (address.ipv4_mapped, address.sixtofour) if each is not None]
    within += address.teredo or ()
    if any(address in ipaddress.ip_network(net) for net in ("64:ff9b::/96", "64:ff9b:1::/48", "::/96")):
        within.append(low)
    elif not address.is_global or address.is_multicast or address.is_site_local:
        return True
    return any(not each.is_global or each.is_multicast for each in within)


class Names:
    """A name server of an attacker: answers change from one question to the next."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self.evil: IPAddress | None = None
        self.asked = 0

    async def __call__(self, host: str, port: int) -> Sequence[IPAddress]:
        try:
            return [ipaddress.ip_address(host)]
        except ValueError:
            pass
        self.asked += 1
        public: IPAddress = ipaddress.ip_address("93.184.216.34")
        if self.evil is None:
            return [public]
        return self._dice.choice([[self.evil], [public, self.evil], [self.evil, public], [public]])


class Redirecting(Transport):
    """The public host sends everybody to ``location``; all else goes out for real."""

    def __init__(self, real: Transport) -> None:
        self._real = real
        self.location = ""

    async def send(self, request: Outgoing) -> Incoming:
        if self.location and request.place.host == "public.example":
            return Reply(302, [("location", self.location)], b"")
        return await self._real.send(request)

    async def stop(self) -> None:
        await self._real.stop()


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every address that something tried to connect to. No connection is made."""
    tried: list[str] = []

    async def connect(self: Any, host: str, *_: Any) -> Any:
        tried.append(host)
        raise httpcore2.ConnectError("not in a test")

    monkeypatch.setattr(httpcore2.AnyIOBackend, "connect_tcp", connect)
    return tried


async def attack(client: HttpClient, dice: random.Random, n: int) -> None:
    names = Names(dice)
    way = Redirecting(HttpTransport((), resolver=names))
    client._bound.allowed = ()
    with client.through(way):
        for _ in range(n):
            address = inner(dice)
            kind, names.evil, way.location = (
                dice.choice(["written", "named", "redirect", "redirect named"]),
                None,
                "",
            )
            url = f"http://{written(dice, address)}:{dice.choice([80, 8080, 6379])}/"
            if kind != "written":
                names.evil, way.location = (
                    carried(dice, address),
                    url if kind == "redirect" else "http://evil.example/",
                )
                url = "http://public.example/" if "redirect" in kind else "http://evil.example/"
            with pytest.raises((AddressRefused, DependencyUnavailable)):
                await client.get(url)


@pytest.mark.parametrize("n", [1_000, pytest.param(10_000, marks=pytest.mark.soak)])
async def test_no_form_of_an_inner_address_is_connected_to(
    connected: list[str], trials: Trials, n: int
) -> None:
    n = n if n == 1_000 else soak(n)
    async with calling("", breaker=False, attempts=1, redirects_max=2) as client:
        await attack(client, random.Random(30), n)
    assert [address for address in connected if leads_inside(address)] == []
    assert "93.184.216.34" in connected
    trials("G30", n, "calls out")


async def test_a_build_that_judges_the_url_alone_is_found_out(
    connected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "refusal", lambda *_: "")
    async with calling("", breaker=False, attempts=1, redirects_max=2) as client:
        await attack(client, random.Random(30), 100)
    assert any(leads_inside(address) for address in connected)
