import json
from pathlib import Path
from typing import Any

import pytest
from contracts.nouns import Action
from workcells.appliers import SendRefused, TargetUnavailable
from workcells.appliers.tracker import Tracker
from workcells.appliers.tracker_seed import Seeded, seed
from workcells.shapes.github_issue import normalise

CLOSE = Action(name="close", target="o/r#1", payload={"state": "closed"}, precondition={})


def row(number: int = 1, *, updated_at: str = "2026-01-01T00:00:00Z", **fields: Any) -> dict[str, Any]:
    return normalise(
        {
            "repository_url": "https://api.github.com/repos/O/R",
            "number": number,
            "title": "It breaks",
            "body": "Always.",
            "state": "open",
            "user": {"login": "somebody"},
            "labels": [],
            "created_at": "2026-01-01T00:00:00Z",
            "updated_at": updated_at,
            "closed_at": None,
            "comments": 3,
        }
        | fields
    )


def test_a_seeded_tracker_shows_each_row_as_it_is(tmp_path: Path) -> None:
    rows = [row(1), row(2, title="Another"), row(3, state="closed", closed_at="2026-01-01T00:00:00Z")]
    assert seed(tmp_path, rows) == Seeded(written=3, unchanged=0, kept=0)
    tracker = Tracker(tmp_path)
    for one in rows:
        fields = sorted(Tracker.fields & one.keys()) if Tracker.fields else []
        assert tracker.observe(one["key"], fields) == {name: one[name] for name in fields}


def test_seeding_twice_changes_nothing(tmp_path: Path) -> None:
    rows = [row(number) for number in range(1, 300)]
    seed(tmp_path, rows)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    assert len(before) == 299
    assert seed(tmp_path, rows) == Seeded(written=0, unchanged=299, kept=0)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before


def test_an_untouched_file_follows_a_newer_row_and_not_an_older_one(tmp_path: Path) -> None:
    seed(tmp_path, [row(title="first")])
    assert seed(tmp_path, [row(title="second", updated_at="2026-02-01T00:00:00Z")]).written == 1
    assert seed(tmp_path, [row(title="stale", updated_at="2026-01-15T00:00:00Z")]).kept == 1
    assert Tracker(tmp_path).observe("o/r#1", ["title"]) == {"title": "second"}


@pytest.mark.parametrize("by", ["applier", "person"])
def test_what_was_changed_in_the_tracker_is_kept(tmp_path: Path, by: str) -> None:
    seed(tmp_path, [row()])
    file = tmp_path / "o__r" / "1.json"
    if by == "applier":
        Tracker(tmp_path).send(CLOSE, key="ab" * 32)
    else:
        file.write_text(json.dumps(json.loads(file.read_text()) | {"title": "by hand"}))
    before = file.read_bytes()
    newer = row(title="newer", updated_at="2099-01-01T00:00:00Z")
    assert seed(tmp_path, [newer]) == Seeded(written=0, unchanged=0, kept=1)
    assert file.read_bytes() == before
    assert seed(tmp_path, [newer], replace=True).written == 1
    assert Tracker(tmp_path).observe("o/r#1", ["title", "state"]) == {"title": "newer", "state": "open"}


def test_of_rows_with_one_key_the_newest_counts(tmp_path: Path) -> None:
    rows = [row(title="old"), row(title="new", updated_at="2026-03-01T00:00:00Z"), row(title="older")]
    assert seed(tmp_path, rows).written == 1
    assert Tracker(tmp_path).observe("o/r#1", ["title"]) == {"title": "new"}


def test_a_file_is_made_to_be_read(tmp_path: Path) -> None:
    seed(tmp_path, [row(body="não é 日本語")])
    Tracker(tmp_path).send(CLOSE, key="ab" * 32)
    lines = (tmp_path / "o__r" / "1.json").read_text().splitlines()
    assert '  "body": "não é 日本語",' in lines
    names = [line.split('"')[1] for line in lines if line.startswith('  "')]
    assert names == sorted(names)


def test_a_malformed_file_stops_a_seeding_and_replace_mends_it(tmp_path: Path) -> None:
    seed(tmp_path, [row()])
    (tmp_path / "o__r" / "1.json").write_text("{")
    with pytest.raises(TargetUnavailable, match=r"1\.json is not an issue file"):
        seed(tmp_path, [row()])
    assert seed(tmp_path, [row()], replace=True).written == 1


def test_a_row_that_names_no_issue_stops_a_seeding_before_it_writes(tmp_path: Path) -> None:
    with pytest.raises(SendRefused):
        seed(tmp_path, [row(1), row(2) | {"key": "../../x#1"}])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TargetUnavailable, match="cannot be seeded"):
        seed(tmp_path / "file", [row()])
