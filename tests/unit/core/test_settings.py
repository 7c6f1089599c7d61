"""Settings: later sources win, every value knows its source, and what is wrong is said with its path."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from tenfold._core import settings
from tenfold._core.settings import Loaded, load, peek, variable
from tenfold.errors import ConfigError, UnknownSetting


class Payments(msgspec.Struct, frozen=True):
    api_key: str
    retries: Annotated[int, Meta(ge=0, le=10)] = 3
    currencies: list[str] = []
    limits: dict[str, int] = {}
    gateway: str = ""


SERVICES = {"payments": Payments}
KEY = {"TENFOLD_SERVICES_PAYMENTS_API_KEY": "k-123"}


@pytest.fixture
def toml(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        path = tmp_path / "tenfold.toml"
        path.write_text(text)
        return path

    return write


def refused(file: Path | None = None, **options: Any) -> str:
    options.setdefault("environ", {})
    with pytest.raises(ConfigError) as caught:
        load(file, **options)
    return str(caught.value)


def shown(loaded: Loaded) -> dict[str, tuple[str, str]]:
    return {path: (value, source) for path, value, source in loaded.rows()}


# ── sources ──


def test_defaults_then_file_then_environment_then_command_line(toml: Any) -> None:
    file = toml("[http]\nport = 1\ntimeout_s = 1\nthreads = 1\n")
    environ = {"TENFOLD_HTTP_PORT": "2", "TENFOLD_HTTP_TIMEOUT_S": "2.5", "PATH": "/bin"}
    loaded = load(file, environ=environ, overrides={"http.port": 3, "http.host": None})
    http = loaded.settings.http
    assert (http.port, http.timeout_s, http.threads, http.host) == (3, 2.5, 1, "127.0.0.1")
    rows = shown(loaded)
    assert rows["http.port"] == ("3", "command line")
    assert rows["http.timeout_s"] == ("2.5", "TENFOLD_HTTP_TIMEOUT_S")
    assert rows["http.threads"] == ("1", str(file))
    assert rows["http.host"] == ("127.0.0.1", "default")


def test_tenfold_toml_of_the_working_folder_is_read_when_there_is_one(
    toml: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(environ={}).settings.http.port == 8000
    toml("[http]\nport = 9\n")
    assert load(environ={}).settings.http.port == 9
    assert load(environ={}).sources["http.port"] == "tenfold.toml"


def test_every_setting_has_a_variable_of_its_own() -> None:
    paths = settings.known_paths(SERVICES)
    assert variable("http.body_max_bytes") == "TENFOLD_HTTP_BODY_MAX_BYTES"
    assert len({variable(path) for path in paths}) == len(paths)


def test_two_settings_with_one_variable_are_refused() -> None:
    class A(msgspec.Struct):
        b_c: int = 0

    class AB(msgspec.Struct):
        c: int = 0

    message = refused(services={"a": A, "a-b": AB})
    assert "TENFOLD_SERVICES_A_B_C: it would mean both services.a.b_c and services.a-b.c." in message


def test_the_variables_of_failpoints_are_no_settings() -> None:
    assert load(environ={"TENFOLD_FAILPOINTS": "x"}).sources == {}


def test_one_setting_can_be_looked_up_before_the_app_is_known(toml: Any) -> None:
    file = toml('[app]\ntarget = "shop.app:app"\n[htpp]\nport = "what"\n')
    assert peek("app.target", file, environ={}) == "shop.app:app"
    assert peek("app.target", file, environ={"TENFOLD_APP_TARGET": "other:app"}) == "other:app"
    assert peek("app.env", file, environ={}) == ""
    assert peek("app.target.deeper", file, environ={}) == ""


# ── what is not a setting ──


def test_an_unknown_key_is_refused_with_its_place_and_the_nearest_one(toml: Any) -> None:
    file = toml("[http]\nprot = 1\n")
    with pytest.raises(
        UnknownSetting, match=r"tenfold\.toml: http\.prot: there is no such setting\. Did you "
    ):
        load(file, environ={})
    assert "Did you mean 'http.port'?" in refused(file)


def test_an_unknown_variable_is_refused_with_the_nearest_one() -> None:
    message = refused(environ={"TENFOLD_HTTP_PROT": "1"})
    assert message == "TENFOLD_HTTP_PROT: no setting has this variable. Did you mean 'TENFOLD_HTTP_PORT'?"


def test_settings_of_a_service_that_does_not_exist_are_refused(toml: Any) -> None:
    file = toml("[services.paymnets]\nretries = 1\n")
    message = refused(file, services=SERVICES, environ=KEY)
    assert "no service 'paymnets' exists. Did you mean 'payments'?" in message


@pytest.mark.parametrize("text", ["http = 5", "[[http]]\nport = 1", "[http.port]\nx = 1", "services = 1"])
def test_tables_and_values_in_each_others_place_are_refused(toml: Any, text: str) -> None:
    message = refused(toml(text), environ={"TENFOLD_HTTP_HOST": "::1"})
    assert "tenfold.toml: " in message


# ── wrong values ──


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("HTTP_PORT", "99999", "http.port: expected `int` <= 65535; the value is 99999."),
        ("HTTP_PORT", "abc", "http.port: expected `int`, got `str`; the value is abc."),
        ("HTTP_TIMEOUT_S", "0", "http.timeout_s: expected `float` > 0.0; the value is 0."),
        ("HTTP_DOCS", "maybe", "http.docs: expected `bool | null`, got `str`; the value is maybe."),
        (
            "HTTP_SERVER",
            "uvcorn",
            "http.server: the value is uvcorn; expected 'uvicorn' or 'granian'. Did you mean 'uvicorn'?",
        ),
        (
            "HTTP_CONCURRENCY",
            "many",
            "http.concurrency: the value is many; expected a number, or 'adaptive'.",
        ),
        ("HTTP_CONCURRENCY", "2.5", "http.concurrency: the value is 2.5; expected a number, or 'adaptive'."),
        ("HTTP_CORS_ORIGINS", "[1", "http.cors_origins: it is not JSON: Input data was truncated."),
        ("HTTP_CORS_ORIGINS", "[1]", "http.cors_origins: expected `str`, got `int`; the value is [1]."),
    ],
)
def test_a_variable_that_does_not_fit_is_named_with_bound_and_value(
    name: str, text: str, sentence: str
) -> None:
    assert refused(environ={f"TENFOLD_{name}": text}) == f"TENFOLD_{name}: {sentence}"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[guard]\naway = "opn"', "guard.away: the value is opn; expected 'open', 'closed' or 'local'. Did you mean 'open'?"),
        ("[http]\nport = 99999", "http.port: expected `int` <= 65535; the value is 99999."),
        ('[http]\nport = "80"', "http.port: expected `int`, got `str`; the value is 80."),
        ('[http]\ncors_origins = ["a", 1]', "http.cors_origins[1]: expected `str`, got `int`; the value is [a, 1]."),
        ("[queues.mail]\nrats = 5", "queues.mail.rats: there is no such setting. Did you mean 'rate'?"),
        ("[queues.mail]\nrate = 5", "queues.mail.rate: expected `str | null`, got `int`; the value is 5."),
        ("[tenants.acme]\nwait = 5", "tenants.acme.wait: there is no such setting. Did you mean 'weight'?"),
        ("[tenants.acme]\nweight = 0", "tenants.acme.weight: expected `float` >= 0.01; the value is 0."),
        ("[tenants]\nacme = 5", "tenants.acme: expected `object`, got `int`; the value is 5."),
        ("[services.payments]\nretries = 11", "services.payments.retries: expected `int` <= 10; the value is 11."),
    ],
)  # fmt: skip
def test_a_value_of_the_file_that_does_not_fit_is_named_with_file_bound_and_value(
    toml: Any, text: str, sentence: str
) -> None:
    file = toml(text)
    assert refused(file, services=SERVICES, environ=KEY) == f"{file}: {sentence}"


def test_a_secret_that_does_not_fit_is_not_quoted() -> None:
    message = refused(overrides={"ops.token": 12345})
    assert "12345" not in message
    assert "ops.token" in message


def test_a_required_setting_without_a_value_says_how_to_give_one() -> None:
    assert refused(services=SERVICES) == (
        "services.payments.api_key: it has no default and no value. Set TENFOLD_SERVICES_PAYMENTS_API_KEY, or "
        "api_key under [services.payments]."
    )


def test_a_file_that_is_missing_broken_or_a_folder_is_refused(toml: Any, tmp_path: Path) -> None:
    assert "there is no file" in refused(tmp_path / "nowhere.toml")
    assert "it is not valid TOML" in refused(toml("[http"))
    assert "it cannot be read: Is a directory." in refused(tmp_path)


# ── shapes ──


def test_a_tenants_name_may_have_dots_and_may_come_from_a_variable(toml: Any) -> None:
    file = toml(
        '[tenants."acme.example"]\nweight = 3\n[tenants.acme]\nweight = 2\n[queues."a.b"]\nrate = "5/s"'
    )
    loaded = load(file, environ={"TENFOLD_TENANTS": '{"zeta": {"weight": 0.5}}'}).settings
    assert load(file, environ={}).settings.tenants["acme.example"].weight == 3
    assert load(file, environ={}).settings.queues["a.b"].rate == "5/s"
    assert loaded.tenants["zeta"].weight == 0.5


@pytest.mark.parametrize(
    ("text", "expected"), [("a, b,", ["a", "b"]), ('["a", "b,c"]', ["a", "b,c"]), ("", []), ("*", ["*"])]
)
def test_lists_are_json_or_separated_by_commas(text: str, expected: list[str]) -> None:
    assert load(environ={"TENFOLD_HTTP_CORS_ORIGINS": text}).settings.http.cors_origins == expected


def test_a_service_reads_settings_of_its_own(toml: Any) -> None:
    file = toml("[services.payments.limits]\nday = 5\n[services.payments]\ncurrencies = ['EUR']\n")
    environ = {**KEY, "TENFOLD_SERVICES_PAYMENTS_RETRIES": "7"}
    own = load(file, environ=environ, services=SERVICES).settings.services["payments"]
    assert own == Payments("k-123", retries=7, currencies=["EUR"], limits={"day": 5})
    environ["TENFOLD_SERVICES_PAYMENTS_LIMITS"] = '{"week": 9}'
    own = load(environ=environ, services=SERVICES).settings.services["payments"]
    assert own.limits == {"week": 9}


# ── secrets ──


def test_secrets_are_hidden_and_of_urls_the_password_only(toml: Any) -> None:
    file = toml("[services.payments]\ngateway = 'https://u:p%40s@pay.example/v1?token=t1&page=2'\n")
    environ = {
        **KEY,
        "TENFOLD_APP_SECRET_KEY": "s3cret",
        "TENFOLD_DATABASE_URL": "postgresql://app:pa@ss@db:5432/shop",
        "TENFOLD_CACHE_URL": "redis://:hunter2@cache",
        "TENFOLD_MAIL_URL": "smtp://mail.example:25",
        "TENFOLD_HTTP_CORS_ORIGINS": "https://a:b@c, https://d",
    }
    rows = shown(load(file, environ=environ, services=SERVICES))
    assert {path: rows[path][0] for path in rows if rows[path][1] != "default"} == {
        "app.secret_key": "••••••",
        "database.url": "postgresql://app:••••••@db:5432/shop",
        "cache.url": "redis://:••••••@cache",
        "mail.url": "smtp://mail.example:25",
        "http.cors_origins": "[https://a:••••••@c, https://d]",
        "services.payments.api_key": "••••••",
        "services.payments.gateway": "https://u:••••••@pay.example/v1?token=••••••&page=2",
    }
    assert rows["ops.token"] == ('""', "default")
    assert rows["database.migrate"] == ("unset", "default")
