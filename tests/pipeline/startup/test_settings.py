"""Settings: read from the environment alone, refused when unknown or malformed, and never repeated when secret."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from contracts.errors import BadSetting, Refused, Unavailable
from contracts.lifecycle import Role
from contracts.secret import Secret
from pipeline.startup.compose import Shop, check_schema, open_shop
from pipeline.startup.settings import ELSEWHERE, KNOWN, PREFIX, Settings, described, load
from queues import schema
from queues.database import Connection
from queues.database import connect as open_connection
from tests.in_process import Result

Cli = Callable[..., Result]
SECRET = "hunter2-hunter2"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def refusal(monkeypatch: pytest.MonkeyPatch, **values: str) -> str:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadSetting) as caught:
        load()
    assert caught.value.exit_code == 2
    return caught.value.message


def test_without_settings_everything_is_embedded() -> None:
    settings = load()
    assert settings.is_embedded
    assert (settings.workspace, settings.database, settings.mode) == ("main", "shopfloor", "fused")


def test_an_unknown_setting_is_refused_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPFLOOR_WORKRES", "4")
    with pytest.raises(BadSetting, match="SHOPFLOOR_WORKRES is not a setting") as caught:
        load()
    assert caught.value.hint.startswith("did you mean SHOPFLOOR_WORKERS?")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKERS", "no"),
        ("WORKERS", "1.5"),
        ("WORKERS", "0"),
        ("WORKERS", "65"),
        ("WORKERS", "true"),
        ("MEMORY_MB", "64"),
        ("LEASE_SECONDS", "nan"),
        ("LEASE_SECONDS", "inf"),
        ("LEASE_SECONDS", "30s"),
        ("MODE", "no"),
        ("LOG_LEVEL", "loud"),
        ("DATABASE", "Shop; DROP"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_what_was_seen_and_what_fits(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = refusal(monkeypatch, **{PREFIX + name: value})
    assert said.startswith(f"{PREFIX}{name} is {value!r}: ")
    assert "\n" not in said


def test_an_empty_token_is_not_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}TOKEN", "")
    with pytest.raises(BadSetting, match="SHOPFLOOR_TOKEN is empty"):
        load()


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(f"{PREFIX}TOKEN", raising=False)
    for name in ("DATA_DIR", "DATABASE_URL", "WORKERS", "FLOOR"):
        monkeypatch.setenv(PREFIX + name, "")
    settings = load()
    assert (settings.data_dir, settings.token, settings.workers, settings.floor) == (None, None, None, None)
    assert settings.is_embedded


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DATABASE_URL", f"mysql://u:{SECRET}@h/db", "SHOPFLOOR_DATABASE_URL starts with 'mysql://': expected postgresql://"),
        ("DATABASE_URL_APPLY", f"postgres://u:{SECRET}@h/db", "starts with 'postgres://': expected postgresql://"),
        ("DATABASE_URL_READ", SECRET, "SHOPFLOOR_DATABASE_URL_READ has no scheme: expected postgresql://"),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@h:port/db", "SHOPFLOOR_DATABASE_URL cannot be read"),
        ("BROKER_URL", f"amqp://u:{SECRET}@h", "SHOPFLOOR_BROKER_URL starts with 'amqp://': expected redis://"),
        ("BROKER_URL", f"redis://:{SECRET}@h:99999999/0", "SHOPFLOOR_BROKER_URL cannot be read"),
        ("BROKER_URL", f"redis://:{SECRET}@[::1/0", "SHOPFLOOR_BROKER_URL cannot be read"),
        ("GITHUB_URL", "ftp://example.org", "SHOPFLOOR_GITHUB_URL starts with 'ftp://'"),
    ],
)
def test_an_address_of_another_kind_is_refused_and_no_password_is_repeated(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = refusal(monkeypatch, **{PREFIX + name: value})
    assert said in message
    assert SECRET not in message


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPFLOOR_TOKEN", SECRET)
    monkeypatch.setenv("SHOPFLOOR_DATABASE_URL_READ", f"postgresql://u:{SECRET}@h/db")
    settings = load()
    shown = {row["name"]: row["value"] for row in described(settings)}
    assert (shown["SHOPFLOOR_TOKEN"], shown["SHOPFLOOR_DATABASE_URL_READ"]) == ("set", "set")
    assert SECRET not in repr(settings) + str(shown)


def test_every_setting_says_what_it_means() -> None:
    rows = described(Settings())
    assert {row["name"] for row in rows} >= KNOWN.keys() | ELSEWHERE.keys()
    assert [row["name"] for row in rows if not row["means"]] == []


# ---------------------------------------------------------------- from settings to connections


def test_a_role_without_an_address_never_falls_back_on_the_embedded_database(shop: Shop) -> None:
    half = Shop(Settings(data_dir=shop.data_dir, database_url=Secret("postgresql://h/db")), shop.services)
    with pytest.raises(BadSetting, match="SHOPFLOOR_DATABASE_URL_INTAKE is not set") as caught:
        half.connect(Role.INTAKE)
    assert caught.value.exit_code == 2


def test_migrations_never_fall_back_on_the_embedded_database(shop: Shop) -> None:
    half = Shop(Settings(data_dir=shop.data_dir, database_url_read=Secret("postgresql://h/db")), shop.services)
    with pytest.raises(BadSetting, match="SHOPFLOOR_DATABASE_URL is not set"):
        half.migration_url()


@pytest.fixture
def silent_server() -> Iterator[int]:
    """The port of something that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_database_that_cannot_be_reached_is_told_within_five_seconds_and_without_its_password(silent_server: int) -> None:
    for port in (1, silent_server):
        url = f"postgresql://u:{SECRET}@127.0.0.1:{port}/db"
        settings = Settings(database_url_read=Secret(url), broker_url=Secret("redis://127.0.0.1:1/0"))
        started = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            open_shop(settings, start=False).connect(Role.READ)
        assert time.monotonic() - started < 5
        assert caught.value.exit_code == 6
        assert f"127.0.0.1:{port}/db" in caught.value.message
        assert SECRET not in caught.value.message + caught.value.hint


