"""URLs of brokers, names at brokers, and the order in which a batch is sent."""

from __future__ import annotations

from typing import Any

import pytest

from tenfold._core.clock import SystemClock
from tenfold._core.resolve import backend_class
from tenfold._core.sections import EventsSettings
from tenfold.errors import ConfigError
from tenfold.events.backends._address import Address
from tenfold.events.backends._nats_names import Names, key_header, key_of
from tenfold.events.backends._sqs_body import read, written
from tenfold.events.backends._sqs_names import Account
from tenfold.events.backends._waves import waves
from tenfold.events.contract import Feed, Outgoing


def made(url: str, **settings: Any) -> Any:
    given = EventsSettings(url=url, **settings)
    return backend_class("events", url, where="events.url").from_url(url, settings=given, clock=SystemClock())


def event(n: int, key: str | None = None) -> Outgoing:
    return Outgoing(
        "t", key, f"id-{n}", b"{}", {"specversion": "1.0", "id": f"id-{n}", "source": "/a", "type": "t"}
    )


def test_no_key_is_sent_twice_in_one_round() -> None:
    """Each round has the next event of every key, and the first all that have none."""
    events = [event(0, "a"), event(1, "a"), event(2), event(3, "b"), event(4, "a"), event(5)]
    assert waves(events, range(6)) == [[0, 2, 3, 5], [1], [4]]
    assert waves(events, [1, 4]) == [[1], [4]]
    assert waves([], []) == []


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("kafka://", "no host"),
        ("kafka://h:99999", "port"),
        ("kafka://h?partition=3", "Did you mean 'partitions'"),
        ("kafka://h?partitions=none", "partitions"),
        ("kafka://h?sasl=GSSAPI", "sasl"),
        ("kafka://h?tls=maybe", "tls"),
        ("kafka://h?ssl_ca_certs=/none", "cannot be read"),
        ("nats://h?replicas=0", "replicas"),
        ("nats://[::1", "no address"),
        ("sqs://", "no host"),
        ("sqs://a,b", "region"),
        ("sqs://eu-central-1?keep_s=9999999", "1209600"),
    ],
)
def test_a_url_that_is_wrong_is_refused_in_a_sentence(url: str, what: str) -> None:
    """At the start, with the setting and what to write, and without what may be a password."""
    with pytest.raises(ConfigError, match=r"events\.url") as refused:
        made(url.replace("://", "://user:geheim@", 1))
    assert what in str(refused.value)
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize("url", ["kafka://u:a?geheim@h", "nats://u:a?geheim=1@h", "sqs://u:a?geheim@eu"])
def test_a_password_with_a_question_mark_is_not_taken_for_an_option_and_told(url: str) -> None:
    with pytest.raises(ConfigError, match="%3F") as refused:
        made(url)
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize("url", ["kafka://h", "nats://h", "sqs://eu-central-1"])
def test_a_prefix_that_no_name_may_begin_with_is_refused(url: str) -> None:
    """It names the setting."""
    with pytest.raises(ConfigError, match=r"events\.prefix"):
        made(url, prefix="a b*")


def test_hosts_take_their_usual_port() -> None:
    """Several hosts, IPv6 among them."""
    address = Address.parse("kafka://a,b:1,[::1]:2", form="", options=(), port=9092)
    assert address.hosts == ("a:9092", "b:1", "[::1]:2")


def test_names_that_look_alike_are_told_apart() -> None:
    """Whatever characters a service's names have, two subscriptions never share a consumer or a queue."""
    names = ["a.b", "a b", "a-b", "a/b", "a.b c", "a b c", "x" * 300, "x" * 301]
    nats = Names("p", 1.0, 500, 60, 1)
    sqs = Account.from_url("sqs://eu-central-1", EventsSettings())
    durables = [nats.durable(Feed(name, "t")) for name in names]
    queues = [sqs.queue(Feed(name, "t")) for name in names]
    for made_ in (durables, queues):
        assert len(set(made_)) == len(names)
    assert not any(set(durable) & set(" ./*>") for durable in durables)
    assert all(len(queue) <= 80 and queue.endswith(".fifo") for queue in queues)


@pytest.mark.parametrize("key", [None, "", "a", "Zoë/№ 1 ", "=%", "\n", "k" * 400])
def test_a_key_of_any_characters_comes_back(key: str | None) -> None:
    """In NATS's headers and in SQS's documents; no key is not the empty key."""
    assert key_of(key_header(key)) == key
    assert read(written(event(1, key))).key == key


def test_a_message_group_is_never_shared() -> None:
    """By two keys, or by a key and an event without one."""
    account = Account.from_url("sqs://eu-central-1", EventsSettings())
    keys = [None, "", "a", "=a", "*a", "Zoë", "k" * 300, "k" * 301]
    groups = [account.group(event(n, key)) for n, key in enumerate(keys)]
    assert len(set(groups)) == len(keys)
    assert all(0 < len(group) <= 128 and group.isascii() and group.isprintable() for group in groups)


def test_characters_that_sqs_refuses_are_escaped() -> None:
    """The data say the same afterwards."""
    sent = event(1)._replace(body='{"text":"\uffff\ufffe\x7f"}'.encode())
    text = written(sent)
    assert not set(text) & set("\uffff\ufffe\x7f")
    assert read(text).body == b'{"text":"\\uffff\\ufffe\\u007f"}'


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"a": 1}', '"specversion"', "{}"])
def test_a_message_without_an_envelope_is_its_own_body(text: str) -> None:
    """As other producers send it."""
    assert read(text) == ({}, text.encode(), None)
