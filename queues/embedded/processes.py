"""Servers as processes: start them so that they outlive us, recognise them by more than their number, end them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from contracts.errors import Refused, Unavailable
from queues.embedded import passwords
from queues.embedded.account import Account
from queues.embedded.place import Place

_BECOME = str(Path(__file__).with_name("become.py"))
NOT_STARTED = 126
"""What `become` ends with when it could not become anything; stderr says why."""
_LOG_BYTES = 10 * 1024 * 1024
# Nothing of the caller's environment: PGDATA, LD_PRELOAD or a locale would change what runs.
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LC_ALL": "C",
    "TZ": "UTC",
    # The server is sheltered, a query that eats the memory is not.
    "PG_OOM_ADJUST_FILE": "/proc/self/oom_score_adj",
    "PG_OOM_ADJUST_VALUE": "0",
}


@dataclass(frozen=True)
class RunAs:
    """The user and the rights that the servers of a place or the processes of a crew run with."""

    account: Account | None
    search: bool = False
    closed: tuple[Path, ...] = ()
    """Folders of which the process sees nothing but the passages, which it may enter then."""
    passages: tuple[Path, ...] = ()


def is_live(pid: int, program: str, path: Path) -> bool:
    """Return whether `pid` is a running `program` that was started for `path`; a zombie is not running.

    The path is among the arguments, so a number that the kernel gave to somebody else is never taken for ours.
    """
    if pid <= 0:
        return False
    try:
        process = psutil.Process(pid)
        return _is(process, program, str(path)) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def living(program: str, path: Path) -> list[int]:
    """Return the running `program`s started for `path`, whatever any pid file says."""
    found = []
    for process in psutil.process_iter():
        try:
            if _is(process, program, str(path)) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def exists(pid: int) -> bool:
    """Return whether the number is taken by a process that runs, whosever it is."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


def start(place: Place, run_as: RunAs, argv: Sequence[str], *, log: Path, stdin: str = "") -> int:
    """Start a server that belongs to no session and no parent, and return its process id; `stdin` is what it reads."""
    rotate(log)
    with open(log, "ab", opener=_private) as output:
        helper = subprocess.run(
            become(run_as, argv, cwd=place.root, detach=True, env=_ENVIRONMENT),
            input=stdin.encode(),
            stdout=subprocess.PIPE,
            stderr=output,
            check=False,
        )
    if helper.returncode != 0:
        raise Unavailable(f"{argv[0]} was not started", hint=tail(place, log), code="unavailable.start")
    return int(helper.stdout)


def run(run_as: RunAs, argv: Sequence[str], *, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Return what a program of the servers' did and said, run to its end as their user."""
    return subprocess.run(
        become(run_as, argv, cwd=cwd, env=_ENVIRONMENT),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )


def end(pid: int, program: str, path: Path, steps: Sequence[tuple[signal.Signals, float]]) -> None:
    """Leave `pid` ended: each signal is sent when the one before was not enough within its seconds."""
    for number, seconds in steps:
        if not is_live(pid, program, path):
            return
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        except PermissionError:
            raise Refused(
                f"{program} (process {pid}) belongs to another user", hint="run as the user that started it, or as root"
            ) from None
        deadline = time.monotonic() + seconds
        while is_live(pid, program, path) and time.monotonic() < deadline:
            time.sleep(0.01)
    if is_live(pid, program, path):
        raise Unavailable(f"{program} (process {pid}) does not end, not even when killed", code="unavailable.stop")


def rotate(log: Path) -> None:
    """Keep one older log once the newer has grown past 10 MiB."""
    try:
        if log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_suffix(".old.log"))
    except FileNotFoundError:
        return


def tail(place: Place, log: Path, *, since_byte: int = 0, lines: int = 12) -> str:
    """Return the last lines of a log, without passwords."""
    try:
        with open(log, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since_byte if since_byte <= size else 0, size - 16_384))
            text = file.read().decode("utf-8", "replace")
    except OSError as error:
        return f"{log}: {error.strerror}"
    last = "\n".join(text.splitlines()[-lines:])
    return passwords.redacted(place, f"{log} ends:\n{last}" if last else f"{log} is empty")


def _is(process: psutil.Process, program: str, path: str) -> bool:
    argv = process.cmdline()
    return bool(argv) and os.path.basename(argv[0]) == program and path in argv[1:]


def become(
    run_as: RunAs,
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    detach: bool = False,
    env: Mapping[str, str] | None = None,
    dies_with_parent: bool = False,
) -> list[str]:
    """Return the command that becomes `argv`, run as `run_as` says; without `cwd` and `env`, in the caller's folder and environment."""
    account = run_as.account
    plan = {
        "argv": list(argv),
        "cwd": str(cwd) if cwd else None,
        "uid": account.uid if account else None,
        "gid": account.gid if account else None,
        "search": run_as.search,
        "closed": [str(path) for path in run_as.closed],
        "passages": [str(path) for path in run_as.passages],
        "detach": detach,
        "dies_with_parent": dies_with_parent,
        "oom_score": -800 if account and detach else None,
        "env": env,
    }
    return [sys.executable, "-I", "-S", _BECOME, json.dumps(plan)]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
