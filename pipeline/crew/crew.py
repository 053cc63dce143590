"""The crew supervises the processes of `up`: it starts them, starts again what ends, and ends and replaces what is stuck."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
from contracts.errors import ShopfloorError
from contracts.lifecycle import Role
from pipeline.crew.ends import describe_end
from pipeline.crew.member import START_SECONDS, Child, Member, MemberState, launch, members
from pipeline.crew.separation import Separation

log = structlog.get_logger()

STOP_SECONDS = 40.0
"""Time that a process has to drain before it is killed; a worker takes less than thirty seconds."""
_STUCK_STOP_SECONDS = 2.0
"""The same for one that is stuck: it may have been frozen, and drain once it is let go."""
_STOP_POLL_SECONDS = 0.05
_RETRY_SECONDS = 30.0
SILENT_SECONDS = 10.0
"""The least time without a report after which a process counts as stuck."""


class Crew:
    """Supervises its members. `check` has to be called about twice a second."""

    def __init__(
        self,
        argv_by_name: Mapping[str, Sequence[str]],
        *,
        log_dir: Path,
        separation: Separation,
        environment: Mapping[str, str] | None = None,
        silent_seconds: float = SILENT_SECONDS,
        say: Callable[[str], None] = lambda _line: None,
        on_end: Callable[[int, str], None] = lambda _pid, _how: None,
    ) -> None:
        self.members = [Member(name, argv) for name, argv in argv_by_name.items()]
        self._log_dir = log_dir
        self._environment = {**os.environ, **(environment or {})}
        self._separation = separation
        self._silent_seconds = silent_seconds
        self._say = say
        self._on_end = on_end
        self._ending: list[Child] = []
        """Processes that were told to end and have not yet."""
        self._generation = 0
        self._checked_at = time.monotonic()

    def start(self) -> None:
        """Start every member."""
        self._log_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        for member in self.members:
            self._start(member)

    def check(self) -> None:
        """Start again what ended, end and replace what is stuck, and go on with a replacement of all."""
        now = time.monotonic()
        for child in self._children():
            child.liveness.listen(now - self._checked_at)
        self._checked_at = now
        for member in self.members:
            if member.current is None:
                if now >= member.due_at:
                    self._start(member)
            elif (code := member.current.process.poll()) is not None:
                self._note_end(member, member.current, code, now)
            elif member.current.is_silent(self._silent_seconds):
                self._replace_stuck(member, member.current)
        self._replace_outdated(now)
        self._reap(now)

    def scale(self, workers: int) -> None:
        """Bring the number of propose workers to `workers`: start what is missing, drain the last ones that are too many."""
        wanted = members(workers)
        for member in [one for one in self.members if one.name not in wanted]:
            self.members.remove(member)
            for child in (member.current, member.successor):
                if child is not None:
                    self._end(child, STOP_SECONDS)
        known = {member.name for member in self.members}
        for name in wanted.keys() - known:
            self.members.append(Member(name, wanted[name]))
        self.members.sort(key=lambda member: list(wanted).index(member.name))

    def replace_workers(self) -> None:
        """Have every worker replaced, one after the other: each drains once its successor, with newly loaded code, is ready."""
        self._generation += 1

    def stop(self) -> None:
        """Tell every process to drain; kill those that are stuck, and those that have not ended within 40 s."""
        running = [child for child in self._children() if child.process.poll() is None]
        for child in running:
            if child not in self._ending:  # a second signal would end it at once, in the middle of what it finishes
                child.process.terminate()
        listened_at, deadline = time.monotonic(), time.monotonic() + STOP_SECONDS
        while running := [child for child in running if child.process.poll() is None]:
            time.sleep(_STOP_POLL_SECONDS)
            now = time.monotonic()
            for child in running:
                child.liveness.listen(now - listened_at)
                if now > deadline or child.is_silent(self._silent_seconds):
                    child.process.kill()
            listened_at = now

    def terminate_again(self) -> None:
        """Tell every process a second time to end: then it ends at once, and its leases run out."""
        for child in self._children():
            if child.process.poll() is None:
                child.process.terminate()

    def pids(self) -> list[int]:
        """Return the ids of the processes that run now."""
        return [child.pid for child in self._children() if child.process.poll() is None]

    def describe(self) -> list[dict[str, Any]]:
        """Return name, process id and state of each member."""
        return [
            {"name": member.name, "pid": member.current.pid if member.current else None, "state": member.state().value}
            for member in self.members
        ]

    def problems(self) -> list[str]:
        """Return a line for each member that is not as it should be, with where it says why."""
        lines = []
        for member in self.members:
            seen = f"see the end of {self._log_dir / member.name}.log"
            if member.keeps_ending():
                lines.append(f"{member.name} ended {member.quick_ends} times soon after its start; {seen}")
            elif member.is_outdated:
                lines.append(f"{member.name} works with an earlier floor or earlier cells: one with the new does not start; {seen}")
            elif member.state() is MemberState.SILENT:
                lines.append(f"{member.name} does not respond; it is replaced after {self._silent_seconds:.0f} s")
        return lines

    def _children(self) -> Iterator[Child]:
        for member in self.members:
            yield from (child for child in (member.current, member.successor) if child is not None)
        yield from self._ending

    def _launch(self, member: Member) -> Child | None:
        try:
            return launch(
                member, separation=self._separation, environment=self._environment, log_dir=self._log_dir, generation=self._generation
            )
        except ShopfloorError as error:
            log.warning("crew.not_started", member=member.name, error=error.message)
            return None

    def _start(self, member: Member) -> None:
        member.current, member.is_outdated = self._launch(member), False
        if member.current is None:
            member.quick_ends += 1
            member.due_at = time.monotonic() + member.delay_seconds

    def _note_end(self, member: Member, child: Child, code: int, now: float) -> None:
        child.liveness.close()
        member.note_end(child, now)
        how = describe_end(code)
        self._on_end(child.pid, how)
        log.warning("crew.ended", member=member.name, how=how, again_in_seconds=member.delay_seconds)
        self._say(f"{member.name} ended: {how}; it is started again in {member.delay_seconds:g} s")
        if member.successor is not None:
            member.current, member.successor = member.successor, None

    def _replace_stuck(self, member: Member, child: Child) -> None:
        """Give up a process that does not respond: what it had leased runs out, counts a crash, and goes to others."""
        log.error("crew.stuck", member=member.name, pid=child.pid, silent_seconds=round(child.liveness.silent_seconds, 1))
        silent = f"has not responded for {child.liveness.silent_seconds:.0f} s"
        self._say(f"{member.name} (process {child.pid}) {silent}: it is replaced")
        self._on_end(child.pid, f"its process {silent} and was ended")
        self._end(child, _STUCK_STOP_SECONDS)
        member.current, member.successor = member.successor, None
        if member.current is None:
            self._start(member)

    def _replace_outdated(self, now: float) -> None:
        """Replace one worker of an earlier generation at a time, so that each lane stays served."""
        changing = next((member for member in self.members if member.successor is not None), None)
        if changing is None:
            outdated = (one for one in self.members if one.current and one.current.generation < self._generation and now >= one.due_at)
            member = next((one for one in outdated if one.role is not Role.SWEEP), None)
            if member is not None:
                member.successor = self._launch(member)
                member.due_at = now + _RETRY_SECONDS if member.successor is None else now
            return
        successor = changing.successor
        assert successor is not None
        is_late = now - successor.started_at > START_SECONDS and not successor.liveness.is_ready
        if successor.process.poll() is not None or successor.is_silent(self._silent_seconds) or is_late:
            log.error("crew.not_replaced", member=changing.name, code=successor.process.returncode)
            self._end(successor, _STUCK_STOP_SECONDS)
            changing.successor, changing.is_outdated, changing.due_at = None, True, now + _RETRY_SECONDS
        elif successor.liveness.is_ready:
            if changing.current is not None:
                self._end(changing.current, STOP_SECONDS)
            changing.current, changing.successor, changing.is_outdated = successor, None, False
            log.info("crew.replaced", member=changing.name)
            self._say(f"{changing.name} was replaced: it works with the floors and cells that are in force now")

    def _end(self, child: Child, seconds: float) -> None:
        """Tell a process to end; it is killed when it has not within `seconds`."""
        child.process.terminate()
        child.kill_at = time.monotonic() + seconds
        self._ending.append(child)

    def _reap(self, now: float) -> None:
        for child in list(self._ending):
            if child.process.poll() is not None:
                child.liveness.close()
                self._ending.remove(child)
            elif now >= child.kill_at:
                child.process.kill()
