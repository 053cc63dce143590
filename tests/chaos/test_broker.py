"""The broker wiped, silenced and fed with garbage while work runs: latency, never loss, never a worker less."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from console.benchmarks.reference import write_file
from tests.chaos.account import violations
from tests.chaos.plant import PROPOSE, Plant


@pytest.fixture
def broker(plant: Plant) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(plant.shop.broker_url) as client:
        yield client


def test_a_broker_that_is_wiped_in_the_middle_costs_seconds_and_no_item(plant: Plant, broker: redis.Redis, tmp_path: Path) -> None:
    plant.environment["SHOPFLOOR_MODE"] = "strict"
    plant.staff(propose=[[]])
    plant.take_in(write_file(tmp_path / "rows.jsonl", 1, 150), "reference")
    for archived in (10, 50, 90):
        plant.until(lambda: plant.states().get("archive/done", 0) >= archived, seconds=30, what=f"{archived} done")
        broker.flushall()
    assert plant.settle(150) < 15
    assert plant.states() == {"archive/done": 150}
    assert violations(plant.admin) == []


def test_garbage_in_the_broker_silences_no_lane_and_ends_no_worker(plant: Plant, broker: redis.Redis, tmp_path: Path) -> None:
    plant.staff(propose=[[]])
    plant.take_in(write_file(tmp_path / "rows.jsonl", 1, 5), "reference")
    plant.settle(5)
    feed_garbage(broker, plant.shop.database)

    plant.take_in(write_file(tmp_path / "more.jsonl", 6, 20), "reference")

    assert plant.settle(25, seconds=30) < 15
    assert plant.states() == {"archive/done": 25}
    assert [post.deaths for post in plant.posts.values()] == [[], [], []]


def test_a_broker_out_of_memory_costs_seconds_and_no_item(plant: Plant, broker: redis.Redis, tmp_path: Path) -> None:
    plant.environment["SHOPFLOOR_MODE"] = "strict"
    plant.staff(propose=[[]])
    plant.take_in(write_file(tmp_path / "rows.jsonl", 1, 100), "reference")
    plant.until(lambda: plant.states().get("archive/done", 0) >= 20, seconds=30, what="under way")
    broker.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.ResponseError, match=r"OOM|maxmemory"):
            broker.set("one", "more")
        plant.take_in(write_file(tmp_path / "more.jsonl", 101, 20), "reference")
    finally:
        broker.config_set("maxmemory", 0)
    assert plant.settle(120, seconds=60) < 30
    assert plant.states() == {"archive/done": 120}
    assert [post.deaths for post in plant.posts.values()] == [[], [], []]
    assert violations(plant.admin) == []


def test_rings_that_come_twice_late_and_for_nothing_change_nothing(plant: Plant, tmp_path: Path) -> None:
    plant.staff(propose=[[], []])
    doorbell = plant.shop.doorbell()
    plant.take_in(write_file(tmp_path / "rows.jsonl", 1, 60), "reference")
    lanes = [*PROPOSE, "apply.sink"]
    for turn in range(40):
        for lane in lanes if turn % 2 else reversed(lanes):
            doorbell.heard(lane)  # so that each of them rings, although one is outstanding
            doorbell.ring([lane])
    plant.settle(60, seconds=60)
    assert plant.states() == {"archive/done": 60}
    assert violations(plant.admin) == []


def feed_garbage(broker: redis.Redis, namespace: str) -> None:
    """Leave wrong types, marks that never end and messages that nobody sent on every lane's keys."""
    shapes = [
        b"\xff\xfe not json", b"[]", b"7", b"{}",
        json.dumps({"queue_name": "nowhere", "actor_name": "nobody", "args": [], "kwargs": {}, "options": {}, "message_id": "1", "message_timestamp": 1}),
        json.dumps({"queue_name": "route", "actor_name": "ring:route", "args": [1, 2], "kwargs": {"a": 1}, "options": {"redis_message_id": "m4", "eta": 9e15},
                    "message_id": "2", "message_timestamp": "x"}),
    ]  # fmt: skip
    for number, lane in enumerate((*PROPOSE, "apply.sink")):
        keys = {part: f"{namespace}:{lane}{part}" for part in ("", ".msgs")} | {
            "mark": f"{namespace}:rung:{lane}",
            "wake": f"{namespace}:wake:{lane}",
        }
        broker.delete(*keys.values())
        if number % 2:
            for name in keys.values():
                broker.set(name, "garbage")
        else:
            broker.rpush(keys["mark"], "garbage")
            for k, shape in enumerate(shapes):
                broker.hset(keys[".msgs"], f"m{k}", shape)
                broker.rpush(keys[""], f"m{k}")
            broker.lpush(keys["wake"], *["x"] * 50)
    broker.set(f"{namespace}:__heartbeats__", "garbage")
