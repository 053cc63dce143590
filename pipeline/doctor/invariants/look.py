"""What a check may look at, and where it says what it found."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from artifacts.blobs import BlobStore
from pipeline.doctor.invariants.pins import Pins
from queues.database import Connection


@dataclass(frozen=True, slots=True)
class Look:
    """One snapshot of a factory."""

    conn: Connection
    store: BlobStore
    pins: Pins
    monitor: Connection | None
    """A connection that may see what other sessions do; None where there is none."""
    idle_seconds: float


@dataclass(slots=True)
class Tally:
    """Violations by invariant: all are counted, the first `most` are told."""

    most: int
    said: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    totals: Counter[int] = field(default_factory=Counter)
    unseen: dict[int, str] = field(default_factory=dict)
    """Invariants that could not be looked at from here, with why."""

    def add(self, number: int, said: str, count: int = 1) -> None:
        """Note one violation, or with `count` = 0 the text of one that is counted already."""
        self.totals[number] += count
        if len(self.said[number]) < self.most:
            self.said[number].append(said)


# A check's statement returns (number, said) per violation. Few rows leave the database, whatever is broken.
_BOUNDED = """
SELECT number, said, total FROM (
  SELECT number, said, count(*) OVER (PARTITION BY number) AS total, row_number() OVER (PARTITION BY number ORDER BY said) AS nth
    FROM ({found}) AS found (number, said)) AS counted
 WHERE nth <= %(most)s ORDER BY number, nth
"""


def tell(look: Look, tally: Tally, found: str, values: Mapping[str, Any] | None = None) -> None:
    """Run a statement that returns a row (invariant, text) for each violation, and note them."""
    seen: set[int] = set()
    for number, said, total in look.conn.execute(_BOUNDED.format(found=found), {"most": tally.most, **(values or {})}):
        tally.add(number, said, 0 if number in seen else total)
        seen.add(number)
