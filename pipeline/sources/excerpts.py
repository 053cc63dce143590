"""Foreign text made safe to print: short, one line, and without control over a terminal."""

ECHO_CHARS = 80
"""The most that a message repeats of somebody's data."""
EXCERPT_CHARS = 200


def printable(text: str, limit: int = ECHO_CHARS) -> str:
    """Return `text` in at most `limit` characters, all of them printable.

    Control, bidirectional, zero-width and private characters, lone surrogates and line ends become escapes.
    """
    # Cut before escaping: a megabyte of control characters must not be escaped to show eighty.
    shown = text[: limit + 1]
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else _escape(c) for c in shown)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def excerpt(raw: bytes, at_byte: int = 0) -> str:
    """Return a printable cut of `raw` that shows the byte `at_byte`, with … where something was left out."""
    start = max(0, at_byte - EXCERPT_CHARS // 3)
    # A cut through a character would show as an escape that the data does not hold.
    while 0 < start < len(raw) and raw[start] & 0xC0 == 0x80:
        start -= 1
    window = raw[start : start + EXCERPT_CHARS * 4].decode("utf-8", "backslashreplace")
    return printable(("…" if start else "") + window, EXCERPT_CHARS)


def pointer_part(key: str) -> str:
    """Return `key` as one step of a JSON pointer, with its slash (RFC 6901), printable."""
    return "/" + printable(key.replace("~", "~0").replace("/", "~1"))


def _escape(char: str) -> str:
    point = ord(char)
    if point < 0x100:
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char, f"\\x{point:02x}")
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"
