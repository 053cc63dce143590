"""Fills a local tracker from normalised rows, and leaves alone what has since been changed there."""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workcells.appliers import TargetMissing, TargetUnavailable
from workcells.appliers.changes import read_subject
from workcells.appliers.tracker_files import load, locked, path_of, render, sync_folder, write_aside

_FEW = 200
"""Up to this many files are synced one by one; beyond, one sync of the whole machine is quicker."""


@dataclass(frozen=True, slots=True)
class Seeded:
    """How many issue files a seeding wrote, found as they were to be, and kept because of changes made there."""

    written: int
    unchanged: int
    kept: int


def seed(folder: Path | str, rows: Iterable[Mapping[str, Any]], *, replace: bool = False) -> Seeded:
    """Make `folder` a tracker that holds an issue file for each github_issue row. Doing it again changes nothing.

    A file that was changed since it was seeded (by an applier or a person), or that is as new as the row, is kept
    unless `replace`. Of rows with one key the newest counts. Raises TargetUnavailable when the disk refuses: files
    become visible only after all of them are on disk. Raises SendRefused for a row whose key names no issue.
    """
    newest: dict[Path, dict[str, Any]] = {}
    for row in rows:
        path = path_of(Path(folder).absolute(), read_subject(row["key"]))
        if path not in newest or newest[path]["updated_at"] < row["updated_at"]:
            newest[path] = _document(row)
    homes: dict[Path, list[Path]] = {}
    for path in newest:
        homes.setdefault(path.parent, []).append(path)
    unchanged = kept = 0
    try:
        with contextlib.ExitStack() as held:
            waiting: list[tuple[Path, Path]] = []
            for home, paths in sorted(homes.items()):
                held.enter_context(_alone(home))
                for path in paths:
                    verdict = "write" if not path.exists() else _compare(path, newest[path], replace=replace)
                    unchanged, kept = unchanged + (verdict == "same"), kept + (verdict == "keep")
                    if verdict == "write":
                        waiting.append((home / ".seed" / path.name, path))
            for aside, path in waiting:
                write_aside(aside, render(newest[path]), mode=0o644, sync=len(waiting) <= _FEW)
            if len(waiting) > _FEW:
                os.sync()
            lost = sum(not _publish(aside, path, newest[path], replace=replace) for aside, path in waiting)
            for home in homes:
                sync_folder(home)
    except OSError as error:
        raise TargetUnavailable(f"tracker folder {folder} cannot be seeded: {error}") from error
    return Seeded(len(waiting) - lost, unchanged, kept + lost)


def _document(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the issue file of a row, with the hash by which a later change of it is recognised."""
    facts = {**row, "comments": [], "applied": [], "earlier_comments": row.get("comments")}
    return {**facts, "seeded_sha256": _hash(facts)}


def _hash(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _compare(path: Path, document: dict[str, Any], *, replace: bool) -> str:
    try:
        there, _ = load(path)
    except TargetUnavailable as error:
        if replace and error.instance_code == "target.malformed":
            return "write"
        raise
    if there == document:
        return "same"
    facts = {name: value for name, value in there.items() if name != "seeded_sha256"}
    untouched = there.get("seeded_sha256") == _hash(facts)
    return "write" if replace or (untouched and (there["updated_at"] or "") < document["updated_at"]) else "keep"


def _publish(aside: Path, path: Path, document: dict[str, Any], *, replace: bool) -> bool:
    """Give a written file its name, unless somebody has changed what is there since it was compared."""
    if not path.exists():  # nobody but a seeder makes files, and seeders take turns
        os.rename(aside, path)
        return True
    with locked(path, wait_seconds=10):
        with contextlib.suppress(TargetMissing):
            if _compare(path, document, replace=replace) != "write":
                aside.unlink()
                return False
        os.rename(aside, path)
    return True


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the right to seed one repository's folder; make it, and its `.seed`, when missing."""
    (home / ".seed").mkdir(parents=True, exist_ok=True)
    handle = os.open(home / ".seed", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
