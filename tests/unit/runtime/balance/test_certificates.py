"""A certificate is judged before a balancer is started with it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from support.certificates import Authority
from tenfold.errors import ConfigError
from tenfold.runtime.balance import Tls
from tenfold.runtime.balance.certificates import check_tls, matches

NOW = 1_800_000_000.0
DAY = 86_400.0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, NOW)


def refusal(tls: Tls, *names: str, now: float = NOW) -> str:
    with pytest.raises(ConfigError) as refused:
        check_tls(tls, names, now)
    return str(refused.value)


def test_a_good_one_is_good(authority: Authority) -> None:
    check_tls(authority.issue("shop.example", "*.shop.example"), ["shop.example", "www.shop.example"], NOW)


def test_an_expired_one_says_since_when(authority: Authority) -> None:
    tls = authority.issue("shop.example", days=30)
    sentence = refusal(tls, now=NOW + 31 * DAY)
    assert "the certificate of shop.example in" in sentence
    assert "expired on 2027-02-14 08:00 UTC. Renew it" in sentence


def test_one_of_tomorrow_is_refused(authority: Authority) -> None:
    assert "is not valid before" in refusal(authority.issue("shop.example"), now=NOW - 2 * DAY)


def test_one_that_soon_expires_is_named_in_the_log(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        check_tls(authority.issue("shop.example", days=10), [], NOW)
    assert "expires in 10 days" in caplog.text


def test_another_ones_key_is_refused(authority: Authority) -> None:
    one, other = authority.issue("a.example"), authority.issue("b.example")
    sentence = refusal(Tls(one.certificate, other.key))
    assert sentence.startswith("balancer.tls_key: the key in")
    assert "is not the one of the certificate of a.example" in sentence


def test_another_name_is_refused(authority: Authority) -> None:
    sentence = refusal(authority.issue("shop.example", "*.shop.example"), "pay.example")
    assert (
        "not valid for pay.example, but for shop.example, *.shop.example. Get one for pay.example" in sentence
    )


def test_a_chain_in_the_wrong_order_is_refused(authority: Authority) -> None:
    tls = authority.issue("shop.example")
    path = Path(tls.certificate)
    path.write_bytes(authority.pem + path.read_bytes())
    assert "does not hold a chain: shop.example did not sign Test authority" in refusal(tls)


def test_files_that_are_none_are_named(authority: Authority, tmp_path: Path) -> None:
    good, junk = authority.issue("shop.example"), tmp_path / "junk.pem"
    junk.write_text("hello")
    assert f"{junk} holds no certificate in PEM" in refusal(Tls(str(junk), good.key))
    assert f"{junk} holds no private key in PEM" in refusal(Tls(good.certificate, str(junk)))
    assert "gone.pem cannot be read: No such file" in refusal(Tls(f"{tmp_path}/gone.pem", good.key))
    assert f"{junk} holds no certificate in PEM" in refusal(Tls(good.certificate, good.key, str(junk)))


def test_a_key_with_a_password_says_how_to_take_it_off(authority: Authority) -> None:
    good = authority.issue("shop.example", password=b"secret")
    assert "is encrypted with a password. Decrypt it: openssl pkey -in" in refusal(good)


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("shop.example", "SHOP.example", True),
        ("*.shop.example", "a.shop.example", True),
        ("*.shop.example", "shop.example", False),
        ("*.shop.example", "a.b.shop.example", False),
        ("*.shop.example", ".shop.example", False),
        ("127.0.0.1", "127.0.0.1", True),
    ],
)
def test_a_star_stands_for_one_label(pattern: str, name: str, fits: bool) -> None:
    assert matches(pattern, name) is fits
