"""Directories that are not shopfloor's to use are refused with the remedy, and left as they were."""

import json
import os
from pathlib import Path

import pytest
from contracts.errors import BadInput, BadSetting, Refused, Unavailable
from queues.embedded import attach, attach_or_start, default_data_dir, inspect, stop
from queues.embedded.place import Place


def contents(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def marked(directory: Path, **changes: object) -> Path:
    directory.mkdir()
    (directory / "shopfloor.json").write_text(json.dumps({"layout": 1, "postgres_major": 18} | changes))
    (directory / "shopfloor.lock").touch()
    return directory


def test_a_directory_of_somebody_elses_files_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(Refused, match=r"holds thesis\.txt") as refused:
        attach_or_start(tmp_path)
    assert refused.value.instance_code == "embedded.foreign"
    assert contents(tmp_path) == {"thesis.txt"}
    stop(tmp_path)
    assert contents(tmp_path) == {"thesis.txt"}


def test_a_half_made_directory_with_strange_files_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shopfloor.lock").touch()
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(Refused, match="half-made"):
        attach_or_start(tmp_path)


def test_data_of_another_major_version_is_refused_with_what_to_install(tmp_path: Path) -> None:
    data = marked(tmp_path / "data", postgres_major=14)
    (data / "postgres").mkdir()
    (data / "postgres" / "PG_VERSION").write_text("14\n")
    with pytest.raises(Refused, match="made by PostgreSQL 14") as refused:
        attach_or_start(data)
    assert "apt-get install postgresql-14" in refused.value.hint


def test_a_marker_that_disagrees_with_the_database_is_refused(tmp_path: Path) -> None:
    data = marked(tmp_path / "data", postgres_major=18)
    (data / "postgres").mkdir()
    (data / "postgres" / "PG_VERSION").write_text("16\n")
    for refusing in (attach, attach_or_start):
        with pytest.raises(Refused, match="holds PostgreSQL 16"):
            refusing(data)
    assert "PostgreSQL 16" in inspect(data).problem


def test_a_layout_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="layout 2, this shopfloor knows 1"):
        attach_or_start(marked(tmp_path / "data", layout=2))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"layout": "x", "postgres_major": 18}', "\x00"])
def test_a_marker_that_we_did_not_write_is_refused(tmp_path: Path, text: str) -> None:
    data = marked(tmp_path / "data")
    (data / "shopfloor.json").write_text(text)
    with pytest.raises(Refused) as refused:
        attach(data)
    assert refused.value.instance_code == "embedded.marker"


def test_a_file_in_the_way_is_named_with_the_setting_to_change(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "data"):
        with pytest.raises((BadSetting, Unavailable), match="Not a directory") as refused:
            attach_or_start(path)
        assert "SHOPFLOOR_DATA_DIR" in refused.value.hint


def test_a_directory_open_to_everybody_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(BadSetting, match="everybody") as refused:
        attach_or_start(tmp_path)
    assert f"chmod o-w {tmp_path}" in refused.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused_even_for_root(tmp_path: Path) -> None:
    data = marked(tmp_path / "data")
    os.chown(data, 65534, 65534)
    with pytest.raises(BadSetting, match="belongs to user 65534"):
        attach_or_start(data)


def test_a_path_with_a_newline_is_refused_before_it_reaches_a_settings_file(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="cannot be printed"):
        attach_or_start(tmp_path / "a\nlisten_addresses='*'")


def test_a_role_that_is_a_path_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(BadInput, match="lower-case"):
        attach_or_start(tmp_path / "data", ["../../etc/passwd"])
    assert not (tmp_path / "data" / "postgres").exists()


def test_the_default_directory_follows_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHOPFLOOR_DATA_DIR", str(tmp_path / "named"))
    assert default_data_dir() == tmp_path / "named"
    monkeypatch.setenv("SHOPFLOOR_DATA_DIR", "relative")
    assert default_data_dir() == Path.cwd() / "relative"
    monkeypatch.setenv("SHOPFLOOR_DATA_DIR", " ")
    with pytest.raises(BadSetting, match="is empty"):
        default_data_dir()

    monkeypatch.delenv("SHOPFLOOR_DATA_DIR")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_data_dir() == Path("/var/lib/shopfloor")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert default_data_dir() == tmp_path / "xdg" / "shopfloor"
    monkeypatch.setenv("XDG_DATA_HOME", "not-absolute")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_data_dir() == tmp_path / ".local" / "share" / "shopfloor"


def test_a_socket_is_taken_up_to_a_hundred_bytes_of_path() -> None:
    fixed = len("//run/.s.PGSQL.5432")
    assert Place(Path("/" + "x" * (100 - fixed))).takes_sockets
    assert not Place(Path("/" + "x" * (101 - fixed))).takes_sockets
    assert not Place(Path("/" + "ä" * 50)).takes_sockets
    assert not Place(Path("/a,b")).takes_sockets
