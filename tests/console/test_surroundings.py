"""Commands in odd surroundings: closed streams, other encodings, words that are no text. Never a traceback, always a documented exit code."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from console.shell import cli as root
from pipeline.startup.compose import Shop

ROOT = Path(__file__).parents[2]
EXIT_CODES = {0, 1, 2, 3, 4, 5, 6, 7, 130}
STAYS = {"up", "worker", "sweeper", "demo", "benchmark", "down"}
"""Commands that start or stop processes, or stay: tested where that is tested."""


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    """Return every command that can be run, with the words that name it."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        found = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
        return [leaf for name, one in found if one is not None and name not in STAYS for leaf in leaves(one, (*path, name))]
    return [(path, command)]


COMMANDS = leaves(root)


def words_for(command: click.Command, word: bytes) -> list[bytes]:
    """Return a word for each argument that the command demands."""
    return [word for one in command.params if isinstance(one, click.Argument) and (one.required or one.nargs == -1)]


@pytest.fixture
def run(shop: Shop, tmp_path: Path) -> Any:
    """Run commands in one process each, several at a time, and return their exit codes and all that they said."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SHOPFLOOR_")}
    environment |= {
        "SHOPFLOOR_DATA_DIR": str(shop.data_dir), "SHOPFLOOR_DATABASE": shop.database, "SHOPFLOOR_TRACKER_DIR": str(tmp_path),
        "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(tmp_path), "COLUMNS": "80",
    }  # fmt: skip

    def start(arguments: list[bytes], before: str = "", **env: str) -> "subprocess.Popen[bytes]":
        shell = f'{before} exec "$0" -P -m console "$@"' if before else 'exec "$0" -P -m console "$@"'
        return subprocess.Popen(
            ["/bin/bash", "-c", shell, sys.executable, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=environment | env, cwd=tmp_path,
        )  # fmt: skip

    def all_of(calls: list[tuple[list[bytes], str, dict[str, str]]]) -> list[tuple[Any, int, str]]:
        results = []
        for place in range(0, len(calls), 4):
            running = [(call, start(call[0], call[1], **call[2])) for call in calls[place : place + 4]]
            for call, process in running:
                out, err = process.communicate(timeout=60)
                results.append((call, process.returncode, (out + err).decode("utf-8", "replace")))
        return results

    return all_of


def refused(results: list[tuple[Any, int, str]]) -> list[Any]:
    """Return the calls that left a traceback, an internal error, or an exit code that means nothing."""
    return [
        (call[0], call[1], code, said[-300:])
        for call, code, said in results
        if code not in EXIT_CODES or "Traceback" in said or "internal error" in said
    ]


def test_there_are_commands_to_test() -> None:
    assert len(COMMANDS) > 35


def test_words_that_are_no_text_are_refused_in_words(run: Any) -> None:
    calls = [([*(word.encode() for word in path), *words_for(command, b"\xff\xfe")], "", {}) for path, command in COMMANDS]
    assert refused(run(calls)) == []


@pytest.mark.parametrize("before", ["exec >&-;", "exec 2>&-;", "exec <&-;"])
def test_closed_streams_end_in_an_exit_code(before: str, run: Any) -> None:
    chosen = [
        ("status",),
        ("items",),
        ("intake", "-"),
        ("login",),
        ("requeue", "-", "--yes"),
        ("why", "-"),
        ("settings",),
        ("review", "inbox"),
    ]
    assert refused(run([([word.encode() for word in words], before, {}) for words in chosen])) == []


def test_an_output_that_takes_ascii_alone_or_nothing_is_no_failure_of_ours(run: Any) -> None:
    calls: list[Any] = [([word.encode() for word in words], "", {"PYTHONIOENCODING": "latin-1"}) for words in (("status",), ("settings",))]
    calls += [([b"status"], "exec >/dev/full;", {}), ([b"settings"], "exec >/dev/full;", {})]
    results = run(calls)
    assert refused(results) == []
    assert [code for _, code, _ in results[:2]] == [0, 0]
    assert [code for _, code, _ in results[2:]] == [6, 6]


def test_a_reader_that_leaves_is_no_failure(shop: Shop, run: Any) -> None:
    done = run([([b"settings", b"--jsonl"], "set -o pipefail; exec > >(head -1 >/dev/null; sleep 0.2);", {})])
    assert [code for _, code, _ in done] == [0]


@pytest.mark.parametrize(
    ("words", "env", "code"),
    [
        (("status",), {"SHOPFLOOR_WORKSPACE": "a\x1b[2Jb"}, 3),
        (("whoami",), {"SHOPFLOOR_TOKEN": ""}, 2),
        (("pause", "all", "--why", "x", "--until", "9999-12-31T23:59:59-23:59"), {}, 2),
        (("items", "--limit", "9" * 20), {}, 2),
        (("token", "new", "--actor", " "), {}, 2),
        (("apply", "preview", ""), {}, 2),
        (("why", " "), {}, 2),
        (("requeue", "", "--yes"), {}, 2),
        (("intake", "/nope", "--flow", ""), {}, 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_is_empty_or_out_of_range_is_refused(words: tuple[str, ...], env: dict[str, str], code: int, run: Any) -> None:
    [(_, found, said)] = run([([word.encode() for word in words], "", env)])
    assert found == code, said
    assert "\x1b" not in said
    assert "Traceback" not in said
