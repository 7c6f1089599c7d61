"""Callers are recognised where the accounts are; a process without them asks, and opens no database for it."""
# Without postponed annotations: operations are local to their making.

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
import sqlalchemy as sa

from support.split import configured, serving
from tenfold import Accounts, App, Principal, Service, authenticated, public
from tenfold.security.passwords import Cost
from tenfold.telemetry import names

pytestmark = pytest.mark.anyio

FORM = ("ada@club.example", "correct-horse-battery")


class Member(Principal, frozen=True, kw_only=True):
    level: int = 3


def make() -> tuple[App, Accounts]:
    members, desk = Service("members", auth=public, calls=[]), Service("desk", auth=authenticated, calls=[])
    accounts = Accounts(
        members.database(sa.MetaData()),
        {"member": Member},
        password_cost=Cost(memory_kib=64, iterations=1, lanes=1),
    )

    @desk.get("/me")
    async def me(member: Member) -> str:
        return f"{member.email} {member.via} {member.level} {sorted(member.scopes)} {sorted(member.roles)}"

    return App("club", [members, desk], auth=accounts), accounts


class Club(NamedTuple):
    accounts: Accounts
    """In the process of the members."""
    members: AsyncExitStack
    """That process: closing it ends it."""
    desk: App
    client: httpx2.AsyncClient
    """Of the process of the desk."""

    async def ask(self, cookies: dict[str, str] | None = None, **headers: Any) -> tuple[int, str]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if cookies:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        answer = await self.client.get("/me", headers=sent)
        return answer.status_code, answer.text

    def asked(self) -> int:
        """How often the desk has asked the members."""
        value = self.desk.assembly.telemetry.registry.value
        return int(value(names.CALLS, "members.recognise_caller", "ok", "desk"))


@asynccontextmanager
async def running(folder: Path) -> AsyncGenerator[Club]:
    (there, accounts), (desk, _) = make(), make()
    there.serve_only("members")
    desk.serve_only("desk")
    async with AsyncExitStack() as stack:
        members = await stack.enter_async_context(AsyncExitStack())
        url = await members.enter_async_context(serving(configured(there, folder)))
        configured(desk, folder, services__members__url=url)
        here = await stack.enter_async_context(serving(desk))
        client = await stack.enter_async_context(httpx2.AsyncClient(base_url=here))
        await accounts.register(*FORM, roles=["chair"])
        yield Club(accounts, members, desk, client)


async def test_every_kind_of_credential_is_recognised_by_asking(tmp_path: Path) -> None:
    async with running(tmp_path) as club:
        pair = await club.accounts.login(*FORM)
        account = await club.accounts.verify_password(*FORM)
        key = await club.accounts.create_api_key(account.id, "robot", scopes=["doors"])
        session = (await club.accounts.login_session(*FORM)).cookie
        assert club.desk.databases == [], "nothing is opened there"
        token = {"authorization": f"Bearer {pair.access_token}"}
        assert await club.ask(**token) == (200, "\"ada@club.example bearer 3 [] ['chair']\"")
        cookies = {session["name"]: session["value"]}
        assert await club.ask(cookies) == (200, "\"ada@club.example session 3 [] ['chair']\"")
        status, text = await club.ask(x_api_key=key.key)
        assert (status, "scope" in text) == (403, True), "it is good for its scopes only"
        assert (await club.ask(authorization="Bearer forged"))[0] == 401
        assert (await club.ask(x_api_key="tfk_0000000000000000_" + "x" * 43))[0] == 401
        assert (await club.ask({session["name"]: "x" * 43}))[0] == 401
        assert (await club.ask())[0] == 401

        await club.accounts.revoke_api_key(account.id, key.id)
        await club.accounts.logout(session["value"])
        assert (await club.ask(x_api_key=key.key))[0] == 401, "what is looked up each time ends at once"
        assert (await club.ask(cookies))[0] == 401


async def test_a_token_is_asked_about_once_and_known_while_the_accounts_are_away(tmp_path: Path) -> None:
    async with running(tmp_path) as club:
        first, second = [(await club.accounts.login(*FORM)).access_token for _ in range(2)]
        answers = [await club.ask(authorization=f"Bearer {first}") for _ in range(5)]
        assert {status for status, _ in answers} == {200}
        assert club.asked() == 1
        await club.members.aclose()
        assert (await club.ask(authorization=f"Bearer {first}"))[0] == 200
        assert (await club.ask(authorization=f"Bearer {second}"))[0] == 503


async def test_what_the_framework_asks_needs_no_declaration_and_opens_nothing_else(tmp_path: Path) -> None:
    async with running(tmp_path) as club:
        edges = club.desk.assembly.edges
        assert edges.allowed("desk", "members.recognise_caller")
        assert not edges.allowed("stranger", "members.recognise_caller")
        assert not edges.allowed("desk", "members.other")
