"""Guarantee G31: canaries planted in every place a secret comes through never reach a line."""

from __future__ import annotations

import base64
import html
import io
import json
import logging
import random
import re
import time
from dataclasses import dataclass
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold._core.clock import ManualClock
from tenfold._core.sections import LogSettings
from tenfold.telemetry import redact
from tenfold.telemetry.log import configure, get_logger
from tenfold.telemetry.redact import MASK, TEXT_MAX_CHARS, Redactor, Secret, is_sensitive

CANARY = "c4N4ry-7f3aQ9zLx0"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiIsImV4cCI6MX0.c2lnbmF0dXJlLW9mLWEtdG9rZW4"


@dataclass
class Login:
    email: str
    password: str


class Card(msgspec.Struct):
    holder: str
    card_number: str


PLACES_IN_TEXT = [
    f"Authorization: Bearer {CANARY}",
    f"authorization: {CANARY}",
    f"called with Bearer {CANARY} and failed",
    f"GET /?token={CANARY}&page=2",
    f"GET /%3Ftoken%3D{CANARY}",
    f"Cookie: a=1; session={CANARY}; b=2",
    f"Set-Cookie: sid={CANARY}; HttpOnly",
    f"postgresql://app:{CANARY}@db:5432/shop",
    f"redis://:{CANARY}@cache/0",
    f"https://{CANARY}@git.example/repo",
    f'{{"password": "{CANARY}"}}',
    f'{{\\"password\\": \\"{CANARY}\\"}}',
    f"{{'api_key': '{CANARY}'}}",
    f"[(b'authorization', b'{CANARY}'), (b'accept', b'*/*')]",
    f"['x-api-key', '{CANARY}']",
    f"password={CANARY}",
    f"DB_PASSWORD={CANARY}",
    f"client_secret => {CANARY}",
    f"Login(email='a@b.c', password='{CANARY}')",
    f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----",
    f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}",
    f"Basic {base64.b64encode(f'app:{CANARY}'.encode()).decode()}",
    f"Authorization: Basic {base64.b64encode(f'x:{CANARY}'.encode()).decode()}",
    f"sk_live_{CANARY.replace('-', '')}",
]


def leaked(text: str) -> bool:
    encoded = (
        base64.b64encode(f"app:{CANARY}".encode()).decode(),
        base64.b64encode(f"x:{CANARY}".encode()).decode(),
    )
    return CANARY in text or CANARY.replace("-", "") in text or any(e in text for e in encoded)


@pytest.mark.parametrize("text", PLACES_IN_TEXT)
def test_a_canary_in_text_is_masked(text: str) -> None:
    shown = Redactor().text(text)
    assert MASK in shown
    assert not leaked(shown)


@pytest.mark.parametrize("text", PLACES_IN_TEXT)
def test_the_canary_check_itself_can_fail(text: str) -> None:
    assert leaked(text)


@pytest.mark.parametrize(
    "value",
    [
        {"password": CANARY},
        {"user": {"profile": [{"accessToken": CANARY}]}},
        {"headers": {"X-Api-Key": CANARY}},
        {"headers": [("cookie", CANARY)]},
        {"headers": [[b"authorization", CANARY.encode()]]},
        {"login": Login("a@b.c", CANARY)},
        {"secret": Secret(CANARY), "other": Secret(CANARY)},
        {"body": f"password={CANARY}".encode()},
        {"pin_code_secret": 123},
        {"error": ValueError(f"bad token={CANARY}")},
        {f"token={CANARY}": 1},
        {"set": {f"Bearer {CANARY}"}},
    ],
)
def test_a_canary_in_a_structure_is_masked(value: dict[str, object]) -> None:
    shown = json.dumps(Redactor().fields(value), default=str)
    assert not leaked(shown)
    assert "123" not in shown


