"""How many rejected rows an intake may bear."""

from typing import NamedTuple

from contracts.errors import BadInput

_SHARE_FROM_ROWS = 1000


class RejectLimit(NamedTuple):
    """How many rejected rows are too many: a count, or a share in percent."""

    rows: int | None = None
    percent: float | None = None

    def is_passed(self, rejected: int, rows: int, *, final: bool) -> bool:
        """Say whether an intake has to stop. A share is looked at from the 1,000th row on, and at the end."""
        if self.rows is not None:
            return rejected > self.rows
        return self.percent is not None and (final or rows >= _SHARE_FROM_ROWS) and rejected * 100 > self.percent * rows

    def __str__(self) -> str:
        return f"{self.percent:g} %" if self.percent is not None else str(self.rows)


def reject_limit(text: str) -> RejectLimit:
    """Return the limit that `100` or `2.5%` means. Raises BadInput."""
    number, sign, rest = text.strip().partition("%")
    try:
        if sign and not rest and 0 <= float(number) <= 100:
            return RejectLimit(percent=float(number))
        if not sign and number.isascii() and number.isdigit():
            return RejectLimit(rows=int(number))
    except ValueError:
        pass
    raise BadInput(f"--max-rejects {text[:40]!r}: expected a number of rows such as 100, or a share such as 2%")
