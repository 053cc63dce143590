"""Bytes named by their SHA-256: small ones in the database beside their item, large ones on disk."""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg import Cursor
from contracts.errors import StoreUnavailable, Unavailable
from queues.database import Connection

ROW_BYTES = 64 * 1024
"""Bodies up to this size live in the table `bodies`; larger ones are files."""


def sha256_of(data: bytes) -> bytes:
    """Return the 32 raw bytes that name `data`."""
    return hashlib.sha256(data).digest()


def storage_of(data: bytes) -> str:
    """Return where a body of this size is stored: `row` or `disk`."""
    return "row" if len(data) <= ROW_BYTES else "disk"


class BlobStore:
    """Large bodies as files `ab/abcdef…` under one folder. A file is whole or absent: written under another name, synced, renamed, synced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, sha256: bytes) -> Path:
        """Return where a blob is, or would be."""
        name = sha256.hex()
        return self.folder / name[:2] / name

    def put(self, data: bytes) -> bytes:
        """Store `data` and return its name; storing the same bytes again only renews the file's time."""
        sha256 = sha256_of(data)
        path = self.path(sha256)
        # Before anything else: a young file is not collected while we are about to name it. One call both finds the file and
        # renews it, so that nothing comes between. Where the file is another user's, a copy of our own takes its place.
        with contextlib.suppress(OSError):
            os.utime(path)
            return sha256
        # A name of its own, and never a link: other users may write in this folder, and we may be root.
        aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not path.parent.exists():
                path.parent.mkdir(exist_ok=True, mode=0o700)
                _sync(self.folder)
            handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(handle, "wb") as file:
                # As open as the folder is, whatever the umask: users who share the store read, renew and put back each other's
                # files, and only who may write a file may give it a second name.
                os.fchmod(handle, 0o600 | path.parent.stat().st_mode & 0o066)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            aside.rename(path)
            _sync(path.parent)  # the row that names it may be on disk before the name is
        except OSError as error:
            # What is half-written is worth least where the disk is full.
            with contextlib.suppress(OSError):
                aside.unlink()
            raise StoreUnavailable(
                f"the artifact store at {self.folder} refused {len(data)} bytes: {error.strerror}",
                hint="free space or fix its permissions; the work is tried again by itself",
            ) from error
        return sha256

    def get(self, sha256: bytes) -> bytes:
        """Return the bytes of a blob, verified.

        Raises Unavailable when they are missing or do not match their name, StoreUnavailable when the disk cannot be read.
        """
        try:
            data = self.path(sha256).read_bytes()
        except FileNotFoundError as error:
            raise Unavailable(f"no bytes that hash to {sha256.hex()} are stored", code="unavailable.blob") from error
        except OSError as error:
            raise StoreUnavailable(f"the artifact store at {self.folder} cannot read blob {sha256.hex()}: {error.strerror}") from error
        if sha256_of(data) != sha256:
            raise Unavailable(f"blob {sha256.hex()} does not match its name: its bytes changed on disk", code="unavailable.blob")
        return data


def _sync(folder: Path) -> None:
    """Write a folder's names to disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_READ = """
SELECT b.item_id, b.sha256, b.bytes
  FROM unnest(%b::uuid[], %b::bytea[]) AS t (item_id, sha256)
 CROSS JOIN LATERAL (SELECT * FROM bodies WHERE item_id = t.item_id AND sha256 = t.sha256 OFFSET 0) b
"""
_WRITE = """
INSERT INTO bodies (item_id, sha256, workspace_id, bytes)
SELECT *
  FROM unnest(%b::uuid[], %b::bytea[], %b::uuid[], %b::bytea[])
    ON CONFLICT DO NOTHING
"""


def read_bodies(conn: Connection, store: BlobStore, wanted: Iterable[tuple[UUID, bytes]]) -> dict[tuple[UUID, bytes], bytes]:
    """Return the bytes for each (item, name), verified against the name; a body that is nowhere is left out."""
    pairs = list(wanted)
    if not pairs:
        return {}
    found = verified_bodies(send_body_query(conn, pairs))
    for pair in pairs:
        if pair not in found and store.path(pair[1]).exists():
            found[pair] = store.get(pair[1])
    return found


def require_bodies(conn: Connection, store: BlobStore, wanted: Iterable[tuple[UUID, bytes]]) -> dict[tuple[UUID, bytes], bytes]:
    """Return what `read_bodies` does. Raises Unavailable when one is missing, or is not what its name says."""
    pairs = list(wanted)
    found = read_bodies(conn, store, pairs)
    for pair in pairs:
        if pair not in found:
            raise Unavailable(f"no bytes that hash to {pair[1].hex()} are stored for item {pair[0]}", code="unavailable.blob")
    return found


def send_body_query(conn: Connection, wanted: Sequence[tuple[UUID, bytes]]) -> Cursor[Any]:
    """Send the query for the rows that hold the bytes of each (item, name); inside a pipeline its answer is not waited for."""
    return conn.execute(_READ, [[item for item, _ in wanted], [sha for _, sha in wanted]], prepare=True, binary=True)


def verified_bodies(rows: Iterable[tuple[UUID, bytes, bytes]]) -> dict[tuple[UUID, bytes], bytes]:
    """Return the bytes by (item, name), without those that do not hash to their name."""
    return {(item, sha): data for item, sha, data in rows if sha256_of(data) == sha}


def write_bodies(conn: Connection, bodies: Sequence[tuple[UUID, bytes, UUID, bytes]]) -> None:
    """Store small bodies as (item, name, workspace, bytes) in the caller's transaction."""
    if bodies:
        conn.execute(_WRITE, [list(column) for column in zip(*bodies, strict=True)], prepare=True)
