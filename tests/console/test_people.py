"""token, whoami, login: who acts, and how they prove it."""

import stat
from pathlib import Path
from typing import Any

from pipeline.startup.compose import Shop
from queues.database import Connection
from tests.in_process import Road
from tests.reviews import look, person, propose


def test_a_new_token_is_printed_once_and_only_its_hash_is_kept(admin: Connection, cli: Any) -> None:
    made = cli("token", "new", "--actor", "ada", "--role", "reviewer", "--days", "90", "--label", "laptop")
    token = made.stdout.strip()
    assert made.exit_code == 0
    assert token.startswith("shf_")
    assert "shown this once" in made.stderr
    assert look(admin, "SELECT count(*) FROM tokens t WHERE t::text LIKE %s", f"%{token}%") == [0]
    assert look(admin, "SELECT round(extract(epoch FROM expires_at - created_at) / 86400) FROM tokens WHERE label = 'laptop'") == [90]
    assert look(admin, "SELECT action, object FROM audit WHERE action = 'actor.roles'") == [("actor.roles", "ada")]

    me = cli("whoami", "--json", env={"SHOPFLOOR_TOKEN": token}).json
    assert (me["actor"], me["kind"], me["roles"], me["proof"]) == ("ada", "person", ["reviewer"], "SHOPFLOOR_TOKEN")
    listed = cli("token", "list", "--json")
    assert token not in listed.stdout
    assert [row["label"] for row in listed.json["tokens"] if row["actor"] == "ada"] == ["laptop"]


def test_only_admins_make_and_revoke_tokens(shop: Shop, admin: Connection, cli: Any) -> None:
    as_operator = {"SHOPFLOOR_TOKEN": person(shop, "otto", "operator")}
    before = look(admin, "SELECT count(*) FROM tokens")
    for arguments in (
        ("new", "--actor", "otto", "--role", "reviewer"),
        ("new", "--actor", "eve", "--role", "admin"),
        ("revoke", "--actor", "root"),
    ):
        assert cli("token", *arguments, env=as_operator).exit_code == 5
    assert look(admin, "SELECT count(*) FROM tokens") == before
    assert look(admin, "SELECT role FROM roles r JOIN actors a ON a.id = r.actor_id WHERE a.name = 'otto'") == ["operator"]


def test_the_first_admin_of_a_workspace_needs_nobody(shop: Shop, admin: Connection, cli: Any, tmp_path: Path) -> None:
    admin.execute("DELETE FROM roles WHERE role = 'admin'")
    nobody = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert cli("token", "new", "--actor", "eve", env=nobody).exit_code == 5
    assert cli("token", "new", "--actor", "eve", "--role", "admin", env=nobody).exit_code == 0
    assert cli("token", "new", "--actor", "mallory", "--role", "admin", env=nobody).exit_code == 5


def test_a_revoked_token_proves_nothing(admin: Connection, cli: Any) -> None:
    token = cli("token", "new", "--actor", "ada", "--role", "reader").stdout.strip()
    [token_id] = look(admin, "SELECT t.id FROM tokens t JOIN actors a ON a.id = t.actor_id WHERE a.name = 'ada'")
    assert cli("token", "revoke", str(token_id), "--dry-run").exit_code == 0
    assert cli("whoami", env={"SHOPFLOOR_TOKEN": token}).exit_code == 0
    assert cli("token", "revoke", str(token_id)).exit_code == 0
    refused = cli("whoami", env={"SHOPFLOOR_TOKEN": token})
    assert refused.exit_code == 5
    assert token not in refused.stderr + refused.stdout
    assert cli("token", "revoke", str(token_id)).exit_code == 3


def test_an_actor_who_leaves_takes_every_token_along(shop: Shop, road: Road, admin: Connection, cli: Any) -> None:
    propose(road, 1)
    token = person(shop, "ada", "reviewer")
    assert cli("token", "revoke", "--actor", "ada").exit_code == 0
    assert cli("review", "approve", "acme/widgets#1", env={"SHOPFLOOR_TOKEN": token}).exit_code == 5
    again = cli("token", "new", "--actor", "ada")
    assert again.exit_code == 4
    assert "--enable" in again.stderr
    back = cli("token", "new", "--actor", "ada", "--enable").stdout.strip()
    assert cli("review", "approve", "acme/widgets#1", env={"SHOPFLOOR_TOKEN": back}).exit_code == 0


def test_a_service_cannot_be_given_a_persons_token(cli: Any) -> None:
    seen = cli("token", "new", "--actor", "intake", "--role", "reviewer")
    assert seen.exit_code == 4
    assert "intake is a service" in seen.stderr
    assert cli("token", "new", "--actor", "cell:issue_review").exit_code == 2


def test_login_keeps_the_token_for_this_user_alone(shop: Shop, cli: Any, tmp_path: Path) -> None:
    home = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    token = person(shop, "ada", "reviewer")
    assert cli("login", input="not a token\n", env=home).exit_code == 5
    assert cli("login", input="", env=home).exit_code == 2
    kept = tmp_path / "config" / "shopfloor" / "token"
    assert not kept.exists()

    done = cli("login", input=f"{token}\n", env=home)
    assert (done.exit_code, token in done.stdout) == (0, False)
    assert kept.read_text() == f"{token}\n"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    me = cli("whoami", "--json", env=home).json
    assert (me["actor"], me["proof"]) == ("ada", str(kept))

    assert cli("login", "--remove", env=home).exit_code == 0
    assert cli("whoami", "--json", env=home).json["proof"] == "the embedded default"
