"""The suites that judge backends: one class per contract, for ours and for anybody's.

A backend's author subclasses a suite and says where the backend is::

    import pytest
    from tenfold.conformance.database import DatabaseConformance

    class TestMine(DatabaseConformance):
        @pytest.fixture(scope="class")
        @classmethod
        def url(cls):
            return "mine://localhost/test"

and runs pytest. The rules that every suite keeps:

* The docstring of each test is one sentence of the contract.
* A test takes what it needs as fixtures of the suite; a third party overrides those that give the backend.
* Tests branch on declared capabilities, never on a name, and none is skipped for a capability that is missing:
  it then checks what the contract says for backends without.
* Where the contract speaks of several processes, a second instance of the backend on the same store stands for
  the other process.
* Time is a manual clock's, as far as the backend takes its time from the clock that it is given. What waits for
  a real server polls (:func:`~tenfold.conformance.kit.until`) and never sleeps blindly.
* Every claim can fail: :mod:`~tenfold.conformance.faulty` holds broken variants, and tests that name the ones
  which convict them.

Needs ``pip install 'tenfold[conformance]'``.
"""
