"""Foreign text in messages: short, on one line, and without control over a terminal."""

ECHO_CHARS = 80
"""The most that a message repeats of somebody's data."""
EXCERPT_CHARS = 200


def visible(text: str, *, keep: str = "") -> str:
    """Return `text` with every character that a screen obeys or hides written as an escape, but those in `keep`.

    Terminal escapes, bidirectional overrides, zero-width, tag and private characters, unusual spaces, lone surrogates, line ends.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else ascii(char)[1:-1] for char in text)


def printable(text: str, limit: int = ECHO_CHARS) -> str:
    """Return `text` in at most `limit` characters, all of them visible."""
    shown = visible(text[: limit + 1])  # cut first: a megabyte must not be escaped to show eighty characters of it
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
