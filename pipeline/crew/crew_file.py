"""The crew's file: which crew works on a data folder, and what it says of itself. Read by screens, so light to load."""

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

_LOOKED_AT_SECONDS = 1.0
"""Whoever asks whether a crew runs holds its lock for a moment: a crew that starts outwaits that."""


def _pid_path(shop: Shop) -> Path:
    return shop.data_dir / "run" / f"crew-{shop.database}.json"


@contextlib.contextmanager
def only_one(shop: Shop) -> Iterator[Callable[..., None]]:
    """Hold the crew's lock; what is yielded says who holds it, and more. Raises Conflict when another crew works on this data folder."""
    path = _pid_path(shop)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.open("a+") as file:
        if not _locked(file, seconds=_LOOKED_AT_SECONDS):
            raise Conflict("a crew already works on this data folder", hint="shopfloor status, or shopfloor down", code="crew.running")
        file.truncate(0)
        me = psutil.Process()

        def record(**more: object) -> None:
            file.truncate(0)
            file.write(json.dumps({"pid": me.pid, "started": me.create_time(), **more}))
            file.flush()

        yield record
        file.truncate(0)


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
    path = _pid_path(shop)
    try:
        with path.open("r+") as file:
            if _locked(file, seconds=0):
                return None  # nobody holds it: what is written there is old
            return _process(_said_by_holder(file))
    except (OSError, ValueError, KeyError, psutil.Error):
        return None


def _said_by_holder(file: IO[str]) -> dict[str, Any]:
    """Return what stands in the file of a crew that lives: it may be about to write, its first words or others."""
    deadline = time.monotonic() + _LOOKED_AT_SECONDS
    while True:
        file.seek(0)
        try:
            said: dict[str, Any] = json.loads(file.read())
        except ValueError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return said


def said_by_crew(shop: Shop) -> dict[str, Any]:
    """Return what the last crew wrote of itself. Raises OSError or ValueError when there is nothing, or only half of it.

    Read without the lock: trying it, however shortly, could keep a crew that starts from taking it.
    """
    said: dict[str, Any] = json.loads(_pid_path(shop).read_text(encoding="ascii"))
    return said


def _process(said: dict[str, Any]) -> psutil.Process | None:
    process = psutil.Process(said["pid"])
    return process if abs(process.create_time() - said["started"]) < 1 else None


class Trouble(NamedTuple):
    """What the running crew says is not as it should be; a line each, with the remedy."""

    unseparated: Sequence[str] = ()
    """What it could not separate although it is root."""
    falling: Sequence[str] = ()
    """Posts that end again and again."""


def trouble(shop: Shop) -> Trouble:
    """Return what the running crew says is not as it should be; nothing where none runs."""
    with contextlib.suppress(OSError, ValueError, KeyError, psutil.Error):
        said = said_by_crew(shop)
        if _process(said) is not None:
            return Trouble(said["unseparated"], said.get("falling", ()))
    return Trouble()
