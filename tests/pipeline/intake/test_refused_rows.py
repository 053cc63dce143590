"""Rows that the database could not hold: each is rejected with its place, and the others go on."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from contracts.instants import EARLIEST, LATEST, BeyondRangeError, parse_instant
from pipeline.intake import storing
from pipeline.intake.sources.csv_rows import first_repeated
from pipeline.startup.compose import Shop
from queues.database import Connection
from tests.in_process import Road, issue
from tests.reviews import look
from tests.scripted_cells import put_in_force, rows

CODE = """
from workcells.api import Draft, cell

@cell
def scripted(row, bench):
    return Draft(value={"note": row["id"]}, confidence=1.0)
"""
OUTCOMES = "SELECT row_no, outcome, code, field FROM batch_rows ORDER BY row_no"
BEYOND = ("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+14:00", "9999-12-30T12:00:00Z")


@pytest.fixture
def scripted(shop: Shop, road: Road, tmp_path: Path) -> Road:
    """The in-process workers with a flow whose rows are taken as they are."""
    road.registry = put_in_force(shop, tmp_path / "cells", CODE)
    return road


@pytest.mark.parametrize("text", BEYOND)
def test_an_instant_that_python_cannot_hold_everywhere_is_no_instant(text: str) -> None:
    with pytest.raises(BeyondRangeError):
        parse_instant(text)


def test_the_range_of_instants_can_be_shown_in_every_zone() -> None:
    for edge in (EARLIEST, LATEST):
        for hours in (-23, 23):
            edge + timedelta(hours=hours)
        assert parse_instant(edge.isoformat()) == edge


@pytest.mark.parametrize("text", [*BEYOND, "2999-01-01T00:00:00Z", "2999-01-01", "2999-01-01T10:00", "2999-01-01 night"])
def test_a_revision_that_no_later_one_could_follow_is_rejected(text: str, scripted: Road, admin: Connection) -> None:
    scripted.take_in([{"id": "a", "revision": text}, {"id": "b", "revision": "2025-01-01T00:00:00Z"}], flow="scripted")
    assert look(admin, OUTCOMES) == [(1, "rejected", "intake.revision", "/revision"), (2, "accepted", "", "")]
    scripted.take_in([{"id": "a", "revision": "2025-01-01T00:00:00Z"}], flow="scripted")
    scripted.run()
    assert scripted.states() == {"archive/done": 2}


def test_a_number_that_poisons_its_subject_is_withdrawn_as_any_revision(scripted: Road, cli: Any) -> None:
    """No door can tell a counter from a mistake."""
    for revision, outcome in (("7", "accepted"), ("999999999999999", "accepted"), ("8", "duplicate")):
        report = scripted.take_in([{"id": "a", "revision": revision}], flow="scripted")
        assert getattr(report, outcome) == 1
    assert cli("withdraw", "a", "--why", "a wrong counter").exit_code == 0
    assert scripted.take_in([{"id": "a", "revision": "8", "does": "again"}], flow="scripted").accepted == 1


@pytest.mark.parametrize("text", BEYOND)
def test_an_as_of_that_cannot_be_held_is_refused_before_anything_is_read(text: str, cli: Any, tmp_path: Path) -> None:
    source = tmp_path / "one.jsonl"
    source.write_text(json.dumps(issue(1)) + "\n")
    done = cli("intake", str(source), "--flow", "issue-sweep", "--as-of", text)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "expected an instant from 0001-01-03 to 9999-12-29" in done.stderr


def test_a_key_and_revision_that_no_index_row_can_hold_are_rejected_by_their_bytes(scripted: Road, admin: Connection) -> None:
    scripted.take_in(
        [{"id": "漢" * 500, "revision": "字" * 500}, {"id": "漢" * 333, "revision": "字" * 333}, {"id": "b", "revision": "1"}],
        flow="scripted",
    )
    assert look(admin, OUTCOMES) == [
        (1, "rejected", "intake.subject", "/id"), (2, "accepted", "", ""), (3, "accepted", "", ""),
    ]  # fmt: skip


def test_revisions_of_every_kind_are_indexed_side_by_side(shop: Shop, road: Road, admin: Connection, tmp_path: Path) -> None:
    road.registry = put_in_force(shop, tmp_path / "cells", CODE, flow="    index: {title: id, body: does}\n")
    mixed = [{"id": f"k-{n}", "revision": text, "does": "x"} for n, text in enumerate(["1", "x", "2025-01-01T00:00:00Z"])]
    road.take_in(mixed, flow="scripted")
    assert [outcome for _, outcome, _, _ in look(admin, OUTCOMES)] == ["accepted"] * 3


def test_a_row_that_the_database_refuses_is_found_and_rejected_and_the_others_are_in(
    scripted: Road, admin: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin.execute("ALTER TABLE orders ADD CONSTRAINT no_seven CHECK (subject_key <> 'k-7') NOT VALID")
    scripted.take_in(rows(f"k-{n}" for n in range(20)), flow="scripted")

    found = look(admin, OUTCOMES)
    assert [row for row in found if row[1] != "accepted"] == [(8, "rejected", "intake.refused", "")]
    assert len(found) == 20
    assert look(admin, "SELECT rows_read, accepted, rejected, state FROM batches") == [(20, 19, 1, "complete")]
    [message] = look(admin, "SELECT message FROM batch_rows WHERE outcome = 'rejected'")
    assert message.startswith("the database refused it: new row for relation")


def test_a_database_that_is_away_is_no_fault_of_a_row(scripted: Road, admin: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    import psycopg

    def gone(*_: Any, **__: Any) -> Any:
        raise psycopg.errors.AdminShutdown

    monkeypatch.setattr(storing, "admit", gone)
    with pytest.raises(psycopg.errors.AdminShutdown):
        scripted.take_in(rows(["a", "b"]), flow="scripted")
    assert look(admin, OUTCOMES) == []


class _Counting:
    """Counts how often names are compared or hashed."""

    calls = 0

    def __init__(self, text: str) -> None:
        self._text = text

    def __hash__(self) -> int:
        _Counting.calls += 1
        return hash(self._text)

    def __eq__(self, other: object) -> bool:
        _Counting.calls += 1
        return isinstance(other, _Counting) and self._text == other._text


def _calls(size: int) -> int:
    _Counting.calls = 0
    names: Iterator[Any] = (_Counting(f"c{n}") for n in range(size))
    assert first_repeated(list(names)) is None
    return _Counting.calls


def test_the_work_on_a_header_grows_as_the_header_does() -> None:
    assert _calls(4000) <= 2.2 * _calls(2000)


def test_an_empty_flow_is_not_the_only_one(cli: Any, tmp_path: Path) -> None:
    source = tmp_path / "one.jsonl"
    source.write_text(json.dumps(issue(1)) + "\n")
    done = cli("intake", str(source), "--flow", "")
    assert done.exit_code == 2
    assert "--flow is empty" in done.stderr
