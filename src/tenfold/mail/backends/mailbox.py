"""``mailbox:`` keeps mails as files, ``data_dir/mailbox/<id>.eml``. For development and tests; needs nothing.

A mail is on disk whole before ``deliver`` returns. The id is made from the Message-ID, so that a mail sent again
with the same key is there once.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Self

from tenfold._core.clock import Clock
from tenfold.errors import MailUnavailable
from tenfold.mail.contract import Envelope, MailBackend


class Backend(MailBackend):
    """Writes each envelope to a file of ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def from_url(cls, url: str, *, data_dir: Path, clock: Clock) -> Self:
        """``mailbox:`` or ``mailbox:///path/of/a/folder``."""
        path = url.partition(":")[2].removeprefix("//")
        return cls(Path(path) if path else data_dir / "mailbox")

    async def deliver(self, envelope: Envelope, timeout_s: float) -> None:
        try:
            await asyncio.to_thread(self._write, envelope)
        except OSError as error:
            raise MailUnavailable(
                f"The mailbox {self.folder} cannot be written: {error.strerror}."
            ) from error

    def _write(self, envelope: Envelope) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(envelope.message_id.encode()).hexdigest()[:32]
        target, draft = self.folder / f"{name}.eml", self.folder / f".{name}.{os.urandom(4).hex()}"
        try:
            with draft.open("xb") as file:
                file.write(envelope.data)
                file.flush()
                os.fsync(file.fileno())
            # Unlike a rename, a link fails when the mail is there already: sent twice, kept once.
            os.link(draft, target)
        except FileExistsError:
            return
        finally:
            draft.unlink(missing_ok=True)
        _sync(self.folder)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
