"""What a check gets: the context of one snapshot, and the counts of violations that it reports to."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from artifacts.blobs import BlobStore
from pipeline.doctor.invariants.pins import Pins
from queues.database import Connection


@dataclass(frozen=True, slots=True)
class CheckContext:
    """One snapshot of a factory."""

    conn: Connection
    store: BlobStore
    pins: Pins
    monitor: Connection | None
    """A connection that may see what other sessions do; None where there is none."""
    idle_seconds: float


@dataclass(slots=True)
class ViolationCounts:
    """Violations by invariant: all are counted, the first `most` are kept."""

    most: int
    violations: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    totals: Counter[int] = field(default_factory=Counter)
    unseen: dict[int, str] = field(default_factory=dict)
    """Invariants that could not be checked from here, with why."""

    def add(self, number: int, text: str, count: int = 1) -> None:
        """Note one violation, or with `count` = 0 the text of one that is counted already."""
        self.totals[number] += count
        if len(self.violations[number]) < self.most:
            self.violations[number].append(text)


# A check's statement returns (number, text) per violation. Few rows leave the database, whatever is broken.
_BOUNDED = """
SELECT number, text, total
  FROM (
    SELECT number,
           text,
           count(*) OVER (PARTITION BY number) AS total,
           row_number() OVER (PARTITION BY number ORDER BY text) AS nth
      FROM ({found}) AS found (number, text)) AS counted
 WHERE nth <= %(most)s
 ORDER BY number, nth
"""


def report_violations(context: CheckContext, counts: ViolationCounts, found: str, values: Mapping[str, Any] | None = None) -> None:
    """Run a statement that returns a row (invariant, text) for each violation, and note them."""
    seen: set[int] = set()
    for number, text, total in context.conn.execute(_BOUNDED.format(found=found), {"most": counts.most, **(values or {})}):
        counts.add(number, text, 0 if number in seen else total)
        seen.add(number)
