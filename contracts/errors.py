"""Every error that shopfloor raises on purpose.

    ShopfloorError
    ├── Refused        1   the request was understood and not carried out
    │   └── ExpressionFailed   a rule has no answer for this item
    ├── BadInput       2   a setting, file, argument or row that cannot be used
    │   ├── BadSetting
    │   ├── BadSource      an intake file as a whole
    │   ├── BadContract    a contract, schema or expression
    │   └── BadFloor
    ├── NotFound       3
    ├── Conflict       4   somebody was first, what was seen is stale, or still open at a time-out
    ├── Denied         5   gate, policy, permission or budget refused
    ├── Unavailable    6   database, broker, store or target cannot be reached
    │   └── StoreUnavailable   the artifact store takes or gives nothing for now
    └── PartlyDone     7   some of many were done; the message counts them

The number is the process's exit code. A message says what was refused, what was seen, what was needed
and what to type next. `code` is stable and may be matched by programs.
"""

from typing import ClassVar


class ShopfloorError(Exception):
    """Base of the tree; never raised itself."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        """What to type next; printed on a line of its own. Empty when the message says it."""
        self.instance_code = code or self.code

    def __str__(self) -> str:
        return f"{self.message} [{self.instance_code}]"


class Refused(ShopfloorError):
    """The request was understood and not carried out."""

    code = "refused"
    exit_code = 1


class ExpressionFailed(Refused):
    """An expression met a value that it cannot handle: a missing field, a null, another type than it expects."""

    code = "expression.failed"


class BadInput(ShopfloorError):
    """An argument or value that cannot be used."""

    code = "input.bad"
    exit_code = 2


class BadSetting(BadInput):
    """A setting that is unknown, malformed or contradicts another."""

    code = "setting.bad"


class BadSource(BadInput):
    """An intake file that cannot be read as a whole; nothing of it was taken in."""

    code = "source.bad"


class BadContract(BadInput):
    """A contract, schema, expression or cell folder that cannot be published or run."""

    code = "contract.bad"


class BadFloor(BadInput):
    """A floor file that cannot be used; nothing of it was applied."""

    code = "floor.bad"


class NotFound(ShopfloorError):
    """No such item, order, batch, clearance, cell, file or name in this workspace."""

    code = "not_found"
    exit_code = 3


class Conflict(ShopfloorError):
    """Somebody was first, what was seen is stale, or work is still open at a time-out."""

    code = "conflict"
    exit_code = 4


class Denied(ShopfloorError):
    """A gate, policy, permission or budget refused."""

    code = "denied"
    exit_code = 5


class Unavailable(ShopfloorError):
    """The database, the broker, a store or a target cannot be reached."""

    code = "unavailable"
    exit_code = 6


class StoreUnavailable(Unavailable):
    """The artifact store takes or gives nothing for now: its disk is full, read-only or away. No fault of what was to be stored."""

    code = "unavailable.store"


class PartlyDone(ShopfloorError):
    """Some of many were done; the message counts both."""

    code = "partly"
    exit_code = 7


ROW_CODES: dict[str, str] = {
    "intake.json": "the line or element is not valid JSON",
    "intake.not_object": "the row is JSON but not an object",
    "intake.duplicate_key": "an object holds the same key twice",
    "intake.number": "a number is NaN, infinite, or too long to be exact",
    "intake.depth": "the row is nested deeper than the limit",
    "intake.size": "the row is larger than the limit",
    "intake.encoding": "the row is not valid UTF-8, or holds NUL or a lone surrogate",
    "intake.truncated": "the file ends inside the row",
    "intake.columns": "a CSV row has more or fewer fields than the header",
    "intake.cast": "a CSV field does not fit its declared type",
    "intake.type": "a field has another JSON type than the contract takes",
    "intake.required": "a required field is missing",
    "intake.value": "a field's value is outside what the contract takes",
    "intake.subject": "the row has no usable subject key or revision",
    "intake.revision": "the revision is a time more than a day ahead, or one that cannot be stored",
    "intake.refused": "the database refused the row, for what its message says",
    "intake.conflict": "the same subject and revision arrived before with other content",
    "intake.busy": "an older revision of the subject is being applied: take the row in again afterwards",
    "intake.older_revision": "a newer revision of the subject is already known",
    "intake.duplicate": "the same subject, revision and content arrived before",
}
"""Codes of single rows in a rejects file and in `batch results`, with what each means."""
