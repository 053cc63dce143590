"""Time-ordered identifiers, made in one place."""

import os
import time
from datetime import datetime
from uuid import UUID


def new_id(at: datetime | None = None) -> UUID:
    """Return a UUID of version 7 (RFC 9562 §5.7): 48 bits of Unix milliseconds, then 74 random bits.

    Pass `at` (the database's now) wherever the id decides a partition, so that a wrong
    clock on one machine cannot file history under another month.
    """
    millis = int(at.timestamp() * 1000) if at else time.time_ns() // 1_000_000
    value = (millis & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(os.urandom(10), "big")
    value &= ~(0xF << 76) & ~(0x3 << 62)
    return UUID(int=value | 0x7 << 76 | 0x2 << 62)


def new_ids(count: int, at: datetime) -> list[UUID]:
    """Return `count` ids of one instant in ascending order, from one read of the random source."""
    millis = (int(at.timestamp() * 1000) & 0xFFFF_FFFF_FFFF) << 80
    noise = os.urandom(10 * count)
    fixed = 0x7 << 76 | 0x2 << 62
    keep = ~(0xF << 76) & ~(0x3 << 62) & (1 << 80) - 1
    values = sorted(int.from_bytes(noise[10 * i : 10 * i + 10], "big") & keep for i in range(count))
    return [UUID(int=millis | fixed | value) for value in values]
