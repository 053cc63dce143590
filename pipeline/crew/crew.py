"""The crew: the processes that `up` keeps alive. Each is an ordinary `shopfloor worker` or `sweeper`."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import structlog
from contracts.errors import Conflict, Refused, ShopfloorError
from contracts.lifecycle import Role
from pipeline.crew.crew_file import only_one, running, said_by_crew
from pipeline.crew.separation import NO_HOME, Separation, environment_for, separate
from pipeline.startup.compose import ROLE_NAMES, Shop
from queues.embedded import attach_or_start
from queues.embedded.processes import become

log = structlog.get_logger()

_START_SECONDS = 30.0
_STOP_SECONDS = 40.0
_STEADY_SECONDS = 10.0
_FALLING = 2
_SERVICES_SECONDS = 2.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_DELAYS = (0.2, 1.0, 5.0, 15.0)


def command(*arguments: str) -> list[str]:
    """Return the command line that runs this very shopfloor."""
    return [sys.executable, "-P", "-m", "console", *arguments]


def _drain_with_the_crew() -> None:
    """Have the kernel tell this process when the crew dies: nobody else would, and `down` would not find it."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def roster(shop: Shop) -> dict[str, list[str]]:
    """Return what runs, by name: propose workers, one apply worker, one sweeper."""
    crew = {f"propose-{n}": command("worker", "--lanes", "propose") for n in range(1, shop.settings.workers + 1)}
    return crew | {"apply": command("worker", "--lanes", "apply"), "sweeper": command("sweeper")}


@dataclass
class Post:
    """One place in the crew, its process, and how often it fell over lately."""

    name: str
    argv: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    falls: int = 0
    due_at: float = field(default=0.0)

    @property
    def role(self) -> Role:
        """The login that its process takes."""
        return {"apply": Role.APPLY, "sweeper": Role.SWEEP}.get(self.name, Role.PROPOSE)

    @property
    def delay_seconds(self) -> float:
        """How long to wait before it is started again."""
        return _DELAYS[min(self.falls, len(_DELAYS) - 1)]


