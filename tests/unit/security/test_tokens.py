"""No token but an unchanged one of ours is accepted: thousands of forgeries, each refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tenfold._core.clock import ManualClock
from tenfold.errors import ExpiredToken, InvalidToken
from tenfold.security.keys import SecretKey
from tenfold.security.principal import Principal
from tenfold.security.tokens import Algorithm, Tokens, VerifiedTokens

SECRET = SecretKey(b"only the app knows these 32+ bytes of secret")
OTHER = SecretKey(b"somebody else has other 32+ bytes of secret.")
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
BOTH: list[Algorithm] = ["HS256", "Ed25519"]


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def parts_of(token: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    header, claims, signature = token.split(".")
    return json.loads(unb64(header)), json.loads(unb64(claims)), signature


def forge(header: Any, claims: Any, key: bytes, algorithm: str = "sha256") -> str:
    signed = b64(json.dumps(header).encode()) + "." + b64(json.dumps(claims).encode())
    return signed + "." + b64(hmac.digest(key, signed.encode(), algorithm))


def textual(token: str) -> Iterator[str]:
    """Every character changed, dropped, doubled; every truncation; every frame around it."""
    for i, char in enumerate(token):
        for other in (ALPHABET[(ALPHABET.find(char) + step) % 64] for step in (1, 17, 32, 63)):
            yield token[:i] + other + token[i + 1 :]
        yield token[:i] + chr(ord(char) ^ 1) + token[i + 1 :]
        yield token[:i] + token[i + 1 :]
        yield token[:i] + char + token[i:]
        yield token[:i]
        yield token[i + 1 :]
    for frame in (
        " {}",
        "{} ",
        "{}\n",
        "{}=",
        "{}==",
        "{}.",
        ".{}",
        "{}.e30",
        "\0{}",
        "{}é",
        "Bearer {}",
        "{0}{0}",
    ):
        yield frame.format(token)
    header, claims, signature = token.split(".")
    yield f"{header}.{claims}."
    yield f"{header}..{signature}"
    yield f".{claims}.{signature}"
    yield f"{claims}.{header}.{signature}"
    yield from ("", ".", "..", "...", "null", "{}", "e30.e30.", "a" * 5_000, "." * 5_000, "e30." * 2_000)


def headers(good: dict[str, Any]) -> Iterator[dict[str, Any]]:
    algorithms = [
        "none", "None", "NONE", "nOnE", "", None, 1, [], {}, "HS256", "hs256", "HS384", "HS512", "RS256", "RS512",
        "PS256", "ES256", "ES256K", "EdDSA", "Ed25519", "Ed448", "dir", "A128KW", "\0", "HS256 ",
    ]  # fmt: skip
    kids = [
        good["kid"],
        "",
        None,
        0,
        [],
        {},
        "../../dev/null",
        "' OR 1=1",
        good["kid"].upper(),
        good["kid"] + "0",
    ]
    types = [good["typ"], "JWT", "jwt", "AT+JWT", "application/at+jwt", "rt+jwt", "", None, 1, []]
    for alg in algorithms:
        for kid in kids:
            yield {**good, "alg": alg, "kid": kid}
        for typ in types:
            yield {**good, "alg": alg, "typ": typ}
    for name in ("alg", "kid", "typ"):
        yield {key: value for key, value in good.items() if key != name}
    extras = {
        "jku": "https://evil.example/keys", "jwk": {"kty": "oct", "k": "AA"}, "x5u": "https://evil.example",
        "x5c": ["AA"], "crit": ["exp"], "b64": False, "zip": "DEF", "cty": "JWT", "enc": "A128GCM", "epk": {},
    }  # fmt: skip
    for name, value in extras.items():
        yield {**good, name: value}
        yield {**good, name: value, "crit": [name]}


def claim_sets(good: dict[str, Any], now: float) -> Iterator[dict[str, Any]]:
    for name in ("iss", "aud", "sub", "iat", "exp", "jti"):
        yield {key: value for key, value in good.items() if key != name}
    for name in ("iss", "aud", "sub", "iat", "nbf", "exp", "jti"):  # ours have no nbf, and might
        for junk in (None, [], {}, True, [good.get(name, now)], {"a": 1}):
            yield {**good, name: junk}
    for wrong in ("", "App", "app ", "evil", "*", "app\0"):
        yield {**good, "iss": wrong}
        yield {**good, "aud": wrong}
    for seconds in (0, 0.001, 1, 60, 86_400, now):
        yield {**good, "exp": now - seconds}
    for seconds in (6, 60, 86_400, 1e12):
        yield {**good, "nbf": now + seconds}
        yield {**good, "iat": now + seconds}
    for text in ("inf", "1e400", "NaN", str(now + 900)):
        yield {**good, "exp": text}
    yield {**good, "exp": float("nan")}
    yield {**good, "sub": 1}
    yield {**good, "sid": 1}


def mutants(tokens: Tokens, token: str, now: float) -> Iterator[str]:
    yield from textual(token)
    header, claims, signature = parts_of(token)
    real = SECRET.derive("token/HS256")[0]
    foreign = OTHER.derive("token/HS256")[0]
    public_key = unb64(tokens._keys[header["kid"]][1].as_dict(private=False).get("x", "")) or b"x"  # type: ignore[arg-type]
    for changed in headers(header):
        signed = b64(json.dumps(changed).encode()) + "." + b64(json.dumps(claims).encode())
        yield f"{signed}.{signature}"
        yield f"{signed}."
        for key in (b"", foreign, public_key, header["kid"].encode(), b"secret"):
            yield forge(changed, claims, key)
        yield forge(changed, claims, real, "sha512")
        if changed != {"typ": "at+jwt", "alg": "HS256", "kid": header["kid"]}:
            yield forge(changed, claims, real)
    hs_header = {"typ": "at+jwt", "alg": "HS256", "kid": hs256_kid(tokens)}
    for wrong in claim_sets(claims, now):  # signed with the right key: only the claims are at fault
        yield forge(hs_header, wrong, real)
    for body in ([], "text", 1, None, [claims]):
        yield forge(hs_header, body, real)
    signed = b64(json.dumps(hs_header).encode()) + "." + b64(b"[" * 3_000)
    yield signed + "." + b64(hmac.digest(real, signed.encode(), "sha256"))


def hs256_kid(tokens: Tokens) -> str:
    return next(kid for kid, (algorithm, _) in tokens._keys.items() if algorithm == "HS256")


@pytest.mark.parametrize("algorithm", BOTH)
def test_thousands_of_mutants_are_all_rejected(algorithm: Algorithm) -> None:
    clock = ManualClock()
    tokens = Tokens(SECRET, clock, issuer="app", algorithm=algorithm)
    token = tokens.issue("ann", 900, sid="login")
    tried = 0
    for mutant in mutants(tokens, token, clock.now()):
        if mutant == token:
            continue
        tried += 1
        with pytest.raises(InvalidToken):
            tokens.verify(mutant)
    assert tried > 6_000
    assert tokens.verify(token).sub == "ann", "and the original is still good"


def test_the_mutants_would_break_a_verifier_that_trusts_the_signature_alone() -> None:
    """A check that cannot fail is no check: without the claims' rules, many mutants pass."""
    from joserfc import jwt
    from joserfc.jwk import OctKey

    clock = ManualClock()
    tokens = Tokens(SECRET, clock, issuer="app")
    token = tokens.issue("ann", 900)
    naive = OctKey.import_key(SECRET.derive("token/HS256")[0])

    def passes(mutant: str) -> bool:
        try:
            jwt.decode(mutant, naive, algorithms=["HS256"])
        except Exception:
            return False
        return True

    assert sum(passes(mutant) for mutant in mutants(tokens, token, clock.now()) if mutant != token) > 60


