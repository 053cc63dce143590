"""What people are told to type about proposals and applies does what it promises: read from the screen, and typed in."""

import json
from collections.abc import Iterator
from typing import Any

from pipeline.startup.compose import Shop
from queues.database import Connection
from tests.in_process import Road, issue
from tests.item_states import intend, lease, push
from tests.reader import Reader, filling, told, told_one
from tests.reviews import LATER, look, open_proposals, propose
from tests.waiting import wait_until


def test_a_proposal_that_changed_meanwhile_is_shown_and_then_decided(road: Road, shop: Shop, reader: Reader) -> None:
    propose(road, 3)
    inbox = reader.does("./shopfloor review inbox")
    for one, verb in zip(open_proposals(shop), ("approve", "reject", "rework"), strict=True):
        stale = reader.types(f"./shopfloor review approve {one.id} --hash {'0' * 64}")
        assert stale.exit_code == 4
        page = reader.does(told_one(stale, "review show"))
        line = told_one(page, f"review {verb}")
        reader.does(line if verb == "approve" else filling(line, **{line.split()[-1]: "'not so'"}))
    assert open_proposals(shop) == []
    assert reader.does(told_one(inbox, "review next")).stdout


def test_what_waits_for_a_reviewer_is_not_made_due_but_shown_or_reworked(road: Road, admin: Connection, reader: Reader) -> None:
    first, second = propose(road, 2)
    both = reader.types(f"./shopfloor requeue {first.item_id} {second.item_id} --yes")
    assert (both.exit_code, len(told(both, "review show"))) == (4, 3), "below the table for each, and for the first"
    refused = reader.types(f"./shopfloor requeue {first.item_id}")
    assert "What will run" in reader.does(told_one(refused, "review show")).stdout
    reader.does(filling(told_one(refused, "rework"), WHAT="'look again'"))
    assert look(admin, "SELECT stage FROM queue WHERE item_id = %s", first.item_id) == ["rework"]
    asked = reader.does(f"./shopfloor why {second.item_id}")
    reader.does(told_one(asked, "review show"))
    reader.does(told_one(asked, "review approve"))
    assert look(admin, "SELECT stage FROM queue WHERE item_id = %s", second.item_id) == ["apply"]


def test_a_finding_that_no_action_splits_is_decided_by_ids(road: Road, shop: Shop, reader: Reader) -> None:
    road.take_in([issue(1, labels=[{"name": "wontfix"}]), issue(2, title="A duplicate", labels=[{"name": "duplicate"}])], as_of=LATER)
    road.run()
    mixed = reader.types("./shopfloor review reject --finding labelled_but_open --reason no --yes")
    assert mixed.exit_code == 2
    listed = reader.does(told_one(mixed, "review inbox"))
    assert {row["group"] for row in rows_of(listed.stdout)} == {1, 2}
    chosen = next(row["id"] for row in rows_of(listed.stdout) if row["group"] == 1)
    reader.does(f"./shopfloor review reject {chosen} --reason no")
    assert len(open_proposals(shop)) == 1


def rows_of(lines: str) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in lines.splitlines())


def test_an_apply_of_unknown_effect_is_looked_at_and_resolved(road: Road, shop: Shop, admin: Connection, reader: Reader) -> None:
    found = propose(road, 3)
    for one in found:
        reader.does(f"./shopfloor review approve {one.id}")
        lease(admin, one.item_id)
        intend(admin, one.id, "unknown")
        push(admin, one.item_id, "retry", note="no answer")
    first, second, third = found
    refused = reader.types(f"./shopfloor cancel {first.item_id}")
    reader.does(told_one(refused, "apply probe"))
    asked = reader.does(f"./shopfloor apply show {second.id}")
    lines = [line for line in told(asked, "apply probe") if "--is" in line]
    assert len(lines) == 2
    for line, one in zip(lines, (second, third), strict=True):
        about = told(reader.does(f"./shopfloor apply show {one.id}"), "apply probe")
        done = reader.does(filling(next(each for each in about if line.split()[-3] in each.split()), WHAT="'I looked'"))
        reader.does(told_one(done, "why"))
    assert reader.types(f"./shopfloor apply probe {second.item_id} --is applied --reason x").exit_code == 4


def test_what_was_approved_and_nobody_applies_is_applied_by_the_worker_that_is_named(
    road: Road, shop: Shop, admin: Connection, reader: Reader
) -> None:
    [one] = propose(road, 1)
    reader.does(f"./shopfloor review approve {one.id}")
    road.close()
    asked = reader.does(f"./shopfloor why {one.item_id}")
    for line in (told_one(asked, "worker"), told_one(reader.types("./shopfloor status"), "worker")):
        assert line == "./shopfloor worker --lanes apply"
    with reader.stays(line):
        wait_until(lambda: look(admin, "SELECT state FROM applies") == ["applied"])
        assert "worker" not in reader.does(f"./shopfloor why {one.item_id}").stdout
