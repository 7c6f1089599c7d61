"""CloudEvents: the envelope is what the specification says, and foreign ones are read as far as they go."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold._core.context import Context, Priority
from tenfold.errors import UndecodableEvent
from tenfold.events import bindings, envelope
from tenfold.events.bindings import Binding

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
BINDINGS = (bindings.KAFKA, bindings.AMQP, bindings.NATS, bindings.HTTP, bindings.FIELDS)
WIRE = Context(
    request_id="r-1",
    trace_id=TRACE,
    span_id=SPAN,
    tracestate="a=b",
    sampled=True,
    tenant="acme",
    causal="0/16B3",
).to_wire()


def envelope_of(**changes: Any) -> dict[str, str]:
    given: dict[str, Any] = {
        "app": "shop",
        "topic": "orders.order-placed",
        "version": 2,
        "event_id": "0193-a",
        "key": "customer 1",
        "published_at": 1_700_000_000.25,
        "context": msgspec.json.encode(WIRE).decode(),
        "priority": Priority.CRITICAL,
    }
    return envelope.attributes_of(**{**given, **changes})


def assert_allowed(attributes: dict[str, str]) -> None:
    """§ 3.1 and § 3.2 of the specification: required attributes, names, and characters of values."""
    assert {"id", "source", "specversion", "type"} <= attributes.keys()
    for name, value in attributes.items():
        assert re.fullmatch("[a-z0-9]{1,20}", name)
        assert name != "data"
        assert value
        assert not any(unicodedata.category(char) in ("Cc", "Cs") for char in value)


def test_an_event_has_the_attributes_of_the_specification_and_ours_as_extensions() -> None:
    assert envelope_of() == {
        "specversion": "1.0",
        "id": "0193-a",
        "source": "/shop/orders",
        "type": "orders.order-placed.v2",
        "subject": "customer 1",
        "time": "2023-11-14T22:13:20.250000Z",
        "datacontenttype": "application/json",
        "priority": "0",
        "traceparent": f"00-{TRACE}-{SPAN}-01",
        "tracestate": "a=b",
        "requestid": "r-1",
        "tenant": "acme",
        "causaltoken": "0/16B3",
    }
    assert_allowed(envelope_of())


def test_what_there_is_nothing_to_say_of_is_left_out() -> None:
    bare = envelope_of(key=None, context=None, priority=None)
    assert bare.keys() == {"specversion", "id", "source", "type", "time", "datacontenttype"}


def test_the_schema_is_named_where_it_can_be_found() -> None:
    found = envelope_of(schema_url="https://shop.example/events/")
    assert found["dataschema"] == "https://shop.example/events/orders.order-placed/2"


def test_the_receiver_gets_the_senders_context_topic_version_priority_and_time() -> None:
    sent = envelope_of()
    assert msgspec.json.decode(envelope.context_of(sent) or "") == WIRE
    assert envelope.topic_of(sent) == ("orders.order-placed", 2)
    assert envelope.priority_of(sent) is Priority.CRITICAL
    assert envelope.published_at(sent, 0.0) == 1_700_000_000.25


@pytest.mark.parametrize(
    "attributes",
    [{}, {"type": "com.example.thing", "time": "yesterday", "traceparent": "00-x", "priority": "high"}],
)
def test_a_foreign_envelope_is_read_as_far_as_it_goes(attributes: dict[str, str]) -> None:
    assert envelope.topic_of(attributes) == ("", 1)
    assert envelope.context_of(attributes) is None
    assert envelope.priority_of(attributes) is None
    assert envelope.published_at(attributes, 7.0) == 7.0


# ── headers ──


def test_headers_are_those_of_each_protocols_binding() -> None:
    sent = {"id": "1", "subject": 'Euro € "50%"', "datacontenttype": "application/json"}
    assert bindings.KAFKA.headers(sent) == {
        "ce_id": "1", "ce_subject": 'Euro € "50%"', "content-type": "application/json",
    }  # fmt: skip
    assert bindings.AMQP.headers(sent) == {"cloudEvents_id": "1", "cloudEvents_subject": 'Euro € "50%"'}
    for binding in (bindings.NATS, bindings.HTTP):
        assert binding.headers(sent) == {
            "ce-id": "1", "ce-subject": "Euro%20%E2%82%AC%20%2250%25%22", "content-type": "application/json",
        }  # fmt: skip


text = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), min_size=1, max_size=40)


@given(st.dictionaries(st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True).filter(lambda n: n != "data"), text))
def test_what_one_side_writes_the_other_reads(extensions: dict[str, str]) -> None:
    sent = {**extensions, **envelope_of()}
    for binding in BINDINGS:
        kept = {k: v.encode() if binding is bindings.KAFKA else v for k, v in binding.headers(sent).items()}
        assert binding.attributes(kept, sent["datacontenttype"]) == sent


@given(st.dictionaries(st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True), text))
def test_escaped_headers_are_visible_ascii(attributes: dict[str, str]) -> None:
    headers = bindings.HTTP.headers({k: v for k, v in attributes.items() if k != "datacontenttype"})
    assert all(re.fullmatch("[!#-~]+", value) for value in headers.values())


@pytest.mark.parametrize("binding", BINDINGS, ids=lambda b: b.prefix + str(b.escaped))
def test_other_prefixes_cases_and_kinds_of_values_are_read_and_other_headers_are_not(
    binding: Binding,
) -> None:
    headers = {
        "CE_Id": b"1", "ce-Source": "/x", "cloudEvents:type": "t", "cloudEvents_subject": "s", "Content-Type": "a/b",
        "ce_retries": 3, "ce_urgent": True, "x-other": "1", "ce_": "?", "ce_two words": "?", "ce_empty": "",
    }  # fmt: skip
    assert binding.attributes(headers) == {
        "id": "1", "source": "/x", "type": "t", "subject": "s", "datacontenttype": "a/b", "retries": "3",
        "urgent": "true",
    }  # fmt: skip


def test_quoted_headers_of_older_producers_are_read_and_invalid_ones_left_out() -> None:
    headers = {"ce-subject": r'"two \"words\""', "ce-bad": "%C0%A0", "ce-lower": "%e2%82%ac"}
    assert bindings.HTTP.attributes(headers) == {"subject": 'two "words"', "lower": "€"}


# ── structured mode ──


def test_a_structured_event_is_one_document_and_comes_back_as_it_was() -> None:
    document = envelope.structured(envelope_of(), b'{"order_id":7}')
    assert json.loads(document) == {**envelope_of(), "data": {"order_id": 7}}
    outer = {"datacontenttype": "application/cloudevents+json; charset=utf-8", "partition": "3"}
    got = envelope.opened(outer, document)
    assert got.body == b'{"order_id":7}'
    assert got.attributes == {**envelope_of(), "partition": "3"}


def test_numbers_and_booleans_of_a_structured_event_become_text_and_what_is_no_attribute_is_left_out() -> (
    None
):
    document = b'{"id":"1","n":3,"yes":true,"none":null,"list":[1],"Not-One":"x","data":null}'
    got = envelope.opened({"datacontenttype": envelope.STRUCTURED}, document)
    assert got == ({"id": "1", "n": "3", "yes": "true"}, b"null")


def test_an_event_in_binary_mode_is_left_as_it_is() -> None:
    assert envelope.opened({"datacontenttype": "application/json"}, b"7") == (
        {"datacontenttype": "application/json"},
        b"7",
    )


@pytest.mark.parametrize(
    ("body", "says"), [(b"[]", "is not"), (b"\xff", "is not"), (b'{"data_base64":"AA=="}', "binary")]
)
def test_a_structured_event_that_is_none_is_undecodable(body: bytes, says: str) -> None:
    with pytest.raises(UndecodableEvent, match=says):
        envelope.opened({"datacontenttype": envelope.STRUCTURED}, body)


# ── rules ──


@given(st.text(max_size=30), st.text(max_size=30))
def test_whatever_keys_and_tenants_contain_the_envelope_stays_valid(key: str, tenant: str) -> None:
    context = json.dumps({"tenant": tenant})
    try:
        made = envelope_of(key=key, context=context)
    except msgspec.DecodeError:  # lone surrogates are no JSON
        return
    assert_allowed(made)
