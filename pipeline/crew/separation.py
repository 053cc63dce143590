"""Separation: as root, each role of the crew runs as a user of its own, and is handed the database address of that role alone.

The users are numbers, from SHOPFLOOR_CREW_IDS on: the group that shares the store, propose, apply, sweep. No accounts are
made for them. Where it cannot be done the processes stay root, and a gap says which, why, and what to do about it.
"""

import contextlib
import grp
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from contracts.errors import Refused
from contracts.lifecycle import Role
from pipeline.startup.compose import Shop, open_shop
from pipeline.startup.settings import PREFIX, Settings
from queues.embedded.account import Account, first_closed, hold_search
from queues.embedded.place import make_directories
from queues.embedded.processes import NOT_STARTED, RunAs, become
from workcells.appliers.tracker_files import LOCKS

_TRIAL = "import os, sys; os.chdir(sys.argv[1]); import console, pipeline.crew.staffing, pipeline.sweeper.process"
_TRIAL_SECONDS = 60
_SHARED = stat.S_ISGID | 0o770
_ELSEWHERE = "or keep shopfloor where every user may enter (SHOPFLOOR_VENV, SHOPFLOOR_DATA_DIR)"


NO_HOME = {"HOME": "/nonexistent"}
"""Root's home cannot be entered, which libraries take for an error where they take a missing one for nothing."""


@dataclass(frozen=True)
class Separation:
    """The user that the processes of each role run as; a role that is not named runs as the crew does."""

    settings: Settings
    run_as_by_role: Mapping[Role, RunAs] = field(default_factory=dict)
    gaps: tuple[str, ...] = ()
    """What is not separated although the crew is root, each a line that ends with the remedy."""


def separate(shop: Shop) -> Separation:
    """Return as whom each role runs, what they need in the data folder being theirs. Nothing is done unless we are root."""
    if os.geteuid() != 0:
        return Separation(shop.settings)
    try:
        accounts = _accounts(shop.settings)
        run_as_by_role = {role: _run_as(shop, account) for role, account in accounts.items()}
        _try_out(shop, run_as_by_role[Role.PROPOSE])
        _share(shop.store.folder, accounts[Role.PROPOSE].gid)
    except (Refused, OSError) as error:
        return Separation(shop.settings, gaps=(f"every process runs as root: {_said(error)}",))
    try:
        _give_tracker(shop, accounts[Role.APPLY])
    except (Refused, OSError) as error:
        del run_as_by_role[Role.APPLY]
        return Separation(shop.settings, run_as_by_role, (f"apply runs as root: {_said(error)}",))
    return Separation(shop.settings, run_as_by_role)


def environment_for(settings: Settings, role: Role, base: Mapping[str, str]) -> dict[str, str]:
    """Return `base` with the addresses that a process of `role` needs, and without those of others and a person's token.

    Raises what opening the shop raises: the services may be down.
    """
    shop = open_shop(settings, start=False)
    token = settings.github_token
    own = {
        f"{PREFIX}DATABASE_URL_{role.upper()}": shop.url(role),
        f"{PREFIX}BROKER_URL": shop.broker_url,
        f"{PREFIX}DATA_DIR": str(shop.data_dir.absolute()),
        f"{PREFIX}TRACKER_DIR": str(shop.tracker_dir.absolute()),
    }
    if token and role is Role.APPLY:
        own[f"{PREFIX}GITHUB_TOKEN"] = token.reveal()
    return _without_secrets(base) | own


def _without_secrets(base: Mapping[str, str]) -> dict[str, str]:
    secret = (f"{PREFIX}DATABASE_URL", f"{PREFIX}TOKEN", f"{PREFIX}GITHUB_TOKEN", f"{PREFIX}BROKER_URL")
    return {name: value for name, value in base.items() if not name.upper().startswith(secret)}


@contextlib.contextmanager
def run_as_apply_user(shop: Shop) -> Iterator[None]:
    """Write to the tracker folder as the user that applies to it, where that is not us; a missing folder is made his.

    Root that wrote there itself would leave files that this user cannot replace, and could be led elsewhere by a link.
    """
    account = _who_applies(shop)
    if account is None:
        yield
        return
    group = os.getegid()
    os.setegid(account.gid)
    os.seteuid(account.uid)
    hold_search()  # the data folder may lie where he cannot enter
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)


def _who_applies(shop: Shop) -> Account | None:
    if os.geteuid() != 0:
        return None
    try:
        account = _accounts(shop.settings)[Role.APPLY]
    except Refused:
        return None
    folder = shop.tracker_dir.absolute()
    if shop.settings.tracker_dir and first_closed(account, folder):
        return None
    if not folder.exists():
        make_directories(folder, 0o755)
        os.chown(folder, account.uid, account.gid)
    return account if folder.stat().st_uid == account.uid else None


def _accounts(settings: Settings) -> dict[Role, Account]:
    """Return the users of the roles. Raises Refused when they are turned off, unknown to this system, or somebody's."""
    first = settings.crew_ids
    if sys.platform != "linux":
        raise Refused("processes become users of their own on Linux alone", hint="run shopfloor as a user other than root")
    if not first:
        raise Refused(f"{PREFIX}CREW_IDS is 0", hint=f"unset {PREFIX}CREW_IDS")
    for number in range(first, first + 4):
        for kind, name in _names(number):
            if not name.startswith("shopfloor-"):
                raise Refused(f"{kind} {number} is {name}", hint=f"set {PREFIX}CREW_IDS to the first of four numbers that nobody has")
    return {
        Role.PROPOSE: Account("shopfloor-propose", first + 1, first),
        Role.APPLY: Account("shopfloor-apply", first + 2, first),
        # It removes blobs that nobody names: the store is its too.
        Role.SWEEP: Account("shopfloor-sweep", first + 3, first),
    }


