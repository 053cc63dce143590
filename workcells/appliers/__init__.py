"""The only code that changes the outside world, one module per kind of target.

An applier talks to its target and to nothing else. Whether an action may run, whether the target has drifted, what was
intended and what came back is the apply stage's business: it asks `observe`, writes the intent down, calls `send` once,
and writes the receipt down. An applier never tries a second time; the database owns retries.
"""

import importlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from contracts.errors import BadInput, BadSetting, Conflict, NotFound, Refused, Unavailable
from contracts.nouns import Action

Idempotency = Literal["native", "convergent", "probeable", "none"]
"""`native`: the target takes a key. `convergent`: doing it twice is doing it once. `probeable`: a marker can be
looked up. `none`: sent at most once, then a person decides."""
Probed = Literal["applied", "absent", "unknown"]


class TargetMissing(NotFound):
    """The target is gone, has moved, or was never there: what was approved cannot be carried out on it."""

    code: ClassVar[str] = "target.missing"


class TargetUnavailable(Unavailable):
    """The target cannot be asked now, or answers what cannot be used. Nothing was changed by this call."""

    code: ClassVar[str] = "target.unavailable"


class SendThrottled(TargetUnavailable):
    """The target wants fewer requests. Nothing was changed; ask again after `retry_after_seconds`."""

    code: ClassVar[str] = "send.throttled"

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class SendRefused(Refused):
    """The target, or the applier for it, will never carry out this action as it is: trying again is useless."""

    code: ClassVar[str] = "send.refused"


# Not a kind of Unavailable: whoever catches that may try again, and after this only a probe may come next.
class SendUnknown(Conflict):
    """The action was sent, and whether (or how much of) it took effect is not known. Probe before anything else."""

    code: ClassVar[str] = "send.unknown"

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        """How long the target asked us to stay away, when a limit of its own cut the action in two."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a target answered to one action."""

    adapter: str
    target: str
    key: str
    changed: bool
    """False when the target was already as the action wants it."""
    detail: dict[str, Any]
    """What was done and where it can be seen; JSON values, no secrets."""


class Applier(Protocol):
    """One kind of target. Methods are safe to call from several threads and processes at once."""

    name: ClassVar[str]
    idempotency: ClassVar[Idempotency]
    actions: ClassVar[frozenset[str] | None]
    """Names of the actions that `send` carries out; None means any."""
    fields: ClassVar[frozenset[str] | None]
    """Names that `observe` answers, and so what a contract's `depends_on` may declare; None means any."""

    @property
    def settle_seconds(self) -> float:
        """How long after a send the target may still hide, or still be carrying out, what was sent."""

    def check(self, action: Action) -> None:
        """Return when `send` would accept the action's name, target and payload. Asks no target. Raises SendRefused."""

    def observe(self, target: str, fields: Sequence[str]) -> dict[str, Any]:
        """Return the current value of each of `fields`, in the words of the row shape that the contract takes.

        Raises TargetMissing, TargetUnavailable, SendThrottled, SendRefused for a target that names nothing of this
        kind, and BadInput for a field that it does not know.
        """

    def send(self, action: Action, *, key: str) -> Receipt:
        """Carry out exactly `action.payload`. `key` is the action id, in hex: the same key never acts twice.

        Raises SendRefused (never will), TargetMissing (gone), SendThrottled and TargetUnavailable (certainly not
        sent: try later), SendUnknown (probe before anything else).
        """

    def probe(self, action: Action, *, key: str, seconds_since_sent: float) -> Probed:
        """Return whether the whole of an earlier `send` took effect; `absent` means: sending it (again) completes it.

        `unknown` while `seconds_since_sent` is below `settle_seconds` means: ask again then. After that it means that
        the target cannot tell, and a person decides. Raises TargetUnavailable when the target cannot be asked.
        """

    def preview(self, action: Action) -> str:
        """Return a unified diff from the target as it is to as it would be, safe to print; empty for no change."""


_MODULES = {
    "tracker": ("workcells.appliers.tracker", "Tracker"),
    "demo": ("workcells.appliers.tracker", "DemoTracker"),
    "github": ("workcells.appliers.github", "GitHub"),
    "sink": ("workcells.appliers.sink", "Sink"),
}
NAMES = tuple(_MODULES)
"""The appliers that a floor may name."""


def applier_class(name: str) -> type[Applier]:
    """Return the class of an applier, whose actions, fields and idempotency can be read without any credential."""
    try:
        module, attribute = _MODULES[name]
    except KeyError:
        raise NotFound(f"there is no applier {name!r}: expected {', '.join(NAMES)}", code="applier.unknown") from None
    found: type[Applier] = getattr(importlib.import_module(module), attribute)
    return found


def open_applier(name: str, **settings: Any) -> Applier:
    """Return an applier made with its own settings: `folder` for tracker and demo; `token`, `url`, … for github; none for sink.

    Raises NotFound for an unknown name and BadSetting for settings that the applier does not take or cannot use.
    """
    found = applier_class(name)
    try:
        inspect.signature(found).bind(**settings)
    except TypeError as error:
        raise BadSetting(f"applier {name}: {error}") from None
    return found(**settings)


def known_fields(applier: Applier, fields: Sequence[str]) -> None:
    """Return when the applier can observe all of `fields`; raises BadInput naming those that it cannot."""
    unknown = sorted(set(fields) - applier.fields) if applier.fields is not None else []
    if unknown:
        known = ", ".join(sorted(applier.fields or ()))
        raise BadInput(f"{applier.name} cannot observe {', '.join(unknown)}: it knows {known}", code="target.field")
