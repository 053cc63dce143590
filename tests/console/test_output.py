"""Tables and errors on a terminal."""

import os
import subprocess
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from console import output, shell
from contracts.errors import NotFound

ROW = {"id": UUID("01a1ff28-b4c1-7000-8000-000000000001"), "subject": "huggingface/datasets#7206", "state": "ready", "reason": "x" * 40}


def test_a_narrow_table_keeps_enough_of_an_id_and_says_which_columns_it_leaves_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "terminal_width", lambda: 34)
    output.table([ROW], list(ROW))
    said = capsys.readouterr()
    head, line = said.out.splitlines()
    assert line.startswith("01a1ff28-b4c1…  …")
    assert "#7206" in line
    assert max(len(head), len(line)) <= 34
    assert said.err == "left out: reason; a wider terminal or --csv has them\n"


def test_what_an_error_repeats_cannot_act_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    shell.complain(NotFound("no item 'a\x1b]0;owned\x07b'", hint="shopfloor why a\x1b[2J"))
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert "\x07" not in said
    assert "owned" in said


def test_a_command_that_is_nearly_one_is_named(cli: object) -> None:
    refused = cli("intke")  # type: ignore[operator]
    assert (refused.exit_code, "did you mean intake?" in refused.stderr) == (2, True), refused.stderr


def test_hints_say_what_works_where_the_reader_stands(cli: Any, tmp_path: Path) -> None:
    launcher = Path(__file__).parents[2] / "shopfloor"
    nowhere = {"SHOPFLOOR_DATA_DIR": str(tmp_path / "nowhere"), "PATH": "/usr/bin:/bin"}
    typed = cli("status", env=nowhere | {"_SHOPFLOOR_CALLED_AS": "./shopfloor"})
    assert "  ./shopfloor up   (or, to see it work: ./shopfloor demo)" in typed.stderr, typed.stderr
    usage = cli("up", "--help", env=nowhere | {"_SHOPFLOOR_CALLED_AS": "./shopfloor"}).stdout
    assert "Usage: ./shopfloor up [OPTIONS]" in usage
    assert "\n    ./shopfloor up --workers 4\n" in usage
    assert "Start with: ./shopfloor demo" in cli("--help", env=nowhere | {"_SHOPFLOOR_CALLED_AS": "./shopfloor"}).stdout
    assert "  shopfloor up   (or" in cli("status", env=nowhere).stderr, "started by its entry point"

    on_path = tmp_path / "bin"
    on_path.mkdir()
    (on_path / "shopfloor").symlink_to(launcher)
    plain = cli("status", env=nowhere | {"_SHOPFLOOR_CALLED_AS": str(launcher), "PATH": f"{on_path}:/usr/bin:/bin"})
    assert "  shopfloor up   (or" in plain.stderr, plain.stderr


def test_what_somebody_else_wrote_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "called_as", lambda: "./shopfloor")
    assert output.as_typed("next: shopfloor up, `shopfloor why X`") == "next: ./shopfloor up, `./shopfloor why X`"
    assert output.as_typed("/var/lib/shopfloor up; shopfloor is; ./shopfloor up") == "/var/lib/shopfloor up; shopfloor is; ./shopfloor up"


def test_the_launcher_passes_on_how_it_was_called() -> None:
    launcher = Path(__file__).parents[2]
    environment = {name: value for name, value in os.environ.items() if "SHOPFLOOR" not in name}
    done = subprocess.run(
        ["./shopfloor", "up", "--help"], cwd=launcher, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert "Usage: ./shopfloor up" in done.stdout, done.stderr


def test_an_error_that_an_interrupt_brings_about_is_an_interruption(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted_query(**_: object) -> None:
        try:
            raise KeyboardInterrupt
        finally:  # as the driver does: it cancels its query, and the connection may break under that
            raise psycopg.OperationalError("the connection is lost")

    monkeypatch.setattr(shell, "cli", interrupted_query)
    with pytest.raises(SystemExit) as leaving:
        shell.run()
    assert (leaving.value.code, capsys.readouterr().err) == (130, "interrupted\n")
