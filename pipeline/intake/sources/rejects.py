"""The rejects file: one JSON line per row that was not taken, with its place and why."""

import contextlib
import json
import os
import stat
from types import TracebackType
from typing import Self

from contracts.errors import BadInput, Refused
from contracts.excerpts import printable
from pipeline.intake.sources.rows import BadRow

FIELDS = ("line", "byte_offset", "row_no", "field", "code", "message", "excerpt")
_READ_BYTES = 256 * 1024


class RejectsFile:
    """Rejects, appended in whole lines. Nothing is on disk before `flush`, which runs once per chunk of rows."""

    def __init__(self, path: str, *, after_row: int = 0) -> None:
        """Open `path` for the rejects behind row `after_row`; those up to it are kept from an earlier run.

        Lines behind it, and a torn last line, are dropped: their rows will be read again. Raises BadInput when
        the path holds anything but rejects.
        """
        self.name = printable(path, 200)
        self.count = 0
        """Rejects in the file and in the buffer, kept ones included."""
        self._lines: list[bytes] = []
        try:
            # Not truncated: what is there may be somebody's data.
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it is not a file name"
            raise BadInput(f"the rejects file {self.name} cannot be written: {why}") from error
        try:
            if not stat.S_ISREG(os.fstat(self._handle).st_mode):
                raise BadInput(f"{self.name} cannot hold rejects: expected a regular file")
            self.keep(after_row)
            os.fchmod(self._handle, 0o600)
        except OSError as error:
            os.close(self._handle)
            raise BadInput(f"the rejects file {self.name} cannot be used: {error.strerror}") from error
        except BadInput:
            os.close(self._handle)
            raise

    def keep(self, after_row: int) -> None:
        """Drop everything behind row `after_row`, in the file and in the buffer."""
        self._lines.clear()
        self.count = 0
        os.ftruncate(self._handle, self._kept(after_row))

    def add(self, bad: BadRow) -> None:
        """Queue one reject for the next flush."""
        # ASCII, so that no reader of the file has to think about its encoding.
        self._lines.append(json.dumps({field: getattr(bad, field) for field in FIELDS}).encode() + b"\n")
        self.count += 1

    def flush(self) -> None:
        """Append the queued lines in one write; after a failure the file ends where it did before."""
        if not self._lines:
            return
        data = memoryview(b"".join(self._lines))
        before = os.fstat(self._handle).st_size
        try:
            while data:
                data = data[os.write(self._handle, data) :]
        except OSError as error:
            # The write's own error is the one to tell.
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, before)
            raise Refused(
                f"the rejects file {self.name} cannot be written: {error.strerror}",
                hint="make room or choose another path, then run the same command again",
            ) from error
        self._lines.clear()

    def close(self) -> None:
        """Flush and close."""
        try:
            self.flush()
        finally:
            os.close(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _kept(self, after_row: int) -> int:
        """Return how many bytes of the file are whole lines for rows up to `after_row`."""
        keep_bytes = 0
        with os.fdopen(os.dup(self._handle), "rb", buffering=_READ_BYTES) as old:
            old.seek(0)
            for number, line in enumerate(old, 1):
                row_no = _row_of(line)
                if row_no is None:
                    if number > 1 and not line.endswith(b"\n"):
                        break
                    raise BadInput(
                        f"{self.name} is there and line {number} is not a reject: it will not be overwritten",
                        hint="choose another path, or remove the file",
                    )
                if row_no > after_row:
                    break
                keep_bytes += len(line)
                self.count += 1
        return keep_bytes


def _row_of(line: bytes) -> int | None:
    """Return the row number of a whole line of rejects, None for any other line."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_reject = isinstance(found, dict) and tuple(found) == FIELDS and type(found["row_no"]) is int
    return found["row_no"] if is_reject and line.endswith(b"\n") else None
