"""Who may pass a policy, judged by an oracle that shares no code with it."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any

import pytest

from tenfold.errors import DeclarationError, Forbidden, Unauthorized
from tenfold.security.policy import Policy, as_policy, authenticated, public, roles, scopes
from tenfold.security.principal import Principal


class Customer(Principal): ...


class Vip(Customer): ...


class Clerk(Principal): ...


async def says_yes(principal: Principal, request: Any) -> bool:
    return True


async def says_no(principal: Principal, request: Any) -> bool:
    return False


LEAVES: list[tuple[str, Any]] = [
    ("public", public),
    ("authenticated", authenticated),
    ("customer", Customer),
    ("vip", Vip),
    ("admin", roles("admin", "root")),
    ("read", scopes("read")),
    ("read write", scopes("read", "write")),
    ("yes", says_yes),
    ("no", says_no),
]

PRINCIPALS: list[Principal | None] = [
    None,
    *(
        kind(id="1", roles=frozenset(own_roles), scopes=frozenset(own_scopes), restricted=restricted)
        for kind in (Principal, Customer, Vip, Clerk)
        for own_roles in ((), ("admin",), ("other",))
        for own_scopes in ((), ("read",), ("read", "write"))
        for restricted in (False, True)
    ),
]


def holds(leaf: str, p: Principal) -> bool:
    match leaf:
        case "public" | "authenticated" | "yes":
            return True
        case "no":
            return False
        case "customer":
            return type(p) in (Customer, Vip)
        case "vip":
            return type(p) is Vip
        case "admin":
            return "admin" in p.roles
        case "read":
            return "read" in p.scopes
    return {"read", "write"} <= set(p.scopes)


def ways(tree: Any) -> list[frozenset[str]]:
    """The tree as a list of conjunctions (disjunctive normal form)."""
    if isinstance(tree, str):
        return [frozenset({tree})]
    operator, left, right = tree
    if operator == "|":
        return ways(left) + ways(right)
    return [a | b for a, b in itertools.product(ways(left), ways(right))]


def expected(tree: Any, p: Principal | None) -> bool:
    """One way must hold whole; a restricted credential needs one that names a scope."""
    every = ways(tree)
    if frozenset({"public"}) in every:
        return True
    if p is None:
        return False
    return any(
        all(holds(leaf, p) for leaf in way) and (not p.restricted or bool(way & {"read", "read write"}))
        for way in every
    )


def random_tree(rng: random.Random, depth: int) -> Any:
    if depth == 0 or rng.random() < 0.3:
        return rng.choice(LEAVES)[0]
    return (rng.choice("|&"), random_tree(rng, depth - 1), random_tree(rng, depth - 1))


def build(tree: Any) -> Policy:
    if isinstance(tree, str):
        return as_policy(dict(LEAVES)[tree])
    operator, left, right = tree
    return build(left) | build(right) if operator == "|" else build(left) & build(right)


def admits(policy: Policy, p: Principal | None) -> bool:
    async def ask() -> bool:
        try:
            await policy.check_async(p, None)
        except Unauthorized:
            assert p is None
            return False
        except Forbidden:
            assert p is not None
            return False
        return True

    return asyncio.run(ask()) if policy.asynchronous else admits_at_once(policy, p)


def admits_at_once(policy: Policy, p: Principal | None) -> bool:
    try:
        policy.check(p)
    except (Unauthorized, Forbidden):
        return False
    return True


def test_every_leaf_admits_exactly_whom_it_names() -> None:
    for leaf, value in LEAVES:
        for p in PRINCIPALS:
            assert admits(as_policy(value), p) is expected(leaf, p), (leaf, p)


def test_combined_policies_agree_with_the_oracle_for_every_principal() -> None:
    rng = random.Random(7)
    judged = refused = 0
    for _ in range(400):
        tree = random_tree(rng, 3)
        policy = build(tree)
        loop_free = not policy.asynchronous
        chosen = PRINCIPALS if loop_free else rng.sample(PRINCIPALS, 6)
        for p in chosen:
            want = expected(tree, p)
            assert admits(policy, p) is want, (tree, p)
            judged, refused = judged + 1, refused + (not want)
    assert judged > 8_000
    assert refused > 2_000


def test_the_oracle_notices_a_policy_that_forgets_restrictions() -> None:
    restricted = Customer(id="1", restricted=True)
    assert expected("customer", restricted) is False
    assert as_policy(Customer).grade(restricted) > 0, "only the restriction refuses it"


def test_anonymous_callers_are_told_to_log_in_and_others_what_is_missing() -> None:
    with pytest.raises(Unauthorized, match="needs a credential"):
        as_policy(Customer).check(None)
    with pytest.raises(Forbidden, match="for Customer with scope read, or role admin"):
        (as_policy(Customer) & scopes("read") | roles("admin")).check(Clerk(id="1"))
    with pytest.raises(Forbidden, match="limited to scopes"):
        as_policy(Customer).check(Customer(id="1", restricted=True))


def test_a_callable_admits_with_true_only_and_never_sees_anonymous_callers() -> None:
    asked: list[Principal] = []

    async def forgot_to_return(principal: Principal, request: Any) -> Any:
        asked.append(principal)
        return 1

    policy = as_policy(forgot_to_return)
    assert not admits(policy, None)
    assert asked == []
    assert not admits(policy, Customer(id="1"))
    assert len(asked) == 1
    assert not admits_at_once(policy, Customer(id="1")), "the synchronous check refuses what it cannot ask"


def test_a_callable_is_asked_last_and_gets_the_request() -> None:
    seen: list[Any] = []

    async def look(principal: Principal, request: Any) -> bool:
        seen.append(request)
        return True

    async def run() -> None:
        both = as_policy(look) & roles("admin")
        with pytest.raises(Forbidden):
            await both.check_async(Customer(id="1"), "request")
        assert seen == [], "a role that is missing decides before anything is looked up"
        await both.check_async(Customer(id="1", roles=frozenset({"admin"})), "request")
        assert seen == ["request"]

    asyncio.run(run())


def test_the_class_a_handler_may_rely_on() -> None:
    assert as_policy(Customer).principal_type is Customer
    assert (as_policy(Vip) | Customer).principal_type is Customer
    assert as_policy(Customer | Clerk).principal_type is Principal
    assert (as_policy(Customer) & Vip & roles("x")).principal_type is Vip
    assert roles("x").principal_type is Principal
    assert (public | Customer).anonymous_ok


def test_plain_classes_combine_in_either_order() -> None:
    assert (Customer | roles("admin")).describe() == "Customer, or role admin"
    assert (roles("admin") | Customer).describe() == "role admin, or Customer"
    assert (Customer & scopes("read", "a")).describe() == "Customer with scope a and read"


class Gate:
    async def __call__(self, principal: Principal, request: Any) -> bool:
        return principal.tenant == "t"


def test_an_object_with_an_async_call_is_a_policy() -> None:
    policy = as_policy(Gate())
    assert "Gate" in policy.describe()
    assert admits(policy, Principal(id="1", tenant="t"))
    assert not admits(policy, Principal(id="1"))


async def one_parameter(principal: Principal) -> bool:
    return True


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (None, "write auth=public"),
        (False, "write auth=public"),
        (True, "write auth=authenticated"),
        ("admin", r'Did you mean roles\("admin"\)'),
        (roles, "Call it with names"),
        (scopes, "Call it with names"),
        (Customer(id="1"), "Give the class Customer"),
        (lambda p, r: True, "async def"),
        (one_parameter, "two parameters"),
        (int, "Use public, authenticated"),
        (["admin"], "Use public, authenticated"),
        (Customer | None, "write auth=public"),
    ],
)
def test_what_is_no_policy_is_refused_with_the_right_way_to_write_it(value: Any, sentence: str) -> None:
    with pytest.raises(DeclarationError, match=sentence):
        as_policy(value)


@pytest.mark.parametrize("wrong", [[], [""], [" a"], [["a"]], [None]])
def test_names_must_be_names(wrong: list[Any]) -> None:
    for make in (roles, scopes):
        with pytest.raises(DeclarationError):
            make(*wrong)


def test_nobody_is_two_unrelated_classes_at_once() -> None:
    with pytest.raises(DeclarationError, match="no principal is Clerk and Customer at once"):
        as_policy(Customer) & Clerk


def test_and_and_or_as_words_are_refused() -> None:
    with pytest.raises(DeclarationError, match=r"with \| and &"):
        roles("a") or roles("b")
