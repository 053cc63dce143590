"""One row's whole way, through real stages, in both modes."""

from datetime import UTC, datetime

import pytest
from tests.in_process import Road, issue, merged

LATER = datetime(2025, 6, 1, tzinfo=UTC)


@pytest.fixture(params=["road", "strict_road"])
def line(request: pytest.FixtureRequest) -> Road:
    found: Road = request.getfixturevalue(request.param)
    return found


def test_a_fixed_issue_becomes_a_proposal_that_waits_for_a_reviewer(line: Road) -> None:
    report = line.take_in([issue(1), merged(2, fixes=1), issue(3, updated_at="2025-03-01T00:00:00Z")])
    assert (report.rows, report.accepted, report.context) == (3, 3, 1)

    line.run()

    assert line.states() == {"qa/waiting": 1, "archive/done": 2}
    [waiting] = line.items(stage="qa")
    assert (waiting["reason"], waiting["cell"]) == ("approval", "issue_review")


def test_results_do_not_depend_on_the_order_of_rows(line: Road) -> None:
    line.take_in([merged(2, fixes=1), issue(3, updated_at="2025-03-01T00:00:00Z"), issue(1)])
    line.run()
    assert line.states() == {"qa/waiting": 1, "archive/done": 2}


def test_the_same_rows_again_add_nothing(line: Road) -> None:
    rows = [issue(1), merged(2, fixes=1)]
    line.take_in(rows)
    line.run()
    before = line.states()
    again = line.take_in(rows)
    assert (again.accepted, again.duplicate) == (0, 2)
    line.run()
    assert line.states() == before


def test_a_newer_revision_supersedes_the_open_order(line: Road) -> None:
    line.take_in([issue(1), merged(2, fixes=1)], as_of=LATER)
    line.run()
    newer = line.take_in([issue(1, updated_at="2025-04-01T00:00:00Z", body="Still stands still.")], as_of=LATER)
    assert (newer.accepted, newer.superseded) == (1, 1)
    line.run()
    assert line.states() == {"qa/superseded": 1, "archive/done": 1, "qa/waiting": 1}
    older = line.take_in([issue(1)])
    assert (older.accepted, older.duplicate) == (0, 1)


def test_the_same_revision_with_other_content_is_rejected_as_a_conflict(line: Road) -> None:
    line.take_in([issue(1)])
    report = line.take_in([issue(1, title="Something else")])
    assert (report.accepted, report.rejected) == (0, 1)
    assert report.first_rejects[0].code == "intake.conflict"


def test_what_the_gate_objects_to_is_reworked_and_kept_open_with_the_finding(line: Road) -> None:
    line.take_in([issue(1), merged(2, fixes=1)])
    line.run()
    [kept] = line.items(row_no=1)
    assert (kept["stage"], kept["state"], kept["rework_rounds"]) == ("archive", "done", 1)
