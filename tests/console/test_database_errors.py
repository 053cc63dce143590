"""What a person reads when the database answers with an error: an outage is one, a refusal is none."""

import psycopg
import pytest
from console import shell


def test_a_row_too_large_for_its_index_is_not_worded_as_an_outage(capsys: pytest.CaptureFixture[str]) -> None:
    shell._last_words(psycopg.errors.ProgramLimitExceeded("index row size 3040 exceeds btree version 4 maximum 2704"))
    assert "went away" not in capsys.readouterr().err


def test_a_lost_connection_is_worded_as_an_outage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        shell._last_words(psycopg.OperationalError("server closed the connection unexpectedly"))
    assert left.value.code == 6
    assert "the database went away" in capsys.readouterr().err
