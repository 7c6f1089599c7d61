"""``tenfold identity``: what it makes, and what it says of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Command = Callable[..., str]


def test_keys_are_made_shown_and_rotated(tenfold: Command, project: Path) -> None:
    assert "spiffe://wordy/service/words  none" in tenfold("identity")
    said = tenfold("identity", "issue", "--tls")
    assert "words: made key " in said
    assert "certificate of spiffe://wordy/service/words until " in said
    assert 'Services use them once tenfold.toml says: [identity] folder = "identity"' in said
    assert "words: has a key already." in tenfold("identity", "issue")
    assert "it signs in 5 s; the former ones are trusted 15 minutes longer." in tenfold(
        "identity", "rotate", "words"
    )
    shown = tenfold("identity", "show")
    assert "signs in " in shown
    assert "for 30 d" in shown
    assert shown.count(" here") == 2
    assert "worthless in 4 s" in tenfold("identity", "rotate", "--now")
    assert tenfold("identity", "show").count(" here") == 2, "the one that signs, and the next one"
    for file in (project / "data" / "identity").rglob("*"):
        private = file.suffix in (".jwk", ".key")
        assert file.stat().st_mode & 0o077 == 0 if private else True, file


def test_services_that_are_none_are_refused_with_the_nearest(tenfold: Command, project: Path) -> None:
    said = tenfold("identity", "issue", "word", status=2)
    assert (
        "wordy has no service 'word'. Did you mean 'words'? There are words; and balancer and gateway, which"
        in said
    )
    assert not (project / "data").exists()


def test_what_stands_in_front_of_services_gets_a_certificate_too(tenfold: Command, project: Path) -> None:
    assert "certificate of spiffe://wordy/service/balancer" in tenfold(
        "identity", "issue", "balancer", "--tls"
    )
    assert "spiffe://wordy/service/balancer" in tenfold("identity", "show")


def test_an_engine_without_roles_is_said_to_have_none(tenfold: Command, project: Path) -> None:
    said = tenfold("identity", "database", status=2)
    assert "sqlite has no roles by which the services of one database are kept apart. Use PostgreSQL" in said
