"""What was approved reaches GitHub over HTTP by the apply lane, whatever GitHub does to the requests."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from contracts.floor import parse_floor
from contracts.lifecycle import Role
from contracts.secret import Secret
from pipeline.floors.publish import BUILT_IN_FLOOR, publish_floor
from pipeline.review.clearances import Answer, decide_all
from pipeline.startup.compose import Shop
from pipeline.startup.setup import load_registry
from pipeline.worker.advance import Mode
from queues.database import Connection
from tests.in_process import Clock, Road, issue, merged
from tests.reviews import LATER, ballot, look, open_proposals, person
from tests.workcells.appliers.github_server import Cut, GitHubServer, Say

TARGET = "acme/widgets#1"


@pytest.fixture
def github() -> Iterator[GitHubServer]:
    with GitHubServer() as server:
        server.add_issue(TARGET, **{name: value for name, value in issue(1).items() if name not in ("number", "labels", "comments")})
        yield server


@pytest.fixture
def line(shop: Shop, github: GitHubServer, connect: Any, workspace: UUID, tmp_path: Path) -> Iterator[Road]:
    """The line on a floor that applies to GitHub, with the proposal of one issue approved."""
    settings = replace(shop.settings, github_url=github.url, github_token=Secret(github.token))
    there = replace(shop, settings=settings)
    floor = parse_floor(BUILT_IN_FLOOR.read_text(encoding="utf-8").replace("applier: tracker", "applier: github"), "floor.yaml")
    publish_floor(connect(Role.OPERATE), workspace, floor, load_registry(), by="test")
    road = Road(there, tmp_path, Mode.STRICT)
    road.take_in([issue(1), merged(1001, fixes=1)], as_of=LATER)
    road.run()
    [one] = open_proposals(there)
    [decided] = decide_all(
        connect(Role.REVIEW), workspace, person(shop, "grace", "reviewer"), [ballot(one)], Answer.APPROVE, "", by="grace"
    )
    assert decided.error is None
    yield road
    road.close()


def test_an_approved_change_is_made_once_and_its_receipt_kept(line: Road, github: GitHubServer, admin: Connection) -> None:
    line.run()

    assert line.states() == {"archive/done": 2}
    assert github.issues[TARGET]["state"] == "closed"
    assert look(admin, "SELECT state FROM applies") == ["applied"]
    assert len(github.sent("PATCH")) == 1


@pytest.mark.parametrize(
    ("method", "counted"),
    [
        pytest.param("GET", "throttles", id="nothing was sent"),
        pytest.param("POST", "throttles", id="nothing was done"),
        pytest.param("PATCH", "transients", id="half was done"),
    ],
)
def test_a_target_that_wants_fewer_requests_is_left_in_peace_for_as_long_as_it_says(
    line: Road, github: GitHubServer, admin: Connection, clock: Clock, method: str, counted: str
) -> None:
    github.fail(Say(429, headers={"Retry-After": "900"}), method=method)

    line.run()

    [(count, both, wait)] = look(admin, f"SELECT {counted}, throttles + transients, extract(epoch FROM due_at - clock())::int FROM queue")
    assert (count, both) == (1, 1)
    assert 880 < wait <= 900
    before = len(github.requests)
    line.run()
    assert len(github.requests) == before
    clock.advance(901)
    line.run()
    assert github.issues[TARGET]["state"] == "closed"
    assert look(admin, "SELECT state FROM applies") == ["applied"]


def test_an_answer_that_was_lost_is_asked_for_and_nothing_is_done_twice(
    line: Road, github: GitHubServer, admin: Connection, clock: Clock
) -> None:
    github.fail(Cut(effect=True), method="PATCH")
    for _ in range(4):
        line.run()
        clock.advance(400)

    assert line.states() == {"archive/done": 2}
    assert look(admin, "SELECT state FROM applies") == ["applied"]
    assert len(github.sent("PATCH")) == 1


def test_an_issue_that_changed_since_it_was_approved_is_not_touched(line: Road, github: GitHubServer, admin: Connection) -> None:
    github.issues[TARGET]["state"] = "closed"

    line.run()

    assert github.sent("PATCH") == github.sent("POST") == []
    assert look(admin, "SELECT state FROM proposals ORDER BY id")[0] == "drifted"
