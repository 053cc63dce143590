"""The crew's file: which crew works on a data folder, and how its members do. Read by screens, so light to load."""

import contextlib
import fcntl
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import psutil
from contracts.errors import Conflict
from pipeline.startup.compose import Shop
from queues.embedded import write_atomically

MOST_WORKERS = 64
_LOCK_SECONDS = 1.0
"""Whoever asks whether a crew runs holds its lock for a moment: a crew that starts waits for longer than that."""


def _path(shop: Shop) -> Path:
    return shop.data_dir / "run" / f"crew-{shop.database}.json"


def _lock_path(shop: Shop) -> Path:
    return shop.data_dir / "run" / f"crew-{shop.database}.lock"


def _wanted_path(shop: Shop) -> Path:
    return shop.data_dir / "run" / f"crew-{shop.database}.workers"


@contextlib.contextmanager
def only_one(shop: Shop) -> Iterator[Callable[..., None]]:
    """Hold the crew's lock; yield what writes the crew's file. Raises Conflict when another crew works on this data folder.

    A crew that ends removes the file: one that was killed does not.
    """
    path, lock = _path(shop), _lock_path(shop)
    lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with lock.open("a") as file:
        if not _locked(file, seconds=_LOCK_SECONDS):
            raise Conflict("a crew already works on this data folder", hint="shopfloor status, or shopfloor down", code="crew.running")
        path.unlink(missing_ok=True)
        me = psutil.Process()

        def record(**more: object) -> None:
            write_atomically(path, json.dumps({"pid": me.pid, "started": me.create_time(), **more}), 0o600)

        yield record
        path.unlink(missing_ok=True)


def _locked(file: IO[str], *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def running(shop: Shop) -> psutil.Process | None:
    """Return the process of the crew that works on this data folder: the one that holds its lock, not just its number."""
    try:
        with _lock_path(shop).open("r+") as file:
            if _locked(file, seconds=0):
                return None  # nobody holds it: what the crew's file says is old
            return _process(_first_written(shop))
    except (OSError, ValueError, KeyError, psutil.Error):
        return None


def _first_written(shop: Shop) -> dict[str, Any]:
    """Return what the crew that holds the lock wrote: it may be about to, for the first time."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            return read_crew_file(shop)
        except FileNotFoundError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def read_crew_file(shop: Shop) -> dict[str, Any]:
    """Return what the last crew wrote. Raises FileNotFoundError where none runs and none was killed, ValueError for what no crew wrote.

    Read without the lock: trying it, however shortly, could keep a crew that starts from taking it.
    """
    fields: dict[str, Any] = json.loads(_path(shop).read_text(encoding="utf-8"))
    return fields


def _process(fields: dict[str, Any]) -> psutil.Process | None:
    process = psutil.Process(fields["pid"])
    is_same = abs(process.create_time() - fields["started"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
    return process if is_same else None


class CrewReport(NamedTuple):
    """What a crew says of itself, and whether it still lives."""

    pid: int | None = None
    """None where no crew runs."""
    members: Sequence[dict[str, Any]] = ()
    """Name, pid and state of each member: a MemberState, or `frozen`."""
    workers: int = 0
    """How many propose workers it keeps."""
    unseparated: Sequence[str] = ()
    """What it could not separate although it is root; a line each, with the remedy."""
    problems: Sequence[str] = ()
    """Members that are not as they should be, or a crew that was killed; a line each."""


def report(shop: Shop) -> CrewReport:
    """Return what the crew of this data folder says of itself; an empty report where none was started."""
    try:
        fields = read_crew_file(shop)
    except (OSError, ValueError):
        return CrewReport()
    with contextlib.suppress(KeyError, psutil.Error):
        if _process(fields) is not None:
            members = [_seen(member) for member in fields.get("members", ())]
            problems = [*fields.get("problems", ()), *(f"{one['name']} is frozen" for one in members if one["state"] == "frozen")]
            return CrewReport(fields["pid"], members, fields.get("workers", 0), fields["unseparated"], problems)
    return CrewReport(problems=(f"the crew (process {fields.get('pid')}) was killed: nobody starts again what ends",))


def _seen(member: dict[str, Any]) -> dict[str, Any]:
    """Return a member as it is this moment: the crew, which looks twice a second, may not have noticed yet."""
    try:
        is_frozen = member["pid"] is not None and psutil.Process(member["pid"]).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return member | {"state": "ended"}
    return member | {"state": "frozen"} if is_frozen else member


def ask_for_workers(shop: Shop, count: int) -> None:
    """Tell the crew how many propose workers to keep."""
    write_atomically(_wanted_path(shop), f"{count}\n", 0o600)


def workers_asked_for(shop: Shop) -> int | None:
    """Return how many propose workers somebody asked this crew for; None when nobody did."""
    try:
        count = int(_wanted_path(shop).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return count if 1 <= count <= MOST_WORKERS else None


def forget_request(shop: Shop) -> None:
    """Drop what an earlier crew was asked for."""
    _wanted_path(shop).unlink(missing_ok=True)


def forget_killed(shop: Shop) -> None:
    """Remove the file that a killed crew left."""
    with contextlib.suppress(OSError), _lock_path(shop).open("r+") as file:
        if _locked(file, seconds=0):
            _path(shop).unlink(missing_ok=True)
