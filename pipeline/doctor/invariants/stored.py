"""Invariant 9: bytes exist, match their names and sizes, and none lies about unused."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from psycopg.rows import TupleRow
from artifacts.orphans import find_orphans, is_past_grace
from contracts.errors import Unavailable
from pipeline.doctor.invariants.checking import CheckContext, ViolationCounts, report_violations
from pipeline.sweeper.orphaned_blobs import LATEST_SECONDS

_LATEST = f"{LATEST_SECONDS / 60:.0f} minutes"
_CHUNK = 5_000
_READ_BYTES = 1 << 20

_BODIES = """
SELECT 9,
       'item ' || item_id || ': the bytes stored as ' || encode(sha256, 'hex') || ' hash to '
       || encode(sha256(bytes), 'hex')
  FROM bodies WHERE sha256(bytes) <> sha256
UNION ALL
SELECT 9,
       'artifact ' || a.id || ' of item ' || a.item_id || ' says ' || a.size_bytes || ' bytes, ' || length(b.bytes)
       || ' are stored'
  FROM artifacts a JOIN bodies b ON b.item_id = a.item_id AND b.sha256 = a.sha256
 WHERE a.erased_at IS NULL AND length(b.bytes) <> a.size_bytes
"""


def check_bodies(context: CheckContext, counts: ViolationCounts) -> None:
    """Note stored bytes that do not match their name, or the size that an artifact states."""
    report_violations(context, counts, _BODIES)


# Bodies too large for a row are files; a queued item needs its payload as an artifact needs its bytes.
_ELSEWHERE = """
SELECT a.item_id, 'artifact ' || a.id, a.sha256, a.size_bytes FROM artifacts a
 WHERE a.erased_at IS NULL AND NOT EXISTS (SELECT FROM bodies b WHERE b.item_id = a.item_id AND b.sha256 = a.sha256)
UNION ALL
SELECT q.item_id, 'the payload', i.payload_sha256, NULL FROM queue q JOIN items i ON i.id = q.item_id
 WHERE NOT EXISTS (SELECT FROM bodies b WHERE b.item_id = q.item_id AND b.sha256 = i.payload_sha256)
"""


def check_files(context: CheckContext, counts: ViolationCounts) -> None:
    """Note missing, damaged and left-over files of the artifact store, and bytes that are in neither place."""
    files, leftovers = _files(context.store.folder)
    for path in leftovers:
        counts.add(9, f"temporary file {path} is older than {_LATEST}")
    damaged = {name for name, path in files.items() if not _is_whole(path, name)}
    for name in sorted(damaged):
        counts.add(9, f"the bytes of {files[name]} do not match its name")
    for item, what, sha256, size in _rows(context, _ELSEWHERE):
        if sha256 not in files:
            counts.add(9, f"{what} of item {item}: its bytes {sha256.hex()} are stored nowhere")
        elif size is not None and sha256 not in damaged and (stored := files[sha256].stat().st_size) != size:
            counts.add(9, f"{what} of item {item} says {size} bytes, {stored} are stored")
    try:
        for blob in find_orphans(context.conn, context.store, grace=LATEST_SECONDS):
            counts.add(9, f"nothing names the blob {blob.path}, and it is older than {_LATEST}")
    except (Unavailable, ValueError) as error:
        counts.add(9, f"what nothing names cannot be told: {error}")


def _rows(context: CheckContext, query: str) -> Iterator[TupleRow]:
    """Yield the rows of a query a few thousand at a time, through a cursor on the server."""
    with context.conn.cursor(name="stored", binary=True) as cursor:
        cursor.itersize = _CHUNK
        yield from cursor.execute(query)


def _files(folder: Path) -> tuple[dict[bytes, Path], list[Path]]:
    """Return the store's blobs by name, and the temporary files that are older than the grace time."""
    blobs: dict[bytes, Path] = {}
    leftovers = []
    for path in sorted(folder.glob("*/*")):
        if len(path.name) == 64 and path.is_file():
            blobs[bytes.fromhex(path.name)] = path
        elif _is_old(path):
            leftovers.append(path)
    return blobs, leftovers


def _is_old(path: Path) -> bool:
    try:
        return is_past_grace(path.stat().st_mtime, grace=LATEST_SECONDS)
    except FileNotFoundError:
        return False  # renamed meanwhile: it was in use


def _is_whole(path: Path, name: bytes) -> bool:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(_READ_BYTES):
                digest.update(piece)
    except FileNotFoundError:
        return True  # collected meanwhile: had a row named it, it would not have been
    except OSError:
        return False
    return digest.digest() == name
