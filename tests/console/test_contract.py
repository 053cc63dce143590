"""`shopfloor contract`: check a folder, publish it, look at what is published."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from contracts.lifecycle import Role
from pipeline.access.tokens import ensure_actor, issue_token
from pipeline.floors.publish import publish_cell
from pipeline.startup.compose import Shop
from queues.database import Connection
from workcells.registry import BUILT_IN, load_cell


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A cell of somebody's own, beginning as a copy of one that ships."""
    made = tmp_path / "issue_review"
    shutil.copytree(BUILT_IN / "issue_review", made, ignore=shutil.ignore_patterns("__pycache__"))
    return made


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")


def test_a_good_folder_is_checked_with_its_examples_and_without_a_database(cli: Any, folder: Path) -> None:
    nowhere = {"SHOPFLOOR_DATABASE_URL_READ": "postgresql://nobody@127.0.0.1:9/x"}
    done = cli("contract", "check", str(folder), "--json", env=nowhere)

    assert done.exit_code == 0
    assert done.json["contract"] == "issue_review@1.0.0"
    assert len(done.json["examples"]) == len(list((folder / "examples").glob("*.in.json")))
    assert all(example["passed"] for example in done.json["examples"])


def test_an_example_that_comes_out_otherwise_is_shown_with_the_difference(cli: Any, folder: Path) -> None:
    example = folder / "examples" / "labelled_duplicate.out.json"
    expected = json.loads(example.read_text(encoding="utf-8"))
    expected["confidence"] = 0.123
    example.write_text(json.dumps(expected), encoding="utf-8")

    done = cli("contract", "check", str(folder))

    assert done.exit_code == 1
    assert '- "confidence": 0.123' in done.stdout
    assert "1 of" in done.stderr


def test_a_mistake_in_the_contract_is_refused_with_its_line(cli: Any, folder: Path) -> None:
    edit(folder / "contract.yaml", "limits:\n  seconds: 30", "limits:\n  second: 30")

    done = cli("contract", "check", str(folder))

    assert done.exit_code == 2
    assert "contract.yaml" in done.stderr
    assert "second" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("broken", ["def review(:\n", "import nothing_of_that_name\n", "1 / 0\n"])
def test_code_that_cannot_be_imported_is_refused_with_its_line(cli: Any, folder: Path, broken: str) -> None:
    (folder / "cell.py").write_text(broken, encoding="utf-8")

    done = cli("contract", "check", str(folder))

    assert done.exit_code == 2
    assert "cell.py line 1 cannot be imported" in done.stderr


def test_a_folder_that_is_not_there_is_not_found(cli: Any, tmp_path: Path) -> None:
    assert cli("contract", "check", str(tmp_path / "nowhere")).exit_code == 3


def test_a_new_version_is_published_once_and_audited(cli: Any, folder: Path, admin: Connection) -> None:
    edit(folder / "contract.yaml", "version: 1.0.0", "version: 1.10.0")

    looked = cli("contract", "publish", str(folder), "--dry-run", "--json")
    assert (looked.exit_code, looked.json["new"]) == (0, True)
    first = cli("contract", "publish", str(folder), "--json")
    assert (first.exit_code, first.json["new"]) == (0, True)
    again = cli("contract", "publish", str(folder), "--json")
    assert (again.exit_code, again.json["new"]) == (0, False)

    audited = admin.execute("SELECT object FROM shopfloor.audit WHERE action = 'contract.publish' AND actor <> 'setup'").fetchall()
    assert audited == [("issue_review@1.10.0",)]


def test_a_published_version_never_changes(cli: Any, folder: Path) -> None:
    edit(folder / "contract.yaml", "seconds: 30", "seconds: 31")

    for verb in (["publish", str(folder), "--dry-run"], ["publish", str(folder)]):
        done = cli("contract", *verb)
        assert done.exit_code == 2
        assert "raise `version`" in done.stderr


def test_nobody_publishes_without_the_role_author(cli: Any, folder: Path, shop: Shop) -> None:
    with shop.connect(Role.OPERATE) as conn:
        workspace = shop.workspace_id(conn)
        reader = ensure_actor(conn, workspace, "rhea", kind="person", roles=("reader",))
        token = issue_token(conn, workspace, reader, label="test", by="test")

    done = cli("contract", "publish", str(folder), env={"SHOPFLOOR_TOKEN": token})

    assert done.exit_code == 5
    assert "author" in done.stderr


def test_show_gives_the_newest_version_by_number_and_the_one_asked_for(cli: Any, folder: Path, shop: Shop) -> None:
    with shop.connect(Role.OPERATE) as conn:
        for before, version in (("1.0.0", "1.2.0"), ("1.2.0", "1.10.0")):
            edit(folder / "contract.yaml", f"version: {before}", f"version: {version}")
            publish_cell(conn, load_cell(folder), by="test")

    assert cli("contract", "show", "issue_review", "--json").json["version"] == "1.10.0"
    assert cli("contract", "show", "issue_review@1.0.0", "--json").json["version"] == "1.0.0"
    rows = cli("contract", "list", "--json").json["contracts"]
    assert [row["version"] for row in rows if row["name"] == "issue_review"] == ["1.10.0", "1.2.0", "1.0.0"]
    missing = cli("contract", "show", "issue_review@3.0.0")
    assert (missing.exit_code, "1.10.0, 1.2.0, 1.0.0" in missing.stderr) == (3, True)


def test_raw_prints_the_very_bytes_that_are_hashed(cli: Any) -> None:
    raw = cli("contract", "show", "reference", "--raw").stdout

    assert hashlib.sha256(raw.encode()).hexdigest() == cli("contract", "show", "reference", "--json").json["sha256"]
