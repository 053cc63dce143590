"""Settings: read once from the environment, refused when unknown or malformed. `shopfloor settings` prints them.

Read by the few lines below and not by a library: see docs/decisions/0016-settings-start-fast.md.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from contracts.errors import BadSetting
from contracts.lifecycle import Role
from contracts.secret import Secret

PREFIX = "SHOPFLOOR_"
ELSEWHERE = {
    "SHOPFLOOR_FAIL": "failpoints for tests: point:kill|raise|hang|freeze[:nth]",
    "SHOPFLOOR_VENV": "where the launcher keeps its virtual environment; default: .venv beside it",
    "SHOPFLOOR_POSTGRES_BIN": "folder with the PostgreSQL programs for the embedded server",
}
"""Variables that are read before or outside these settings."""


LEAST_MEMORY_MB = 256


class _Unfit(ValueError):
    """A value that does not fit. Its message follows the setting's name, and holds nothing that may be a secret."""


def _unfit(text: str, expected: str) -> _Unfit:
    return _Unfit(f"is {text[:60]!r}: expected {expected}")


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch("-?[0-9]{1,12}", text) or not least <= int(text) <= most:
            raise _unfit(text, f"a whole number from {least} to {most}")
        return int(text)

    return read


def _memory(text: str) -> int:
    found = _whole(0, 1_048_576)(text)
    if 0 < found < LEAST_MEMORY_MB:
        raise _unfit(text, f"0 for no limit, or {LEAST_MEMORY_MB} and more: a worker itself takes a hundred")
    return found


