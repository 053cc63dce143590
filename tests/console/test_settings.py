"""`shopfloor settings`."""

import csv
import io
import json
from typing import Any

import pytest
from click.testing import CliRunner, Result
from console.commands.settings import settings
from pipeline.startup.settings import ELSEWHERE, KNOWN


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command with nothing set but what is given."""

    def call(*arguments: str, **env: str) -> Result:
        for name in KNOWN:
            monkeypatch.delenv(name, raising=False)
        return CliRunner().invoke(settings, arguments, env=env, catch_exceptions=False)

    return call


def listed(done: Result) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(done.stdout)["settings"]}


def test_every_setting_is_listed_with_its_meaning(run: Any) -> None:
    rows = listed(run("--json"))

    assert rows.keys() == KNOWN.keys() | ELSEWHERE.keys()
    assert all(row["means"] for row in rows.values())


def test_a_secret_shows_as_set_and_never_its_value(run: Any) -> None:
    url = "postgresql://shopfloor_read:hunter2hunter2@db.example/x"
    done = run("--csv", SHOPFLOOR_DATABASE_URL_READ=url, SHOPFLOOR_GITHUB_TOKEN="ghp_secret")

    rows = {row["name"]: row["value"] for row in csv.DictReader(io.StringIO(done.stdout))}
    assert (rows["SHOPFLOOR_DATABASE_URL_READ"], rows["SHOPFLOOR_GITHUB_TOKEN"]) == ("set", "set")
    assert "hunter2" not in done.output
    assert "ghp_secret" not in done.output


def test_changed_shows_only_what_differs_from_the_default(run: Any) -> None:
    rows = listed(run("--changed", "--json", SHOPFLOOR_WORKERS="7", SHOPFLOOR_BATCH="200"))

    assert rows["SHOPFLOOR_WORKERS"]["value"] == "7"
    assert "SHOPFLOOR_BATCH" not in rows


def test_a_misspelt_setting_is_refused_with_the_one_that_was_meant(cli: Any) -> None:
    done = cli("settings", env={"SHOPFLOOR_WORKER": "7"})

    assert (done.exit_code, done.stdout) == (2, "")
    assert "SHOPFLOOR_WORKER is not a setting" in done.stderr
    assert "did you mean SHOPFLOOR_WORKERS?" in done.stderr
