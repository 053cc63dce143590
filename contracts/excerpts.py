"""Foreign text in messages: short, on one line, and without control over a terminal."""

ECHO_CHARS = 80
"""The most that a message repeats of somebody's data."""


def printable(text: str, limit: int = ECHO_CHARS) -> str:
    """Return `text` in at most `limit` characters, with control, bidirectional and invisible characters escaped."""
    shown = text[: limit + 1]  # cut first: a megabyte must not be escaped to show eighty characters of it
    if not shown.isprintable():
        shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in shown)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def pointer_part(key: str) -> str:
    """Return `key` as one step of a JSON pointer, with its slash (RFC 6901)."""
    return "/" + key.replace("~", "~0").replace("/", "~1")
