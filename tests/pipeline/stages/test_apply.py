"""apply: each answer that a target may give, and what follows from it."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from contracts.lifecycle import Role
from pipeline.review.clearances import Answer, decide_all
from tests.pipeline.stages.conftest import Gate, place
from tests.reviews import ballot, look, open_proposals, person
from workcells.appliers import Receipt, SendRefused, SendThrottled, SendUnknown, TargetMissing, TargetUnavailable


class Target:
    """An adapter whose target does what the test says."""

    name, idempotency, settle_seconds = "tracker", "probeable", 0.0

    def __init__(self, *, on_observe: Any = None, on_send: Any = None, probed: Any = "unknown") -> None:
        self.on_observe, self._on_send, self._probed = on_observe, on_send, probed
        self.sent: list[str] = []
        self.probes: list[tuple[str, str, float]] = []
        """Action, key and seconds since the intent of each probe."""

    def observe(self, target: str, fields: list[str]) -> dict[str, Any]:
        assert fields == ["state"]
        if isinstance(self.on_observe, Exception):
            raise self.on_observe
        return self.on_observe or {"state": "open"}

    def send(self, action: Any, *, key: str) -> Receipt:
        self.sent.append(key)
        if isinstance(self._on_send, Exception):
            raise self._on_send
        return Receipt(self.name, action.target, key, True, {})

    def probe(self, action: Any, *, key: str, seconds_since_sent: float) -> str:
        self.probes.append((action.name, key, seconds_since_sent))
        if isinstance(self._probed, Exception):
            raise self._probed
        return str(self._probed)

    def preview(self, action: Any) -> str:
        return ""


@pytest.fixture
def approved(gate: Gate) -> Callable[[Target], Gate]:
    """Return what brings one approved proposal to a target, as far as the apply worker takes it."""

    def run(target: Target) -> Gate:
        gate.put_in_force()
        gate.take(**{"is": "proposal"})
        token = person(gate.shop, "ada", "reviewer")
        with gate.shop.connect(Role.REVIEW) as conn:
            workspace = gate.shop.workspace_id(conn)
            [decided] = decide_all(conn, workspace, token, map(ballot, open_proposals(gate.shop)), Answer.APPROVE, "", by="ada")
        assert decided.error is None
        gate.road.worker(Role.APPLY).context.appliers = {"tracker": target}
        gate.road.worker(Role.APPLY).run()
        return gate

    return run


@pytest.mark.parametrize(
    ("make", "where", "proposal", "apply", "sent"),
    [
        (partial(Target), ("archive", "done", ""), "applied", ["applied"], 1),
        (partial(Target, on_observe={"state": "closed"}), ("rework", "ready", "ready"), "drifted", [], 0),
        (partial(Target, on_observe=TargetMissing("no such issue")), ("apply", "refused", ""), "failed", [], 0),
        (partial(Target, on_observe=SendRefused("not a target of ours")), ("apply", "refused", ""), "failed", [], 0),
        (partial(Target, on_observe=TargetUnavailable("refused")), ("apply", "ready", "backoff"), "approved", [], 0),
        (partial(Target, on_send=SendRefused("locked")), ("apply", "refused", ""), "failed", ["failed"], 1),
        (partial(Target, on_send=TargetMissing("gone")), ("apply", "refused", ""), "failed", ["failed"], 1),
        (partial(Target, on_send=TargetUnavailable("down")), ("apply", "ready", "backoff"), "approved", ["intent"], 1),
        (
            partial(Target, on_send=SendThrottled("slow down", retry_after_seconds=60)),
            ("apply", "ready", "backoff"),
            "approved",
            ["intent"],
            1,
        ),
        (partial(Target, on_send=SendUnknown("cut off")), ("apply", "ready", "backoff"), "approved", ["intent"], 1),
    ],
    ids=["applied", "drifted", "missing", "never", "away", "refused", "gone as it was sent", "down", "throttled", "unknown"],
)
def test_what_a_target_answers_decides_where_the_item_goes(
    make: Callable[[], Target], where: tuple[str, str, str], proposal: str, apply: list[str], sent: int, approved: Callable[[Target], Gate]
) -> None:
    target = make()
    gate = approved(target)
    item = gate.item()
    reason = item["reason"] or ""
    assert (item["stage"], item["state"]) == where[:2]
    assert reason in (where[2], "slot")  # nobody serves the lanes between two steps of a test
    assert look(gate.admin, "SELECT state FROM proposals") == [proposal]
    assert look(gate.admin, "SELECT state FROM applies") == apply
    assert len(target.sent) == sent


def test_an_effect_that_cannot_be_learned_is_never_sent_again_and_becomes_a_persons_task(
    approved: Callable[[Target], Gate], clock: Any
) -> None:
    target = Target(on_send=SendUnknown("cut off"))
    gate = approved(target)
    for _ in range(10):
        clock.advance(seconds=400)
        gate.road.worker(Role.APPLY).run()
    assert place(gate.item()) == ("apply", "waiting", "unknown")
    assert look(gate.admin, "SELECT state FROM applies") == ["unknown"]
    assert len(target.sent) == 1


@pytest.mark.parametrize(("probed", "where", "sent"), [("applied", ("archive", "done"), 1), ("absent", ("apply", "ready"), 2)])
def test_an_earlier_intent_is_probed_before_anything_is_sent(
    probed: str, where: tuple[str, str], sent: int, approved: Callable[[Target], Gate], clock: Any
) -> None:
    target = Target(on_send=SendUnknown("cut off"), probed=probed)
    gate = approved(target)
    clock.advance(seconds=400)
    gate.road.worker(Role.APPLY).run()
    item = gate.item()
    assert (item["stage"], item["state"]) == where
    assert len(target.sent) == sent


def receipts(gate: Gate) -> list[Any]:
    """Return what applies left behind, in the order in which they were begun."""
    return [json.loads(bytes(text)) for text in look(gate.admin, "SELECT receipt FROM applies ORDER BY id")]


def test_a_receipt_says_what_was_done_where_and_under_which_key(approved: Callable[[Target], Gate]) -> None:
    target = Target()
    gate = approved(target)
    assert receipts(gate) == [{"adapter": "tracker", "target": "a", "key": target.sent[0], "changed": True, "detail": {}}]
    assert look(gate.admin, "SELECT encode(action_id, 'hex') FROM applies") == target.sent


def test_a_drift_is_counted_and_keeps_what_was_seen(approved: Callable[[Target], Gate]) -> None:
    gate = approved(Target(on_observe={"state": "closed"}))
    assert look(gate.admin, "SELECT drifts, transients FROM queue") == [(1, 0)]
    assert look(gate.admin, "SELECT code, message FROM findings") == [("apply.drifted", "the target changed in state")]
    assert look(gate.admin, "SELECT count(*) FROM bodies WHERE bytes = %s", b'{"seen":{"state":"closed"},"target":"a"}') == [1]
    assert gate.reason() == "the target changed in state"


def test_an_intent_without_effect_ends_with_its_proposal_when_the_target_has_drifted_since(
    approved: Callable[[Target], Gate], clock: Any
) -> None:
    target = Target(on_send=SendUnknown("cut off"), probed="absent")
    gate = approved(target)
    target.on_observe = {"state": "closed"}
    clock.advance(seconds=400)
    gate.road.worker(Role.APPLY).run()
    assert look(gate.admin, "SELECT state FROM applies") == ["failed"]
    assert receipts(gate) == [{"refused": "the target changed in state"}]
    assert look(gate.admin, "SELECT state FROM proposals") == ["drifted"]
    assert len(target.sent) == 1


def test_an_intent_without_effect_ends_when_its_approval_has(approved: Callable[[Target], Gate], clock: Any) -> None:
    target = Target(on_send=SendUnknown("cut off"), probed="absent")
    gate = approved(target)
    clock.advance(seconds=100 * 86_400)
    gate.road.worker(Role.APPLY).run()
    assert place(gate.item()) == ("apply", "refused", "")
    assert look(gate.admin, "SELECT state FROM proposals") == ["failed"]
    assert receipts(gate) == [{"refused": "the approval ended before the action was sent"}]
    assert len(target.sent) == 1


def test_a_probe_asks_for_the_very_action_that_was_sent(approved: Callable[[Target], Gate], clock: Any) -> None:
    target = Target(on_send=SendUnknown("cut off"), probed="applied")
    gate = approved(target)
    clock.advance(seconds=400)
    gate.road.worker(Role.APPLY).run()
    [(action, key, seconds)] = target.probes
    assert (action, key) == ("close", target.sent[0])
    assert 400 <= seconds < 500
    assert receipts(gate) == [{"probed": "applied"}]


def test_what_the_target_may_still_hide_is_asked_for_again_once_it_may_not(approved: Callable[[Target], Gate], clock: Any) -> None:
    target = Target(on_send=SendUnknown("cut off"))
    target.settle_seconds = 1000.0
    gate = approved(target)
    clock.advance(seconds=400)
    gate.road.worker(Role.APPLY).run()
    [(wait, transients)] = look(gate.admin, "SELECT extract(epoch FROM due_at - clock())::float8, transients FROM queue")
    assert 550 < wait <= 601
    assert (transients, gate.reason()) == (1, "the target may still hide what was sent")
    clock.advance(seconds=605)
    gate.road.worker(Role.APPLY).run()
    assert look(gate.admin, "SELECT transients FROM queue") == [2]


def test_where_doing_it_twice_is_doing_it_once_it_is_sent_again_under_the_same_key(approved: Callable[[Target], Gate], clock: Any) -> None:
    target = Target(on_send=SendUnknown("cut off"))
    target.idempotency = "convergent"
    gate = approved(target)
    clock.advance(seconds=400)
    gate.road.worker(Role.APPLY).run()
    assert target.sent == [target.sent[0]] * 2
    assert look(gate.admin, "SELECT count(*) FROM applies") == [1]


@pytest.mark.parametrize(
    ("error", "said"), [(TargetUnavailable("down"), "transient: down"), (SendRefused("no"), "transient: the target could not be asked: no")]
)
def test_a_target_that_cannot_be_asked_is_asked_later(error: Exception, said: str, approved: Callable[[Target], Gate], clock: Any) -> None:
    target = Target(on_send=SendUnknown("cut off"), probed=error)
    gate = approved(target)
    clock.advance(seconds=400)
    gate.road.worker(Role.APPLY).run()
    assert (gate.item()["stage"], gate.item()["state"]) == ("apply", "ready")
    assert gate.reason().startswith(said)
    assert (len(target.sent), look(gate.admin, "SELECT state FROM applies")) == (1, ["intent"])
