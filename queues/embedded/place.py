"""The data directory: what lies where, whose it is, and who may change it now.

    shopfloor.json   marker, written last: layout and PostgreSQL's major version
    shopfloor.lock   held while anything here is made, started or stopped
    secrets/         one password a file, 0600
    etc/             settings of the servers, rewritten at each start; etc/local.conf is yours and comes last
    run/             sockets, or the ports when the path is too long for a socket
    log/             what the servers print
    postgres/ valkey/   their data
    bin/             copies of the servers' programs, only where their account cannot reach the originals
    making/          a database on the way; thrown away when found

As root, everything belongs to root but what a server must write.
"""

import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import BadSetting, Conflict, Refused, Unavailable

LAYOUT = 1
_PARTS = frozenset({"shopfloor.json", "shopfloor.lock", "secrets", "etc", "run", "log", "postgres", "valkey", "bin", "making"})
_SOCKET_PATH_BYTES = 100
"""The kernel takes 107 bytes on Linux and 103 on macOS."""


def default_data_dir() -> Path:
    """Return SHOPFLOOR_DATA_DIR, else the place that the system gives root or this user; creates nothing."""
    named = os.environ.get("SHOPFLOOR_DATA_DIR")
    if named is not None:
        if not named.strip():
            raise BadSetting("SHOPFLOOR_DATA_DIR is empty: expected a directory; unset it for the default")
        return Path(named).expanduser().absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/shopfloor")
    shared = os.environ.get("XDG_DATA_HOME", "")
    if os.path.isabs(shared):
        return Path(shared) / "shopfloor"
    try:
        return Path.home() / ".local" / "share" / "shopfloor"
    except RuntimeError:
        raise BadSetting(
            f"user {os.geteuid()} has no home directory to keep data in", hint="set SHOPFLOOR_DATA_DIR=/some/directory"
        ) from None


@dataclass(frozen=True)
class Place:
    """The paths under one data directory; `root` is absolute and without symlinks, the same for all processes."""

    root: Path

    @classmethod
    def at(cls, data_dir: Path) -> "Place":
        """Return the place of a directory that need not exist."""
        try:
            root = data_dir.expanduser().resolve()
        except (OSError, RuntimeError) as error:
            raise BadSetting(f"data directory {data_dir}: {error}", hint=OTHER_DIRECTORY) from None
        if not str(root).isprintable():
            # Settings files are UTF-8 lines: a newline or a lone byte in a path would be read as something else.
            raise BadSetting(f"data directory {str(root)!r} holds a character that cannot be printed", hint=OTHER_DIRECTORY)
        return cls(root)

    @property
    def marker(self) -> Path:
        return self.root / "shopfloor.json"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def etc(self) -> Path:
        return self.root / "etc"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def bin(self) -> Path:
        return self.root / "bin"

    @property
    def making(self) -> Path:
        return self.root / "making"

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def valkey(self) -> Path:
        return self.root / "valkey"

    @property
    def takes_sockets(self) -> bool:
        """Whether a client can name a socket here: short enough, and no comma (libpq reads it as a list of hosts)."""
        longest = os.fsencode(self.run / ".s.PGSQL.5432")
        return len(longest) <= _SOCKET_PATH_BYTES and b"," not in longest


OTHER_DIRECTORY = "choose another directory: SHOPFLOOR_DATA_DIR=/some/directory"


def major_of(place: Place) -> int | None:
    """Return PostgreSQL's major version of a finished data directory, None when it is not finished.

    Raises Refused when marker and database disagree, or a newer shopfloor laid the directory out.
    """
    try:
        marker = json.loads(place.marker.read_text(encoding="utf-8"))
        layout, major = int(marker["layout"]), int(marker["postgres_major"])
    except FileNotFoundError:
        return None
    except PermissionError:
        raise _not_yours(place) from None
    except (ValueError, KeyError, TypeError):
        raise Refused(f"{place.marker} is not a marker that shopfloor wrote", hint=OTHER_DIRECTORY, code="embedded.marker") from None
    if layout != LAYOUT:
        raise Refused(
            f"{place.root} has layout {layout}, this shopfloor knows {LAYOUT}",
            hint="use the release of shopfloor that made it, or " + OTHER_DIRECTORY,
            code="embedded.layout",
        )
    found = cluster_major(place)
    if found is not None and found != major:
        raise Refused(
            f"{place.postgres} holds PostgreSQL {found}, but {place.marker} says {major}",
            hint="put back the database that belongs here, or " + OTHER_DIRECTORY,
            code="embedded.version",
        )
    return major


