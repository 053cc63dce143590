"""Attach to the services of a data directory, start what does not run, stop it, look at it."""

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import BadSetting, ShopfloorError, Unavailable
from queues.embedded import account, binaries, passwords, place, postgres, valkey
from queues.embedded.endpoints import Endpoint
from queues.embedded.place import OTHER_DIRECTORY, Place
from queues.embedded.processes import RunAs
from queues.embedded.services import Services


@dataclass(frozen=True)
class ServerState:
    """One server as it is now."""

    name: str
    pid: int | None
    is_answering: bool
    endpoint: Endpoint | None
    log: Path


@dataclass(frozen=True)
class Inspection:
    """A data directory as it is now; `problem` says why it cannot be used, empty when it can."""

    data_dir: Path
    postgres_major: int | None
    servers: tuple[ServerState, ...]
    free_bytes: int
    problem: str


def attach(data_dir: Path) -> Services | None:
    """Return the services of `data_dir` when its database answers, else None; starts nothing.

    The broker may be down: work waits then, while intake and review go on. Refuses a directory that is not ours.
    """
    here = Place.at(data_dir)
    with _explained(here):
        if place.major_of(here) is None:
            return None
        endpoint = postgres.answering(here)
        return Services(here.root, endpoint, valkey.endpoint_of(here)) if endpoint else None


def attach_or_start(data_dir: Path, roles: Sequence[str] = (), *, timeout_seconds: float = 60) -> Services:
    """Return the services of `data_dir`, started unless they run, with a password for each of `roles`.

    Any number of processes may call this at once. The logins themselves are made by the schema, with
    `Services.passwords`. Raises Refused or BadSetting for a directory that cannot be used, Unavailable, with the
    end of the server's log, for a server that does not come up.
    """
    here = Place.at(data_dir)
    names = [passwords.ADMIN, passwords.BROKER, *roles]
    deadline = time.monotonic() + timeout_seconds
    with _explained(here):
        place.check_owner(here)
        if (running := attach(here.root)) and _is_complete(here, names):
            return running
        place.settle(here)
        with place.locked(here, timeout_seconds):
            return _bring_up(here, names, deadline)


def stop(data_dir: Path, *, timeout_seconds: float = 60) -> None:
    """Leave no server of `data_dir` running and no socket of theirs behind; the data stays."""
    here = Place.at(data_dir)
    with _explained(here):
        place.check_owner(here)
        if not here.root.exists():
            # Deleted under its servers, perhaps: they carry its path still.
            valkey.stop(here)
            postgres.stop(here)
            return
        if not (here.root / "shopfloor.lock").exists():
            return
        place.settle(here)
        with place.locked(here, timeout_seconds):
            valkey.stop(here)
            postgres.stop(here)


def check_owner(data_dir: Path) -> None:
    """Raise BadSetting when `data_dir` exists and is another user's. Called before anything there is started, stopped or written."""
    place.check_owner(Place.at(data_dir))


def inspect(data_dir: Path) -> Inspection:
    """Return what is and what runs in `data_dir`, whatever its condition; changes nothing."""
    here, major, free_bytes, problem = Place.at(data_dir), None, 0, ""
    servers: tuple[ServerState, ...] = ()
    try:
        with _explained(here):
            existing = next(path for path in (here.root, *here.root.parents) if path.exists())
            free_bytes = shutil.disk_usage(existing).free
            major = place.major_of(here)
            endpoint = postgres.answering(here)
            broker_answers = valkey.is_answering(here)
            servers = (
                ServerState("postgres", postgres.pid(here), endpoint is not None, endpoint, here.log / "postgres.log"),
                ServerState("valkey", valkey.pid(here), broker_answers, valkey.endpoint_of(here), here.log / "valkey.log"),
            )
    except ShopfloorError as error:
        problem = error.message
    return Inspection(here.root, major, servers, free_bytes, problem)


def _bring_up(here: Place, names: list[str], deadline: float) -> Services:
    major = place.major_of(here)
    unfinished = place.cluster_major(here) if major is None else major
    server_account = account.account_for(here)
    _lay_out(here, server_account)
    if (endpoint := postgres.answering(here)) is None:
        found = binaries.reachable_postgres(here, binaries.postgres_for(unfinished), server_account)
        search = account.needs_search(server_account, [here.root, found.bin / "postgres"])
        run_as = RunAs(server_account, search)
        passwords.ensure(here, names)
        if major is None:
            postgres.make(here, run_as, found)
        endpoint = postgres.start(here, run_as, found, deadline)
    passwords.ensure(here, names)
    services = Services(here.root, endpoint, valkey.endpoint_of(here))
    if major is None:
        postgres.ensure_database(services)
    if not valkey.is_answering(here):
        program = binaries.reachable_valkey(here, binaries.valkey(), server_account)
        search = account.needs_search(server_account, [here.root, program])
        valkey.start(here, RunAs(server_account, search), program, deadline)
    return Services(here.root, endpoint, valkey.endpoint_of(here))


def _lay_out(here: Place, server_account: account.Account | None) -> None:
    """Leave the parts of the data directory there, those that servers write into being their account's."""
    for part in (here.secrets, here.etc, here.log, here.bin):
        if not part.exists():
            place.make_directories(part, 0o700 if part == here.secrets else 0o755)
    for part, mode in ((here.run, 0o755), (here.valkey, 0o700)):
        if not part.exists():
            place.make_directories(part, mode)
            if server_account:
                os.chown(part, server_account.uid, server_account.gid)


def _is_complete(here: Place, names: list[str]) -> bool:
    return valkey.is_answering(here) and all(passwords.known(here, name) for name in names)


@contextmanager
def _explained(here: Place) -> Iterator[None]:
    """Turn what the file system refuses inside the data directory into an error with a remedy."""
    try:
        yield
    except PermissionError as error:
        raise BadSetting(
            f"data directory {here.root} cannot be used by user {os.geteuid()}: permission denied at {error.filename}",
            hint=f"run as the user that made it, or {OTHER_DIRECTORY}",
        ) from None
    except OSError as error:
        raise Unavailable(
            f"data directory {here.root} cannot be used: {error.strerror or error} at {error.filename}",
            hint=OTHER_DIRECTORY,
            code="unavailable.data_dir",
        ) from None
