"""What a balancer does: writes a plan down, says whether it could follow it, follows it, and changes without loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

from tenfold._core.clock import Clock, SystemClock
from tenfold.errors import TenfoldError
from tenfold.runtime import listeners
from tenfold.runtime.balance import model, programs
from tenfold.runtime.balance.certificates import check_tls
from tenfold.runtime.balance.model import Plan

ASIDE = "next"
"""Folder in the balancer's where a configuration is checked before it takes the place of the one in use."""


CERTIFICATES = "certificates.sha256"
"""What the files of TLS hold, so that a renewed certificate is a difference."""


class Balancer(ABC):
    """One process in front of the instances. Everything of it is below one folder, and it needs no root.

    Promises: what is put in place was accepted by the balancer's own check. A configuration that is refused changes nothing:
    what runs goes on running. While upstreams change, no request fails, in either direction: new connections are taken all
    the time, those in use are answered. A request is sent to a second instance only where the first did not take the
    connection, or broke it off before an answer and the method is idempotent (RFC 9110, 9.2.2). The process outlives the one
    that started it: another :class:`Balancer` takes it over by its folder.

    Errors: :class:`ConfigError` for what a setting, a file or an installation mends; :class:`TenfoldError` for a process that
    does not do what it is told.
    """

    name: ClassVar[str]
    program_name: ClassVar[str]

    def __init__(self, program: str = "", *, clock: Clock | None = None) -> None:
        self._configured = program
        self._clock: Clock = clock or SystemClock()
        self.folder: Path | None = None
        """Where the process keeps its files, once it was started."""
        self._stop_timeout_s = model.Options().stop_timeout_s
        self._drain_s = model.Options().drain_s

    @property
    def program(self) -> str:
        """Path of the binary. Raises :class:`ConfigError` with what to install."""
        return programs.find(self.program_name, self._configured)

    # ── pure ──

    @abstractmethod
    def render(self, plan: Plan) -> dict[str, str]:
        """The files of the configuration: their names below the folder, and their texts. Same plan, same texts.

        Raises :class:`ConfigError` for what this balancer cannot do.
        """

    def links(self, plan: Plan) -> dict[str, str]:
        """Links that the configuration needs: their names below the folder, and where they lead."""
        return {}

    # ── the process ──

    @abstractmethod
    async def check(self, folder: Path) -> None:
        """Raise :class:`ConfigError` when the balancer would not run with the configuration in ``folder``."""

    @abstractmethod
    async def start(self, folder: Path) -> None:
        """Run with the configuration in ``folder`` (a whole path); returns once connections are accepted."""

    @abstractmethod
    async def reload(self, folder: Path) -> None:
        """Have the running process follow what ``folder`` holds now; returns once no new request goes by the old one.

        Requests in progress are answered as they began; so an instance that left may be told to end after this.
        """

    @abstractmethod
    async def stop(self) -> None:
        """Refuse new connections, answer what is in progress for up to ``stop_timeout_s``, end. Nothing when it is not running."""

    @abstractmethod
    def running(self, folder: Path) -> int:
        """The id of the process that follows ``folder``; 0 when there is none."""

    async def apply(self, plan: Plan, folder: Path, *, names: Sequence[str] = ()) -> bool:
        """Have a process run by ``plan``: started, reloaded, or left alone when nothing differs. Whether anything was done.

        ``names`` are host names that the certificate has to be valid for. A plan that is refused changes nothing.
        """
        folder = Path(model.absolute(str(folder)))
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        files, links = await self.try_out(plan, folder / ASIDE, names=names)
        self._drain_s, self._stop_timeout_s = plan.options.drain_s, plan.options.stop_timeout_s
        before = programs.texts(folder, files)
        changed = programs.put(folder, files, links)
        try:
            if not self.running(folder):
                _free(plan)
                await self.start(folder)
                return True
            self.folder = folder
            if changed:
                await self.reload(folder)
        except BaseException:
            programs.put(folder, before, {})  # or the next call would think that it is done
            raise
        return changed

    async def try_out(
        self, plan: Plan, folder: Path, *, names: Sequence[str] = ()
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Have the installed program judge ``plan`` in ``folder``, where nothing runs; its files and links.

        Raises :class:`ConfigError` for what is wrong with the plan, the certificate, or in the program's eyes.
        """
        model.check(plan)
        model.quotable(str(folder), "app.data_dir")
        for listener in plan.listeners:
            if listener.tls is not None:
                # Services do not look for each other by the names that clients use.
                check_tls(listener.tls, () if listener.internal else names, self._clock.now())
        files, links = self.render(plan), self.links(plan)
        if certificates := digests(plan):
            files[CERTIFICATES] = certificates
        programs.put(folder, files, links)
        await self.check(folder)
        return files, links

    def lines(self, count: int = 3) -> str:
        """The end of what the process wrote into its log."""
        return programs.last_lines(self.folder / programs.LOG, count) if self.folder is not None else ""

    def _failed(self, what: str, folder: Path) -> TenfoldError:
        said = programs.last_lines(folder / programs.LOG)
        return TenfoldError(
            f"{self.name} {what}. Its log, {folder / programs.LOG}, ends:\n{said or '(empty)'}"
        )


_SETTINGS = {"public": "balancer.port", "redirect": "balancer.redirect_port"}
"""Where the ports of listeners are said."""


def _free(plan: Plan) -> None:
    """Raise :class:`ConfigError` for an address that another process listens on."""
    for listener in plan.listeners:
        where = _SETTINGS.get(listener.name, f"listener {listener.name}")
        listeners.bind(listener.host, listener.port, where=where).close()


def digests(plan: Plan) -> str:
    """A line for each file of TLS with what it holds; empty without TLS."""
    found = [listener.tls for listener in plan.listeners if listener.tls is not None]
    paths = {path for tls in found for path in (tls.certificate, tls.key, tls.client_ca) if path}
    if (inner := plan.inner) is not None:
        paths |= {inner.certificate, inner.key, inner.ca}
    return "".join(f"{sha256(Path(path).read_bytes()).hexdigest()}  {path}\n" for path in sorted(paths))
