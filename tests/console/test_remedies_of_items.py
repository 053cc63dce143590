"""What people are told to type about items that wait, died or are stranded does what it promises: read from the screen, and typed in."""

from contextlib import closing

import pytest
from contracts.lifecycle import Role
from pipeline.floors.publish import BUILT_IN_FLOOR
from pipeline.startup.compose import Shop
from pipeline.worker.inline import InlineWorker
from queues.database import Connection
from tests.in_process import Road, issue
from tests.intake_processes import as_lines, item
from tests.item_states import buried, in_the_cells_lane, lease, push, waiting_for_a_person
from tests.reader import Reader, filling, told, told_one
from tests.reviews import look
from tests.waiting import wait_until

STATES = "SELECT state FROM queue ORDER BY item_id"


def test_dead_letters_are_found_shown_replayed_and_pruned(road: Road, admin: Connection, reader: Reader) -> None:
    first, second, third = buried(road, admin, 3)
    listed = reader.does(told_one(reader.types("./shopfloor status"), "dead list"))
    shown = reader.does(filling(told_one(listed, "dead show"), ITEM=str(first)))
    reader.does(told_one(shown, "dead replay"))
    assert look(admin, STATES) == ["ready", "dead", "dead"]
    reader.does(told_one(reader.does(f"./shopfloor dead show {second}"), "dead prune"))
    assert look(admin, "SELECT item_id, state FROM archived_items") == [(second, "dead")]
    reader.does(filling(told_one(listed, "dead replay"), TEXT="refused"))
    assert look(admin, STATES) == ["ready", "ready"]
    refused = reader.types(filling(told_one(listed, "dead prune"), ITEM=str(third)))
    assert "is not a dead letter" in refused.stderr
    assert "workcell/ready" in reader.does(told_one(refused, "why")).stdout


def test_a_dead_letter_that_is_asked_about_or_cancelled_says_the_same(road: Road, admin: Connection, reader: Reader) -> None:
    items = buried(road, admin, 3)
    asked = reader.does(f"./shopfloor why {items[0]}")
    reader.does(told_one(asked, "dead show"))
    reader.does(told_one(asked, "dead replay"))
    for one, verb in ((items[1], "dead replay"), (items[2], "dead prune")):
        refused = reader.types(f"./shopfloor cancel {one}")
        assert refused.exit_code == 4
        reader.does(told_one(refused, verb))
    assert look(admin, STATES) == ["ready", "ready"]


@pytest.mark.parametrize("scope", ["flow:issue-sweep", "lane:route", "all", "order:acme/widgets#1"])
def test_what_is_paused_says_how_to_resume_it(scope: str, road: Road, admin: Connection, reader: Reader) -> None:
    road.take_in([issue(1), issue(2)])
    refused = reader.types(f"./shopfloor pause '{scope}'")
    assert refused.exit_code == 2
    paused = reader.does(told_one(refused, "pause"))
    for seen in (paused, reader.does("./shopfloor status"), reader.does("./shopfloor why acme/widgets#1")):
        reader.does(told_one(seen, "resume"))
        assert reader.does("./shopfloor pause list").stdout == "nothing is paused\n"
        reader.does(told_one(refused, "pause"))
    gone = reader.types("./shopfloor resume lane:archive")
    assert "release freeze" in reader.does(told_one(gone, "pause list")).stdout


def test_what_waits_for_a_person_is_sent_on_back_or_away(road: Road, admin: Connection, reader: Reader) -> None:
    items = waiting_for_a_person(road, admin, 4)
    board = reader.does("./shopfloor status")
    assert str(items[0]) in reader.does(told_one(board, "items --reason human")).stdout
    for one, verb, after in zip(items, ("show", "rework", "requeue", "cancel"), ("waiting", "ready", "ready", None), strict=True):
        reader.does(told_one(reader.does(f"./shopfloor why {one}"), f"{verb} {one}"))
        assert look(admin, "SELECT state FROM queue WHERE item_id = %s", one) == ([after] if after else [])
    refused = reader.types(f"./shopfloor rework {items[0]}")
    [more] = [line.strip() for line in refused.stderr.splitlines() if line.startswith("  --why")]
    reader.does(f"./shopfloor rework {items[0]} {more}")
    assert look(admin, "SELECT stage FROM queue WHERE item_id = %s", items[0]) == ["rework"]