@pytest.mark.parametrize("algorithm", BOTH)
def test_tokens_of_another_secret_issuer_or_audience_are_refused(algorithm: Algorithm) -> None:
    clock = ManualClock()
    mine = Tokens(SECRET, clock, issuer="app", algorithm=algorithm)
    for other in (
        Tokens(OTHER, clock, issuer="app", algorithm=algorithm),
        Tokens(SECRET, clock, issuer="other", algorithm=algorithm),
        Tokens(SECRET, clock, issuer="app", audience="other", algorithm=algorithm),
    ):
        with pytest.raises(InvalidToken):
            mine.verify(other.issue("ann", 900))


def test_a_token_expires_to_the_second_and_says_so() -> None:
    clock = ManualClock()
    tokens = Tokens(SECRET, clock, issuer="app")
    token = tokens.issue("ann", 900)
    clock.jump(899.9)
    tokens.verify(token)
    clock.jump(0.1)
    with pytest.raises(ExpiredToken):
        tokens.verify(token)


def test_an_instance_whose_clock_is_a_little_ahead_is_believed() -> None:
    clock = ManualClock()
    tokens = Tokens(SECRET, clock, issuer="app")
    token = tokens.issue("ann", 900)
    clock.jump(-5)
    tokens.verify(token)
    clock.jump(-0.5)
    with pytest.raises(InvalidToken):
        tokens.verify(token)


