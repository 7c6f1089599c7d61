"""A link to Redis as the guards use it: scripts by name, and the guards' errors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tenfold.cache.backends._redis_link import Address, RedisLink, Refused
from tenfold.cache.backends._store import StoreAway
from tenfold.errors import ConfigError, StoreUnavailable
from tenfold.guard.backends._redis_scripts import ALL, Script

if TYPE_CHECKING:
    from tenfold._core.clock import Clock

WHERE = "guard.url"
HEARTBEAT_S = 5.0
PLAIN_CHARS_MAX = 200


class Connection:
    """Commands and scripts; whatever goes wrong is StoreUnavailable, after ``timeout_s`` at the latest."""

    def __init__(self, address: Address, clock: Clock, *, timeout_s: float, prefix: str) -> None:
        self._address, self._prefix = address, prefix
        self._link = RedisLink(
            address,
            clock,
            timeout_s=timeout_s,
            greeting=[("SCRIPT", "LOAD", script.text) for script in ALL],
            heartbeat_s=HEARTBEAT_S,
            on_push=_nothing,
            on_up=_nothing,
            serves="guard",
        )

    async def start(self) -> None:
        """Raises ConfigError when the server refuses us, StoreUnavailable when it cannot be reached."""
        try:
            await self._link.start()
        except Refused as reason:
            raise ConfigError(
                f"redis {self._address}: {reason}.",
                where=WHERE,
                remedy="Check user, password and database in the URL; Redis 6 or newer is needed.",
            ) from None
        if self._link.state != "up":
            try:
                await self._link.call("PING")
            except StoreAway as why:
                await self._link.stop()
                raise StoreUnavailable(
                    f"{WHERE}: redis {self._address} cannot be reached: {why}. Start it, or correct the URL."
                ) from None

    async def stop(self) -> None:
        await self._link.stop()

    def name(self, kind: str, text: str) -> str:
        """The name of a key in Redis; long ones are hashed."""
        if len(text) > PLAIN_CHARS_MAX or not text.isprintable():
            text = "#" + hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()
        return f"{self._prefix}:{kind}:{text}"

    async def call(self, *args: Any) -> Any:
        """One command."""
        try:
            return await self._link.call(*args)
        except StoreAway as why:
            raise self._away(why) from None

    async def run(self, script: Script, keys: Sequence[str], *args: Any) -> Any:
        """One script."""
        try:
            return await self._link.call("EVALSHA", script.sha, len(keys), *keys, *args)
        except StoreAway as why:
            if not str(why).startswith("NOSCRIPT"):
                raise self._away(why) from None
        # Somebody has flushed the scripts; this loads it again.
        return await self.call("EVAL", script.text, len(keys), *keys, *args)

    def _away(self, why: StoreAway) -> StoreUnavailable:
        return StoreUnavailable(f"redis {self._address} ({WHERE}) cannot be used: {why}.")


def _nothing(*_: Any) -> None:
    """Nobody asked the server to tell anything."""
