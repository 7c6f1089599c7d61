"""The table of accounts, and the principals that its rows stand for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from tenfold.errors import DeclarationError, FieldError, InvalidInput, InvalidToken, NotFound
from tenfold.mail.address import address_key
from tenfold.security.principal import Principal
from tenfold.security.tables import account, insert_into, names

if TYPE_CHECKING:
    from tenfold.db.database import Database, Tx

_INSERT = insert_into(account)
_BY_ID = sa.select(account).where(account.c.id == sa.bindparam("id_"))
_BY_EMAIL = sa.select(account).where(account.c.email_key == sa.bindparam("key"))
_SET_PASSWORD = (
    sa.update(account).where(account.c.id == sa.bindparam("id_")).values(password_hash=sa.bindparam("hash_"))
)
_RENEW_PASSWORD = _SET_PASSWORD.where(account.c.password_hash == sa.bindparam("old"))
_SET_ROLES = sa.update(account).where(account.c.id == sa.bindparam("id_")).values(roles=sa.bindparam("names"))
_SET_DISABLED = (
    sa.update(account).where(account.c.id == sa.bindparam("id_")).values(disabled_at=sa.bindparam("at"))
)


class Row(msgspec.Struct, kw_only=True):
    """One account as stored; ``repr`` hides the hash."""

    id: str
    email: str
    email_key: str
    kind: str
    password_hash: str
    roles: str
    tenant: str | None
    created_at: float
    disabled_at: float | None

    def __repr__(self) -> str:
        return f"Row(id={self.id!r}, kind={self.kind!r})"


class Directory:
    """Reads and writes accounts. ``principals`` maps kinds to the classes that stand for them."""

    def __init__(self, db: Database, principals: Mapping[str, type[Principal]]) -> None:
        self._db, self._principals = db, principals

    async def by_email(self, key: str) -> Row | None:
        """The account of a compared address (see :func:`email_key`)."""
        return await self._db.read(consistency="strong").maybe(_BY_EMAIL, Row, key=key)

    async def row(self, account_id: str) -> Row:
        """The account, unless there is none or it is disabled: :class:`NotFound`."""
        row = await self._db.read(consistency="strong").maybe(_BY_ID, Row, id_=account_id)
        if row is None or row.disabled_at is not None:
            raise NotFound("There is no such account.")
        return row

    async def get(self, account_id: str) -> Principal:
        """The same as a principal."""
        return self.principal(await self.row(account_id))

    async def holder(self, account_id: str, via: str, scopes: frozenset[str] | None = None) -> Principal:
        """Whose credential it is. Raises :class:`InvalidToken` when the account cannot be used any more."""
        try:
            return self.principal(await self.row(account_id), via=via, scopes=scopes)
        except NotFound:
            raise InvalidToken("The account of this credential cannot be used.") from None

    def principal(self, row: Row, *, via: str = "", scopes: frozenset[str] | None = None) -> Principal:
        """The principal of a row; with ``scopes``, one restricted to them."""
        class_ = self._principals.get(row.kind)
        if class_ is None:
            raise InvalidToken("The app no longer has accounts of this kind.")
        return class_(
            id=row.id,
            kind=row.kind,
            roles=names(row.roles),
            scopes=scopes or frozenset(),
            restricted=scopes is not None,
            tenant=row.tenant,
            email=row.email,
            via=via,
        )

    async def insert(self, tx: Tx, row: Row) -> None:
        """Raises :class:`UniqueViolation` when the address is taken."""
        await tx.execute(_INSERT, msgspec.structs.asdict(row))

    async def set_password(self, tx: Tx, account_id: str, hashed: str) -> None:
        await tx.execute(_SET_PASSWORD, {"id_": account_id, "hash_": hashed})

    async def renew_password(self, tx: Tx, account_id: str, old: str, hashed: str) -> None:
        """A new hash of the same password, unless the password was changed meanwhile."""
        await tx.execute(_RENEW_PASSWORD, {"id_": account_id, "hash_": hashed, "old": old})

    async def set_roles(self, tx: Tx, account_id: str, roles: str) -> None:
        """Raises :class:`NotFound`."""
        _found(await tx.execute(_SET_ROLES, {"id_": account_id, "names": roles}))

    async def set_disabled(self, tx: Tx, account_id: str, at: float | None) -> None:
        """Raises :class:`NotFound`."""
        _found(await tx.execute(_SET_DISABLED, {"id_": account_id, "at": at}))


def email_key(email: str) -> str:
    """The form in which addresses are compared. Raises :class:`InvalidInput` for what is none."""
    try:
        return address_key(email)
    except ValueError as error:
        raise InvalidInput(errors=[FieldError("body", "email", f"{email!r}: {error}")]) from None


def lookup_key(email: str) -> str:
    """The same for a log-in, where an impossible address is only one that nobody has."""
    try:
        return address_key(email)
    except ValueError:
        return email[:320].casefold()


def joined(field: str, values: Iterable[str]) -> str:
    """Names as stored: sorted, separated by blanks. Raises :class:`InvalidInput`."""
    wanted = sorted({values} if isinstance(values, str) else set(values))
    if not all(value.split() == [value] for value in wanted):
        raise InvalidInput(
            errors=[FieldError("body", field, "Names must not be empty or have blanks in them.")]
        )
    return " ".join(wanted)


def check_principals(principals: Mapping[str, type[Principal]]) -> dict[str, type[Principal]]:
    """Each class must be a principal that can be made from a row. Raises :class:`DeclarationError`."""
    for kind, class_ in principals.items():
        where = f"Accounts(principals={{{kind!r}: …}})"
        if not (isinstance(class_, type) and issubclass(class_, Principal)):
            raise DeclarationError(
                f"{class_!r} is not a subclass of Principal.",
                where=where,
                remedy="Write `class Customer(Principal): ...`.",
            )
        try:
            class_(id="", kind=kind)
        except TypeError as error:
            raise DeclarationError(
                f"{class_.__name__} cannot be made from an account: {error}.",
                where=where,
                remedy="Give the fields that it adds defaults.",
            ) from None
    return dict(principals)


def _found(rows: int) -> None:
    if not rows:
        raise NotFound("There is no such account.")
