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


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A cell with one example, whose output quotes its item and has to be sure of it."""
    made = tmp_path / "small"
    (made / "examples").mkdir(parents=True)
    (made / "soul.md").write_text("I quote.")
    (made / "contract.yaml").write_text(SMALL)
    (made / "cell.py").write_text(QUOTES)
    item = {"id": "a-1", "body": "it crashed"}
    (made / "examples" / "one.in.json").write_text(json.dumps({"item": item}))
    return made


SMALL = """
contract: small
version: 1.0.0
summary: Quotes.
takes:
  name: small_row@1
  schema: {type: object, additionalProperties: false, required: [id, body], properties: {id: {type: string}, body: {type: string}}}
gives:
  name: small_note@1
  schema: {type: object, additionalProperties: false, required: [note], properties: {note: {type: string}}}
evidence: {required: true, sources: [quote]}
limits: {seconds: 30, bytes: 40}
uncertainty: {below: 0.5, then: refuse}
qa:
  - {check: schema}
  - {check: evidence}
  - {check: rule, name: said, code: small.silent, message: it says nothing, expr: "output.note != ''"}
"""
QUOTES = """
import json
from pathlib import Path
from workcells.api import Draft, cell

EXPECTED = json.loads((Path(__file__).parent / "examples" / "one.out.json").read_text())

@cell
def small(item, bench):
    return Draft(**{key: part for key, part in EXPECTED.items() if key != "outcome"})
"""


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"text": "crashes"}, "evidence.misquote /evidence/0: the text is not at body[3:10] (check evidence)"),
        ({"subject": "a-2"}, "evidence.unknown_source /evidence/0: no item 'a-2' is known (check evidence)"),
        ({"note": ""}, "small.silent : it says nothing (check said)"),
        ({"note": "n" * 50}, "contract.bytes : expected at most 40 bytes, got 61"),
        ({"evidence": []}, "contract.evidence : expected at least one piece of evidence, got none"),
    ],
)
def test_an_example_that_the_gate_would_not_pass_fails(cli: Any, small: Path, changed: dict[str, Any], found: str) -> None:
    write_expected(small)
    passed = cli("contract", "check", str(small))
    assert (passed.exit_code, "1 of 1 examples passed" in passed.stdout) == (0, True), passed.stdout
    write_expected(small, **changed)
    done = cli("contract", "check", str(small))
    assert (done.exit_code, found in done.stdout) == (1, True), done.stdout


def write_expected(folder: Path, **changed: Any) -> None:
    """Write what the example expects, and the cell gives."""
    quote = {"kind": "quote", "subject": "a-1", "field": "body", "start": 3, "end": 10, "text": "crashed"}
    quote |= {name: part for name, part in changed.items() if name in quote}
    evidence = changed.get("evidence", [{"claim": "it says so", "stance": "supports", "confidence": 0.9, "source": quote}])
    outcome = {"outcome": "draft", "value": {"note": changed.get("note", "broken")}, "confidence": changed.get("confidence", 0.9)}
    (folder / "examples" / "one.out.json").write_text(json.dumps(outcome | {"evidence": evidence}))


def test_an_example_that_is_not_sure_enough_passes_and_is_told_of(cli: Any, small: Path) -> None:
    write_expected(small, confidence=0.3)
    done = cli("contract", "check", str(small))
    assert (done.exit_code, "example one: its confidence is 0.3, below 0.5: then refuse" in done.stdout) == (0, True), done.stdout


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


def test_other_code_or_another_soul_needs_another_version(cli: Any, folder: Path) -> None:
    for name in ("cell.py", "soul.md"):
        before = (folder / name).read_text(encoding="utf-8")
        (folder / name).write_text(before + "\n# Changed.\n", encoding="utf-8")
        for more in ([], ["--dry-run"]):
            done = cli("contract", "publish", str(folder), *more)
            assert done.exit_code == 2
            assert "published with another soul or other code" in done.stderr
            assert "raise `version`" in done.stderr
        (folder / name).write_text(before, encoding="utf-8")
    edit(folder / "contract.yaml", "version: 1.0.0", "version: 1.0.1")
    edit(folder / "soul.md", "The clerk", "A clerk")
    assert cli("contract", "publish", str(folder)).exit_code == 0
    (folder / "examples" / "labelled_duplicate.in.json").write_bytes(
        (folder / "examples" / "labelled_duplicate.in.json").read_bytes() + b"\n"
    )
    assert "published already" in cli("contract", "publish", str(folder)).stdout, "an example decides nothing"


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ("required: [key, repo,", "required: [extra, key, repo,", "takes: extra is required, and may be missing"),
        ("maxLength: 4096", "maxLength: 80", "takes: not every value of title fits"),
        ("name: github_issue@1", "name: github_issue@2", "it takes github_issue@2 instead of github_issue@1"),
        ("required: [finding, decision,", "required: [decision,", "gives: finding is required, and may be missing"),
    ],
)
def test_what_breaks_its_users_needs_a_major_version(cli: Any, folder: Path, before: str, after: str, why: str) -> None:
    path = folder / "contract.yaml"
    edit(path, before, after)
    if "extra" in after:
        edit(path, "      key: {type: string,", "      extra: {type: string}\n      key: {type: string,")
    shutil.rmtree(folder / "examples")
    edit(path, "version: 1.0.0", "version: 1.1.0")
    refused = cli("contract", "publish", str(folder))
    assert refused.exit_code == 2
    assert f"issue_review@1.1.0 breaks issue_review@1.0.0: {why}" in refused.stderr
    assert "version: 2.0.0" in refused.stderr
    edit(path, "version: 1.1.0", "version: 2.0.0")
    assert cli("contract", "publish", str(folder)).exit_code == 0


def test_what_takes_more_or_gives_less_is_compatible(cli: Any, folder: Path) -> None:
    path = folder / "contract.yaml"
    edit(path, "maxLength: 4096", "maxLength: 8192")
    edit(path, "version: 1.0.0", "version: 1.1.0")
    assert cli("contract", "publish", str(folder)).exit_code == 0


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