def test_what_waits_for_its_next_attempt_is_made_due(road: Road, admin: Connection, reader: Reader) -> None:
    [one] = in_the_cells_lane(road, admin, 1)
    lease(admin, one)
    asked = reader.does(f"./shopfloor why {one}")
    assert "claim" in reader.does(told_one(asked, "history")).stdout
    push(admin, one, "retry", note="transient: away")
    admin.execute("UPDATE queue SET due_at = clock() + interval '1 hour'")
    reader.does(told_one(reader.does(f"./shopfloor why {one}"), "requeue"))
    assert look(admin, "SELECT due_at <= clock() FROM queue") == [True]


def test_a_flow_that_the_floor_no_longer_has_can_come_back_or_its_items_end(
    road: Road, shop: Shop, admin: Connection, reader: Reader
) -> None:
    floor = BUILT_IN_FLOOR.read_text(encoding="utf-8")
    more = "  more:\n    pod: maintainers\n    takes: {shape: json, subject: id, revision: revision}\n    route:\n      - {name: all, cell: reference}\n"
    (reader.folder / "old floor.yaml").write_text(floor)
    (reader.folder / "more.yaml").write_text(floor.rstrip() + "\n" + more)
    reader.does("./shopfloor floor apply more.yaml")
    (reader.folder / "rows.jsonl").write_bytes(as_lines([item(1), item(2)]))
    reader.does("./shopfloor intake rows.jsonl --flow more")
    with closing(InlineWorker(shop, Role.PROPOSE, ["route"], road.registry)) as worker:
        assert worker.run() == 2
    reader.does("./shopfloor floor apply 'old floor.yaml'")

    board = reader.types("./shopfloor status")
    assert "would be cancelled" in reader.does(told_one(board, "cancel --lane")).stdout
    first, second = look(admin, "SELECT item_id FROM queue ORDER BY 1")
    asked = reader.does(f"./shopfloor why {first}")
    assert "more" not in reader.does(told_one(asked, "floor show")).stdout
    reader.does(told_one(asked, "cancel"))
    reader.does(filling(told_one(asked, "floor apply"), FILE="more.yaml"))
    assert "no flow of the floor in force" not in reader.does(f"./shopfloor why {second}").stdout
    assert told(reader.types("./shopfloor status"), "cancel") == []


def test_a_batch_that_is_not_complete_goes_on_when_the_same_is_typed_again(road: Road, admin: Connection, reader: Reader) -> None:
    rows = [issue(number) for number in range(1, 1200)]
    (reader.folder / "rows.jsonl").write_bytes(as_lines(rows))
    typed = "./shopfloor intake rows.jsonl --flow issue-sweep"
    assert reader.types(typed, SHOPFLOOR_FAIL="intake.chunk_committed:kill").exit_code not in (0, 1, 2)
    admin.execute("UPDATE batches SET read_at = clock() - interval '1 minute'")
    waiting = reader.does("./shopfloor why acme/widgets#1")
    shown = reader.does(told_one(waiting, "batch show"))
    assert "type the same `./shopfloor intake` again" in shown.stdout
    late = reader.types("./shopfloor batch wait latest --timeout 0s")
    assert late.exit_code == 4
    reader.does(told_one(late, "status"))
    done = reader.does(typed)
    assert "went on after row" in done.stdout
    assert "rows = " in reader.does(told_one(done, "batch show")).stdout
    road.run()
    reader.does(told_one(late, "batch wait"))


def test_what_no_sweeper_recovers_is_recovered_by_the_one_that_is_named(road: Road, admin: Connection, reader: Reader) -> None:
    [one] = in_the_cells_lane(road, admin, 1)
    lease(admin, one)
    admin.execute("UPDATE claims SET beat_at = clock() - interval '1 hour', until = clock() - interval '1 minute' WHERE until > clock()")
    once = told_one(reader.does(f"./shopfloor why {one}"), "sweeper")
    board = told_one(reader.types("./shopfloor status"), "sweeper")
    assert (once, board) == ("./shopfloor sweeper --once", "./shopfloor sweeper")
    with reader.stays(board):
        wait_until(lambda: look(admin, STATES) == ["ready"])
    reader.does(once)
