"""The doorbell: "lane X has work", over Redis or Valkey, through dramatiq. Never state, never payload.

A ring is coalesced by a mark with a TTL, which the listener clears before it claims. Every message may be lost or
doubled: the sweeper rings lanes with due work again, and a claim on an empty lane finds nothing.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

import dramatiq
import redis
import structlog
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import DecodeError
from dramatiq.message import Message
from contracts.errors import BadSetting, Unavailable
from queues.database import first_line

log = structlog.get_logger()

RING_TTL_MS = 5_000
"""A lane may be rung again after this when nobody has answered the last ring."""
_BLOCK_SECONDS = 3.0
_DOWN_SECONDS = 0.5
_TOKENS = 8
_HEALTH_MS = 1000

_CONNECTION = {"socket_timeout": 2.0, "socket_connect_timeout": 2.0, "retry": None}


class Doorbell:
    """Rings lanes. A broker that is down costs latency alone: `ring` never raises for it."""

    def __init__(self, url: str, *, namespace: str) -> None:
        self.url, self.namespace = url, namespace
        try:
            self.broker = _Bell(url, namespace)
            self.broker.client.connection_pool.make_connection()  # connects to nothing yet, and refuses an address that it cannot read
        except (ValueError, TypeError):
            raise BadSetting("SHOPFLOOR_BROKER_URL cannot be read: expected redis://HOST:PORT/0, and options that redis-py knows") from None
        self.client = self.broker.client
        self.is_up = True

    def ring(self, lanes: Iterable[str]) -> int:
        """Tell the workers of each lane that something is due, once while a ring is outstanding; return how many rang."""
        rung = 0
        for lane in sorted(set(lanes)):
            try:
                if not self.client.set(self._mark(lane), 1, nx=True, px=RING_TTL_MS):
                    if not 0 <= self.client.pttl(self._mark(lane)) <= RING_TTL_MS:
                        self.client.delete(self._mark(lane))  # not a mark of ours: it would silence the lane for ever
                    continue
                self._send(lane)
                rung += 1
                self._note(True)
            except redis.ResponseError as error:
                self._repair(lane, error)
            except redis.RedisError as error:
                self._note(False, str(error))
                break  # it is down or hung: every further lane would wait for its time-out
        return rung

    def heard(self, lane: str) -> None:
        """Clear a lane's mark: rings from now on count as new. Called before the claim, never after."""
        try:
            self.client.delete(self._mark(lane))
        except redis.RedisError as error:
            self._note(False, str(error))

    def check(self) -> None:
        """Raise Unavailable unless the broker answers and refuses to evict keys (`noeviction`)."""
        try:
            policy = self.client.config_get("maxmemory-policy").get("maxmemory-policy", "noeviction")
        except redis.ResponseError:
            return  # a managed broker that hides CONFIG; INFO does not say it either
        except redis.RedisError as error:
            raise _unreachable(error) from None
        if policy != "noeviction":
            raise Unavailable(
                f"the broker's maxmemory-policy is {policy}: expected noeviction",
                hint="CONFIG SET maxmemory-policy noeviction",
                code="unavailable.broker_policy",
            )

    def takes_rings(self) -> bool:
        """Return whether the broker takes a write now: one that is out of memory, or a replica, answers and does not."""
        try:
            self.client.set(f"{self.namespace}:health", 1, px=_HEALTH_MS)
        except redis.RedisError:
            return False
        return True

    def echo(self, *, seconds: float = 5.0) -> None:
        """Ring a lane of its own and hear it, the way workers do. Raises Unavailable unless that takes less than `seconds`."""
        lane = f"health.{uuid4().hex}"
        consumer = RingConsumer(self.broker, lane)
        deadline = time.monotonic() + seconds
        try:
            self._send(lane)
            while time.monotonic() < deadline:
                if (message := next(consumer)) is not None:
                    consumer.ack(message)
                    return
        except redis.ResponseError as error:
            raise Unavailable(
                f"the broker answers and takes no rings: {first_line(error)}",
                hint="raise its maxmemory, or point SHOPFLOOR_BROKER_URL at a primary",
                code="unavailable.broker_refuses",
            ) from None
        except redis.RedisError as error:
            raise _unreachable(error) from None
        finally:
            consumer.close()
            with contextlib.suppress(redis.RedisError):
                self.client.delete(*self.broker.own_keys_of(lane))
        raise Unavailable(
            f"a ring did not come back from the broker within {seconds:.0f} s", hint="shopfloor doctor", code="unavailable.broker_echo"
        )

    def _send(self, lane: str) -> None:
        self.broker.enqueue(Message(queue_name=lane, actor_name=_actor(lane), args=(), kwargs={}, options={}))
        self.broker.wake(lane)

    def _mark(self, lane: str) -> str:
        return f"{self.namespace}:rung:{lane}"

    def _repair(self, lane: str, error: redis.ResponseError) -> None:
        """Drop a lane's keys that something else has overwritten; the sweeper rings again."""
        log.warning("doorbell.damaged", lane=lane, error=str(error)[:120])
        try:
            self.client.delete(*self.broker.keys_of(lane), self._mark(lane))
        except redis.RedisError as failed:
            self._note(False, str(failed))

    def _note(self, is_up: bool, error: str = "") -> None:  # noqa: FBT001 - a claim, called with its word
        if is_up != self.is_up:
            self.is_up = is_up
            log.info("doorbell.back") if is_up else log.warning("doorbell.down", error=error[:120])


