"""The files of a local tracker: read whole, replaced whole, one writer at a time.

| path | is |
|---|---|
| `FOLDER/owner__repo/12.json` | one issue, sorted JSON, made to be read and edited by people |
| `FOLDER/owner__repo/.locks/12` | held (flock) while 12.json is replaced; never removed |
| `FOLDER/owner__repo/.12.json.new` | the next version while it is being written |
"""

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workcells.appliers import SendUnknown, TargetMissing, TargetUnavailable
from workcells.appliers.changes import Subject

LOCKS = ".locks"
FILE_BYTES = 16 * 1024 * 1024
_TEXTS = ("state_reason", "closed_at", "created_at", "updated_at", "merged_at", "author", "author_association")
_PLAIN = json.JSONEncoder(sort_keys=True, ensure_ascii=False)
_ESCAPED = json.JSONEncoder(sort_keys=True)

Stamp = tuple[int, int, int]
"""Inode, modification time in ns, size: differs when the file was written or replaced in between."""


def path_of(folder: Path, subject: Subject) -> Path:
    """Return where the issue's file is, or would be. Raises TargetUnavailable when a link leads out of `folder`."""
    home = folder / f"{subject.owner}__{subject.repo}"
    if home.is_symlink():
        raise TargetUnavailable(f"{home} is a symbolic link, not a folder of the tracker", code="target.malformed")
    return home / f"{subject.number}.json"


def render(document: dict[str, Any]) -> bytes:
    """Return the bytes of an issue file: a field a line, an entry of `comments` and `applied` a line."""
    try:
        return _lines(document, _PLAIN).encode()
    except UnicodeEncodeError:  # a lone surrogate can only be written as an escape
        return _lines(document, _ESCAPED).encode()


def _lines(document: dict[str, Any], encoder: json.JSONEncoder) -> str:
    # Laid out here because json.dumps(indent=…) leaves the C encoder: four times slower for a whole tracker.
    lines = []
    for name in sorted(document):
        value = document[name]
        if value and name in ("comments", "applied"):
            text = "[\n    " + ",\n    ".join(map(encoder.encode, value)) + "\n  ]"
        else:
            text = encoder.encode(value)
        lines.append(f"  {encoder.encode(name)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def load(path: Path) -> tuple[dict[str, Any], Stamp]:
    """Return an issue file's document, checked, with the stamp of the bytes that were read.

    Raises TargetMissing when there is no such file in an existing tracker, TargetUnavailable for all else.
    """
    try:
        # O_NONBLOCK: opening a FIFO that somebody left there must not hang.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise _malformed(path, "not a regular file")
            data = file.read(FILE_BYTES + 1)
    except FileNotFoundError as error:
        if not path.parent.parent.is_dir():  # an unmounted disk is not a thousand deleted issues
            raise TargetUnavailable(f"tracker folder {path.parent.parent} is missing: mount it, or seed it") from error
        raise TargetMissing(f"the tracker has no {path.parent.name}/{path.name}") from error
    except OSError as error:
        raise TargetUnavailable(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > FILE_BYTES:
        raise _malformed(path, f"more than {FILE_BYTES} bytes")
    return _checked(path, data), (status.st_ino, status.st_mtime_ns, status.st_size)


@contextlib.contextmanager
def locked(path: Path, *, wait_seconds: float) -> Iterator[None]:
    """Hold the lock of one issue file. Raises TargetUnavailable when it is not free within `wait_seconds`.

    The kernel drops the lock of a killed holder, so that none is ever left behind.
    """
    lock = path.parent / LOCKS / path.stem
    try:
        lock.parent.mkdir(exist_ok=True)
        # A link in its place would lead out of the tracker.
        os.close(os.open(lock.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except PermissionError:  # made by another user: locked as well by who may only read it, but on NFS
            handle = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise TargetUnavailable(f"{lock} cannot be opened: {error.strerror}; {path.name} is unchanged") from error
    try:
        until = time.monotonic() + wait_seconds
        while True:
            try:
                # flock, not lockf: a POSIX lock belongs to the process, and two threads of it would both hold it.
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise TargetUnavailable(
                        f"{path} has been locked by somebody else for {wait_seconds:g} s; nothing was changed"
                    ) from None
                time.sleep(0.005)
        yield
    finally:
        os.close(handle)


def replace(path: Path, document: dict[str, Any], *, seen: Stamp) -> None:
    """Replace an issue file by `document`: whole or not at all, on disk when this returns. The caller holds the lock.

    Raises TargetUnavailable when nothing was changed: the disk refused, or somebody who does not use the lock has
    written the file since it was `seen`. Raises SendUnknown when the new version is visible but may not survive
    a power cut.
    """
    aside = path.with_name(f".{path.name}.new")
    try:
        write_aside(aside, render(document), mode=stat.S_IMODE(path.stat().st_mode))
        status = os.stat(path, follow_symlinks=False)
        if (status.st_ino, status.st_mtime_ns, status.st_size) != seen:
            aside.unlink()
            raise TargetUnavailable(f"{path} was edited by somebody else in the same moment; nothing was changed")
        os.rename(aside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise TargetUnavailable(f"{path} cannot be replaced: {error.strerror}; nothing was changed") from error
    try:
        sync_folder(path.parent)
    except OSError as error:
        raise SendUnknown(f"{path} was replaced, but its folder could not be synced: {error.strerror}") from error


def write_aside(aside: Path, data: bytes, *, mode: int, sync: bool = True) -> None:
    """Write a file whole at a name where nobody looks, replacing what a killed writer left there."""
    aside.unlink(missing_ok=True)  # by its name: it may belong to another user, or be a link
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(handle, "wb") as file:
        os.fchmod(handle, mode)
        file.write(data)
        file.flush()
        if sync:
            os.fsync(handle)


def sync_folder(folder: Path) -> None:
    """Return when the names in `folder` are on disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _checked(path: Path, data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data.decode(), parse_constant=_no_constant, object_pairs_hook=_no_repeats)
    except (ValueError, RecursionError) as error:
        raise _malformed(path, f"not JSON ({str(error)[:120] or 'nested too deeply'})") from error
    if not isinstance(document, dict):
        raise _malformed(path, "not a JSON object")
    for name, plain in (("kind", "issue"), ("body", ""), ("labels", []), ("comments", []), ("applied", [])):
        if document.get(name) is None:
            document[name] = list(plain) if isinstance(plain, list) else plain
    for name in _TEXTS:
        if not isinstance(document.setdefault(name, None), str | None):
            raise _malformed(path, f"/{name} is neither text nor null")
    for name in ("draft", "locked"):
        if not isinstance(document.setdefault(name, False), bool):
            raise _malformed(path, f"/{name} is neither true nor false")
    if document.get("state") not in ("open", "closed"):
        raise _malformed(path, "/state is neither open nor closed")
    if document["kind"] not in ("issue", "pull_request"):
        raise _malformed(path, "/kind is neither issue nor pull_request")
    if not isinstance(document.get("title"), str) or not isinstance(document["body"], str):
        raise _malformed(path, "/title and /body are not both text")
    for name, kind, what in (("labels", str, "names"), ("comments", dict, "objects"), ("applied", dict, "objects")):
        value = document[name]
        if not isinstance(value, list) or not all(isinstance(one, kind) for one in value):
            raise _malformed(path, f"/{name} is not a list of {what}")
    return document


def _malformed(path: Path, seen: str) -> TargetUnavailable:
    return TargetUnavailable(
        f"{path} is not an issue file: {seen}; nothing was changed",
        hint=f"fix it, or seed it again: {path}",
        code="target.malformed",
    )


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object holds the same key twice")
    return found
