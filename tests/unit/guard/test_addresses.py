"""No form of an address leads inside (G30): what is entered, and what a name turns out to stand for."""

from __future__ import annotations

import ipaddress
import random

import pytest

from tenfold.guard.addresses import networks, place_of, refusal

INSIDE = [
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255"),
    *("192.168.0.1", "169.254.169.254", "100.64.0.1", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.7"),
    *("203.0.113.9", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
]
INSIDE_6 = ["::", "::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "2001:db8::1", "100::1"]
PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "172.32.0.1", "2606:4700::1111", "2a00:1450:4001::1"]


def forms(address: str) -> list[str]:
    """Ways to write an IPv4 address that some resolver understands."""
    value = int(ipaddress.IPv4Address(address))
    a, b, c, d = ipaddress.IPv4Address(address).packed
    return [
        address,
        str(value),
        hex(value),
        oct(value).replace("0o", "0"),
        f"{hex(a)}.{hex(b)}.{hex(c)}.{hex(d)}",
        f"{a:#o}.{b:#o}.{c:#o}.{d:#o}".replace("0o", "0"),
        f"0{a:o}.{b}.{hex(c)}.{d}",
        f"{a}.{(b << 16) + (c << 8) + d}",
        f"{a}.{b}.{(c << 8) + d}",
        f"[::ffff:{address}]",
        f"[::{address}]" if value > 1 else f"[::ffff:{address}]",
        f"[64:ff9b::{address}]",
        f"[64:ff9b:1::{address}]",
        f"[2002:{a:02x}{b:02x}:{c:02x}{d:02x}::1]",
        f"{address}.",
    ]


@pytest.mark.parametrize("address", INSIDE)
def test_no_way_of_writing_an_inner_address_is_taken(address: str) -> None:
    for form in forms(address):
        with pytest.raises(ValueError, match=r"calls out go to public addresses only|host"):
            place_of(f"https://{form}/hook", plain_http=True, allowed=())


@pytest.mark.parametrize("address", INSIDE + INSIDE_6)
def test_a_name_that_stands_for_an_inner_address_is_refused(address: str) -> None:
    assert refusal(ipaddress.ip_address(address), ())


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_taken(address: str) -> None:
    assert not refusal(ipaddress.ip_address(address), ())
    host = f"[{address}]" if ":" in address else address
    assert place_of(f"https://{host}:8443/a", plain_http=False, allowed=()).host == address


def test_ten_thousand_random_addresses_in_every_form_are_refused_exactly_when_they_are_not_public() -> None:
    """G30: N = 10,000 forms; the judge is the standard library's own notion of a global address."""
    rng = random.Random(30)
    tried = 0
    while tried < 10_000:
        pick = rng.random()
        network = ipaddress.ip_network(
            "0.0.0.0/0"
            if pick < 0.3
            else rng.choice(["10.0.0.0/8", "127.0.0.0/8", "192.168.0.0/16", "169.254.0.0/16"])
        )
        value = int(network.network_address) + rng.randrange(network.num_addresses)
        address = ipaddress.IPv4Address(value)
        for form in forms(str(address)):
            tried += 1
            try:
                place_of(f"https://{form}/", plain_http=False, allowed=())
                taken = True
            except ValueError:
                taken = False
            assert not taken or (address.is_global and not address.is_multicast), form


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://example.org/", "https"),
        ("ftp://example.org/", "https"),
        ("//example.org/", "https"),
        ("example.org", "https"),
        ("javascript:alert(1)", "https"),
        ("https://", "no host"),
        ("https:///path", "no host"),
        ("https://user@example.org/", "user"),
        ("https://example.org@127.0.0.1/", "user"),
        ("https://example.org#@127.0.0.1/", "fragment"),
        ("https://exam ple.org/", "blanks"),
        ("https://example.org/\r\nHost: x", "invisible"),
        ("https://example.org\\@127.0.0.1/", "backslashes"),
        ("https://example.org:0/", "port"),
        ("https://example.org:70000/", "not a URL"),
        ("https://example.org:x/", "not a URL"),
        ("https://[::1/", "not a URL"),
        ("https://[zz]/", "not a"),
        ("https://[fe80::1%25eth0]/", "percent"),
        ("https://%6c%6fcalhost/", "percent"),
        ("https://a..b/", "not a name"),
        ("https://-a.org/", "not a name"),
        ("https://" + "a" * 64 + ".org/", "not a name"),
        ("https://①②⑦.⓪.⓪.①/", "address|name"),
        ("https://example.org/" + "a" * 2000, "longer"),
    ],
)
def test_what_is_no_address_of_an_endpoint_is_explained(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        place_of(url, plain_http=False, allowed=())


def test_a_url_is_kept_in_one_form() -> None:
    place = place_of(
        "https://EXAMPLE.org:443/ä b/?q=ü&x=%20".replace(" ", "%20"), plain_http=False, allowed=()
    )
    assert place.url == "https://example.org/%C3%A4%20b/?q=%C3%BC&x=%20"
    assert place_of("http://bücher.example:8080", plain_http=True, allowed=()).url == (
        "http://xn--bcher-kva.example:8080/"
    )


def test_networks_can_be_allowed() -> None:
    allowed = networks(["10.1.0.0/16", "::1"])
    assert place_of("https://10.1.2.3/", plain_http=False, allowed=allowed).host == "10.1.2.3"
    assert not refusal(ipaddress.ip_address("::ffff:10.1.2.3"), allowed)
    assert refusal(ipaddress.ip_address("10.2.0.1"), allowed)
    assert not refusal(ipaddress.ip_address("::1"), allowed)
    with pytest.raises(ValueError, match=r"'10\.0\.0\.1/8' is not a network"):
        networks(["10.0.0.1/8"])