def _names(number: int) -> Iterator[tuple[str, str]]:
    with contextlib.suppress(KeyError):
        yield "user", pwd.getpwuid(number).pw_name
    with contextlib.suppress(KeyError):
        yield "group", grp.getgrgid(number).gr_name


def _run_as(shop: Shop, account: Account) -> RunAs:
    """Return how `account` gets to the code and to the data folder, where these lie under a folder that it cannot enter."""
    closed, passages = set(), set()
    for path in _needed(shop):
        if (folder := first_closed(account, path)) and path.is_dir() and folder not in (path, Path("/")):
            closed.add(folder)
            passages.add(path)
    outer = (path for path in sorted(passages) if not passages & set(path.parents))
    return RunAs(account, closed=tuple(sorted(closed)), passages=tuple(outer))


def _needed(shop: Shop) -> Iterator[Path]:
    ours: list[str | Path] = [Path(sys.executable).parent, sys.prefix, sys.base_prefix, *sys.path, Path(__file__).parents[2], shop.data_dir]
    for path in ours:
        yield Path(path).absolute()
        yield Path(path).resolve()


def _try_out(shop: Shop, run_as: RunAs) -> None:
    """Start shopfloor as another user once, which shows more than file modes do. Raises Refused with what is in the way."""
    account = run_as.account
    assert account is not None
    try:
        tried = subprocess.run(
            become(run_as, [sys.executable, "-P", "-c", _TRIAL, str(shop.data_dir)]),
            env=_without_secrets(os.environ) | NO_HOME,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TRIAL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Refused(f"as user {account.uid} shopfloor does not start within {_TRIAL_SECONDS} s", hint="shopfloor up, again") from None
    if tried.returncode == 0:
        return
    said = (tried.stderr.strip().splitlines() or [f"exit code {tried.returncode}"])[-1][:200]
    if f"as user {account.uid}:" in said:
        raise Refused(f"root may not become user {account.uid} here: {said.rpartition(': ')[2]}", hint="allow it CAP_SETUID and CAP_SETGID")
    has_passages = tried.returncode != NOT_STARTED
    for path in _needed(shop):
        if (closed := first_closed(account, path)) and not (has_passages and closed in run_as.closed):
            raise Refused(f"user {account.uid} cannot enter {closed}, which {path} lies under", hint=f"chmod o+x {closed}, {_ELSEWHERE}")
    raise Refused(f"as user {account.uid} shopfloor does not start: {said}", hint=f"let every user read its files, {_ELSEWHERE}")


def _share(folder: Path, gid: int) -> None:
    """Leave the store with a folder for every first byte that the group may write in, and all bytes open to it.

    The store itself stays closed to writing: who could replace a folder in it by a link would lead root's writing elsewhere.
    """
    make_directories(folder, 0o750)
    _refuse_strangers(folder, {0}, hint=f"chown -R 0:0 {folder}")
    os.chown(folder, 0, gid)
    folder.chmod(0o750)
    for number in range(256):
        part = folder / f"{number:02x}"
        make_directories(part, 0o700)
        seen = part.lstat()
        if (seen.st_uid, seen.st_gid, stat.S_IMODE(seen.st_mode)) == (0, gid, _SHARED):
            continue
        os.chown(part, 0, 0)
        part.chmod(0o700)  # root's alone, until what lies in it is open to the group
        for entry in os.scandir(part):
            if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_nlink == 1:
                os.chown(entry.path, -1, gid, follow_symlinks=False)
                os.chmod(entry.path, 0o660)
        os.chown(part, 0, gid)
        part.chmod(_SHARED)


def _give_tracker(shop: Shop, account: Account) -> None:
    """Leave the tracker's folders the user's who applies. Raises Refused for a tracker that is neither his nor ours to give."""
    folder = shop.tracker_dir.absolute()
    if shop.settings.tracker_dir and (closed := first_closed(account, folder)):
        raise Refused(f"user {account.uid} cannot enter {closed}, which {folder} lies under", hint=f"chmod o+x {closed}")
    if not folder.exists():
        return
    is_given = shop.settings.tracker_dir or folder.is_symlink()
    ours = {account.uid} if is_given else {account.uid, 0}
    _refuse_strangers(folder, ours, hint=f"chown -R {account.uid}:{account.gid} {folder}")
    # By handles that follow no link, because who applies may have planted some. Issue files are replaced, never written in.
    for path, _, names, handle in os.fwalk(folder.resolve()):
        _hand_over(handle, account)
        for name in names if os.path.basename(path) == LOCKS else ():
            lock = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=handle)
            _hand_over(lock, account)
            os.close(lock)


def _hand_over(handle: int, account: Account) -> None:
    """Give a folder or file of root's away; a file with a second name may be one of root's from elsewhere."""
    seen = os.fstat(handle)
    if seen.st_uid == 0 and (stat.S_ISDIR(seen.st_mode) or (stat.S_ISREG(seen.st_mode) and seen.st_nlink == 1)):
        os.fchown(handle, account.uid, account.gid)


def _refuse_strangers(folder: Path, owners: set[int], *, hint: str) -> None:
    if (owner := folder.stat().st_uid) not in owners:
        raise Refused(f"{folder} belongs to user {owner}", hint=hint)


def _said(error: Refused | OSError) -> str:
    if isinstance(error, Refused):
        return f"{error.message}; {error.hint}"
    return f"{error.strerror or error} at {error.filename}"
