"""Orphans: files of the store that no row names. A crash between a blob and its commit leaves one; the sweeper removes it."""

import json
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from artifacts.blobs import BlobStore
from queues.database import Connection

GRACE_SECONDS = 3600.0
"""A file that nothing names is left alone for this long after it was last stored: its writer may still be about to name it."""
_SLICE = 20_000
"""Files that one query to the database is about."""
_BLOB = re.compile(r"[0-9a-f]{64}")
_WRITING = re.compile(r"\.[0-9a-f]{64}\.[0-9a-f]+")
_LEAVING = re.compile(r"\.([0-9a-f]{64})\.leaving\.[0-9a-f]+")


class Blob(NamedTuple):
    """A file of the store as it was found."""

    name: bytes
    path: Path
    modified_ns: int
    """When its bytes were last stored, by the clock of the file system."""


def is_past_grace(modified_seconds: float, *, grace: float = GRACE_SECONDS) -> bool:
    """Return whether a file that was last changed then has been left alone for longer than the grace."""
    return time.time() - modified_seconds > grace


def find_orphans(conn: Connection, store: BlobStore, *, grace: float = GRACE_SECONDS) -> Iterator[Blob]:
    """Yield the blobs past their grace that no row names, asking the database about a slice of the store at a time."""
    old = (blob for blob in walk_blobs(store) if is_past_grace(blob.modified_ns / 1e9, grace=grace))
    while part := list(islice(old, _SLICE)):
        known = names_in_use(conn, store, [blob.name for blob in part])
        yield from (blob for blob in part if blob.name not in known)


def walk_blobs(store: BlobStore) -> Iterator[Blob]:
    """Yield the blobs of a store by name, one folder in memory at a time. Links and what is no blob are left out."""
    for entry in _entries(store):
        if _BLOB.fullmatch(entry.name):
            with suppress(FileNotFoundError):
                yield Blob(bytes.fromhex(entry.name), Path(entry.path), entry.stat(follow_symlinks=False).st_mtime_ns)


def _entries(store: BlobStore) -> Iterator[os.DirEntry[str]]:
    for number in range(256):
        with suppress(FileNotFoundError), os.scandir(store.folder / f"{number:02x}") as found:
            yield from sorted((entry for entry in found if entry.is_file(follow_symlinks=False)), key=lambda entry: entry.name)


def names_in_use(conn: Connection, store: BlobStore, names: Iterable[bytes]) -> set[bytes]:
    """Return those of `names` that a row holds: as artifact, payload, input or output of an attempt, or as the value in an output.

    Sees all workspaces, whoever asks. Raises Unavailable when a file that may name others cannot be read.
    """
    wanted = set(names)
    found = {bytes(name) for (name,) in conn.execute("SELECT named_bytes(%s)", [sorted(wanted)])}
    if wanted - found:
        # The output of an attempt names its value in JSON, and may itself be a file.
        everything = [blob.name for blob in walk_blobs(store)]
        outputs = conn.execute("SELECT DISTINCT output_sha256 FROM attempts WHERE output_sha256 = ANY(%s)", [everything])
        found |= wanted & {bytes.fromhex(json.loads(store.get(bytes(name))).get("value", "")) for (name,) in outputs}
    return found


# A blob is named by a transaction that commits after the file was stored, so "no row names it" is an answer about the
# past: by the time that it is acted upon, somebody may have stored the same bytes again and be about to name them.
# A put renews the time of the file first (BlobStore.put), and a young file is never removed. So the file is renamed, which
# only one process can do, and its time is read once more where no put can reach it. The same time as before the database
# was asked: nobody has stored it since, and everybody who stored it earlier had the whole grace to commit. Another time:
# somebody stored it meanwhile, and it is put back. A put that finds nothing under the name writes the bytes anew.
# Reading the time and then unlinking would leave a gap between the two.
def delete_blob(blob: Blob) -> bool:
    """Remove a blob that no row names, unless it was stored again since it was seen; return whether it is gone."""
    aside = blob.path.with_name(f".{blob.path.name}.leaving.{secrets.token_hex(8)}")
    try:
        blob.path.rename(aside)
    except FileNotFoundError:
        return False  # another sweeper was first
    if aside.stat().st_mtime_ns != blob.modified_ns:
        _put_back(aside, blob.path)
        return False
    aside.unlink(missing_ok=True)
    return True


def _put_back(aside: Path, path: Path) -> None:
    with suppress(FileExistsError, FileNotFoundError):
        os.link(aside, path)  # unlike a rename, never over a file that was stored meanwhile and is younger
    aside.unlink(missing_ok=True)


def remove_half_written(store: BlobStore, *, grace: float = GRACE_SECONDS) -> int:
    """Remove half-written files past their grace and return how many; a blob that a sweeper died with is put back."""
    removed = 0
    for entry in _entries(store):
        path = Path(entry.path)
        with suppress(FileNotFoundError):
            if leaving := _LEAVING.fullmatch(entry.name):
                _put_back(path, path.with_name(leaving[1]))
            elif _WRITING.fullmatch(entry.name) and is_past_grace(entry.stat(follow_symlinks=False).st_mtime, grace=grace):
                path.unlink()
                removed += 1
    return removed
