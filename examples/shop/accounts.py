"""Accounts: sign up, log in, and API keys for programs. Passwords, tokens and keys are Tenfold's `Accounts`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import sqlalchemy as sa
from msgspec import Meta, Struct

from shop.columns import NAMING
from tenfold import Accounts, Principal, Request, Service, Tx, authenticated, public, roles
from tenfold.errors import Conflict, NotFound, TooManyRequests, Unauthorized
from tenfold.security.apikeys import NewApiKey
from tenfold.security.logins import TokenPair

service = Service("accounts", prefix="/accounts", tags=["accounts"], calls=[])

metadata = sa.MetaData(naming_convention=NAMING)
profile_table = sa.Table(
    "profiles",
    metadata,
    sa.Column("account_id", sa.String(36), primary_key=True),
    sa.Column("name", sa.String(80), nullable=False),
)
db = service.database(metadata)
people = Accounts(db)
"""Who may use the shop: handed to the App as ``auth``."""

Email = Annotated[str, Meta(min_length=3, max_length=254, examples=["ada@example.org"])]
Password = Annotated[str, Meta(min_length=1, max_length=1024)]


class SignUp(Struct):
    email: Email
    password: Password
    name: Annotated[str, Meta(min_length=1, max_length=80)]


class Login(Struct):
    email: Email
    password: Password


class RefreshToken(Struct):
    refresh_token: Annotated[str, Meta(min_length=1, max_length=200)]


class Profile(Struct):
    id: str
    email: str | None
    name: str
    roles: list[str]


class NewKey(Struct):
    """``scopes`` is what the key may be used for, such as ``orders:import``."""

    name: Annotated[str, Meta(min_length=1, max_length=80)]
    scopes: Annotated[
        list[Annotated[str, Meta(pattern="^[a-z]+:[a-z]+$")]], Meta(min_length=1, max_length=10)
    ]


_profile = sa.select(profile_table.c.name).where(profile_table.c.account_id == sa.bindparam("id"))
_add_profile = sa.insert(profile_table)


@service.post("/register", auth=public, status=201, limit="60/hour burst 20 per address", errors=(Conflict,))
async def register(sign_up: SignUp, tx: Tx) -> Profile:
    """Open an account."""
    return await enrol(tx, sign_up)


@service.post("/login", auth=public, errors=(Unauthorized, TooManyRequests))
async def login(form: Login, request: Request) -> TokenPair:
    """Exchange address and password for an access token and a refresh token."""
    address = request.client[0] if request.client else ""
    return await people.login(form.email, form.password, address=address)


@service.post("/refresh", auth=public, errors=(Unauthorized,))
async def refresh(form: RefreshToken) -> TokenPair:
    """Exchange a refresh token, once, for a new pair."""
    return await people.refresh(form.refresh_token)


@service.post("/logout", auth=public)
async def logout(form: RefreshToken) -> None:
    """End the log-in that the refresh token belongs to."""
    await people.logout(form.refresh_token)


@service.get("/me", auth=authenticated, errors=(NotFound,))
async def me(principal: Principal) -> Profile:
    """The caller's own account."""
    name = await db.read().one(_profile, str, id=principal.id)
    return _shown(principal, name)


@service.post("/keys", auth=roles("admin"), status=201)
async def create_key(new: NewKey, principal: Principal) -> NewApiKey:
    """Make an API key that can do only what its scopes name. This is the only time it is shown."""
    return await people.create_api_key(principal.id, new.name, scopes=new.scopes)


async def enrol(tx: Tx, sign_up: SignUp, roles: Iterable[str] = ()) -> Profile:
    """The account and its profile, together or not at all."""
    principal = await people.register(sign_up.email, sign_up.password, roles=roles, tx=tx)
    await tx.execute(_add_profile, account_id=principal.id, name=sign_up.name)
    return _shown(principal, sign_up.name)


def _shown(principal: Principal, name: str) -> Profile:
    return Profile(principal.id, principal.email, name, sorted(principal.roles))
