"""Failpoints: named places on the road where a test makes the process die, raise, hang or freeze.

`SHOPFLOOR_FAIL=point:kill|raise|hang|freeze[:nth]`, several separated by commas. A thread that hangs sleeps for ever
and the rest of its process goes on; a process that freezes is stopped as a whole until it gets SIGCONT. With the
variable unset every call is a test of an empty dict.
"""

import os
import signal
import time

from contracts.errors import BadSetting

POINTS: dict[str, str] = {
    "intake.chunk_committed": "rows of a chunk are committed, the doorbell has not rung",
    "intake.complete": "the last chunk is committed, the batch is not complete yet",
    "doorbell.ring": "all commits of a batch are done, the broker is not told which lanes have work",
    "worker.rung": "the doorbell was heard, nothing is claimed yet",
    "claim.committed": "a batch is leased, no step has run",
    "workcell.run": "before a cell runs on one item",
    "step.ran": "a stage's step has run, nothing of it is written",
    "blob.written": "large bodies are on disk, the transaction is not begun",
    "commit.before": "all statements of a stage's transaction are sent, COMMIT is not",
    "commit.after": "the transaction is committed, the next lane has not been rung",
    "clearance.opened": "proposals are written and their clearances opened, nothing is committed",
    "apply.observed": "the target was read, no intent is recorded",
    "apply.intent": "the intent is committed, the target has not been called",
    "apply.sent": "the target has answered, no receipt is recorded",
    "apply.receipt": "the receipt is committed, nothing has followed from it",
    "archive.finished": "items are filed in the archive, their transaction is not committed",
    "sweep.expired": "leases were expired and committed",
}

ACTIONS = ("kill", "raise", "hang", "freeze")


class FailpointHit(RuntimeError):
    """A failpoint was told to raise."""


def _parse(setting: str) -> dict[str, tuple[str, int]]:
    armed = {}
    for part in filter(None, setting.split(",")):
        point, _, rest = part.partition(":")
        action, _, nth = rest.partition(":")
        if point not in POINTS or action not in ACTIONS or not (nth or "1").isdecimal():
            raise BadSetting(
                f"SHOPFLOOR_FAIL: expected POINT:{'|'.join(ACTIONS)}[:NTH], got {part!r}",
                hint="the points: unset SHOPFLOOR_FAIL; shopfloor doctor --failpoints",
            )
        armed[point] = (action, int(nth or 1))
    return armed


_ARMED = _parse(os.environ.get("SHOPFLOOR_FAIL", ""))


def failpoint(name: str) -> None:
    """Do nothing, unless the environment armed this point: then die, raise, hang or freeze on its n-th passing."""
    if not _ARMED or name not in _ARMED:
        return
    action, nth = _ARMED[name]
    _ARMED[name] = (action, nth - 1)
    if nth != 1:
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "raise":
        raise FailpointHit(name)
    if action == "freeze":
        # Sent to this very thread: one sent to the process may be taken by another, and this one would run on meanwhile.
        signal.raise_signal(signal.SIGSTOP)
        return
    while True:
        time.sleep(3600)