def _unreachable(error: redis.RedisError) -> Unavailable:
    return Unavailable(
        f"the broker cannot be reached: {type(error).__name__}",
        hint="check SHOPFLOOR_BROKER_URL, or start the embedded services: shopfloor up",
        code="unavailable.broker",
    )


def _actor(lane: str) -> str:
    return f"ring:{lane}"


class _Bell(RedisBroker):
    """A dramatiq broker whose consumers block on Redis instead of polling it, and that has no delay queues."""

    def __init__(self, url: str, namespace: str) -> None:
        super().__init__(client=redis.Redis.from_url(url, **_CONNECTION), middleware=[], namespace=namespace)  # type: ignore[no-untyped-call] # dramatiq leaves it bare
        self.url = url

    def declare_queue(self, queue_name: str) -> None:
        """Declare a lane's queue. Delays are rows: a delay queue would only be one more thread that polls."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> "RingConsumer":  # noqa: ARG002 - dramatiq's signature
        """Return a consumer of a lane's rings."""
        return RingConsumer(self, queue_name)

    def wake(self, lane: str) -> None:
        """Leave a token for one blocked consumer of a lane."""
        with self.client.pipeline(transaction=False) as pipe:
            pipe.lpush(self.token(lane), 1)
            pipe.ltrim(self.token(lane), 0, _TOKENS - 1)
            pipe.execute()

    def token(self, lane: str) -> str:
        """Return the key of the list that consumers of a lane block on."""
        return f"{self.namespace}:wake:{lane}"

    def keys_of(self, lane: str) -> list[str]:
        """Return every key that a lane's rings use, those that dramatiq shares among lanes included."""
        return [*self.own_keys_of(lane), f"{self.namespace}:__heartbeats__"]

    def own_keys_of(self, lane: str) -> list[str]:
        """Return the keys that the rings of this lane alone use."""
        return [
            f"{self.namespace}:{lane}", f"{self.namespace}:{lane}.msgs", f"{self.namespace}:{lane}.XQ", f"{self.namespace}:{lane}.XQ.msgs",
            f"{self.namespace}:__acks__.{self.broker_id}.{lane}", self.token(lane),
        ]  # fmt: skip


class RingConsumer(dramatiq.Consumer):
    """Takes a ring when there is one, else blocks on the lane's token list: quick to wake, and no CPU when idle.

    It holds one ring at a time: what is taken ahead is kept from other processes.
    """

    def __init__(self, broker: _Bell, lane: str) -> None:
        self._broker, self._lane = broker, lane
        patient = {**_CONNECTION, "socket_timeout": _BLOCK_SECONDS + 3.0}
        self._blocking = redis.Redis.from_url(broker.url, **patient)
        self._is_free = threading.Event()
        self._is_free.set()

    def __next__(self) -> Any:
        if not self._is_free.wait(_BLOCK_SECONDS):
            return None
        try:
            taken = self._broker.do_fetch(self._lane, 1)
            if not taken:
                self._blocking.blpop([self._broker.token(self._lane)], timeout=_BLOCK_SECONDS)
                return None
            # Of what is in the queue, the ids alone are believed: whatever it says, it can be no more than a ring of this lane.
            found = Message.decode(taken[0])
            options = {"redis_message_id": str(found.options["redis_message_id"])}
            message: Message[Any] = Message(self._lane, _actor(self._lane), (), {}, options, str(found.message_id))
            self._is_free.clear()
            return dramatiq.MessageProxy(message)
        except (DecodeError, TypeError, KeyError, AttributeError, UnicodeDecodeError):
            log.warning("doorbell.garbage", lane=self._lane)
        except redis.ResponseError as error:
            log.warning("doorbell.damaged", lane=self._lane, error=str(error)[:120])
            self._drop_keys()
        except redis.RedisError:
            time.sleep(_DOWN_SECONDS)
        return None

    def _drop_keys(self) -> None:
        try:
            self._blocking.delete(*self._broker.keys_of(self._lane))
        except redis.RedisError:
            time.sleep(_DOWN_SECONDS)

    def ack(self, message: Any) -> None:
        """Remove a ring that was answered. Should the broker be gone, the ring comes again: that is harmless."""
        try:
            self._broker.do_ack(self._lane, message.options["redis_message_id"])
        except redis.RedisError:
            pass  # answered by the sweeper's next ring
        finally:
            self._is_free.set()

    nack = ack

    def requeue(self, messages: Iterable[Any]) -> None:
        """Put back the rings that this process took and will not answer."""
        ids = [message.options["redis_message_id"] for message in messages]
        if ids:
            self._broker.do_requeue(self._lane, *ids)

    def close(self) -> None:
        """Close the blocking connection."""
        self._blocking.close()


class Listener:
    """A dramatiq worker that calls `on_ring(lane)` for each ring, `threads` at a time."""

    def __init__(self, doorbell: Doorbell, lanes: Iterable[str], on_ring: Callable[[str], None], *, threads: int) -> None:
        self._broker = doorbell.broker
        for lane in lanes:
            self._serve(lane, on_ring)
        self._worker = dramatiq.Worker(self._broker, worker_threads=threads, worker_timeout=1000)

    def _serve(self, lane: str, on_ring: Callable[[str], None]) -> None:
        def ring() -> None:
            on_ring(lane)

        dramatiq.actor(actor_name=_actor(lane), queue_name=lane, broker=self._broker)(ring)

    def start(self) -> None:
        """Begin to hear rings."""
        self._worker.start()

    def stop(self, *, seconds: float) -> None:
        """Hear no more rings, and wait up to `seconds` for those being answered."""
        self._worker.stop(timeout=int(seconds * 1000))
