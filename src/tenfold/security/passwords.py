"""Passwords: hashed with Argon2id in a bounded pool, so that log-ins cannot starve the event loop."""

from __future__ import annotations

import asyncio
import unicodedata
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from tenfold.errors import FieldError, InvalidInput, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from argon2 import PasswordHasher

T = TypeVar("T")

LENGTH_MIN = 8
"""Characters. NIST SP 800-63B: length is what counts; no rules about digits and capitals."""

BYTES_MAX = 1024
"""Of the UTF-8 form. Long passphrases are welcome; megabytes are an attack."""

PENDING_MAX = 128
"""Passwords waiting for a thread. At some 30 ms each, more would wait past most deadlines."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Argon2id parameters; the defaults are OWASP's (Password Storage Cheat Sheet), some 20 ms a hash.

    Raise them with the hardware: hashes made with other parameters are renewed at the next log-in.
    """

    memory_kib: int = 19_456
    iterations: int = 2
    lanes: int = 1


DEFAULT_COST = Cost()


@dataclass(frozen=True, slots=True)
class Verified:
    """Whether the password was right, and a new hash when the stored one has outdated parameters."""

    ok: bool
    renewed: str | None = None


class Passwords:
    """Hashes and verifies passwords. ``threads`` bounds both CPU and memory (``cost.memory_kib`` each)."""

    def __init__(self, threads: int = 2, cost: Cost = DEFAULT_COST, pending_max: int = PENDING_MAX) -> None:
        self._cost = cost
        self._pending = 0
        self._pending_max = pending_max
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="tenfold-password")

    async def hash(self, password: str) -> str:
        """An Argon2id hash in PHC format. Raises :class:`Unavailable` when too many are waiting."""
        return await self._run(lambda: self._hasher.hash(_octets(password)))

    async def verify(self, stored: str | None, password: str) -> Verified:
        """Compare in constant time. Without a stored hash (no such user) it takes as long and is False."""
        if len(password) > BYTES_MAX:  # no such password was ever accepted
            password, stored = "", None
        return await self._run(lambda: self._verify(stored, password))

    def close(self) -> None:
        """End the threads once they are done with what they hash."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    @cached_property
    def _hasher(self) -> PasswordHasher:
        from argon2 import PasswordHasher

        cost = self._cost
        return PasswordHasher(time_cost=cost.iterations, memory_cost=cost.memory_kib, parallelism=cost.lanes)

    @cached_property
    def _nobody(self) -> str:
        return self._hasher.hash("the hash that unknown users are compared with")

    def _verify(self, stored: str | None, password: str) -> Verified:
        from argon2.exceptions import Argon2Error, InvalidHashError

        octets = _octets(password)
        try:
            self._hasher.verify(stored or self._nobody, octets)
        except (Argon2Error, InvalidHashError):
            return Verified(False)
        if stored is None:
            return Verified(False)
        outdated = self._hasher.check_needs_rehash(stored)
        return Verified(True, self._hasher.hash(octets) if outdated else None)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._pending >= self._pending_max:
            raise Unavailable(
                "Too many passwords are being checked; try again soon.", headers={"Retry-After": "2"}
            )
        loop = asyncio.get_running_loop()
        future = self._pool.submit(work)
        self._pending += 1
        # Counted until the thread is done, not until the caller gives up: a cancelled caller frees no thread.
        future.add_done_callback(lambda done: self._done(loop, done))
        return await asyncio.wrap_future(future)

    def _done(self, loop: asyncio.AbstractEventLoop, _: Future[T]) -> None:
        try:
            loop.call_soon_threadsafe(self._release)
        except RuntimeError:  # the loop is closed: nobody counts any more
            return

    def _release(self) -> None:
        self._pending -= 1


def check_new(password: str, *, email: str = "", field: str = "password") -> None:
    """Refuse a new password that is too short, too long, or among the first that an attacker tries.

    Raises :class:`InvalidInput` naming ``field``.
    """
    if message := _objection(_normal(password), email):
        raise InvalidInput(errors=[FieldError("body", field, message)])


def _objection(password: str, email: str) -> str:
    if len(password) < LENGTH_MIN:
        return f"The password needs at least {LENGTH_MIN} characters."
    if len(password.encode(errors="surrogatepass")) > BYTES_MAX:
        return f"The password may have at most {BYTES_MAX} bytes."
    if any(unicodedata.category(char) == "Cs" for char in password):
        return "The password has characters that are not valid Unicode."
    lowered = password.casefold()
    if lowered in (email.casefold(), email.casefold().partition("@")[0]):
        return "The password must not be the e-mail address."
    if lowered in COMMON or len(set(lowered)) <= 2 or _is_run(lowered):
        return "This password is one of the first that an attacker tries; choose another."
    return ""


def _is_run(text: str) -> bool:
    """``12345678``, ``hgfedcba``: every character follows the one before."""
    steps = {ord(b) - ord(a) for a, b in pairwise(text)}
    return steps in ({1}, {-1})


def _normal(password: str) -> str:
    """The same password however the keyboard composes its characters (NIST SP 800-63B: NFKC)."""
    return unicodedata.normalize("NFKC", password)


def _octets(password: str) -> bytes:
    # Lone surrogates are refused in new passwords; in a guess they are only wrong, not an error.
    return _normal(password).encode(errors="surrogatepass")


COMMON = frozenset(
    """
    password password1 password12 password123 password1234 passw0rd p@ssword p@ssw0rd p@ssword1 passwort
    1234567890 123123123 987654321 qwertyuiop qwerty123 qwerty1234 qwertyui asdfghjkl asdfasdf asdf1234 zxcvbnm1
    1q2w3e4r 1q2w3e4r5t 1qaz2wsx qazwsxedc q1w2e3r4 zaq12wsx qwer1234 abcd1234 abc12345 a1b2c3d4 aa123456
    iloveyou iloveyou1 sunshine princess football football1 baseball superman batman123 trustno1 welcome1
    welcome123 letmein1 letmein123 whatever computer internet starwars michelle jennifer jordan23 master123
    admin123 admin1234 administrator changeme changeme1 changeme123 default1 secret123 test1234 testtest
    testing123 temp1234 summer2024 summer2025 summer2026 winter2024 winter2025 winter2026 spring2026 autumn2026
    liverpool chelsea1 corvette mercedes scorpion alexander charlie1 dragon123 monkey123 pokemon1 samsung1
    google123 facebook linkedin dropbox1 killer123 freedom1 blink182 hello123 hellohello qweasdzxc google12
    """.split()  # noqa: SIM905 - a list of words reads best as words
)
"""The short head of published lists; entries shorter than LENGTH_MIN are refused by length."""
