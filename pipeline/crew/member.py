"""Members of the crew: each is a worker or the sweeper, with the process that runs for it now."""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from contracts.lifecycle import Role
from pipeline.crew.liveness import FD_VARIABLE, Liveness
from pipeline.crew.separation import NO_HOME, Separation, environment_for
from queues.embedded.processes import RunAs, become

_DELAYS_SECONDS = (0.2, 1.0, 5.0, 15.0)
_STEADY_SECONDS = 10.0
_QUICK_ENDS_REPORTED = 2
START_SECONDS = 60.0
"""A process that has not reported yet is loading its code."""


class MemberState(StrEnum):
    """How a member does."""

    STARTING = "starting"
    READY = "ready"
    SILENT = "silent"
    """It has reported nothing for some seconds: frozen, or busy where Python cannot get a word in."""
    ENDED = "ended"
    """It is about to be started again."""


@dataclass
class Child:
    """One process of a member."""

    name: str
    process: subprocess.Popen[bytes]
    liveness: Liveness
    started_at: float
    generation: int
    """Which state of floors and cells it has loaded; a later one replaces it."""
    kill_at: float = 0.0
    """When it is killed, once it was told to end."""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def is_silent(self, seconds: float) -> bool:
        """Return whether it has reported nothing for so long that it counts as stuck."""
        return self.liveness.silent_seconds > (seconds if self.liveness.has_reported else max(seconds, START_SECONDS))


@dataclass
class Member:
    """One place in the crew. A successor is the process that is to replace the current one, once it is ready."""

    name: str
    argv: Sequence[str]
    current: Child | None = None
    successor: Child | None = None
    quick_ends: int = 0
    due_at: float = 0.0
    """When it is started again, and after a successor failed, when the next one is."""
    is_outdated: bool = False
    """The last successor did not become ready."""

    @property
    def role(self) -> Role:
        """The login that its process takes."""
        return {"apply": Role.APPLY, "sweeper": Role.SWEEP}.get(self.name, Role.PROPOSE)

    @property
    def delay_seconds(self) -> float:
        """How long to wait before it is started again: longer when it keeps ending soon after its start."""
        return _DELAYS_SECONDS[min(self.quick_ends, len(_DELAYS_SECONDS) - 1)]

    def note_end(self, child: Child, now: float) -> None:
        """Record that its process ended by itself."""
        self.quick_ends = 0 if now - child.started_at > _STEADY_SECONDS else self.quick_ends + 1
        self.current, self.due_at = None, now + self.delay_seconds

    def keeps_ending(self) -> bool:
        """Return whether it has ended soon after its start more than once."""
        is_steady = self.current is not None and time.monotonic() - self.current.started_at > _STEADY_SECONDS
        return self.quick_ends >= _QUICK_ENDS_REPORTED and not is_steady

    def state(self) -> MemberState:
        """Return how it does."""
        if self.current is None:
            return MemberState.ENDED
        if self.current.liveness.has_reported and self.current.liveness.silent_seconds > 3:
            return MemberState.SILENT
        return MemberState.READY if self.current.liveness.is_ready else MemberState.STARTING


def launch(
    member: Member, *, separation: Separation, environment: Mapping[str, str], log_dir: Path, generation: int
) -> Child:  # fmt: skip
    """Start a process for a member, as the user of its role. Raises ShopfloorError while the services cannot be reached."""
    environment = environment_for(separation.settings, member.role, environment)
    run_as = separation.run_as_by_role.get(member.role)
    liveness = Liveness()
    with (log_dir / f"{member.name}.log").open("ab") as out:
        # A process group of its own: Ctrl-C at the crew's terminal would reach it beside our own signal, and two mean "at once".
        process = subprocess.Popen(
            become(run_as or RunAs(None), member.argv, dies_with_parent=True),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**environment, **(NO_HOME if run_as else {}), FD_VARIABLE: str(liveness.writer)},
            process_group=0,
            pass_fds=(liveness.writer,),
        )
    liveness.close_writer()
    return Child(member.name, process, liveness, time.monotonic(), generation)


def command(*arguments: str) -> list[str]:
    """Return the command line that runs this very shopfloor."""
    return [sys.executable, "-P", "-m", "console", *arguments]


def worker_name(number: int) -> str:
    """Return the name of the n-th propose worker."""
    return f"propose-{number}"


def members(workers: int) -> dict[str, list[str]]:
    """Return the command lines of a crew by name: so many propose workers, one apply worker, one sweeper."""
    proposing = {worker_name(number): command("worker", "--lanes", "propose") for number in range(1, workers + 1)}
    return proposing | {"apply": command("worker", "--lanes", "apply"), "sweeper": command("sweeper")}
