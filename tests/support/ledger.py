"""A small event-sourced service: accounts whose balance is what their events have made of it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from msgspec.structs import replace

from tenfold import App, Service, Tx
from tenfold.errors import Conflict
from tenfold.eventstore import Aggregate, Recorded


class Paid(Struct, frozen=True):
    amount: int


class Drawn(Struct, frozen=True):
    amount: int


class Balance(Struct, frozen=True):
    amount: int = 0
    count: int = 0


class Pay(Struct, frozen=True):
    amount: int


class Draw(Struct, frozen=True):
    amount: int


class Overdrawn(Conflict):
    kind = "overdrawn"


def evolve(balance: Balance, event: Paid | Drawn) -> Balance:
    by = event.amount if isinstance(event, Paid) else -event.amount
    return replace(balance, amount=balance.amount + by, count=balance.count + 1)


def decide(balance: Balance, command: Pay | Draw) -> list[Paid | Drawn]:
    if isinstance(command, Pay):
        return [Paid(command.amount)]
    if command.amount > balance.amount:
        raise Overdrawn(f"{balance.amount} are left.")
    return [Drawn(command.amount)]


class Ledger:
    """An app with one event-sourced service and a table that projections fill."""

    def __init__(self, **options: Any) -> None:
        self.service = Service("bank")
        self.metadata = sa.MetaData()
        self.table = sa.Table(
            "balances",
            self.metadata,
            sa.Column("account", sa.String(40), primary_key=True),
            sa.Column("amount", sa.Integer, nullable=False),
            sa.Column("events", sa.Integer, nullable=False),
        )
        self.db = self.service.database(self.metadata)
        given = {"events": [Paid, Drawn], "state": Balance, "evolve": evolve, "decide": decide, **options}
        self.account: Aggregate[Balance, Pay | Draw] = self.service.aggregate("account", **given)
        t = self.table
        self._move = (
            sa.update(t)
            .where(t.c.account == sa.bindparam("account_"))
            .values(amount=t.c.amount + sa.bindparam("by"), events=t.c.events + 1)
        )
        self._add = sa.insert(t)
        self._all = sa.select(t).order_by(t.c.account)

    def app(self) -> App:
        return App("bank", [self.service])

    async def keep(self, event: Recorded[Any], tx: Tx) -> None:
        """What a projection into the table does."""
        by = event.data.amount if isinstance(event.data, Paid) else -event.data.amount
        if not await tx.execute(self._move, account_=event.stream, by=by):
            await tx.execute(self._add, account=event.stream, amount=by, events=1)

    async def rows(self) -> dict[str, tuple[int, int]]:
        """Amount and number of events by account."""
        found = await self.db.read().all(self._all, tuple)
        return {account: (amount, events) for account, amount, events in found}

    async def pay(self, account: str, *amounts: int) -> None:
        for amount in amounts:
            async with self.db.tx() as tx:
                await self.account.handle(tx, account, Pay(amount))
