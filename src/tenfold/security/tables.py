"""The framework tables of accounts and their credentials. Times are seconds since the epoch, UTC.

Of every credential only a hash is stored: what an attacker reads here logs nobody in.
"""

from __future__ import annotations

import hashlib
from typing import Any

import sqlalchemy as sa

from tenfold._core.clock import Clock
from tenfold.db.schema import framework, framework_part

account = sa.Table(
    "tenfold_account",
    framework,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("email", sa.String(320), nullable=False),
    sa.Column("email_key", sa.String(320), nullable=False, unique=True),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("password_hash", sa.String(255), nullable=False),
    sa.Column("roles", sa.Text, nullable=False),
    sa.Column("tenant", sa.String(255)),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("disabled_at", sa.Double),
)
"""``email_key`` is the address as compared, ``roles`` names in order, separated by blanks."""

session = sa.Table(
    "tenfold_session",
    framework,
    sa.Column("hash", sa.String(64), primary_key=True),
    sa.Column("account_id", sa.String(36), nullable=False, index=True),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False, index=True),
    sa.Column("ends_at", sa.Double, nullable=False),
)
"""``expires_at`` moves on with use, ``ends_at`` does not."""

family = sa.Table(
    "tenfold_refresh_family",
    framework,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("account_id", sa.String(36), nullable=False, index=True),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False, index=True),
    sa.Column("revoked_at", sa.Double),
)
"""One log-in: every refresh token descends from its first one."""

refresh = sa.Table(
    "tenfold_refresh_token",
    framework,
    sa.Column("hash", sa.String(64), primary_key=True),
    sa.Column("family_id", sa.String(36), nullable=False, index=True),
    sa.Column("expires_at", sa.Double, nullable=False, index=True),
    sa.Column("used_at", sa.Double),
)
"""Used tokens stay until they expire, so that their reuse is noticed."""

api_key = sa.Table(
    "tenfold_api_key",
    framework,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.Column("account_id", sa.String(36), nullable=False, index=True),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("scopes", sa.Text),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double),
    sa.Column("used_at", sa.Double),
)
"""``scopes`` NULL: the key may do all that its account may."""

attempt = sa.Table(
    "tenfold_login_attempt",
    framework,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("last_at", sa.Double, nullable=False, index=True),
    sa.Column("blocked_until", sa.Double, nullable=False),
)
"""Log-ins that failed or have not succeeded yet; ``key`` is a hash of what is limited."""

TABLES = (account, session, family, refresh, api_key, attempt)
"""All of them: where services have roles of their own, they are for the one that has the accounts."""

framework_part("security")


def insert_into(table: sa.Table) -> sa.Insert:
    """INSERT of a whole row, parameters named like the columns."""
    return sa.insert(table).values({column.name: sa.bindparam(column.name) for column in table.columns})


def digest(secret: str) -> str:
    """How a random credential is stored. It has 256 bits of entropy, so a plain hash cannot be searched."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def random_token(clock: Clock) -> str:
    """256 random bits, 43 characters of base64url."""
    import base64

    return base64.urlsafe_b64encode(clock.random.randbytes(32)).rstrip(b"=").decode()


def names(text: Any) -> frozenset[str]:
    """The set behind a column of names separated by blanks."""
    return frozenset(str(text).split())
