"""Of all tokens that could be sent to a service, only one that its caller made for it is accepted."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tenfold._core.clock import ManualClock
from tenfold.errors import InvalidToken
from tenfold.security.identity import issuing
from tenfold.security.identity.keys import (
    NOW_OVERLAP_S,
    NOW_SPREAD_S,
    OVERLAP_S,
    SPREAD_S,
    Jwk,
    Keys,
    private_keys,
)
from tenfold.security.identity.names import ServiceName, parse, service_name
from tenfold.security.identity.tokens import LEEWAY_S, TTL_MAX_S, TTL_S, TYPE, ServiceTokens

SERVICES = ("orders", "catalog", "inventory")
NOW = 1_700_000_000.0


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def name(service: str) -> ServiceName:
    return service_name("shop", service)


class Fleet:
    """Three services with a folder of keys."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, ManualClock(NOW)
        for service in SERVICES:
            issuing.issue(folder, service, NOW)
        self.tokens = {service: self.process(service) for service in SERVICES}

    def process(self, service: str) -> ServiceTokens:
        """One more process of the service."""
        return ServiceTokens(name(service), Keys(self.folder, self.clock, service=service), self.clock)

    def key(self, service: str) -> Jwk:
        return private_keys(self.folder / service)[-1]

    def token(
        self, signer: str = "orders", header: Any = None, key: bytes | None = None, **claims: Any
    ) -> str:
        """A token signed with the key of ``signer`` that says whatever is wanted; None leaves a claim out."""
        jwk, me = self.key(signer), str(name("orders"))
        now = self.clock.now()
        said = {
            "iss": me,
            "sub": me,
            "aud": str(name("catalog")),
            "iat": now,
            "nbf": now,
            "exp": now + 60,
            "jti": "1",
        }
        said = {claim: value for claim, value in (said | claims).items() if value is not None}
        head = {"typ": TYPE, "alg": "Ed25519", "kid": jwk.kid} | (header or {})
        signed = f"{b64(json.dumps(head).encode())}.{b64(json.dumps(said).encode())}"
        private = Ed25519PrivateKey.from_private_bytes(key or unb64(jwk.d))
        return f"{signed}.{b64(private.sign(signed.encode()))}"


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path / "identity")


def with_hmac(fleet: Fleet, algorithm: str) -> str:
    """Signed with the public key as the secret of a symmetric algorithm."""
    header = {"typ": TYPE, "alg": algorithm, "kid": fleet.key("orders").kid}
    claims = fleet.token().split(".")[1]
    signed = f"{b64(json.dumps(header).encode())}.{claims}"
    return f"{signed}.{b64(hmac.digest(unb64(fleet.key('orders').x), signed.encode(), 'sha256'))}"


def forgeries(fleet: Fleet) -> Iterator[tuple[str, str, str]]:
    """``(what it is, token, reason of the refusal)``."""
    good = fleet.token()
    stranger = issuing.new_key(NOW)
    now = fleet.clock.now()
    yield "none", "", "malformed"
    yield "a word", "token", "malformed"
    yield "huge", good + "A" * 3_000, "malformed"
    yield "two parts", good.rpartition(".")[0], "signature"
    yield "no signature", good.rpartition(".")[0] + ".", "signature"
    yield "expired", fleet.token(iat=now - 70, nbf=now - 70, exp=now - 10), "expired"
    yield "expires now", fleet.token(exp=now), "expired"
    yield "early", fleet.token(iat=now + LEEWAY_S + 1, nbf=now + LEEWAY_S + 1, exp=now + 70), "early"
    yield "long-lived", fleet.token(exp=now + TTL_MAX_S + 1), "lifetime"
    yield "for another", fleet.token(aud=str(name("inventory"))), "audience"
    yield "for nobody", fleet.token(aud=""), "audience"
    yield "for a list", fleet.token(aud=[str(name("catalog"))]), "signature"
    yield (
        "of another domain",
        fleet.token(iss="spiffe://else/service/orders", sub="spiffe://else/service/orders"),
        "issuer",
    )
    yield "in another's name", fleet.token(signer="inventory"), "issuer"
    yield "for somebody else", fleet.token(sub=str(name("inventory"))), "issuer"
    yield "wrong key", fleet.token(key=unb64(stranger.d)), "signature"
    yield "unknown key", fleet.token(key=unb64(stranger.d), header={"kid": stranger.kid}), "key"
    yield "another's key id", fleet.token(header={"kid": fleet.key("inventory").kid}), "signature"
    yield "a path as key id", fleet.token(header={"kid": "../orders/x"}), "key"
    yield "a list as key id", fleet.token(header={"kid": [fleet.key("orders").kid]}), "malformed"
    yield (
        "a key along",
        fleet.token(header={"jwk": {"kty": "OKP", "crv": "Ed25519", "x": stranger.x}}),
        "malformed",
    )
    yield "a key's place along", fleet.token(header={"jku": "http://127.0.0.1/keys"}), "malformed"
    yield "critical", fleet.token(header={"crit": ["b64"], "b64": False}), "malformed"
    yield "no type", fleet.token(header={"typ": "JWT"}), "malformed"
    yield "a person's token", fleet.token(header={"typ": "at+jwt"}), "malformed"
    for algorithm in ("none", "None", "HS256", "HS512", "EdDSA", "RS256"):
        yield f"algorithm {algorithm}", fleet.token(header={"alg": algorithm}), "malformed"
    for algorithm in ("HS256", "Ed25519"):
        yield (
            f"hmac as {algorithm}",
            with_hmac(fleet, algorithm),
            "signature" if algorithm == "Ed25519" else "malformed",
        )
    for claim in ("iss", "sub", "aud", "iat", "nbf", "exp", "jti"):
        yield f"no {claim}", fleet.token(**{claim: None}), "signature"


