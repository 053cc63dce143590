"""Settings: read once from the environment, refused when unknown or malformed. `shopfloor settings` prints them."""

import difflib
import os
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from contracts.errors import BadSetting
from contracts.lifecycle import Role

PREFIX = "SHOPFLOOR_"
ELSEWHERE = {
    "SHOPFLOOR_FAIL": "failpoints for tests: point:kill|raise|hang|freeze[:nth]",
    "SHOPFLOOR_VENV": "where the launcher keeps its virtual environment; default: .venv beside it",
    "SHOPFLOOR_POSTGRES_BIN": "folder with the PostgreSQL programs for the embedded server",
}
"""Variables that are read before or outside these settings."""


class Settings(BaseSettings):
    """Everything that can be set, each by `SHOPFLOOR_<NAME>`."""

    # An empty variable is an unset one: that is how shells and compose files leave one out.
    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", hide_input_in_errors=True)

    data_dir: Path | None = Field(None, description="folder of the embedded services, blobs, secrets and logs")
    database_url: SecretStr | None = Field(None, description="external PostgreSQL, as a role that may migrate; unset: the embedded one")
    database_url_intake: SecretStr | None = Field(None, description="external PostgreSQL as shopfloor_intake")
    database_url_propose: SecretStr | None = Field(None, description="external PostgreSQL as shopfloor_propose")
    database_url_review: SecretStr | None = Field(None, description="external PostgreSQL as shopfloor_review")
    database_url_apply: SecretStr | None = Field(None, description="external PostgreSQL as shopfloor_apply")
    database_url_operate: SecretStr | None = Field(None, description="external PostgreSQL as shopfloor_operate")
    database_url_read: SecretStr | None = Field(None, description="external PostgreSQL as shopfloor_read")
    database_url_sweep: SecretStr | None = Field(None, description="external PostgreSQL as shopfloor_sweep")
    database_url_audit: SecretStr | None = Field(None, description="external PostgreSQL as shopfloor_audit")
    database: str = Field("shopfloor", pattern=r"^[a-z][a-z0-9_]{0,62}$", description="name of the database in the embedded server")
    broker_url: SecretStr | None = Field(None, description="external Redis or Valkey (noeviction); unset: the embedded one")
    workspace: str = Field("main", description="workspace that commands work in")
    token: SecretStr | None = Field(None, description="token of the actor that commands act as; unset: the OS user on the embedded default")
    floor: Path | None = Field(None, description="floor file; unset: the nearest floor.yaml upward, then the built-in one")
    workers: int = Field(2, ge=1, le=64, description="propose worker processes that `up` starts")
    crew_ids: int = Field(
        60800,
        ge=0,
        le=4_294_967_290,
        description="as root: first of four user and group ids that `up` gives to its posts; 0: all stay root",
    )
    threads: int = Field(1, ge=1, le=64, description="batches that one worker process works on at a time")
    batch: int = Field(200, ge=1, le=1000, description="items that one claim may lease")
    mode: Literal["fused", "strict"] = Field(
        "fused", description="strict: every step is committed before the next; fused: neighbours share a commit"
    )
    lease_seconds: float = Field(30.0, ge=1, le=3600, description="how long a lease lasts without a heartbeat")
    step_seconds: float = Field(
        300.0, ge=1, le=86400, description="how long one batch may take in one worker before its leases are left to run out"
    )
    memory_mb: int = Field(2048, ge=0, le=1_048_576, description="MiB of memory that one worker may take; 0: no limit")
    sweep_seconds: float = Field(1.0, ge=0.1, le=60, description="pause between two rounds of the sweeper")
    tracker_dir: Path | None = Field(None, description="folder that the applier `tracker` writes to; unset: tracker/ in the data folder")
    github_url: str = Field("https://api.github.com", description="REST address for the applier `github`")
    github_token: SecretStr | None = Field(None, description="token for the applier `github`; read by the apply process alone")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that workers log")

    @field_validator("database_url", *(f"database_url_{role.value}" for role in Role))
    @classmethod
    def _postgres(cls, value: SecretStr | None) -> SecretStr | None:
        return _with_scheme(value, "postgresql://")

    @field_validator("broker_url")
    @classmethod
    def _redis(cls, value: SecretStr | None) -> SecretStr | None:
        return _with_scheme(value, "redis://", "rediss://", "unix://")

    @field_validator("github_url")
    @classmethod
    def _web(cls, value: str) -> str:
        _with_scheme(SecretStr(value), "https://", "http://")
        if "@" in urlsplit(value).netloc:
            raise ValueError("holds a user or password, which would be printed: the token has a setting of its own")
        return value

    @cached_property
    def is_embedded(self) -> bool:
        """True when shopfloor starts and stops its own PostgreSQL."""
        return self.database_url is None and not any(getattr(self, f"database_url_{role.value}") for role in Role)

    def role_url(self, role: Role) -> SecretStr | None:
        """Return the external URL of a role, None where unset."""
        value: SecretStr | None = getattr(self, f"database_url_{role.value}")
        return value


def _with_scheme(value: SecretStr | None, *schemes: str) -> SecretStr | None:
    """Return an address that starts with one of `schemes`. What stands after the scheme is never repeated: it may hold a password."""
    if value is None:
        return None
    text = value.get_secret_value()
    if not text.startswith(schemes):
        scheme, found, _ = text.partition("://")
        seen = f"starts with {scheme[:20] + found!r}" if found else "has no scheme"
        raise ValueError(f"{seen}: expected {' or '.join(schemes)}")
    try:
        has_place = bool(urlsplit(text).port or True)
    except ValueError:
        has_place = False
    if not has_place:
        raise ValueError("cannot be read: expected a number as its port, and brackets closed")
    return value


def load() -> Settings:
    """Return the settings of this process. Raises BadSetting for an unknown name or a value that cannot be used."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | ELSEWHERE.keys()
    for name in os.environ:
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise BadSetting(f"{name} is not a setting", hint=f"did you mean {near[0]}? " if near else "see: shopfloor settings")
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = str(first["loc"][0]) if first["loc"] else ""
        name = f"{PREFIX}{field.upper()}"
        if first["type"] == "value_error":
            raise BadSetting(f"{name} {first['msg'].removeprefix('Value error, ')}", hint="see: shopfloor settings") from None
        # The field's own words, and what stands there; the addresses and tokens all fail as value_error above.
        expected = first["msg"].replace("Input should be", "expected").partition(", unable")[0].replace("'", "")
        seen = os.environ.get(name, "")[:60]
        raise BadSetting(f"{name} is {seen!r}: {expected}", hint="see: shopfloor settings") from None


def described(settings: Settings) -> list[dict[str, Any]]:
    """Return every setting with its value (secrets as `set`), default and meaning."""
    rows = []
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        shown = "set" if isinstance(value, SecretStr) else None if value is None else str(value)
        default = None if field.default is None else str(field.default)
        rows.append({"name": f"{PREFIX}{name.upper()}", "value": shown, "default": default, "means": field.description})
    rows += [{"name": name, "value": os.environ.get(name), "default": None, "means": means} for name, means in sorted(ELSEWHERE.items())]
    return rows
