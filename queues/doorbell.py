"""The doorbell: "lane X has work", over Redis or Valkey, through dramatiq. Never state, never payload.

A ring is coalesced by a mark with a TTL, which the hearer clears before it claims. Every message may be lost or
doubled: the sweeper rings lanes with due work again, and a claim on an empty lane finds nothing.
"""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import dramatiq
import redis
import structlog
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.errors import DecodeError
from dramatiq.message import Message
from contracts.errors import BadSetting, Unavailable

log = structlog.get_logger()

RING_TTL_MS = 5_000
"""A ring that nobody heard may be rung again after this."""
_BLOCK_SECONDS = 3.0
_DOWN_SECONDS = 0.5
_TOKENS = 8

_CONNECTION = {"socket_timeout": 2.0, "socket_connect_timeout": 2.0, "retry": None}


class Doorbell:
    """Rings lanes. A broker that is down costs latency alone: `ring` never raises for it."""

    def __init__(self, url: str, *, namespace: str) -> None:
        self.url, self.namespace = url, namespace
        try:
            self.broker = _Bell(url, namespace)
            self.broker.client.connection_pool.make_connection()  # connects to nothing yet, and tells what it cannot make of the address
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
                self.broker.enqueue(Message(queue_name=lane, actor_name=_actor(lane), args=(), kwargs={}, options={}))
                self.broker.wake(lane)
                rung += 1
                self._note(True)
            except redis.ResponseError as error:
                self._mend(lane, error)
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
            return  # a managed broker that hides CONFIG; INFO would not tell either
        except redis.RedisError as error:
            raise Unavailable(
                f"the broker cannot be reached: {type(error).__name__}",
                hint="check SHOPFLOOR_BROKER_URL, or start the embedded services: shopfloor up",
                code="unavailable.broker",
            ) from None
        if policy != "noeviction":
            raise Unavailable(
                f"the broker's maxmemory-policy is {policy}: expected noeviction",
                hint="CONFIG SET maxmemory-policy noeviction",
                code="unavailable.broker_policy",
            )

    def _mark(self, lane: str) -> str:
        return f"{self.namespace}:rung:{lane}"

    def _mend(self, lane: str, error: redis.ResponseError) -> None:
        """Drop a lane's keys when something else wrote over them; the sweeper rings again."""
        log.warning("doorbell.damaged", lane=lane, error=str(error)[:120])
        try:
            self.client.delete(*self.broker.keys_of(lane), self._mark(lane))
        except redis.RedisError as failed:
            self._note(False, str(failed))

    def _note(self, is_up: bool, error: str = "") -> None:  # noqa: FBT001 - a claim, called with its word
        if is_up != self.is_up:
            self.is_up = is_up
            log.info("doorbell.back") if is_up else log.warning("doorbell.down", error=error[:120])


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
        """Return a consumer that takes one ring at a time: what is prefetched is kept from other processes."""
        return RingConsumer(self, queue_name, 1, timeout)

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
        return [
            f"{self.namespace}:{lane}", f"{self.namespace}:{lane}.msgs", f"{self.namespace}:{lane}.XQ", f"{self.namespace}:{lane}.XQ.msgs",
            f"{self.namespace}:__acks__.{self.broker_id}.{lane}", f"{self.namespace}:__heartbeats__", self.token(lane),
        ]  # fmt: skip


class RingConsumer(_RedisConsumer):
    """Takes a ring when there is one, else blocks on the lane's token list: quick to wake, and no CPU when idle."""

    broker: _Bell

    def __init__(self, broker: _Bell, queue_name: str, prefetch: int, timeout: int) -> None:
        super().__init__(broker, queue_name, prefetch, timeout)  # type: ignore[no-untyped-call] # dramatiq leaves it bare
        patient = {**_CONNECTION, "socket_timeout": _BLOCK_SECONDS + 3.0}
        self._blocking = redis.Redis.from_url(broker.url, **patient)
        self._free = threading.Event()

    def __next__(self) -> Any:
        if self.outstanding_message_count >= self.prefetch:
            self._free.wait(_BLOCK_SECONDS)
            self._free.clear()
            return None
        try:
            taken = self.broker.do_fetch(self.queue_name, 1)
            if not taken:
                self._blocking.blpop([self.broker.token(self.queue_name)], timeout=_BLOCK_SECONDS)
                return None
            # Of what lies in the queue, the ids alone are believed: whatever it says, it can be no more than a ring of this lane.
            said = Message.decode(taken[0])
            options = {"redis_message_id": str(said.options["redis_message_id"])}
            message: Message[Any] = Message(self.queue_name, _actor(self.queue_name), (), {}, options, str(said.message_id))
            self.queued_message_ids.add(message.message_id)
            return dramatiq.MessageProxy(message)
        except (DecodeError, TypeError, KeyError, AttributeError, UnicodeDecodeError):
            log.warning("doorbell.garbage", lane=self.queue_name)
        except redis.ResponseError as error:
            log.warning("doorbell.damaged", lane=self.queue_name, error=str(error)[:120])
            self._forget()
        except redis.RedisError:
            time.sleep(_DOWN_SECONDS)
        return None

    def _forget(self) -> None:
        try:
            self._blocking.delete(*self.broker.keys_of(self.queue_name))
        except redis.RedisError:
            time.sleep(_DOWN_SECONDS)

    def ack(self, message: Any) -> None:
        """Forget a ring that was heard. Should the broker be gone, the ring comes again: that is harmless."""
        try:
            super().ack(message)  # type: ignore[no-untyped-call] # dramatiq leaves it bare
        except (redis.RedisError, dramatiq.errors.ConnectionClosed):
            pass  # answered by the sweeper's next ring
        finally:
            self._free.set()

    nack = ack

    def close(self) -> None:
        """Let go of the blocking connection."""
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
