"""Pauses: every scope holds work back from the next claim on, and lets it go again."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from contracts.errors import BadInput, NotFound
from contracts.lifecycle import Role
from queues.database import Connection
from queues.pauses import active_pauses, pause, resume, scope_of
from tests.in_process import Clock, Road, issue
from tests.item_states import in_the_cells_lane
from tests.reviews import look


@pytest.fixture
def operator(connect: Any) -> Connection:
    conn: Connection = connect(Role.OPERATE)
    return conn


def typed(admin: Connection, item: UUID) -> dict[str, str]:
    """Return each kind of scope as a person would type it for this item."""
    [order] = look(admin, "SELECT order_id FROM items WHERE id = %s", item)
    return {
        "all": "all", "workspace": "workspace", "pod": "pod:maintainers", "flow": "flow:issue-sweep", "lane": "lane:cell.issue_review",
        "cell": "cell:issue_review", "order": f"order:{order}", "item": f"item:{item}",
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["all", "workspace", "pod", "flow", "lane", "cell", "order", "item"])
def test_a_pause_on_each_scope_holds_the_item_until_it_is_resumed(
    road: Road, admin: Connection, operator: Connection, workspace: UUID, kind: str
) -> None:
    [item] = in_the_cells_lane(road, admin, 1)
    text = typed(admin, item)[kind]
    scope = scope_of(operator, workspace, text)
    pause(operator, workspace, scope, why="release freeze", by="ops")

    road.run()
    assert [(row["stage"], row["reason"]) for row in road.items()] == [("workcell", "paused")]
    assert [(one.scope, one.why, one.actor) for one in active_pauses(operator, workspace)] == [(text, "release freeze", "ops")]

    assert resume(operator, workspace, scope, by="ops") == 1
    road.run()
    assert road.states() == {"archive/done": 1}
    assert look(admin, "SELECT action FROM audit WHERE action IN ('pause', 'resume') ORDER BY seq") == ["pause", "resume"]


def test_other_work_goes_on_while_one_item_is_paused(road: Road, admin: Connection, operator: Connection, workspace: UUID) -> None:
    [item] = in_the_cells_lane(road, admin, 1)
    pause(operator, workspace, scope_of(operator, workspace, f"item:{item}"), why="look first", by="ops")
    road.take_in([issue(2, title="Something else entirely")])
    road.run()
    assert road.states() == {"workcell/ready": 1, "archive/done": 1}


def test_a_pause_lifts_itself_when_its_time_has_come(
    road: Road, admin: Connection, operator: Connection, workspace: UUID, clock: Clock
) -> None:
    in_the_cells_lane(road, admin, 1)
    [now] = look(admin, "SELECT clock()")
    pause(operator, workspace, scope_of(operator, workspace, "all"), why="lunch", by="ops", until=now + timedelta(hours=1))
    road.run()
    assert road.states() == {"workcell/ready": 1}
    clock.advance(seconds=3601)
    road.run()
    assert road.states() == {"archive/done": 1}
    assert active_pauses(operator, workspace) == []
    with pytest.raises(NotFound):
        resume(operator, workspace, scope_of(operator, workspace, "all"), by="ops")


@pytest.mark.parametrize(
    "text", ["everything", "", "pod:", "lane:nonsense", "lane:cell", "lane:apply", "cell:", "lane:qa.x", "item:", "order:", "all:x"]
)
def test_a_scope_that_can_hold_nothing_is_refused(operator: Connection, workspace: UUID, text: str) -> None:
    with pytest.raises(BadInput):
        scope_of(operator, workspace, text)


@pytest.mark.parametrize(
    "text", ["pod:nobody", "flow:nothing", "cell:nothing", "item:12", "order:-", f"order:{UUID(int=1)}", f"item:{UUID(int=2)}"]
)
def test_a_scope_that_is_not_there_is_not_found(operator: Connection, workspace: UUID, text: str) -> None:
    with pytest.raises(NotFound):
        scope_of(operator, workspace, text)


def test_a_pause_without_a_reason_is_refused(operator: Connection, workspace: UUID) -> None:
    with pytest.raises(BadInput):
        pause(operator, workspace, scope_of(operator, workspace, "all"), why="  ", by="ops")
