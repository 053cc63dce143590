"""A source file opened without surprises: a regular file or standard input, and nothing that could hang or act."""

import errno
import io
import os
import shlex
import stat
import sys
from dataclasses import dataclass
from typing import BinaryIO

from contracts.errors import BadSource
from contracts.excerpts import printable

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells cheaply whether a file is still the one that was opened."""

    dev: int
    ino: int
    size_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, seen: os.stat_result) -> "Fingerprint":
        return cls(seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Opened:
    """A readable stream of raw bytes."""

    name: str
    """Printable, for messages."""
    stream: BinaryIO
    path: str | None
    """None for standard input."""
    fingerprint: Fingerprint | None
    """None for what is not a file, such as a pipe."""
    total_bytes: int | None

    def change(self) -> str:
        """Return how the file differs from when it was opened, in words; empty when it does not."""
        if self.fingerprint is None:
            return ""
        try:
            now = Fingerprint.of(os.stat(self.path) if self.path else os.fstat(self.stream.fileno()))
        except OSError:
            return "it is gone"
        before = self.fingerprint
        if now == before:
            return ""
        if (now.dev, now.ino) != (before.dev, before.ino):
            return "another file has its name"
        if now.size_bytes != before.size_bytes:
            return f"it was {before.size_bytes} bytes and is {now.size_bytes}"
        return "it was written to"

    def close(self) -> None:
        """Close the file; standard input stays open, it is not ours."""
        if self.path is not None:
            self.stream.close()


def open_raw(path: str, stdin: BinaryIO | None) -> Opened:
    """Return `path`, or standard input for `-`, ready to be read. Raises BadSource for all but regular files."""
    if path == "-":
        return _standard_input(stdin or sys.stdin.buffer)
    name = printable(path, 200)
    try:
        # Looked at before it is opened: opening a device can act, opening a pipe can wait.
        _refuse_irregular(os.stat(path).st_mode, name)
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise _cannot_open(path, name, error) from error
    stream = io.FileIO(handle)
    seen = os.fstat(handle)
    try:
        _refuse_irregular(seen.st_mode, name)
        if not seen.st_size:
            raise BadSource(f"{name} is empty: expected at least one row")
    except BadSource:
        stream.close()
        raise
    return Opened(name, stream, path, Fingerprint.of(seen), seen.st_size)


def _standard_input(stream: BinaryIO) -> Opened:
    try:
        handle = stream.fileno()
    except (OSError, ValueError):
        return Opened("standard input", stream, None, None, None)
    if os.isatty(handle):
        raise BadSource(
            "standard input is a terminal: expected rows from a pipe or file",
            hint="type: shopfloor intake - --flow FLOW < FILE",
        )
    seen = os.fstat(handle)
    if stat.S_ISREG(seen.st_mode):
        # A shell may hand over a file of which something was read already.
        left_bytes = max(0, seen.st_size - stream.tell())
        return Opened("standard input", stream, None, Fingerprint.of(seen), left_bytes)
    return Opened("standard input", stream, None, None, None)


def _refuse_irregular(mode: int, name: str) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "not a file")
        many = stat.S_ISDIR(mode)
        raise BadSource(
            f"{name} is {kind}: expected a regular file",
            hint="give the files one by one" if many else f"to read a stream, type: shopfloor intake - --flow FLOW < {shlex.quote(name)}",
        )


def _cannot_open(path: str, name: str, error: OSError | ValueError) -> BadSource:
    if isinstance(error, FileNotFoundError):
        if os.path.islink(path):
            target = printable(os.readlink(path), 200)
            return BadSource(f"{name} is a symbolic link to {target}, which does not exist")
        return BadSource(f"{name} does not exist", hint=f"looked in {printable(os.getcwd(), 200)}")
    if isinstance(error, PermissionError):
        return BadSource(f"{name} may not be read by this user", hint=f"type: ls -l {shlex.quote(name)}; or pipe it in with -")
    if isinstance(error, OSError):
        if error.errno == errno.ELOOP:
            return BadSource(f"{name} is a symbolic link that leads back to itself")
        return BadSource(f"{name} cannot be opened: {error.strerror}")
    return BadSource(f"{name} is not a file name: it holds a NUL character")