def judged(tokens: ServiceTokens, fleet: Fleet) -> list[str]:
    """What is wrong with a verifier: forgeries that it accepts, or refuses for a reason that is not theirs."""
    wrong: list[str] = []
    for what, token, reason in forgeries(fleet):
        for _ in range(2):  # also when it has seen it before
            try:
                found = tokens.verify(token)
                wrong.append(f"{what}: accepted as {found}")
            except InvalidToken as error:
                if error.extra["reason"] != reason:
                    wrong.append(f"{what}: refused for {error.extra['reason']}, not {reason}")
                if any(part and part in error.detail for part in token.split(".") if len(part) > 20):
                    wrong.append(f"{what}: the sentence holds some of the token")
    return wrong


def test_only_a_good_token_is_accepted(fleet: Fleet) -> None:
    catalog = fleet.tokens["catalog"]
    assert catalog.verify(fleet.token()) == name("orders")
    assert judged(catalog, fleet) == []


def test_every_pair_of_services_accepts_what_is_meant_for_it_and_nothing_else(fleet: Fleet) -> None:
    for caller in SERVICES:
        for meant_for in SERVICES:
            token = fleet.tokens[caller].issue(meant_for)
            for receiver in SERVICES:
                if receiver == meant_for:
                    assert fleet.tokens[receiver].verify(token) == name(caller)
                else:
                    with pytest.raises(
                        InvalidToken, match=f"is for spiffe://shop/service/{meant_for}, and this is"
                    ):
                        fleet.tokens[receiver].verify(token)


def test_a_changed_character_anywhere_is_refused(fleet: Fleet) -> None:
    token, catalog = fleet.tokens["orders"].issue("catalog"), fleet.tokens["catalog"]
    for at, char in enumerate(token):
        for other in {chr(ord(char) ^ 1), "A", "_"} - {char}:
            with pytest.raises(InvalidToken):
                catalog.verify(token[:at] + other + token[at + 1 :])


class SkipsAudience(ServiceTokens):
    """Broken: whatever a token is for, it is taken to be for this service."""

    def verify(self, token: str, audience: ServiceName | str = "") -> ServiceName:
        body = token.split(".")
        try:
            audience = json.loads(unb64(body[1]))["aud"]
        except (ValueError, LookupError):
            audience = ""
        return super().verify(token, audience if isinstance(audience, str) else "")


class TrustsTheIssuer(ServiceTokens):
    """Broken: believes ``iss``, whoever has signed."""

    def _issuer(self, claims: Any, key: Any) -> ServiceName:
        return parse(claims.iss) or self.name


@pytest.mark.parametrize(
    ("broken", "said"),
    [(SkipsAudience, "for another: accepted"), (TrustsTheIssuer, "in another's name: accepted")],
)
def test_a_verifier_that_skips_a_check_is_convicted(
    fleet: Fleet, broken: type[ServiceTokens], said: str
) -> None:
    found = judged(broken(name("catalog"), Keys(fleet.folder, fleet.clock), fleet.clock), fleet)
    assert any(line.startswith(said) for line in found)


