"""Runs a crew: in the foreground, or in the background as a daemon that `up` starts, scales and `down` stops."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import structlog
from contracts.errors import Conflict, Refused, ShopfloorError
from pipeline.crew import crew_file
from pipeline.crew.changes import Loaded
from pipeline.crew.crew import SILENT_SECONDS, STOP_SECONDS, Crew
from pipeline.crew.crew_file import CrewReport
from pipeline.crew.ends import EndRecorder
from pipeline.crew.member import MemberState, command, members
from pipeline.crew.separation import separate
from pipeline.startup.compose import ROLE_NAMES, Shop
from pipeline.stopping import StopRequest
from queues.embedded import attach_or_start

log = structlog.get_logger()

DEFAULT_WORKERS = 2
_START_SECONDS = 30.0
_READY_SECONDS = 60.0
_CHECK_SECONDS = 0.5
_SERVICES_SECONDS = 2.0


def run_foreground(shop: Shop, workers: int, say: Callable[[str], None] = lambda _line: None) -> int:
    """Keep a crew running until SIGTERM or SIGINT, then drain it. One crew per data folder.

    `say` is called with a line for each thing that happens.
    """
    with crew_file.only_one(shop) as record:
        crew_file.forget_request(shop)
        separation = separate(shop)
        for gap in separation.gaps:
            log.warning("crew.not_separated", gap=gap)
            say(f"not separated: {gap}")
        ends = EndRecorder(shop)
        crew = Crew(
            members(workers), log_dir=shop.data_dir / "log", separation=separation,
            silent_seconds=max(shop.settings.lease_seconds, SILENT_SECONDS), say=say, on_end=ends.note,
        )  # fmt: skip
        recorded: dict[str, object] = {}

        def record_changes() -> None:
            nonlocal recorded
            fields = {
                "unseparated": separation.gaps, "workers": workers, "members": crew.describe(), "problems": crew.problems(),
            }  # fmt: skip
            if fields != recorded:
                recorded = fields
                record(**fields)

        stop = StopRequest()

        def on_signal(*_: object) -> None:
            if stop.is_set():
                crew.terminate_again()
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)
        loaded = Loaded(shop)
        loaded.start(stop)
        ends.start(stop)
        in_use = loaded.value
        crew.start()
        record_changes()
        is_announced = False
        services_checked_at = time.monotonic()
        while not stop.wait(_CHECK_SECONDS):
            crew.check()
            if (asked := crew_file.workers_asked_for(shop)) is not None and asked != workers:
                say(f"propose workers: {workers} → {asked}")
                workers = asked
                crew.scale(workers)
            if loaded.value is not None and loaded.value != in_use:
                in_use = loaded.value
                log.info("crew.replacing_workers")
                say("the floor or the cells have changed: workers are replaced one by one")
                crew.replace_workers()
            record_changes()
            if not is_announced and all(one["state"] == MemberState.READY for one in crew.describe()):
                is_announced = True
                say(f"ready: {', '.join(one['name'] for one in crew.describe())}")
            if time.monotonic() - services_checked_at > _SERVICES_SECONDS:
                _start_lost_services(shop)
                services_checked_at = time.monotonic()
        say(f"stopping {len(crew.pids())} processes: each finishes what it has begun; Ctrl-C again ends them at once")
        crew.stop()
        say("the workers have stopped")
    return 0


def _start_lost_services(shop: Shop) -> None:
    """Start the embedded servers again that ended; workers wait for them meanwhile."""
    if shop.services is None:
        return
    try:
        attach_or_start(shop.data_dir, ROLE_NAMES, timeout_seconds=30)  # one call to each when both answer
    except ShopfloorError as error:
        log.warning("crew.services_lost", error=error.message)


def start_background(shop: Shop, workers: int | None = None) -> CrewReport:
    """Leave a crew running in the background with so many propose workers, and return its report once its members are ready.

    One that runs already is scaled when a number is given, and left alone otherwise. Members that are not ready after a minute
    are in the report as what they are.
    """
    if crew_file.running(shop) is None:
        _start(shop, workers or DEFAULT_WORKERS)
    elif workers is not None:
        crew_file.ask_for_workers(shop, workers)
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        found = crew_file.report(shop)
        is_settled = found.pid is not None and workers in (None, found.workers)
        if is_settled and (found.problems or all(one["state"] == MemberState.READY for one in found.members)):
            return found
        if time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def _start(shop: Shop, workers: int) -> None:
    log_dir = shop.data_dir / "log"
    log_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (log_dir / "crew.log").open("ab") as out:
        process = subprocess.Popen(
            command("up", "--in-background", "--workers", str(workers)),
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    _await_crew(shop, process, log_dir / "crew.log")


def _await_crew(shop: Shop, process: subprocess.Popen[bytes], log_path: Path) -> None:
    """Return once the crew has written its file: a `down` that follows at once must find it."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError, KeyError):
            if crew_file.read_crew_file(shop)["pid"] == process.pid:
                return
        if process.poll() is not None:
            if crew_file.running(shop) is not None:  # another `up` was quicker
                return
            raise Refused(
                f"the crew ended at once, with exit code {process.returncode}", hint=f"see the end of {log_path}", code="crew.ended"
            )
        time.sleep(0.02)
    raise Conflict(f"the crew has not started within {_START_SECONDS:.0f} s", hint=f"see the end of {log_path}", code="crew.silent")


def stop_background(shop: Shop) -> bool:
    """Drain the crew of this data folder and return whether there was one."""
    process = crew_file.running(shop)
    if process is None:
        crew_file.forget_killed(shop)
        return False
    children = process.children(recursive=True)
    process.terminate()
    try:
        process.wait(STOP_SECONDS + 5)
    except psutil.TimeoutExpired:
        process.kill()
    for child in children:
        with contextlib.suppress(psutil.Error):
            child.kill()
    return True
