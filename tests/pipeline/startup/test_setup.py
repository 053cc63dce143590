"""Setting a factory up, again and again."""

import getpass
from pathlib import Path

import pytest
from contracts.errors import Refused
from contracts.lifecycle import Role
from pipeline.access.tokens import actor_of
from pipeline.startup.compose import Shop
from pipeline.startup.setup import own_token, set_up
from queues.database import Connection
from queues.schema import migrate


def test_setting_up_again_changes_nothing(shop: Shop, admin: Connection) -> None:
    tables = ("contracts", "cells", "floors", "actors", "roles", "workspaces")

    def counts() -> list[int]:
        return [admin.execute(f"SELECT count(*) FROM shopfloor.{table}").fetchone()[0] for table in tables]  # type: ignore[index]

    before = counts()
    set_up(shop)
    assert counts() == before


def test_a_kept_token_that_this_database_does_not_know_is_replaced(shop: Shop) -> None:
    path = shop.data_dir / "secrets" / f"token.{shop.settings.workspace}.{getpass.getuser()}"
    kept = path.read_text(encoding="ascii")
    try:
        path.write_text("shf_of_another_database\n", encoding="ascii")
        with shop.connect(Role.OPERATE) as conn:
            token = own_token(shop, conn, shop.workspace_id(conn))
            assert actor_of(conn, token).name == getpass.getuser()
            assert path.read_text(encoding="ascii").strip() == token
            assert own_token(shop, conn, shop.workspace_id(conn)) == token
        assert path.stat().st_mode & 0o077 == 0
    finally:
        path.write_text(kept, encoding="ascii")  # the other tests' databases know this one


def test_a_login_that_may_not_act_as_the_owner_cannot_migrate(shop: Shop) -> None:
    with pytest.raises(Refused, match="shopfloor_read may not act as shopfloor_owner"):
        migrate(shop.url(Role.READ))


def test_the_floor_file_that_is_nearest_upward_is_the_one_that_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.floors.publish import floor_file

    (tmp_path / "floor.yaml").write_text("floor: 1\n", encoding="utf-8")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert floor_file(None) == tmp_path / "floor.yaml"
    assert floor_file(tmp_path / "other.yaml") == tmp_path / "other.yaml"
