"""G31: secrets never reach the dashboard, the log, traces or metrics, nor the file that telemetry is kept in.

Canaries are in settings, in the password of a URL, in headers, cookies, queries and paths, in arguments of jobs, in events,
in exceptions, in fields of the log; those of settings in every encoded form, too.
"""

from __future__ import annotations

import asyncio
import io
import re
from html import unescape
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from http_calls import acall

from support.looking import Looks, looking
from support.pages_app import CANARIES, app, forms
from support.trials import Trials, soak
from tenfold._core.clock import SystemClock
from tenfold._core.sections import LogSettings
from tenfold.dashboard.pages import pages
from tenfold.telemetry import log
from tenfold.telemetry.redact import Redactor

pytestmark = pytest.mark.anyio

LEARNED = sorted(forms(CANARIES["setting"]) | forms(CANARIES["url"]))
"""What the settings say is secret is known in every form."""


async def sends(requests: int) -> None:
    """Requests with canaries wherever a caller can put something."""
    headers = [
        (b"authorization", b"Bearer " + CANARIES["header"].encode()),
        (b"cookie", f"session={CANARIES['cookie']}".encode()),
        (b"x-api-key", CANARIES["header"].encode()),
    ]
    for n in range(requests):
        form = LEARNED[n % len(LEARNED)]
        paths = (
            f"/shelves/{quote(form, safe='')}",
            f"/fail?{urlencode({'key': CANARIES['query'], 'note': f'and then {form}'})}",
            f"/nothing/{quote(form)}?{urlencode({'password': CANARIES['query']})}",
        )
        await acall(app, "GET", paths[n % len(paths)], headers=headers, client=("10.0.0.9", 5))


async def told(looks: Looks, output: io.StringIO) -> dict[str, str]:
    """Everything that the app tells, by where."""
    for _ in range(200):
        if "Cannot sign in" in await looks.read("/logs", text="sign"):
            break
        await asyncio.sleep(0.05)
    single = {"/jobs/{id}": range(1, 8)}
    paths = [page.path for page in pages() if "{" not in page.path]
    paths += [pattern.replace("{id}", str(n)) for pattern, ids in single.items() for n in ids]
    paths += ["/logs?level=warning", "/logs?text=key", "/jobs?state=dead", "/operations/demo.fail", "/operations/demo.get_shelf"]  # fmt: skip
    found: dict[str, str] = {}
    for path in paths:
        answer = await looks.ask(path)
        found[path] = answer.body.decode()
    traces = {link for text in found.values() for link in _links(text) if link.startswith("/traces/")}
    for path in sorted(traces)[:12]:
        found[path] = (await looks.ask(path)).body.decode()
    plans = [
        unescape(link)
        for text in found.values()
        for link in re.findall(r'hx-get="([^"]*part=plan[^"]*)"', text)
    ]
    for path in plans[:12]:
        found[path] = (await looks.ask(path)).body.decode()
    for path in ("/metrics", "/policies", "/database"):
        found[f"{path} for scripts"] = (
            await acall(app.ops, "GET", path, headers=[(b"host", b"localhost")], client=("127.0.0.1", 5))
        ).body.decode()
    found["the log"] = output.getvalue()
    return found


def _links(text: str) -> list[str]:
    return [part.partition('"')[0].partition("?")[0] for part in text.split('href="')[1:]]


def leaks(found: dict[str, str]) -> set[tuple[str, str]]:
    """Which canary is where, in which form."""
    return {
        (name, place)
        for name, secret in CANARIES.items()
        for form in forms(secret)
        for place, text in found.items()
        if form in text
    }


async def run(folder: Path, requests: int) -> dict[str, str]:
    output = io.StringIO()
    app.logging = log.configure(LogSettings(), SystemClock(), stream=output)
    try:
        async with looking(
            app, folder, worker=True, app__secret_key=CANARIES["setting"] * 2, app__stop_timeout_s=1
        ) as looks:
            await sends(requests)
            found = await told(looks, output)
    finally:
        app.logging.close()
        app.logging = None
    return found | kept(folder)


def kept(folder: Path) -> dict[str, str]:
    """What the file of telemetry has in it, whoever asks."""
    return {file.name: file.read_bytes().decode("latin-1") for file in folder.glob("telemetry.sqlite*")}


async def test_no_canary_is_in_anything_that_the_app_tells(tmp_path: Path, trials: Trials) -> None:
    found = await run(tmp_path, 120)
    assert "The scale of broken-0 does not answer" in found["/jobs?state=dead"]
    assert "Cannot sign in with" in found["/logs?level=warning"]
    assert any(place.startswith("/traces/") for place in found)
    assert any("part=plan" in place and "Plan" in text for place, text in found.items())
    assert "telemetry.sqlite" in found
    assert leaks(found) == set()
    trials("G31", 120, "dashboard")


async def test_without_masking_the_same_look_finds_canaries_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Redactor, "text", lambda self, text: text)
    monkeypatch.setattr(Redactor, "fields", lambda self, fields, depth=0: dict(fields))
    monkeypatch.setattr(Redactor, "value", lambda self, value, depth=0: value)
    places = {place for _, place in leaks(await run(tmp_path, 30))}
    assert {"/logs", "/jobs?state=dead", "/jobs/1", "/events", "the log", "telemetry.sqlite"} <= places


@pytest.mark.soak
async def test_no_canary_is_told_in_very_many_requests(tmp_path: Path, trials: Trials) -> None:
    requests = soak(10_000)
    assert leaks(await run(tmp_path, requests)) == set()
    trials("G31", requests, "dashboard")