class Crew:
    """Starts the posts, starts those again that end, and stops all when told to."""

    def __init__(
        self,
        posts: Mapping[str, Sequence[str]],
        *,
        log_dir: Path,
        separation: Separation,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.posts = [Post(name, argv) for name, argv in posts.items()]
        self._log_dir = log_dir
        self._environment = {**os.environ, **(environment or {})}
        self._separation = separation

    def start(self) -> None:
        """Start every post."""
        self._log_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        for post in self.posts:
            self._start(post)

    def _start(self, post: Post) -> None:
        try:
            environment = environment_for(self._separation.settings, post.role, self._environment)
        except ShopfloorError as error:
            post.falls += 1
            post.due_at = time.monotonic() + post.delay_seconds
            log.warning("crew.not_started", post=post.name, error=error.message, again_in_seconds=post.delay_seconds)
            return
        argv = post.argv
        if run_as := self._separation.run_as_by_role.get(post.role):
            environment |= NO_HOME
            argv = become(run_as, argv, dies_with_parent=True)
        with (self._log_dir / f"{post.name}.log").open("ab") as out:
            # A group of its own: Ctrl-C at the crew's terminal would reach it beside our own signal, and two mean "at once".
            post.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environment,
                process_group=0,
                preexec_fn=_drain_with_the_crew,  # noqa: PLW1509 - one system call; the crew has no other thread
            )
        post.started_at = time.monotonic()

    def look_after(self) -> None:
        """Start again what ended: at once the first time, later and later when it keeps falling over."""
        now = time.monotonic()
        for post in self.posts:
            if post.process is None:
                if now >= post.due_at:
                    self._start(post)
            elif (code := post.process.poll()) is not None:
                post.falls = 0 if now - post.started_at > _STEADY_SECONDS else post.falls + 1
                log.warning("crew.ended", post=post.name, code=code, again_in_seconds=post.delay_seconds)
                post.process, post.due_at = None, now + post.delay_seconds

    def falling(self) -> list[str]:
        """Return a line for each post that keeps ending soon after its start."""
        now = time.monotonic()
        return [
            f"{post.name} ended {post.falls} times soon after its start; why stands in {self._log_dir / post.name}.log"
            for post in self.posts
            if post.falls >= _FALLING and (post.process is None or now - post.started_at <= _STEADY_SECONDS)
        ]

    def stop(self) -> None:
        """Ask every process to drain, then end those that do not within 40 s."""
        running = [post.process for post in self.posts if post.process is not None and post.process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for process in running:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def hurry(self) -> None:
        """Tell every process a second time: then it ends at once, and its leases run out."""
        for post in self.posts:
            if post.process is not None and post.process.poll() is None:
                post.process.terminate()

    def pids(self) -> list[int]:
        """Return the processes that run now."""
        return [post.process.pid for post in self.posts if post.process is not None and post.process.poll() is None]


def run_foreground(shop: Shop) -> int:
    """Keep the crew alive until SIGTERM or SIGINT; then drain. One crew per data folder."""
    with only_one(shop) as record:
        separation = separate(shop)
        for gap in separation.gaps:
            log.warning("crew.not_separated", gap=gap)
        record(unseparated=separation.gaps)
        crew = Crew(roster(shop), log_dir=shop.data_dir / "log", separation=separation)
        stop = threading.Event()

        def told(*_: object) -> None:
            crew.hurry() if stop.is_set() else stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, told)
        crew.start()
        looked = time.monotonic()
        falling: list[str] = []
        while not stop.wait(0.5):
            crew.look_after()
            if (now := crew.falling()) != falling:
                falling = now
                record(unseparated=separation.gaps, falling=falling)
            if time.monotonic() - looked > _SERVICES_SECONDS:
                _look_after_services(shop)
                looked = time.monotonic()
        crew.stop()
    return 0


def _look_after_services(shop: Shop) -> None:
    """Start the embedded servers again that ended; workers wait for them meanwhile."""
    if shop.services is None:
        return
    try:
        attach_or_start(shop.data_dir, ROLE_NAMES, timeout_seconds=30)  # one call to each when both answer
    except ShopfloorError as error:
        log.warning("crew.services_lost", error=error.message)


def start_background(shop: Shop) -> int:
    """Start the crew as a daemon and return its pid; the one that runs already is left alone."""
    found = running(shop)
    if found is not None:
        return found.pid
    log_dir = shop.data_dir / "log"
    log_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (log_dir / "crew.log").open("ab") as out:
        process = subprocess.Popen(command("up", "--foreground"), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    return _await_crew(shop, process, log_dir / "crew.log")


def _await_crew(shop: Shop, process: subprocess.Popen[bytes], log_path: Path) -> int:
    """Return the crew's pid once it has said that it works here: a `down` that follows at once must find it."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError, KeyError):
            if said_by_crew(shop)["pid"] == process.pid:
                return process.pid
        if process.poll() is not None:
            if (first := running(shop)) is not None:  # another `up` was quicker
                return first.pid
            raise Refused(
                f"the crew ended at once, with exit code {process.returncode}", hint=f"see the end of {log_path}", code="crew.ended"
            )
        time.sleep(0.02)
    raise Conflict(
        f"the crew has not said within {_START_SECONDS:.0f} s that it works", hint=f"see the end of {log_path}", code="crew.silent"
    )


def stop_background(shop: Shop) -> bool:
    """Drain the crew of this data folder and return whether there was one."""
    process = running(shop)
    if process is None:
        return False
    children = process.children(recursive=True)
    process.terminate()
    try:
        process.wait(_STOP_SECONDS + 5)
    except psutil.TimeoutExpired:
        process.kill()
    for child in children:
        with contextlib.suppress(psutil.Error):
            child.kill()
    return True
