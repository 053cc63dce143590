"""Tables and errors on a terminal."""

from uuid import UUID

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