def test_a_rotated_secret_signs_no_more_but_still_verifies() -> None:
    clock = ManualClock()
    old, new = b"the old secret of thirty-two bytes or more", b"the new secret of thirty-two bytes or more"
    before = Tokens(SecretKey(old), clock, issuer="app")
    during = Tokens(SecretKey(new, old), clock, issuer="app")
    after = Tokens(SecretKey(new), clock, issuer="app")
    assert during.verify(before.issue("ann", 900)).sub == "ann"
    assert after.verify(during.issue("ann", 900)).sub == "ann"
    with pytest.raises(InvalidToken):
        after.verify(before.issue("ann", 900))


def test_the_two_algorithms_and_purposes_have_unrelated_keys() -> None:
    keys = {SECRET.derive(purpose)[0] for purpose in ("token/HS256", "token/Ed25519", "other")}
    assert len(keys) == 3
    assert hashlib.sha256(b"only the app knows these 32+ bytes of secret").digest() not in keys


# ── verified lately ──


def test_a_repeated_token_costs_at_most_four_calls() -> None:
    verified = VerifiedTokens(ManualClock())
    ann = Principal(id="ann")
    verified.put("token", ann, exp=2e9)
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        found = verified.get("token")
    finally:
        sys.setprofile(None)
    assert found is ann
    assert calls - 1 <= 4, "minus the call of sys.setprofile itself"


def test_a_token_that_ends_as_another_one_does_is_not_taken_for_it() -> None:
    verified = VerifiedTokens(ManualClock())
    verified.put("a" * 20 + "-" + "s" * 40, Principal(id="ann"), exp=2e9)
    assert verified.get("a" * 20 + "-" + "s" * 40) is not None
    assert verified.get("b" * 20 + "-" + "s" * 40) is None


def test_a_remembered_token_is_looked_at_again_after_a_while_and_never_outlives_its_expiry() -> None:
    clock = ManualClock()
    verified = VerifiedTokens(clock, recheck_s=30)
    verified.put("long", Principal(id="ann"), exp=clock.now() + 900)
    verified.put("short", Principal(id="ann"), exp=clock.now() + 10)
    clock.jump(9.9)
    assert verified.get("short") is not None
    clock.jump(0.1)
    assert verified.get("short") is None
    clock.jump(19.9)
    assert verified.get("long") is not None
    clock.jump(0.1)
    assert verified.get("long") is None
    assert len(verified) == 0


def test_the_memory_is_bounded_and_the_oldest_makes_room() -> None:
    clock = ManualClock()
    verified = VerifiedTokens(clock, entries_max=100)
    for i in range(250):
        verified.put(f"t{i}", Principal(id="ann"), exp=clock.now() + 900)
    assert len(verified) == 100
    assert verified.get("t149") is None
    assert verified.get("t150") is not None


def test_forgetting_drops_the_account_or_the_login_only() -> None:
    clock = ManualClock()
    verified = VerifiedTokens(clock)
    for name, sid in (("ann", "s1"), ("ann", "s2"), ("bob", "s3"), ("bob", "")):
        verified.put(name + sid, Principal(id=name), exp=clock.now() + 900, sid=sid)
    stamp = verified.stamp
    verified.forget(sid="s1")
    assert [verified.get(t) is not None for t in ("anns1", "anns2", "bobs3", "bob")] == [
        False,
        True,
        True,
        True,
    ]
    verified.forget(account="bob")
    assert [verified.get(t) is not None for t in ("anns2", "bobs3", "bob")] == [True, False, False]
    assert verified.stamp == stamp + 2
