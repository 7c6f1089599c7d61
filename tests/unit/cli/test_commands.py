"""What the commands say: answers on standard output, mistakes as one sentence, and the exit code."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tenfold.cli import target
from tenfold.cli.connection import connected
from tenfold.db import migrations
from tenfold.queue.queue import Queues

Command = Callable[..., str]


def test_help_lists_every_command_with_a_sentence(tenfold: Command) -> None:
    said = tenfold("--help")
    for name in (
        "new",
        "run",
        "worker",
        "migrate",
        "jobs",
        "queues",
        "schedules",
        "events",
        "policies",
        "routes",
        "config",
        "check",
        "shell",
        "openapi",
        "asyncapi",
        "client",
    ):
        assert f"│ {name} " in said


def test_version(tenfold: Command) -> None:
    assert tenfold("--version").strip() == "0.1.0"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("rum",), 'Unknown command "rum". Did you mean "run"?'),
        (("run", "--prot", "80"), "Unknown option: --prot. Did you mean --port?"),
        (("run", "--port", "eighty"), "eighty"),
        (("jobs", "show"), "requires an argument"),
        (("jobs", "retry"), "name ids, or filters, or --all."),
        (("migrate", "--service", "words"), "--service goes with --new"),
    ],
)
def test_wrong_usage_is_a_sentence_and_status_2(
    words: tuple[str, ...], sentence: str, tenfold: Command, project: Path
) -> None:
    said = tenfold(*words, status=2)
    assert said.startswith("error: ")
    assert sentence in said
    assert "Traceback" not in said


def test_routes_show_method_path_and_operation(tenfold: Command, project: Path) -> None:
    lines = [line.split() for line in tenfold("routes").splitlines()]
    assert lines == [
        ["method", "path", "operation"],
        ["GET", "/words", "words.listed"],
        ["POST", "/words", "words.add"],
        ["call", "words.count"],
    ]


def _row(*cells: str) -> list[str]:
    return [word for cell in cells for word in cell.split()]


def test_routes_show_policies_with_who_said_so(tenfold: Command, project: Path) -> None:
    lines = [line.split() for line in tenfold("routes", "--policies").splitlines()]
    add = lines[lines.index(["POST", "/words", "words.add"]) :]
    assert _row("auth anybody service words") in add
    assert _row("deadline 2.5 s operation") in add
    assert _row("idempotency key required operation") in add
    assert _row("priority default · no limit · body 1 MiB") in add
    assert _row("auth other services only · deadline 30 s") in lines


def test_routes_as_json_have_values_and_sources(tenfold: Command, project: Path) -> None:
    rows = {row["operation"]: row for row in json.loads(tenfold("routes", "--policies", "--json"))}
    of_add = {policy["name"]: (policy["value"], policy["source"]) for policy in rows["words.add"]["policies"]}
    assert of_add["timeout_s"] == (2.5, "operation")
    assert of_add["body_max_bytes"] == (1_048_576, "setting http.body_max_bytes")
    assert of_add["priority"] == ("default", "default")


def test_a_policy_is_changed_listed_and_taken_back(tenfold: Command, project: Path) -> None:
    tenfold("migrate")
    assert "as code and settings say" in tenfold("policies")
    said = tenfold("policies", "set", "words.add.limit", "5/minute", "--why", "a flood", "--until", "2h")
    assert said.startswith("words.add.limit is 5/minute in all instances within 2 seconds, until 20")
    listed = tenfold("policies", "list")
    assert "words.add.limit" in listed
    assert "a flood" in listed
    assert "words.add.limit is as declared" in tenfold("policies", "unset", "words.add.limit")
    assert "was not changed" in tenfold("policies", "unset", "words.add.limit")


def test_weights_of_a_gateways_canary_are_policies(tenfold: Command, project: Path) -> None:
    settings = project / "tenfold.toml"
    route = '[gateway.routes.words]\nservice = "words"\ncanary = { next = 5 }\n'
    settings.write_text(f"{settings.read_text() if settings.exists() else ''}\n{route}")
    tenfold("migrate")
    said = tenfold("policies", "set", "gateway.words.canary.next", "25", "--why", "it is well")
    assert said.startswith("gateway.words.canary.next is 25 in all instances")
    assert "percent, from 0 to 100" in tenfold(
        "policies", "set", "gateway.words.canary.next", "250", "--why", "a typo", status=2
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("words.add.limt", "5/minute"), "Did you mean 'words.add.limit'?"),
        (("words.add.limit", "5/minut"), "VALUE: A unit of time must stand here, at character 3: 'minut'."),
        (("words.add.priority", "urgent"), "is none of critical, default, sheddable, background"),
        (("words.add.timeout_s", "none"), "VALUE: There is always a deadline."),
        (("words.add.concurrency", "0"), "from 1; None for no bound"),
        (("words.add.limit", "5/minute", "--until", "tomorrow"), "--until: 'tomorrow' is no time."),
    ],
)
def test_a_wrong_change_is_a_sentence_and_changes_nothing(
    words: tuple[str, ...], sentence: str, tenfold: Command, project: Path
) -> None:
    tenfold("migrate")
    said = tenfold("policies", "set", *words, "--why", "a test", status=2)
    assert said.startswith("error: ")
    assert sentence in said
    assert "as code and settings say" in tenfold("policies")


def test_config_shows_every_value_with_where_it_came_from(
    tenfold: Command, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "tenfold.toml").write_text('[http]\nport = 9000\n[services.words]\ngreeting = "hi"\n')
    monkeypatch.setenv("TENFOLD_APP_SECRET_KEY", "very secret words")
    rows = {line.split()[0]: line.split()[1:] for line in tenfold("config").splitlines() if line}
    assert rows["http.port"] == ["9000", "tenfold.toml"]
    assert rows["app.secret_key"] == ["••••••", "TENFOLD_APP_SECRET_KEY"]
    assert rows["http.host"] == ["127.0.0.1", "default"]
    assert rows["services.words.greeting"] == ["hi", "tenfold.toml"]


def test_config_works_without_an_app(
    tenfold: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "http.port" in tenfold("config")


def test_check_counts_what_there_is(tenfold: Command, project: Path) -> None:
    assert tenfold("check") == "✓ wordy: 1 service, 3 operations, 1 job. Nothing is wrong.\n"


def test_check_finds_an_operation_without_a_policy(tenfold: Command, project: Path, module: str) -> None:
    file = project / module / "app.py"
    file.write_text(file.read_text().replace("auth=public, ", ""))
    said = tenfold("check", status=1)
    assert "it does not say who may use it" in said


def test_check_warns_of_migrations_that_lose_data(tenfold: Command, project: Path, module: str) -> None:
    scripts = project / module / "migrations" / "words" / "versions"
    scripts.mkdir(parents=True)
    (scripts / "0001_x.py").write_text("def upgrade():\n    op.drop_table('old')\n")
    said = tenfold("check")
    assert "0001_x.py:2: " in said
    assert "loses data" in said
    assert "Nothing is wrong" in said


def test_openapi_prints_the_document_or_writes_it(tenfold: Command, project: Path) -> None:
    printed = json.loads(tenfold("openapi"))
    assert "/words" in printed["paths"]
    assert tenfold("openapi", "-o", "api.json") == "Wrote api.json.\n"
    assert json.loads((project / "api.json").read_text()) == printed


def test_asyncapi_prints_the_document_or_writes_it(tenfold: Command, project: Path) -> None:
    assert json.loads(tenfold("asyncapi"))["asyncapi"] == "3.0.0"
    assert tenfold("asyncapi", "-o", "events.json") == "Wrote events.json.\n"
    assert json.loads((project / "events.json").read_text())["info"]["title"] == "wordy"


def test_migrate_makes_what_is_missing_and_then_has_nothing_to_do(tenfold: Command, project: Path) -> None:
    assert "missing" in tenfold("migrate", "--check", status=1)
    assert "words: created words as declared" in tenfold("migrate")
    assert tenfold("migrate") == "The database is up to date.\n"
    assert "up to date" in tenfold("migrate", "--check")


def test_migrate_in_production_makes_nothing_without_a_script(
    tenfold: Command, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENFOLD_APP_ENV", "production")
    said = tenfold("migrate", status=1)
    assert 'words: no script makes words. Run: tenfold migrate --new "first tables" --service words' in said


def test_migrate_writes_and_applies_a_script(tenfold: Command, project: Path, module: str) -> None:
    said = tenfold("migrate", "--new", "first tables")
    path = f"{module}/migrations/words/versions/0001_first_tables.py"
    assert said == f"Wrote {path}. Read it, then run: tenfold migrate\n"
    assert "create_table" in (project / path).read_text()
    assert "(first tables)" in tenfold("migrate")


def test_migrate_names_the_services_when_the_one_asked_for_has_no_database(
    tenfold: Command, project: Path
) -> None:
    said = tenfold("migrate", "--new", "x", "--service", "word", status=2)
    assert said == (
        "error: --service: no service 'word' has a database. There are words. Did you mean 'words'?\n"
    )


def test_jobs_need_a_database_that_is_up_to_date(tenfold: Command, project: Path) -> None:
    assert "Run: tenfold migrate" in tenfold("jobs", status=1)


def test_jobs_are_listed_shown_cancelled_retried_and_discarded(
    tenfold: Command, project: Path, module: str
) -> None:
    enqueue(f"{module}.app:app", 7)

    listed = tenfold("jobs")
    assert "words.polish" in listed
    assert listed.splitlines()[-1] == "1 ready in default"
    assert '{"number":7}' in tenfold("jobs", "show", "1")
    assert tenfold("jobs", "cancel", "1") == "1 is cancelled, or stops soon.\n"
    assert tenfold("jobs", "cancel", "1") == "1 had finished already.\n"
    assert "cancelled" in tenfold("jobs", "list", "--state", "cancelled")
    assert tenfold("jobs", "retry", "1") == "1 will run again.\n"
    assert tenfold("jobs", "discard", "1") == "1 is removed.\n"
    assert "There is no message 1" in tenfold("jobs", "show", "1", status=1)
    assert tenfold("jobs", "retry", "--state", "dead") == "0 messages will run again.\n"
    assert tenfold("jobs") == "Nothing is pending and nothing has died.\n"


def test_messages_are_changed_by_what_they_have_in_common(
    tenfold: Command, project: Path, module: str
) -> None:
    for number in range(3):
        enqueue(f"{module}.app:app", number)
    assert (
        tenfold("jobs", "cancel", "--handler", "words.other") == "0 messages cancelled, or asked to stop.\n"
    )
    said = tenfold("jobs", "cancel", "--queue", "default", "--why", "a mistake")
    assert said == "3 messages cancelled, or asked to stop.\n"
    assert ": a mistake, before it ran" in tenfold("jobs", "show", "2")
    assert tenfold("jobs", "retry", "--error", "mistake", "--older", "1d").startswith("0 ")
    assert tenfold("jobs", "retry", "--error", "mistake") == "3 messages will run again.\n"
    assert tenfold("jobs", "discard", "--all") == "3 messages removed.\n"
    assert "is not a time" in tenfold("jobs", "list", "--older", "soon", status=2)


def test_queues_are_listed_paused_and_resumed(tenfold: Command, project: Path, module: str) -> None:
    enqueue(f"{module}.app:app", 7)
    assert tenfold("queues", "pause", "default", "--why", "the mail server is away") == "default is paused.\n"
    assert tenfold("queues", "pause", "default") == "default was paused already.\n"
    assert "the mail server is away" in tenfold("queues")
    assert tenfold("queues", "resume", "default") == "default goes on: 1 message to start.\n"
    assert tenfold("queues", "resume", "default") == "default was not paused.\n"


def test_schedules_say_when_nobody_has_looked_at_them(tenfold: Command, project: Path, module: str) -> None:
    enqueue(f"{module}.app:app", 7)
    assert tenfold("schedules").endswith("No service declares a schedule.\n")


def enqueue(named: str, number: int) -> None:
    app = target.load(named)
    app.configure(environ={})

    async def put() -> None:
        async with connected(app):
            await migrations.upgrade(app.databases, create_without_scripts=True)
            queue = Queues(app.clock).of(app.databases[0])
            async with app.databases[0].tx() as tx:
                queue.put(tx, queue.message("job", "words.polish", f'{{"number":{number}}}'))

    asyncio.run(put())


def test_migrate_new_writes_nothing_where_nothing_changed(tenfold: Command, project: Path) -> None:
    assert "Wrote " in tenfold("migrate", "--new", "first")
    tenfold("migrate")
    assert tenfold("migrate", "--new", "second").startswith("Nothing changed")
    assert "Wrote " in tenfold("migrate", "--new", "by hand", "--empty")
    assert "--empty goes with --new" in tenfold("migrate", "--empty", status=2)


def test_check_knows_what_webhooks_need(
    tenfold: Command, project: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (project / module / "app.py").open("a") as source:
        source.write('\nhooks = service.webhooks(service.topic("said", Own))\n')
    assert "Nothing is wrong" in tenfold("check", f"{module}.app:app")
    monkeypatch.setenv("TENFOLD_WEBHOOKS_ALLOW", "10.0.0.0/99")
    said = tenfold("check", f"{module}.app:app", status=1)
    assert "webhooks.allow: '10.0.0.0/99' is not a network. Write" in said
    monkeypatch.delenv("TENFOLD_WEBHOOKS_ALLOW")
    monkeypatch.setattr("tenfold.webhooks.outgoing.find_spec", lambda name: None)
    assert "Run: pip install 'tenfold[webhooks]'" in tenfold("check", f"{module}.app:app", status=1)