def test_a_jwt_is_masked_wherever_it_stands_and_however_much_of_it() -> None:
    for text in (JWT, f"path /reset/{JWT}/now", JWT[: len(JWT) // 2], f"token {JWT[:20]}"):
        assert "eyJ" not in Redactor().text(text)


def test_an_api_key_as_we_make_them_is_masked_and_a_long_name_is_not() -> None:
    key = f"tf_0123456789abcdef_{'aB3-xY_z' * 5}qRs"
    name = "the_operation_with_a_very_long_name_that_places_2_orders"
    assert Redactor().text(f"got {key} for {name}") == f"got {MASK} for {name}"


def test_a_card_number_is_masked_and_another_number_is_not() -> None:
    shown = Redactor().text("card 4111 1111 1111 1111, order 4111 1111 1111 1112, at 1700000000000")
    assert shown == f"card {MASK}, order 4111 1111 1111 1112, at 1700000000000"


@pytest.mark.parametrize(
    "encode",
    [
        str,
        lambda s: quote(s, safe=""),
        lambda s: quote(s, safe="").replace("%2F", "%2f"),
        lambda s: base64.b64encode(s.encode()).decode(),
        lambda s: base64.b64encode(b"user:" + s.encode() + b"!").decode(),
        lambda s: base64.b64encode(b"us:" + s.encode() + b"!").decode(),
        lambda s: base64.b64encode(b"u:" + s.encode() + b"!").decode(),
        lambda s: base64.urlsafe_b64encode(s.encode()).decode(),
        lambda s: s.encode().hex(),
        lambda s: s.encode().hex().upper(),
        html.escape,
        json.dumps,
        lambda s: repr(s.encode()),
    ],
)
def test_a_learned_value_is_found_in_every_encoding(encode: object) -> None:
    secret = 'pä/ss?"w<ord>+99'
    shown = Redactor([secret]).text(f"before {encode(secret)} after")  # type: ignore[operator]
    assert MASK in shown
    assert shown.startswith("before ")
    assert shown.endswith(" after")
    core = base64.b64encode(secret.encode()).decode()[4:12]
    assert core not in shown
    assert "w<ord" not in shown


def test_ordinary_words_survive() -> None:
    text = (
        "Basic authentication is off. Bearer of news. See https://example.org/path?page=2 at 10:20, key=abc"
    )
    assert Redactor(["short"]).text(text) == text


def test_measures_that_sound_like_secrets_survive() -> None:
    fields = {"token_ttl": 5, "tokens_max": 9, "session_id_count": 3, "password_set": True, "order_id": 7}
    shown = Redactor().fields(fields)
    assert shown == {**fields}
    assert is_sensitive("Authorization")
    assert not is_sensitive("author")


def test_a_secret_shows_itself_to_nobody_but_reveal() -> None:
    secret = Secret(CANARY)
    assert not any(CANARY in text for text in (str(secret), repr(secret), f"{secret}", f"{[secret]}"))
    assert secret.reveal() == CANARY
    with pytest.raises(TypeError):
        __import__("copy").deepcopy(secret)


def test_a_secret_across_the_cut_is_still_masked() -> None:
    for start in range(TEXT_MAX_CHARS - 40, TEXT_MAX_CHARS, 7):
        assert CANARY[:8] not in Redactor().text("x" * start + f" password={CANARY}" + "y" * TEXT_MAX_CHARS)


@pytest.mark.parametrize(
    "hostile",
    ["a" * 60_000, "password" * 6_000, "Bearer " * 6_000, "://" * 10_000, "4" * 50_000, "eyJ" * 10_000, "token=\\" * 5000,
     "-----BEGIN PRIVATE KEY-----" * 2_000, "a_" * 20_000, "://a:" * 8_000, "bearer " + " " * 30_000],
)  # fmt: skip
def test_hostile_text_costs_linear_time(hostile: str) -> None:
    start = time.process_time()
    Redactor(["learned-value"]).text(hostile)
    assert time.process_time() - start < 0.5


@given(
    st.recursive(
        st.text() | st.binary() | st.none() | st.floats(),
        lambda s: st.lists(s) | st.dictionaries(st.text(), s),
    )
)
def test_redaction_never_raises_and_is_idempotent(value: object) -> None:
    redactor = Redactor()
    once = redactor.value(value)
    assert msgspec.json.encode(redactor.value(once)) == msgspec.json.encode(once)


def test_no_canary_passes_the_whole_log(capfd: pytest.CaptureFixture[str]) -> None:
    """Through every way into the log: event, fields, bound fields, standard logging, exceptions, broken calls."""
    for format_ in ("json", "text"):
        out = io.StringIO()
        logs = configure(LogSettings(format=format_), ManualClock(), stream=out)
        try:
            _plant()
        finally:
            logs.close()
        assert out.getvalue().count(MASK) >= 6
        assert not leaked(out.getvalue())
    captured = capfd.readouterr()
    assert not leaked(captured.out + captured.err)


def _plant() -> None:
    log, plain = get_logger("tests"), logging.getLogger("library")
    log.info(f"event with password={CANARY}")
    log.bind(api_key=CANARY).warning("bound", headers={"authorization": CANARY})
    log.info("fields", url=f"amqp://u:{CANARY}@mq/", card=Card("x", CANARY))
    plain.warning("args %s", f"Bearer {CANARY}")
    plain.warning("extra", extra={"session_token": CANARY})
    plain.warning("broken %d", f"token={CANARY}")
    try:
        raise RuntimeError(f"connect to postgres://u:{CANARY}@h/ failed")
    except RuntimeError:
        log.exception("failed")
        plain.exception("failed too")


_PIECES = (
    "Bearer ", "basic%20", "abcdef0123456789", "-----BEGIN RSA PRIVATE KEY-----", "://user:", "pw@host", "password=",
    "Api-Key: ", "eyJhbGciOi", ".x.y", "AKIAABCDEFGHIJKLMNOP", "ghp_abcdefghijklmnopqrstuvwx", "sk_live_abcdefgh",
    "xoxb-1234567890", "tk_", "aB3" * 12, "4111 1111 1111 1111", "4111-1111", " ", "/orders/42", "cookie: a=b", "\n",
)  # fmt: skip


def test_the_quick_look_misses_nothing_that_a_pattern_would_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    chance, redactor = random.Random(7), Redactor()
    texts = ["".join(chance.choices(_PIECES, k=chance.randint(1, 4))) for _ in range(3000)]
    quick = [redactor.text(text) for text in texts]
    monkeypatch.setattr(redact, "_TRIGGER", re.compile(""))
    assert [redactor.text(text) for text in texts] == quick
    assert sum(shown != text for shown, text in zip(quick, texts, strict=True)) > 1000
