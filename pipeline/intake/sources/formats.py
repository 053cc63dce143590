"""What a source is written in, by its name and its first bytes."""

import json

from contracts.errors import BadSource
from contracts.excerpts import printable
from pipeline.intake.sources.byte_stream import GZIP_MAGIC

FORMATS = ("jsonl", "json", "csv", "tsv")
HEAD_BYTES = 64 * 1024
UTF8_BOM = b"\xef\xbb\xbf"

_ENDINGS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv"}
_WHITE = b" \t\r\n"
_BOMS = {
    b"\xff\xfe\x00\x00": "UTF-32LE",
    b"\x00\x00\xfe\xff": "UTF-32BE",
    b"\xff\xfe": "UTF-16LE",
    b"\xfe\xff": "UTF-16BE",
}
_PACKED = {
    GZIP_MAGIC: ("gzip inside gzip", "gunzip"),
    b"PK\x03\x04": ("a zip archive", "unzip -p"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -dc"),
    b"\xfd7zXZ\x00": ("xz", "xz -dc"),
    b"BZh": ("bzip2", "bzip2 -dc"),
    b"PAR1": ("Parquet", ""),
    b"SQLite format 3\x00": ("an SQLite database", ""),
}


def checked_format(declared: str | None) -> str | None:
    """Return a declared format in its usual spelling. Raises BadSource for an unknown one."""
    if declared is None or declared in FORMATS:
        return declared
    if declared == "ndjson":
        return "jsonl"
    raise BadSource(f"the format '{printable(declared)}' is unknown: expected one of {', '.join(FORMATS)}")


def format_by_name(path: str) -> str | None:
    """Return the format that the ending of `path` says, with or without .gz."""
    lower = path.lower().removesuffix(".gz")
    return next((kind for ending, kind in _ENDINGS.items() if lower.endswith(ending)), None)


def refuse_other_bytes(head: bytes, *, name: str, is_named_gzip: bool) -> None:
    """Raise BadSource when `head` is not the beginning of UTF-8 text."""
    encoding = next((kind for bom, kind in _BOMS.items() if head.startswith(bom)), None) or _zeros_say(head[:8])
    if encoding:
        raise BadSource(
            f"{name} is {encoding}: expected UTF-8",
            hint=f"convert it; type: iconv -f {encoding[:6]} -t UTF-8 FILE > FILE.utf8",
        )
    for magic, (kind, command) in _PACKED.items():
        if head.startswith(magic):
            hint = f"type: {command} FILE | shopfloor intake - --flow FLOW" if command else "export it as JSONL or CSV"
            raise BadSource(f"{name} is {kind}: expected JSONL, a JSON array or CSV, plain or gzip", hint=hint)
    if is_named_gzip and any(byte < 9 or 13 < byte < 32 for byte in head[:512]):
        raise BadSource(f"{name} is named .gz and is neither gzip nor text", hint="type: gzip -t FILE; fetch it again")


def settled_format(head: bytes, *, declared: str | None, named: str | None, name: str) -> str:
    """Return what to read the source as. Raises BadSource where name, declaration and content cannot agree."""
    start = head.lstrip(_WHITE)
    if not start:
        if len(head) < HEAD_BYTES:
            raise BadSource(f"{name} holds no rows: it is empty or blank")
        raise BadSource(f"{name} begins with {len(head)} blank bytes: expected rows")
    first = start[:1]
    kind = declared or named or {b"[": "json", b"{": "jsonl"}.get(first)
    if kind is None:
        raise BadSource(
            f"{name} does not say what it is: expected a name that ends in {', '.join(_ENDINGS)} (or one with .gz)",
            hint=f"rename it, or give its format: {', '.join(FORMATS)}",
        )
    if kind == "json" and first != b"[":
        # Archives often name their JSON lines .json; a declaration is taken at its word.
        if declared is None and _is_lines(start):
            return "jsonl"
        what = "a single object" if first == b"{" else f"no array: it begins with '{printable(_text(start), 20)}'"
        raise BadSource(f"{name} is {what}", hint="expected an array of objects, or one object per line (.jsonl)")
    if kind == "jsonl" and start.splitlines()[0].strip() in (b"{", b"[", b"[{"):
        is_array = first == b"["
        raise BadSource(
            f"{name} is {'an array' if is_array else 'an object'} over several lines: expected one object per line",
            hint="name it .json, or give the format json" if is_array else "type: jq -c . FILE > FILE.jsonl",
        )
    if kind in ("csv", "tsv") and declared is None and start.startswith((b'{"', b"[{")):
        raise BadSource(
            f"{name} is named .{kind} and holds JSON: it begins with '{printable(_text(start), 20)}'",
            hint=f"rename it to {'.jsonl' if first == b'{' else '.json'}",
        )
    return kind


def _is_lines(start: bytes) -> bool:
    """Say whether `start` is one whole object on its line and another one after it."""
    line, _, rest = start.partition(b"\n")
    try:
        return isinstance(json.loads(line), dict) and rest.lstrip(_WHITE).startswith(b"{")
    except (ValueError, RecursionError):
        return False


def _zeros_say(head: bytes) -> str:
    """Name the encoding that puts zeros between the letters of `head`, if it looks so."""
    even, odd = head[0::2], head[1::2]
    if len(head) >= 4 and not any(odd) and all(even):
        return "UTF-16LE"
    if len(head) >= 4 and not any(even) and all(odd):
        return "UTF-16BE"
    return "UTF-32" if head.count(0) == 6 and len(head) == 8 else ""


def _text(start: bytes) -> str:
    return start[:80].decode("utf-8", "backslashreplace")
