"""apply: each answer that a target may give, and what follows from it."""

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

    def __init__(self, *, on_observe: Any = None, on_send: Any = None, probed: str = "unknown") -> None:
        self._on_observe, self._on_send, self._probed = on_observe, on_send, probed
        self.sent: list[str] = []

    def observe(self, target: str, fields: list[str]) -> dict[str, Any]:
        if isinstance(self._on_observe, Exception):
            raise self._on_observe
        return self._on_observe or {"state": "open"}

    def send(self, action: Any, *, key: str) -> Receipt:
        self.sent.append(key)
        if isinstance(self._on_send, Exception):
            raise self._on_send
        return Receipt(self.name, action.target, key, True, {})

    def probe(self, action: Any, *, key: str, seconds_since_sent: float) -> str:
        return self._probed

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
