"""``tenfold top``: the overview in a terminal."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from cyclopts import Parameter

from tenfold.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tenfold.observe.reading import Reading
    from tenfold.observe.screen import Seen

HISTORY = 40
TIMEOUT_S = 5.0
OVERHEAD = 14
"""Lines of a screen that are not operations."""

Urls = Annotated[
    tuple[str, ...],
    Parameter(
        name=["--url", "-u"],
        negative="",
        help="An operations listener; again for each instance. Default: http://127.0.0.1:8001.",
    ),
]


def top(
    *,
    url: Urls = (),
    every: Annotated[float, Parameter(help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, Parameter(negative="", help="Look twice, print once, and end.")] = False,
) -> int:
    """Requests, latency, saturation and work of running instances, until Ctrl+C.

    The token of the listeners is read from TENFOLD_OPS_TOKEN.
    """
    from rich.console import Console
    from rich.live import Live

    if not 0.1 <= every <= 60:
        raise ConfigError("it is from 0.1 to 60 seconds.", where="--every")
    watch = _Watch(url or ("http://127.0.0.1:8001",))
    console = Console(highlight=False)
    watch.look()
    if once or not sys.stdout.isatty():
        time.sleep(every)
        watch.look()
        console.print(watch.shown(rows=10_000, width=console.width))
        return 0 if watch.answered else 1
    with suppress(KeyboardInterrupt), Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            size = shutil.get_terminal_size()
            rows = size.lines - OVERHEAD - len(watch.urls)
            live.update(watch.shown(rows=rows, width=size.columns), refresh=True)
            time.sleep(every)
            watch.look()
    return 0


class _Watch:
    """What was seen at the last two looks."""

    def __init__(self, urls: tuple[str, ...]) -> None:
        for url in urls:
            if urlsplit(url).scheme not in ("http", "https"):
                raise ConfigError(f"{url!r} is no URL.", where="--url", remedy="Write http://127.0.0.1:8001.")
        self.urls = urls
        self.answered = False
        self._app = "tenfold"
        self._token = os.environ.get("TENFOLD_OPS_TOKEN", "")
        self._pages: dict[str, Reading] = {}
        self._seen: dict[str, Seen] = {}
        self._history: deque[float] = deque(maxlen=HISTORY)
        self._pool = ThreadPoolExecutor(min(16, len(urls)))

    def look(self) -> None:
        """Ask every instance, at once."""
        from tenfold.observe.reading import traffic

        found = list(self._pool.map(self._ask, self.urls))
        self._seen = dict(zip(self.urls, found, strict=True))
        pairs = [(seen.before, seen.after) for seen in found if seen.before and seen.after]
        self.answered = bool(pairs)
        if pairs:
            self._history.append(sum(traffic(before, after).requests_per_s for before, after in pairs))

    def shown(self, *, rows: int, width: int) -> RenderableType:
        """The screen."""
        from tenfold.observe.screen import screen

        return screen(self._app, list(self._seen.values()), list(self._history), rows=rows, width=width)

    def _ask(self, url: str) -> Seen:
        from tenfold.observe.reading import read
        from tenfold.observe.screen import Seen
        from tenfold.telemetry import names
        from tenfold.telemetry.ops_client import ask

        name = urlsplit(url).netloc
        try:
            answer = ask(url.rstrip("/") + "/metrics", self._token, timeout_s=TIMEOUT_S)
        except (OSError, ValueError) as error:
            self._pages.pop(url, None)
            return Seen(name, error="no answer in time" if isinstance(error, TimeoutError) else _why(error))
        if answer.status != 200:
            self._pages.pop(url, None)
            why = (
                "it asks for its token: TENFOLD_OPS_TOKEN"
                if answer.status == 401
                else f"it answered {answer.status}"
            )
            return Seen(name, error=why)
        before, after = self._pages.get(url), read(answer.body.decode(errors="replace"), time.monotonic())
        self._pages[url] = after
        self._app = next(
            (each.labels.get("app", self._app) for each in after.of(names.BUILD_INFO)), self._app
        )
        return Seen(name, before, after)


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