def test_an_address_that_the_driver_cannot_read_is_a_bad_setting() -> None:
    with pytest.raises(BadSetting) as caught:
        open_connection(f"postgresql://u:{SECRET}@h/db?nonsense=1")
    assert SECRET not in caught.value.message


def test_the_versions_by_their_file_names_are_those_that_migrations_run_by() -> None:
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(schema._config())
    assert set(schema.known_versions()) == {script.revision for script in scripts.walk_revisions()}
    assert schema.newest_version() == scripts.get_current_head()


def test_a_schema_that_is_newer_than_this_code_is_refused(admin: Connection, shop: Shop) -> None:
    admin.execute("UPDATE schema_version SET version_num = '9999'")
    with pytest.raises(Refused, match="schema version 9999, newer than") as caught:
        shop.connect(Role.READ)
    assert "install the newer shopfloor" in caught.value.hint


def test_a_database_without_the_schema_says_how_to_get_it(shop: Shop) -> None:
    assert shop.services is not None
    with open_connection(shop.services.superuser_url("postgres")) as conn, pytest.raises(Exception, match="no shopfloor schema") as caught:
        check_schema(conn)
    assert getattr(caught.value, "hint", "") == "shopfloor db migrate"


def test_every_command_answers_bad_settings_alike(cli: Cli, silent_server: int) -> None:
    for env, exit_code, said in (
        ({"SHOPFLOOR_WORKRES": "4"}, 2, "SHOPFLOOR_WORKRES is not a setting"),
        ({"SHOPFLOOR_THREADS": "no"}, 2, "SHOPFLOOR_THREADS is 'no'"),
        ({"SHOPFLOOR_DATABASE_URL": f"mysql://u:{SECRET}@h/db"}, 2, "starts with 'mysql://'"),
        ({"SHOPFLOOR_DATABASE_URL_INTAKE": f"postgresql://u:{SECRET}@127.0.0.1:{silent_server}/db"}, 6, "[unavailable.database]"),
        ({"SHOPFLOOR_WORKSPACE": "elsewhere"}, 3, "no workspace named 'elsewhere'"),
        ({"SHOPFLOOR_FAIL": "nowhere:kill"}, 2, "SHOPFLOOR_FAIL"),
    ):
        started = time.monotonic()
        result = cli("intake", "/dev/null", env=env)
        assert (result.exit_code, result.stdout) == (exit_code, ""), result.stderr
        assert said in result.stderr
        assert SECRET not in result.stderr
        assert "Traceback" not in result.stderr
        assert time.monotonic() - started < 10


def test_an_address_that_would_be_printed_holds_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPFLOOR_GITHUB_URL", "https://ada:hunter2@github.example.org")
    with pytest.raises(BadSetting, match="SHOPFLOOR_GITHUB_URL holds a user or password") as refused:
        load()
    assert "hunter2" not in str(refused.value) + refused.value.hint


def test_a_login_of_another_role_is_refused_before_anything_is_done_with_it(shop: Shop) -> None:
    assert shop.services is not None
    for url in (shop.services.superuser_url(shop.database), shop.url(Role.APPLY)):
        settings = replace(shop.settings, database_url_propose=Secret(url))
        with pytest.raises(BadSetting, match="expected shopfloor_propose"):
            replace(shop, settings=settings).connect(Role.PROPOSE)


def test_a_broker_address_that_cannot_be_read_is_a_bad_setting(cli: Cli) -> None:
    for command in (["worker"], ["up"]):
        refused = cli(*command, env={"SHOPFLOOR_BROKER_URL": "redis://localhost:6379/0?nonsense=%zz"})
        assert (refused.exit_code, "SHOPFLOOR_BROKER_URL" in refused.stderr) == (2, True), refused.stderr


def test_a_token_of_any_bytes_is_one_that_nobody_has(cli: Cli) -> None:
    refused = cli("whoami", env={"SHOPFLOOR_TOKEN": "shf_\udcff"})
    assert (refused.exit_code, "denied.token" in refused.stderr) == (5, True), refused.stderr
