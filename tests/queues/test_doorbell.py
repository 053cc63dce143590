"""The doorbell over a real broker: what it takes from dramatiq, and what a health check really tries."""

import threading
from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest
import redis
from contracts.errors import Unavailable
from pipeline.startup.compose import Shop
from queues.doorbell import Doorbell, Listener, RingConsumer
from tests.waiting import wait_until


@pytest.fixture
def doorbell(shop: Shop) -> Doorbell:
    return shop.doorbell()


@pytest.fixture
def broker_without_memory(shop: Shop) -> Iterator[None]:
    with redis.Redis.from_url(shop.broker_url) as client:
        client.config_set("maxmemory", 1)
        try:
            yield
        finally:
            client.config_set("maxmemory", 0)


def test_what_is_used_of_dramatiq_is_there(doorbell: Doorbell) -> None:
    """The seam: public classes, and the commands of the broker's script that a consumer sends. Fails when a release changes one."""
    assert issubclass(RingConsumer, dramatiq.Consumer)
    consumer = doorbell.broker.consume("seam")
    assert doorbell.ring(["seam"]) == 1
    message = next(consumer)
    assert (message.queue_name, message.actor_name) == ("seam", "ring:seam")
    assert set(message.options) == {"redis_message_id"}

    consumer.requeue([message])
    consumer.ack(message)  # lets go of it; what was put back is not touched
    again = next(consumer)
    assert again.options == message.options
    consumer.ack(again)
    left = [key.decode().removeprefix(f"{doorbell.namespace}:") for key in doorbell.client.keys(f"{doorbell.namespace}:*")]
    assert sorted(left) == ["__heartbeats__", "rung:seam", "wake:seam"], "nothing of an answered ring stays"
    consumer.close()


def test_a_listener_hears_each_lane_and_puts_back_what_it_does_not_answer(doorbell: Doorbell, shop: Shop) -> None:
    heard: list[str] = []
    held = threading.Event()

    def on_ring(lane: str) -> None:
        heard.append(lane)
        if lane == "slow":
            held.wait(20)

    listener = Listener(doorbell, ["quick", "slow"], on_ring, threads=1)
    listener.start()
    shop.doorbell().ring(["quick"])
    wait_until(lambda: heard == ["quick"])
    shop.doorbell().ring(["slow"])
    wait_until(lambda: heard == ["quick", "slow"])
    doorbell.heard("quick")
    shop.doorbell().ring(["quick"])  # taken from the broker, and waiting for the one thread
    time_out = threading.Timer(0.5, held.set)
    time_out.start()
    listener.stop(seconds=10)
    time_out.join()
    other = doorbell.broker.consume("quick")
    assert heard[2:] == ["quick"] or next(other) is not None
    other.close()


def test_a_ring_and_its_echo_are_what_a_health_check_tries(doorbell: Doorbell) -> None:
    doorbell.echo()
    assert doorbell.takes_rings()
    assert [key for key in doorbell.client.keys(f"{doorbell.namespace}:*") if b"health." in key] == []


def test_a_broker_out_of_memory_is_not_called_up(cli: Any, doorbell: Doorbell, broker_without_memory: None) -> None:
    doorbell.check()  # it answers
    assert not doorbell.takes_rings()
    with pytest.raises(Unavailable, match=r"the broker answers and takes no rings: .*maxmemory"):
        doorbell.echo()

    board = cli("status", "--json")
    assert (board.json["broker"], board.json["ok"]) == ("refuses", False)
    assert "it answers and takes no rings" in cli("status", "--check").stdout
    doctor = cli("doctor", "--json")
    sign = next(one for one in doctor.json["checks"] if one["name"] == "broker")
    assert (doctor.exit_code, sign["status"], "maxmemory" in sign["hint"]) == (6, "failure", True)
    up = cli("up")
    assert (up.exit_code, "takes no rings" in up.stderr) == (6, True)
