"""Mails that a development app wrote instead of sending them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from tenfold.dashboard import ui
from tenfold.dashboard.html import Html, join, tag
from tenfold.dashboard.page import Page, live
from tenfold.dashboard.view import View
from tenfold.mail import mailbox

SHOWN: Final = 50
OFFSET_MAX: Final = 10**9


class Mailbox(Page):
    path = "/mailbox"
    title = "Mailbox"
    about = "What the app wrote instead of sending it, because mail.url is not set."
    group = "Data"
    key = "m"

    def present(self) -> bool:
        return not self.app.settings.mail.url

    @property
    def folder(self) -> Path:
        """Where the mails are."""
        return self.app.data_dir / "mailbox"

    async def body(self, view: View) -> Html:
        return await view.live(self.mails)

    @live(every_s=2)
    async def mails(self, view: View) -> Html:
        offset = min(int(view.query.get("from") or 0), OFFSET_MAX)
        found, count = await asyncio.gather(
            asyncio.to_thread(mailbox.entries, self.folder, limit=SHOWN, offset=offset),
            asyncio.to_thread(mailbox.count, self.folder),
        )
        rows = [
            (
                view.a(entry.subject or "(no subject)", f"/mailbox/{entry.id}"),
                tag("span", entry.to, class_="tight"),
                tag("span", entry.sender, class_="tight"),
                ui.size(entry.size_bytes),
                ui.ago(entry.received_at, view.now),
            )
            for entry in found
        ]
        columns = (ui.Column("subject", wide=True), "to", "from", ui.Column("size", number=True), "written")
        listed = ui.table(
            columns,
            rows,
            nothing="There is no older mail." if offset else "No mail was written yet.",
            caption="Mails",
        )
        more = view.here(**{"from": offset + SHOWN}) if offset + len(found) < count else ""
        return ui.card("Mails", listed, ui.older(more), aside=f"{count:,} in all", flush=True)


class Letter(Mailbox):
    """One of them."""

    path = "/mailbox/{id}"
    title = "Mail"
    about = ""
    group = ""
    key = ""
    parent = "/mailbox"

    async def body(self, view: View) -> Html:
        letter = await asyncio.to_thread(mailbox.read, self.folder, view.params["id"])
        facts = [("From", letter.sender), ("To", letter.to), ("Date", letter.date)]
        facts += [
            ("Attached", f"{name} ({kind}, {ui.size(bytes_)})") for name, kind, bytes_ in letter.attachments
        ]
        headers = "\n".join(f"{name}: {value}" for name, value in letter.headers)
        shows: list[Html] = []
        if letter.html is not None:
            # Its own address, with rules of its own: nothing of a mail runs, or reaches this page.
            frame = tag(
                "iframe",
                src=f"{view.root}/mailbox/{letter.id}/html",
                sandbox=True,
                title="The mail as HTML",
                class_="letter",
            )
            shows.append(ui.card("HTML", frame))
        if letter.text or not shows:
            shows.append(ui.card("Text", ui.pre(letter.text, "The mail as text")))
        return join(
            ui.card(letter.subject or "(no subject)", ui.pairs(*facts), tag("details", tag("summary", "All headers"), ui.pre(headers, "Headers"))),
            ui.grid(*shows),
        )  # fmt: skip