def _seconds(least: float, most: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        if not re.fullmatch("[0-9]{1,9}([.][0-9]{1,9})?", text) or not least <= float(text) <= most:
            raise _unfit(text, f"seconds, a number from {least:g} to {most:g}")
        return float(text)

    return read


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise _unfit(text, f"{', '.join(words[:-1])} or {words[-1]}")
        return text

    return read


def _database_name(text: str) -> str:
    if not re.fullmatch("[a-z][a-z0-9_]{0,62}", text):
        raise _unfit(text, "a small letter, then small letters, digits and _, 63 at most")
    return text


def _address(*schemes: str) -> Callable[[str], str]:
    """Read an address that starts with one of `schemes`. What follows the scheme is never repeated: it may hold a password."""

    def read(text: str) -> str:
        if not text.startswith(schemes):
            scheme, found, _ = text.partition("://")
            seen = f"starts with {scheme[:20] + found!r}" if found else "has no scheme"
            raise _Unfit(f"{seen}: expected {' or '.join(schemes)}")
        try:
            has_place = bool(urlsplit(text).port or True)
        except ValueError:
            has_place = False
        if not has_place:
            raise _Unfit("cannot be read: expected a number as its port, and brackets closed")
        return text

    return read


def _web(text: str) -> str:
    if "@" in urlsplit(_address("https://", "http://")(text)).netloc:
        raise _Unfit("holds a user or password, which would be printed: the token has a setting of its own")
    return text


def _secret(read: Callable[[str], str] = str) -> Callable[[str], Secret]:
    return lambda text: Secret(read(text))


_POSTGRES = _secret(_address("postgresql://"))


def _setting(default: Any, read: Callable[[str], Any], means: str) -> Any:
    """Declare one: its default, how its text becomes a value (or why not), and what it means."""
    return field(default=default, metadata={"read": read, "means": means})


@dataclass(frozen=True)
class Settings:
    """Everything that can be set, each by `SHOPFLOOR_<NAME>`."""

    data_dir: Path | None = _setting(None, Path, "folder of the embedded services, blobs, secrets and logs")
    database_url: Secret | None = _setting(None, _POSTGRES, "external PostgreSQL, as a role that may migrate; unset: the embedded one")
    database_url_intake: Secret | None = _setting(None, _POSTGRES, "external PostgreSQL as shopfloor_intake")
    database_url_propose: Secret | None = _setting(None, _POSTGRES, "external PostgreSQL as shopfloor_propose")
    database_url_review: Secret | None = _setting(None, _POSTGRES, "external PostgreSQL as shopfloor_review")
    database_url_apply: Secret | None = _setting(None, _POSTGRES, "external PostgreSQL as shopfloor_apply")
    database_url_operate: Secret | None = _setting(None, _POSTGRES, "external PostgreSQL as shopfloor_operate")
    database_url_read: Secret | None = _setting(None, _POSTGRES, "external PostgreSQL as shopfloor_read")
    database_url_sweep: Secret | None = _setting(None, _POSTGRES, "external PostgreSQL as shopfloor_sweep")
    database_url_audit: Secret | None = _setting(None, _POSTGRES, "external PostgreSQL as shopfloor_audit")
    database: str = _setting("shopfloor", _database_name, "name of the database in the embedded server")
    broker_url: Secret | None = _setting(
        None, _secret(_address("redis://", "rediss://", "unix://")), "external Redis or Valkey (noeviction); unset: the embedded one"
    )
    workspace: str = _setting("main", str, "workspace that commands work in")
    token: Secret | None = _setting(None, _secret(), "token of the actor that commands act as; unset: the OS user on the embedded default")
    floor: Path | None = _setting(
        None,
        Path,
        "floor file that `up` puts in force; unset: the one in force, at first the nearest floor.yaml upward or the built-in one",
    )
    workers: int | None = _setting(None, _whole(1, 64), "propose worker processes that `up` keeps; unset: as many as run, or 2")
    crew_ids: int = _setting(
        60800, _whole(0, 4_294_967_290), "as root: first of four user and group ids that `up` gives to its processes; 0: all stay root"
    )
    threads: int = _setting(1, _whole(1, 64), "batches that one worker process works on at a time")
    in_flight: int = _setting(64, _whole(1, 512), "items of cells that wait for others that one worker process keeps going at a time")
    batch: int = _setting(200, _whole(1, 1000), "items that one claim may lease")
    mode: str = _setting(
        "fused", _one_of("fused", "strict"), "strict: every step is committed before the next; fused: neighbours share a commit"
    )
    lease_seconds: float = _setting(30.0, _seconds(1, 3600), "how long a lease lasts without a heartbeat")
    step_seconds: float = _setting(
        300.0, _seconds(1, 86400), "how long one batch may take in one worker before its leases are left to run out"
    )
    memory_mb: int = _setting(2048, _memory, "MiB of memory that one worker may take, 256 or more; 0: no limit")
    sweep_seconds: float = _setting(1.0, _seconds(0.1, 60), "pause between two rounds of the sweeper")
    tracker_dir: Path | None = _setting(None, Path, "folder that the applier `tracker` writes to; unset: tracker/ in the data folder")
    github_url: str = _setting("https://api.github.com", _web, "REST address for the applier `github`")
    github_token: Secret | None = _setting(None, _secret(), "token for the applier `github`; read by the apply process alone")
    log_level: str = _setting("info", _one_of("debug", "info", "warning", "error"), "least level that workers log")

    @cached_property
    def is_embedded(self) -> bool:
        """True when shopfloor starts and stops its own PostgreSQL."""
        return self.database_url is None and not any(self.role_url(role) for role in Role)

    def role_url(self, role: Role) -> Secret | None:
        """Return the external URL of a role, None where unset."""
        value: Secret | None = getattr(self, f"database_url_{role.value}")
        return value


KNOWN: Mapping[str, Any] = {f"{PREFIX}{one.name.upper()}": one for one in fields(Settings)}
"""Each setting's variable, with its field: `default`, and `metadata` with `means`."""


def load(**given: Any) -> Settings:
    """Return the settings of this process, `given` ones before those of the environment.

    An empty variable is an unset one, but for the token: that is how shells and compose files leave one out. Raises BadSetting for an unknown
    name or a value that cannot be used.
    """
    for name in os.environ:
        if name.startswith(PREFIX) and name not in KNOWN and name not in ELSEWHERE:
            raise BadSetting(f"{name} is not a setting", hint=_nearest(name))
    if os.environ.get("SHOPFLOOR_FAIL"):
        from pipeline import failpoints  # noqa: F401 - refuses what it cannot arm, before anything starts

    found = {}
    for name, one in KNOWN.items():
        text = os.environ.get(name, "")
        if not text and name in os.environ and one.name == "token":
            # Unset it would be nobody's, or this machine's own: neither is what somebody meant whose variable came out empty.
            raise BadSetting(f"{name} is empty: expected a token", hint=f"unset {name}, or set it to what `shopfloor token new` printed")
        if not text or one.name in given:
            continue
        try:
            found[one.name] = one.metadata["read"](text)
        except _Unfit as why:
            raise BadSetting(f"{name} {why}", hint=f"what it is for: unset {name}; shopfloor settings") from None
    return Settings(**found, **given)


def _nearest(name: str) -> str:
    import difflib  # here: it is needed for this message alone

    near = difflib.get_close_matches(name, [*KNOWN, *ELSEWHERE], 1)
    return f"did you mean {near[0]}?" if near else f"those that there are: unset {name}; shopfloor settings"


def described(settings: Settings) -> list[dict[str, Any]]:
    """Return every setting with its value (secrets as `set`), default and meaning."""
    rows = []
    for name, one in KNOWN.items():
        value = getattr(settings, one.name)
        shown = "set" if isinstance(value, Secret) else None if value is None else str(value)
        default = None if one.default is None else str(one.default)
        rows.append({"name": name, "value": shown, "default": default, "means": one.metadata["means"]})
    rows += [{"name": name, "value": os.environ.get(name), "default": None, "means": means} for name, means in sorted(ELSEWHERE.items())]
    return rows