def cluster_major(place: Place) -> int | None:
    """Return the major version that the database's own files name, None when they cannot be read or are not there."""
    try:
        return int((place.postgres / "PG_VERSION").read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        return None


def settle(place: Place) -> None:
    """Leave `place` an existing directory that is ours to use; refuse any that is not, without touching it."""
    try:
        if not place.root.exists():
            make_directories(place.root, 0o755 if os.geteuid() == 0 else 0o700)
        seen = place.root.stat()
        entries = set(os.listdir(place.root))
    except PermissionError as error:
        raise BadSetting(
            f"data directory {place.root} cannot be used: permission denied at {error.filename}", hint=OTHER_DIRECTORY
        ) from None
    except OSError as error:
        raise BadSetting(f"data directory {place.root} cannot be used: {error.strerror}", hint=OTHER_DIRECTORY) from None
    check_owner(place)
    if seen.st_mode & stat.S_IWOTH and not seen.st_mode & stat.S_ISVTX:
        raise BadSetting(
            f"data directory {place.root} can be written by everybody on this machine",
            hint=f"chmod o-w {place.root}, or {OTHER_DIRECTORY}",
        )
    if entries and not entries & {"shopfloor.json", "shopfloor.lock"}:
        raise Refused(
            f"{place.root} is not empty and was not made by shopfloor: it holds {_some(entries)}",
            hint=OTHER_DIRECTORY,
            code="embedded.foreign",
        )
    # A marker that was being written when the power went leaves its temporary name.
    strange = {name for name in entries - _PARTS if not name.startswith("shopfloor.json.")}
    if "shopfloor.json" not in entries and strange:
        raise Refused(
            f"{place.root} is a half-made data directory that also holds {_some(strange)}",
            hint="move those away, or " + OTHER_DIRECTORY,
            code="embedded.foreign",
        )


def check_owner(place: Place) -> None:
    """Raise BadSetting when the data directory is somebody else's: root, too, would leave files there that its owner cannot use."""
    try:
        owner = place.root.stat().st_uid
    except FileNotFoundError:
        return
    except PermissionError as error:
        raise BadSetting(
            f"data directory {place.root} cannot be used: permission denied at {error.filename}", hint=OTHER_DIRECTORY
        ) from None
    if owner != os.geteuid():
        raise _not_yours(place)


def make_directories(path: Path, mode: int) -> None:
    """Make `path` and its missing parents; nothing that exists is changed."""
    missing = [path, *(parent for parent in path.parents if not parent.exists())]
    for step in reversed(missing):
        try:
            os.mkdir(step, mode)
        except FileExistsError:
            continue
        # The umask may have cut the mode, and a server under another account must pass here.
        os.chmod(step, mode)


def write_marker(place: Place, major: int) -> None:
    """Record that the data directory is whole."""
    write_atomically(place.marker, json.dumps({"layout": LAYOUT, "postgres_major": major}) + "\n", 0o644)


def write_atomically(path: Path, text: str, mode: int) -> None:
    """Replace `path` by `text`, on disk, in one step; readers see the old or the new, whole."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        os.fchmod(handle, mode)
        file.write(text)
        file.flush()
        os.fsync(handle)
    os.replace(temporary, path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames inside `path` survive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(place: Place, timeout_seconds: float) -> Iterator[None]:
    """Hold the data directory alone among processes and threads; Conflict after `timeout_seconds`."""
    path = place.root / "shopfloor.lock"
    deadline = time.monotonic() + timeout_seconds
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}", hint=OTHER_DIRECTORY) from None
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip() or "unknown"
                    raise Conflict(
                        f"{place.root} is still being started or stopped by process {holder} after {timeout_seconds:.0f} s",
                        hint="try again; see: shopfloor status",
                        code="embedded.busy",
                    ) from None
                time.sleep(0.02)
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)


def _not_yours(place: Place) -> BadSetting:
    owner = place.root.stat().st_uid
    return BadSetting(
        f"data directory {place.root} belongs to user {owner}, this is user {os.geteuid()}",
        hint=f"run as user {owner}, or {OTHER_DIRECTORY}",
    )


def _some(names: set[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
