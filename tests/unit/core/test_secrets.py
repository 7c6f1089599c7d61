"""Which values of settings are secret, and must never be told."""

from __future__ import annotations

import msgspec
import pytest

from tenfold._core import secrets
from tenfold._core.sections import Settings
from tenfold._core.settings import load
from tenfold.telemetry.redact import MASK, Redactor


class Own(msgspec.Struct):
    api_key: str = "k9-live-0001"
    colour: str = "ultramarine-2026"


def settings(**overrides: object) -> Settings:
    return load(
        environ={}, overrides={path.replace("__", "."): value for path, value in overrides.items()}
    ).settings


def test_secret_settings_and_passwords_of_urls_are_found_wherever_they_stand() -> None:
    given = settings(
        app__secret_key="c0ffee-c0ffee-c0ffee",
        ops__token="ops-t0ken-1",
        database__url="postgresql://shop:p%40ssw0rd-1@db/shop?sslkey=queried-5",
        database__replicas=["postgresql://shop:replic4-pass@db2/shop"],
    )
    found = secrets.values(given)
    assert {
        "c0ffee-c0ffee-c0ffee",
        "ops-t0ken-1",
        "p%40ssw0rd-1",
        "p@ssw0rd-1",
        "replic4-pass",
        "queried-5",
    } <= set(found)


def test_settings_of_services_are_looked_into() -> None:
    given = msgspec.structs.replace(settings(), services={"shop": Own()})
    assert secrets.values(given) == ["k9-live-0001"]


@pytest.mark.parametrize("word", ["", "s3cret", "postgres", "tenfold-shop"])
def test_what_would_mask_ordinary_words_is_left_out(word: str) -> None:
    assert secrets.values(settings(ops__token=word)) == []


def test_what_is_found_is_masked_in_every_form_by_who_learns_it() -> None:
    redactor = Redactor()
    redactor.learn(*secrets.values(settings(ops__token="ops-t0ken-1")))
    said = redactor.text("it was b3BzLXQwa2VuLTE= or ops-t0ken-1 or ops%2Dt0ken%2D1")
    assert said.startswith(f"it was {MASK}")
    assert f"or {MASK} or" in said