async def test_a_token_is_sent_again_until_half_its_life_is_over(fleet: Fleet) -> None:
    orders = fleet.tokens["orders"]
    first = orders.issue("catalog")
    await fleet.clock.advance(TTL_S / 2 - 1)
    assert orders.issue("catalog") == first
    await fleet.clock.advance(1)
    assert (second := orders.issue("catalog")) != first
    await fleet.clock.advance(TTL_S / 2 - 1)
    assert fleet.tokens["catalog"].verify(first) == name("orders")
    await fleet.clock.advance(1)
    with pytest.raises(InvalidToken, match="expired"):  # also one that was accepted a second ago
        fleet.tokens["catalog"].verify(first)
    assert fleet.tokens["catalog"].verify(second) == name("orders")


@pytest.mark.parametrize(("spread_s", "overlap_s"), [(SPREAD_S, OVERLAP_S), (NOW_SPREAD_S, NOW_OVERLAP_S)])
async def test_rotation_under_use_refuses_nothing(fleet: Fleet, spread_s: float, overlap_s: float) -> None:
    """Ten rotations: processes that look at different times, one of which sends and one receives, twice a second."""
    orders, catalog = fleet.tokens["orders"], fleet.tokens["catalog"]
    for second in range(10 * 30):
        if second % 30 == 7:
            now = fleet.clock.now()
            issuing.rotate(fleet.folder, "orders", now, spread_s=spread_s, overlap_s=overlap_s)
        assert catalog.verify(orders.issue("catalog")) == name("orders")
        if second % 30 == 20:  # starts in between
            orders = fleet.process("orders")
        await fleet.clock.advance(0.5)
        assert fleet.process("catalog").verify(orders.issue("catalog")) == name("orders")
        await fleet.clock.advance(0.5)


async def test_a_new_key_signs_once_everybody_has_it_and_the_old_one_ends(fleet: Fleet) -> None:
    orders, catalog = fleet.tokens["orders"], fleet.tokens["catalog"]
    old = fleet.key("orders")
    issuing.rotate(fleet.folder, "orders", fleet.clock.now())
    await fleet.clock.advance(SPREAD_S - 1)
    assert kid(orders.issue("catalog")) == old.kid
    await fleet.clock.advance(TTL_S)
    assert kid(orders.issue("catalog")) != old.kid
    assert catalog.verify(fleet.token(key=unb64(old.d), header={"kid": old.kid})) == name("orders")
    await fleet.clock.advance(OVERLAP_S)
    with pytest.raises(InvalidToken, match="no longer"):
        catalog.verify(fleet.token(key=unb64(old.d), header={"kid": old.kid}))


async def test_a_key_that_was_to_sign_later_never_does_once_another_one_takes_its_place(fleet: Fleet) -> None:
    orders = fleet.tokens["orders"]
    later = issuing.rotate(fleet.folder, "orders", fleet.clock.now())
    now = fleet.clock.now()
    newest = issuing.rotate(fleet.folder, "orders", now, spread_s=NOW_SPREAD_S, overlap_s=NOW_OVERLAP_S)
    signed = set()
    for _ in range(8):
        await fleet.clock.advance(1)
        signed.add(kid(orders.issue("catalog")))
    assert newest.kid in signed
    assert later.kid not in signed


async def test_a_stolen_key_is_worth_nothing_seconds_after_it_was_replaced(fleet: Fleet) -> None:
    stolen = fleet.key("orders")
    before = fleet.token()
    assert fleet.tokens["catalog"].verify(before) == name("orders")
    sent = fleet.tokens["orders"].issue("catalog")
    now = fleet.clock.now()
    issuing.rotate(fleet.folder, "orders", now, spread_s=NOW_SPREAD_S, overlap_s=NOW_OVERLAP_S)
    await fleet.clock.advance(NOW_SPREAD_S)
    assert fleet.tokens["catalog"].verify(sent) == name("orders"), "it may be on its way"
    await fleet.clock.advance(NOW_OVERLAP_S)
    for token in (before, fleet.token(key=unb64(stolen.d), header={"kid": stolen.kid})):
        with pytest.raises(InvalidToken) as refused:
            fleet.tokens["catalog"].verify(token)
        assert refused.value.extra["reason"] == "key"
    assert fleet.tokens["catalog"].verify(fleet.tokens["orders"].issue("catalog")) == name("orders")


def kid(token: str) -> str:
    found = json.loads(unb64(token.partition(".")[0]))["kid"]
    assert isinstance(found, str)
    return found
