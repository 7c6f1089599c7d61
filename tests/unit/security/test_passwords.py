"""Passwords: hashing, verifying, renewing, refusing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tenfold.errors import InvalidInput, Unavailable
from tenfold.security.passwords import COMMON, LENGTH_MIN, Cost, Passwords, check_new

CHEAP = Cost(memory_kib=64, iterations=1, lanes=1)


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    made = Passwords(2, CHEAP)
    yield made
    made.close()


def test_a_password_verifies_against_its_own_hash_only(passwords: Passwords) -> None:
    async def run() -> None:
        stored = await passwords.hash("correct horse")
        assert stored.startswith("$argon2id$")
        assert "correct" not in stored
        assert (await passwords.verify(stored, "correct horse")).ok
        assert not (await passwords.verify(stored, "Correct horse")).ok
        assert not (await passwords.verify(stored, "")).ok
        assert stored != await passwords.hash("correct horse"), "every hash has a salt of its own"

    asyncio.run(run())


def test_the_same_letters_typed_differently_are_the_same_password(passwords: Passwords) -> None:
    async def run() -> None:
        stored = await passwords.hash("caf\u00e9 au lait")
        assert (await passwords.verify(stored, "cafe\u0301 au lait")).ok

    asyncio.run(run())


def test_a_broken_hash_or_guess_is_wrong_and_not_an_error(passwords: Passwords) -> None:
    async def run() -> None:
        for stored in ("", "$argon2id$v=19$broken", "not a hash"):
            assert not (await passwords.verify(stored, "anything")).ok
        stored = await passwords.hash("correct horse")
        assert not (await passwords.verify(stored, "\ud800")).ok
        assert not (await passwords.verify(stored, "x" * 10_000_000)).ok

    asyncio.run(run())


def test_changed_parameters_renew_the_hash_at_the_next_log_in(passwords: Passwords) -> None:
    async def run() -> None:
        stored = await passwords.hash("correct horse")
        assert (await passwords.verify(stored, "correct horse")).renewed is None
        stronger = Passwords(1, Cost(memory_kib=128, iterations=2, lanes=1))
        verified = await stronger.verify(stored, "correct horse")
        assert verified.renewed is not None
        assert (await stronger.verify(verified.renewed, "correct horse")) == type(verified)(True)
        assert (await stronger.verify(stored, "wrong")).renewed is None
        stronger.close()

    asyncio.run(run())


def test_an_unknown_user_takes_as_long_as_a_wrong_password() -> None:
    async def run() -> None:
        passwords = Passwords(1, Cost(memory_kib=8_192, iterations=2, lanes=1))
        stored = await passwords.hash("correct horse")
        await passwords.verify(None, "warm up")

        async def seconds(hash_: str | None) -> float:
            took = []
            for _ in range(9):
                start = time.thread_time()
                await asyncio.get_running_loop().run_in_executor(
                    passwords._pool,
                    lambda: took.append(measured(lambda: passwords._verify(hash_, "wrong horse"))),
                )
                assert time.thread_time() - start < 1
            return min(took)

        known, unknown = await seconds(stored), await seconds(None)
        assert 0.5 < unknown / known < 2
        assert not (await passwords.verify(None, "the hash that unknown users are compared with")).ok
        passwords.close()

    asyncio.run(run())


def measured(work: Callable[[], object]) -> float:
    start = time.thread_time()
    work()
    return time.thread_time() - start


def test_more_than_can_wait_are_turned_away_and_room_comes_back() -> None:
    async def run() -> None:
        passwords = Passwords(1, CHEAP, pending_max=3)
        gate = threading.Event()
        blocker = passwords._pool.submit(gate.wait)
        tasks = [asyncio.create_task(passwords.hash("correct horse")) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable) as refused:
            await passwords.hash("one too many")
        assert refused.value.headers["Retry-After"] == "2"
        gate.set()
        await asyncio.gather(*tasks)
        blocker.result()
        assert passwords._pending == 0
        await passwords.hash("room again")
        passwords.close()

    asyncio.run(run())


def test_hashing_leaves_the_event_loop_free() -> None:
    async def run() -> None:
        passwords = Passwords(1, Cost(memory_kib=32_768, iterations=3, lanes=1))
        turns = 0
        task = asyncio.create_task(passwords.hash("correct horse"))
        while not task.done():
            turns += 1
            await asyncio.sleep(0.001)
        assert turns > 5
        passwords.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("short", "at least 8 characters"),
        ("", "at least 8 characters"),
        ("x" * 1_025 + "yz", "at most 1024 bytes"),
        ("password123", "first that an attacker tries"),
        ("PassWord123", "first that an attacker tries"),
        ("aaaaaaaaaa", "first that an attacker tries"),
        ("12345678", "first that an attacker tries"),
        ("hgfedcba", "first that an attacker tries"),
        ("ann@example.org", "must not be the e-mail address"),
        ("half a pair \ud800", "not valid Unicode"),
    ],
)
def test_a_bad_new_password_is_refused_with_its_field_and_reason(password: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as refused:
        check_new(password, email="ann@example.org")
    assert refused.value.errors[0].path == "password"
    if password:
        assert password not in str(refused.value), "the password itself is not repeated"


def test_long_passphrases_and_other_alphabets_are_welcome() -> None:
    check_new("correct horse battery staple " * 10)
    check_new("пароль-который-длинный")
    check_new("🐎🔋📎 and so on")


def test_the_list_has_no_entry_that_length_refuses_anyway() -> None:
    assert all(len(word) >= LENGTH_MIN for word in COMMON)
    assert len(COMMON) > 80
