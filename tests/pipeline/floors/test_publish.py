"""Publishing: immutable versions, one floor in force, and what is refused before anything is written."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from contracts.errors import BadContract, BadFloor, NotFound
from contracts.floor import Floor, parse_floor
from contracts.lifecycle import Role
from pipeline.floors.check import check_floor
from pipeline.floors.publish import BUILT_IN_FLOOR, floor_in_force, publish_cell, publish_floor, read_floor
from pipeline.startup.setup import load_registry
from queues.database import Connection, transaction
from tests.in_process import issue, merged
from workcells.registry import Registry, load_cell
from workcells.shapes.catalogue import SHAPES

Connect = Callable[[Role], Connection]
BUILT_IN = BUILT_IN_FLOOR.read_text(encoding="utf-8")


def floor(*changes: tuple[str, str]) -> Floor:
    text = BUILT_IN
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse_floor(text, "floor.yaml")


def rows(conn: Connection, workspace: UUID, query: str) -> list[tuple[Any, ...]]:
    with transaction(conn, workspace):
        return conn.execute(query).fetchall()


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry()


def test_publishing_the_floor_in_force_again_changes_nothing(connect: Connect, workspace: UUID, registry: Registry) -> None:
    conn = connect(Role.OPERATE)
    before = floor_in_force(conn, workspace)
    again = publish_floor(conn, workspace, floor(), registry, by="ada")
    assert again.id == before.id
    assert len(rows(conn, workspace, "SELECT id FROM floors")) == 1


def test_another_floor_is_in_force_at_once_and_the_old_one_stays(connect: Connect, workspace: UUID, registry: Registry) -> None:
    conn = connect(Role.OPERATE)
    first = floor_in_force(conn, workspace)
    changed = floor(("priority: 5", "priority: 2"))
    second = publish_floor(conn, workspace, changed, registry, by="ada")
    assert floor_in_force(conn, workspace).id == second.id != first.id
    assert len(rows(conn, workspace, "SELECT id FROM floors")) == 2
    audited = rows(conn, workspace, "SELECT actor, object, payload FROM audit WHERE action = 'floor.publish' ORDER BY seq DESC LIMIT 1")
    assert audited == [("ada", str(second.id), changed.sha256)]

    back = publish_floor(conn, workspace, floor(), registry, by="ada")
    assert back.id not in (first.id, second.id), "a floor that comes back is a new row: history says when"


def test_a_pods_autonomy_follows_the_floor(connect: Connect, workspace: UUID, registry: Registry) -> None:
    conn = connect(Role.OPERATE)
    publish_floor(conn, workspace, floor(("draft_approve", "report_only")), registry, by="ada")
    assert rows(conn, workspace, "SELECT name, autonomy FROM pods") == [("maintainers", "report_only")]


def test_limits_of_lanes_follow_the_floor(connect: Connect, workspace: UUID, registry: Registry) -> None:
    conn = connect(Role.OPERATE)
    limited = parse_floor(BUILT_IN + "lanes:\n  cell.issue_review: {max_active: 3, per_minute: 60}\n", "floor.yaml")
    publish_floor(conn, workspace, limited, registry, by="ada")
    query = "SELECT name, max_active, per_minute, changed_by FROM lanes"
    assert rows(conn, workspace, query) == [("cell.issue_review", 3, 60, "ada")]
    publish_floor(conn, workspace, floor(), registry, by="ben")
    assert rows(conn, workspace, query) == [("cell.issue_review", None, None, "ben")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("shape: github_issue", "shape: gitlab_issue"), "takes shape 'gitlab_issue': expected one of github_issue"),
        (("cell: issue_review", "cell: issue_revue"), "routes to cell 'issue_revue': expected one of"),
        (("applier: tracker", "applier: fax"), "names applier 'fax': expected one of"),
    ],
)
def test_a_floor_that_names_what_is_not_there_is_refused_and_nothing_is_written(
    change: tuple[str, str], said: str, connect: Connect, workspace: UUID, registry: Registry
) -> None:
    conn = connect(Role.OPERATE)
    before = floor_in_force(conn, workspace)
    with pytest.raises(BadFloor) as caught:
        publish_floor(conn, workspace, floor(change), registry, by="ada")
    assert said in caught.value.message
    assert floor_in_force(conn, workspace).id == before.id


def test_a_workspace_without_a_floor_says_so(connect: Connect) -> None:
    with pytest.raises(NotFound, match="no floor"):
        floor_in_force(connect(Role.READ), UUID(int=1))


def test_a_published_version_never_changes(connect: Connect, registry: Registry, tmp_path: Path) -> None:
    conn = connect(Role.OPERATE)
    assert publish_cell(conn, registry.by_name["reference"], by="ada") is False, "it was published when the factory was set up"

    built_in = Path(__file__).parents[3] / "workcells" / "cells" / "reference"
    copy = tmp_path / "reference"
    copy.mkdir()
    for file in ("cell.py", "soul.md"):
        (copy / file).write_bytes((built_in / file).read_bytes())
    contract = (built_in / "contract.yaml").read_text(encoding="utf-8")
    (copy / "contract.yaml").write_text(contract.replace("maxLength: 4000", "maxLength: 4001"), encoding="utf-8")
    with pytest.raises(BadContract, match="published with other content") as caught:
        publish_cell(conn, load_cell(copy), by="ada")
    assert caught.value.hint == "raise `version` in reference/contract.yaml"

    (copy / "contract.yaml").write_text(contract.replace("version: 1.0.0", "version: 1.1.0"), encoding="utf-8")
    assert publish_cell(conn, load_cell(copy), by="ada") is True


def test_the_nearest_floor_file_upward_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "floor.yaml").write_text(BUILT_IN.replace("maintainers", "owners"), encoding="utf-8")
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert list(read_floor(None).pods) == ["owners"]


def test_without_a_floor_file_the_built_in_floor_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_floor(None) == floor()


def test_a_floor_file_that_cannot_be_read_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "wide.yaml").write_bytes(BUILT_IN.encode("utf-16"))
    (tmp_path / "nul.yaml").write_bytes(b"floor: 1\n\0")
    for name, said in {
        "missing.yaml": "No such file",
        "pipe.yaml": "is not a file",
        ".": "is not a file",
        "wide.yaml": "not UTF-8",
    }.items():
        with pytest.raises(BadFloor, match=said):
            read_floor(tmp_path / name)
    with pytest.raises(BadFloor):
        read_floor(tmp_path / "nul.yaml")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("subject: key", "subject: zzz", "takes.subject: shape github_issue has no field 'zzz' (it has author"),
        ("revision: updated_at", "revision: updated", "takes.revision: .* no field 'updated' .did you mean 'updated_at'"),
        ("title: title", "title: titel", "index.title: .* no field 'titel' .did you mean 'title'"),
        ("row.state == 'closed'", "row.stat == 'closed'", "context: .* no field 'stat'"),
        ("row.state == 'open'", "has(row.opened) && row.state == 'open'", "route rule open: .* no field 'opened'"),
    ],
)
def test_a_field_that_the_shape_does_not_have_is_refused(registry: Registry, before: str, after: str, said: str) -> None:
    with pytest.raises(BadFloor, match=said.replace("(it", "[(]it")):
        check_floor(floor((before, after)), registry)


def test_rows_without_a_fixed_form_may_have_any_field(registry: Registry) -> None:
    check_floor(floor(("shape: github_issue, subject: key", "shape: json, subject: whatever")), registry)


def test_the_fields_of_a_shape_are_those_of_its_rows() -> None:
    for row in (issue(1), merged(2, fixes=1)):
        shape = SHAPES["github_issue"]
        assert shape.normalise(row).keys() == shape.fields
