"""Passwords of the embedded services: random, made once, each in a file that only its owner reads."""

import os
import re
import secrets
from pathlib import Path

from contracts.errors import BadInput, BadSetting, Unavailable
from queues.embedded.place import OTHER_DIRECTORY, Place, write_atomically

ADMIN = "shopfloor_admin"
"""PostgreSQL's superuser in the embedded cluster."""
BROKER = "valkey"

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def ensure(place: Place, names: list[str]) -> None:
    """Leave a password for each of `names`; one that is there stays as it is. The data directory is locked."""
    for name in names:
        path = _path(place, name)
        if not path.exists():
            write_atomically(path, secrets.token_hex(32) + "\n", 0o600)


def known(place: Place, name: str) -> bool:
    """Return whether `name` has a password."""
    return _path(place, name).exists()


def read(place: Place, name: str) -> str:
    """Return the password of `name`; Unavailable when its file is gone, BadSetting when it is another user's."""
    path = _path(place, name)
    try:
        return path.read_text(encoding="ascii").strip()
    except PermissionError:
        raise BadSetting(
            f"the password of {name} may not be read by user {os.geteuid()}: {path}",
            hint=f"run as the user that made {place.root}, or {OTHER_DIRECTORY}",
        ) from None
    except OSError as error:
        raise Unavailable(
            f"the password of {name} cannot be read from {path}: {error.strerror}",
            hint=f"put it back from a backup of {place.root}, or {OTHER_DIRECTORY}",
            code="unavailable.secret",
        ) from None


def redacted(place: Place, text: str) -> str:
    """Return `text` without any password of this place."""
    try:
        for path in place.secrets.iterdir():
            if password := path.read_text(encoding="ascii").strip():
                text = text.replace(password, "***")
    except OSError:
        return text
    return text


def _path(place: Place, name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise BadInput(f"role {name!r}: expected lower-case letters, digits and underscores, at most 63")
    return place.secrets / name
