"""Which user the servers run as, and how that user gets to their files."""

import ctypes
import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import Refused
from queues.embedded.place import OTHER_DIRECTORY, Place

_MADE = "shopfloor"
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION_3 = 0x20080522


@dataclass(frozen=True)
class Account:
    """An unprivileged user for the servers."""

    name: str
    uid: int
    gid: int


def account_for(place: Place) -> Account | None:
    """Return the user that servers of `place` run as; None when we are not root and run them as ourselves.

    A finished database keeps its owner. Otherwise the first that exists of `shopfloor` and `postgres`, else a system
    user `shopfloor` is made, else `nobody`. PostgreSQL refuses to run as root, and initdb wants a named user.
    """
    if os.geteuid() != 0:
        return None
    if place.postgres.exists() and (owner := place.postgres.stat().st_uid):
        return _owner(place, owner)
    for name in (_MADE, "postgres"):
        if account := _named(name):
            return account
    if useradd := shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin"):
        shell = ["--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
        subprocess.run([useradd, "--system", *shell, _MADE], capture_output=True, check=False)
    if account := _named(_MADE) or _named("nobody"):
        return account
    raise Refused(
        "PostgreSQL does not run as root, and no other account could be found or made",
        hint="useradd --system shopfloor, or run shopfloor as another user",
        code="embedded.account",
    )


def needs_search(account: Account | None, paths: list[Path]) -> bool:
    """Return whether `account` needs a capability to get to one of `paths`; refuse when we have none to give.

    The capability (CAP_DAC_READ_SEARCH) lets the servers pass and read where their user may not; it cannot write.
    """
    if account is None:
        return False
    for path in paths:
        if closed := first_closed(account, path):
            if _may_give_search():
                return True
            raise Refused(
                f"the servers' user {account.name} cannot enter {closed}, which {path} lies under",
                hint=f"chmod o+x {closed}, or {OTHER_DIRECTORY}",
                code="embedded.unreachable",
            )
    return False


def hold_search() -> None:
    """Let this thread pass and read where its user may not, if it is root that became this user for a while."""
    libc = ctypes.CDLL(None)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then the same for the numbers from 32 on
    if libc.capget(header, sets) == 0:
        sets[0], sets[3] = sets[1] & 1 << _CAP_DAC_READ_SEARCH, 0
        libc.capset(header, sets)


def first_closed(account: Account, path: Path) -> Path | None:
    """Return the topmost directory on the way to `path`, or `path` itself, that `account` cannot enter or execute."""
    for step in [*reversed(path.parents), path]:
        try:
            seen = step.stat()
        except FileNotFoundError:
            return None
        if seen.st_uid == account.uid:
            needed = stat.S_IXUSR
        elif seen.st_gid == account.gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not seen.st_mode & needed:
            return step
    return None


def _owner(place: Place, uid: int) -> Account:
    try:
        known = pwd.getpwuid(uid)
    except KeyError:
        raise Refused(
            f"{place.postgres} belongs to user {uid}, who has no account on this machine",
            hint=f"useradd --system --uid {uid} {_MADE}",
            code="embedded.account",
        ) from None
    return Account(known.pw_name, known.pw_uid, known.pw_gid)


def _named(name: str) -> Account | None:
    try:
        known = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name, known.pw_uid, known.pw_gid) if known.pw_uid != 0 else None


def _may_give_search() -> bool:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return False
    permitted = next(line for line in status.splitlines() if line.startswith("CapPrm:"))
    return bool(int(permitted.split()[1], 16) >> _CAP_DAC_READ_SEARCH & 1)
