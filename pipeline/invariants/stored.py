"""Invariant 9: bytes exist, match their names and sizes, and none lies about unused."""

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

from psycopg.rows import TupleRow
from pipeline.invariants.look import Look, Tally, tell

GRACE_SECONDS = 3600.0
"""A temporary file or a blob that nothing names may be this old: an intake or a worker may still be about to name it."""
_CHUNK = 5_000
_READ_BYTES = 1 << 20

_BODIES = """
SELECT 9, 'item ' || item_id || ': the bytes stored as ' || encode(sha256, 'hex') || ' hash to ' || encode(sha256(bytes), 'hex')
  FROM bodies WHERE sha256(bytes) <> sha256
UNION ALL
SELECT 9, 'artifact ' || a.id || ' of item ' || a.item_id || ' says ' || a.size_bytes || ' bytes, ' || length(b.bytes) || ' are stored'
  FROM artifacts a JOIN bodies b ON b.item_id = a.item_id AND b.sha256 = a.sha256
 WHERE a.erased_at IS NULL AND length(b.bytes) <> a.size_bytes
"""


def check_bodies(look: Look, tally: Tally) -> None:
    """Note stored bytes that do not match their name, or the size that an artifact states."""
    tell(look, tally, _BODIES)


# Bodies too large for a row are files; a queued item needs its payload as an artifact needs its bytes.
_ELSEWHERE = """
SELECT a.item_id, 'artifact ' || a.id, a.sha256, a.size_bytes FROM artifacts a
 WHERE a.erased_at IS NULL AND NOT EXISTS (SELECT FROM bodies b WHERE b.item_id = a.item_id AND b.sha256 = a.sha256)
UNION ALL
SELECT q.item_id, 'the payload', i.payload_sha256, NULL FROM queue q JOIN items i ON i.id = q.item_id
 WHERE NOT EXISTS (SELECT FROM bodies b WHERE b.item_id = q.item_id AND b.sha256 = i.payload_sha256)
"""


def check_files(look: Look, tally: Tally) -> None:
    """Note missing, damaged and left-over files of the artifact store, and bytes that are in neither place."""
    files, leftovers = _files(look.store.folder)
    for path in leftovers:
        tally.add(9, f"temporary file {path} is older than {GRACE_SECONDS / 3600:.0f} h")
    damaged = {name for name, path in files.items() if not _is_whole(path, name)}
    for name in sorted(damaged):
        tally.add(9, f"the bytes of {files[name]} do not match its name")
    for item, what, sha256, size in _rows(look, _ELSEWHERE):
        if sha256 not in files:
            tally.add(9, f"{what} of item {item}: its bytes {sha256.hex()} are stored nowhere")
        elif size is not None and sha256 not in damaged and (stored := files[sha256].stat().st_size) != size:
            tally.add(9, f"{what} of item {item} says {size} bytes, {stored} are stored")
    for name in _unnamed(look, files):
        tally.add(9, f"nothing names the blob {files[name]}, and it is older than {GRACE_SECONDS / 3600:.0f} h")


def _rows(look: Look, query: str) -> Iterator[TupleRow]:
    """Yield the rows of a query a few thousand at a time, through a cursor on the server."""
    with look.conn.cursor(name="stored", binary=True) as cursor:
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
        return time.time() - path.stat().st_mtime > GRACE_SECONDS
    except FileNotFoundError:
        return False  # renamed meanwhile: it was in use


def _is_whole(path: Path, name: bytes) -> bool:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(_READ_BYTES):
                digest.update(piece)
    except OSError:
        return False
    return digest.digest() == name


_NAMED = """
SELECT t.name FROM unnest(%s::bytea[]) AS t (name)
 WHERE t.name IN (SELECT sha256 FROM artifacts) OR t.name IN (SELECT payload_sha256 FROM items)
    OR t.name IN (SELECT output_sha256 FROM attempts WHERE output_sha256 IS NOT NULL) OR t.name IN (SELECT input_sha256 FROM attempts)
"""
# What a cell gave is named by the wrapper of its attempt alone, when the gate before the shelf turned it away.
_WRAPPED = """
SELECT decode(convert_from(b.bytes, 'UTF8')::json ->> 'value', 'hex') AS name
  FROM attempts t JOIN bodies b ON b.item_id = t.item_id AND b.sha256 = t.output_sha256 AND sha256(b.bytes) = b.sha256
"""


def _unnamed(look: Look, files: dict[bytes, Path]) -> list[bytes]:
    """Return the names of old files that no row refers to."""
    old = [name for name, path in files.items() if _is_old(path)]
    for start in range(0, len(old), _CHUNK):
        chunk = old[start : start + _CHUNK]
        named = {bytes(name) for (name,) in look.conn.execute(_NAMED, [chunk])}
        old[start : start + _CHUNK] = [name if name not in named else b"" for name in chunk]
    left = {name for name in old if name}
    if not left:
        return []
    left -= {bytes(name) for (name,) in look.conn.execute(f"SELECT DISTINCT name FROM ({_WRAPPED}) w WHERE name = ANY(%s)", [sorted(left)])}
    return sorted(left - _wrapped_in_files(look, files))


def _wrapped_in_files(look: Look, files: dict[bytes, Path]) -> set[bytes]:
    """Return the names that wrappers hold which are themselves files."""
    names = set()
    rows = look.conn.execute("SELECT DISTINCT output_sha256 FROM attempts WHERE output_sha256 = ANY(%s)", [list(files)])
    for (wrapper,) in rows:
        names.add(bytes.fromhex(json.loads(files[wrapper].read_bytes()).get("value", "")))
    return names
