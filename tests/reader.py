"""A person at a shell where `./shopfloor` works and `shopfloor` does not: reads what was printed, and types it in."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from console.catalogue import COMMANDS
from tests.in_process import Result
from tests.remedies import END

_CALL = re.compile(rf"(?<![\w/.])\./shopfloor (?:{'|'.join(COMMANDS)})\b")
_BARE = re.compile(rf"(?<![\w./-])shopfloor (?:{'|'.join(COMMANDS)})\b")


class Reader:
    """Types command lines in a folder of its own, by a real shell, and takes the next ones from what they printed."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self._environment = folder, environment | {"PATH": "/usr/bin:/bin", "XDG_CONFIG_HOME": str(folder / "config")}
        folder.mkdir()
        launcher = folder / "shopfloor"
        launcher.write_text(f'#!/bin/sh\n_SHOPFLOOR_CALLED_AS="$0" exec {sys.executable} -P -m console "$@"\n')
        launcher.chmod(0o755)

    def types(self, line: str, *, input: str = "", timeout: float = 120, **env: str) -> Result:
        """Return what a line of shell printed. Fails when any of it could not be typed here, or is a traceback."""
        done = subprocess.run(
            ["/bin/bash", "-c", line],
            cwd=self.folder, env=self._environment | env, input=input, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert not _BARE.search(said), f"not how it is called here: {said}"
        assert "Traceback" not in said, said
        return Result(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def stays(self, line: str) -> Iterator[None]:
        """Type a line that stays until it is told to end, and end it afterwards. Fails when it did not end well."""
        process = subprocess.Popen(shlex.split(line), cwd=self.folder, env=self._environment, stderr=subprocess.PIPE, text=True)
        try:
            yield
        finally:
            process.terminate()
            _, said = process.communicate(timeout=30)
        assert process.returncode == 0, said

    def does(self, line: str, **more: str) -> Result:
        """Type a line that is to succeed, and return what it printed."""
        done = self.types(line, **more)
        assert done.exit_code == 0, f"{line}: {done.stdout}{done.stderr}"
        return done


def told(seen: Result, beginning: str = "") -> list[str]:
    """Return the command lines that were printed, those that begin so, each as a person copies it."""
    lines = []
    for match in _CALL.finditer(text := seen.stdout + seen.stderr):
        end = END.search(text, match.start())
        assert end is not None
        lines.append(text[match.start() : end.start()].strip())
    return [line for line in lines if line.startswith(f"./shopfloor {beginning}")]


def told_one(seen: Result, beginning: str) -> str:
    """Return the one command line that was printed and begins so."""
    found = dict.fromkeys(told(seen, beginning))
    assert len(found) == 1, f"{list(found)} in: {seen.stdout}{seen.stderr}"
    return next(iter(found))


def filling(line: str, **values: str) -> str:
    """Return a command line with a person's own words in place of those in capitals."""
    for name, value in values.items():
        assert name in line.split(), line
        line = re.sub(rf"(?<!\S){name}(?!\S)", value, line)
    return line
