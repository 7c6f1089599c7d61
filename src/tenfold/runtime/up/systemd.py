"""A systemd unit that keeps a fleet's supervisor running, and the word to systemd that everything is ready. Pure text."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

GRACE_S: Final = 15.0
"""For balancer and companions, on top of what instances may take to end."""


def unit(name: str, command: list[str], folder: Path, user: str, *, stop_s: float, start_s: float) -> str:
    """The text of ``NAME.service``, for a supervisor that is started by ``command`` in ``folder``.

    ``KillMode=process``: systemd ends the supervisor only, which ends the fleet in order; and where the supervisor dies by
    itself, the fleet runs on until the next one, two seconds later, adopts it.
    """
    return f"""\
[Unit]
Description={_plain(name)}: a fleet run by tenfold up
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
NotifyAccess=main
User={user}
WorkingDirectory={_plain(str(folder))}
ExecStart={" ".join(_word(word) for word in command)}
ExecReload=/bin/kill -HUP $MAINPID
KillMode=process
Restart=on-failure
RestartSec=2
TimeoutStartSec={start_s:.0f}
TimeoutStopSec={stop_s + GRACE_S:.0f}
LimitNOFILE=65536
NoNewPrivileges=true
PrivateTmp=true
ProtectSystem=full

[Install]
WantedBy=multi-user.target
"""


def notify(state: str) -> None:
    """Tell systemd, where it started us (sd_notify(3)): ``READY=1``, ``STOPPING=1``."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.connect("\0" + address[1:] if address.startswith("@") else address)
        link.send(state.encode())


def _plain(text: str) -> str:
    """One line, with percent signs that mean themselves."""
    return " ".join(text.replace("%", "%%").split()) if "\n" in text else text.replace("%", "%%")


def _word(word: str) -> str:
    """One word of a command line, quoted where systemd would split or expand it."""
    word = word.replace("%", "%%").replace("$", "$$")
    if any(character in word for character in " \t\"'\\;"):
        return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return word
