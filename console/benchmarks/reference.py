"""The reference work: rows of about 1 KB, the same for the same number, and the floor that they run on."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

WORDS = (
    "report", "please", "update", "the", "quarterly", "figures", "for", "customer", "with", "new", "delivery", "address", "and",
    "check", "status", "of", "open", "ticket", "before", "friday", "noon", "thanks", "team", "regards", "system", "module", "panel", "export",
)  # fmt: skip
KEYWORDS = ("invoice", "refund", "crash", "timeout", "password", "login", "quote", "renewal")
_BODY_WORDS = 138

FLOOR = """
floor: 1
pods:
  bench: {autonomy: full_auto}
flows:
  reference:
    pod: bench
    takes: {shape: json, subject: id, revision: revision}
    route:
      - {name: all, cell: reference}
    applier: sink
"""


def row(number: int) -> dict[str, object]:
    """Return one work item."""
    choose = random.Random(number)
    words = [choose.choice(WORDS) for _ in range(_BODY_WORDS)]
    words[choose.randrange(_BODY_WORDS)] = choose.choice(KEYWORDS)
    return {
        "id": number,
        "revision": 1,
        "title": f"Work item {number}",
        "source": "bench",
        "priority": number % 10,
        "body": " ".join(words),
    }


def lines(start: int, count: int) -> Iterator[bytes]:
    """Yield `count` items as JSON lines."""
    for number in range(start, start + count):
        yield json.dumps(row(number)).encode() + b"\n"


def write_file(path: Path, start: int, count: int) -> Path:
    """Write `count` items to a JSONL file and return its path."""
    with path.open("wb") as file:
        file.writelines(lines(start, count))
    return path
