"""The suite of :mod:`tenfold.db.contract` and of what ``Database`` promises on top of it.

::

    class TestMine(DatabaseConformance):
        @pytest.fixture(scope="class")
        @classmethod
        def url(cls):
            with empty_database() as url:
                yield url

``url`` is that of an empty database which the suite may fill with tables named ``conf_…``. The suite opens it
twice, so that one process judges another's work. Override ``backend_type`` when the scheme is not registered
as an entry point, ``settings`` when the backend needs some, ``wrong_urls`` to have its sentences judged.
"""

from __future__ import annotations

from tenfold.conformance._database_cancelling import CancelClaims
from tenfold.conformance._database_each import EachClaims
from tenfold.conformance._database_failures import ErrorClaims, TimeoutClaims
from tenfold.conformance._database_hooks import HookClaims, OrmClaims
from tenfold.conformance._database_life import HintClaims, LifeClaims, SandboxClaims, UrlClaims
from tenfold.conformance._database_reading import ReadClaims, TypeClaims
from tenfold.conformance._database_savepoints import SavepointClaims
from tenfold.conformance._database_transactions import (
    AtomicityClaims,
    IsolationClaims,
    WriteClaims,
)


class DatabaseConformance(
    AtomicityClaims,
    SavepointClaims,
    IsolationClaims,
    WriteClaims,
    HookClaims,
    OrmClaims,
    ReadClaims,
    EachClaims,
    TypeClaims,
    ErrorClaims,
    TimeoutClaims,
    CancelClaims,
    LifeClaims,
    HintClaims,
    SandboxClaims,
    UrlClaims,
):
    """Everything a database backend promises; see the module's docstring."""
