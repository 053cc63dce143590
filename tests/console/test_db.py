"""`shopfloor db`: migrate, status, url; on the embedded services and on an external PostgreSQL."""

from typing import Any

import psycopg
from contracts.lifecycle import Role
from pipeline.startup.compose import Shop
from queues.database import Connection
from queues.schema import login, newest_version


def as_external(shop: Shop, *roles: Role) -> dict[str, str]:
    """Return the settings that name the test's database as if somebody else ran it."""
    assert shop.services is not None
    urls = {f"SHOPFLOOR_DATABASE_URL_{role.upper()}": shop.url(role) for role in roles}
    return {"SHOPFLOOR_DATABASE_URL": shop.migration_url(), "SHOPFLOOR_BROKER_URL": shop.services.broker_url} | urls


def test_status_names_the_version_and_no_password(cli: Any) -> None:
    done = cli("db", "status", "--json")

    assert done.exit_code == 0
    assert (done.json["schema"], done.json["needs"]) == (newest_version(), newest_version())
    assert (done.json["up_to_date"], done.json["embedded"]) == (True, True)
    assert "postgresql://" not in done.stdout


def test_status_of_an_older_schema_ends_with_four_and_says_what_to_type(cli: Any, admin: Connection) -> None:
    admin.execute("UPDATE shopfloor.schema_version SET version_num = '0000'")

    done = cli("db", "status", "--json")

    assert done.exit_code == 4
    assert (done.json["schema"], done.json["up_to_date"]) == ("0000", False)
    assert "shopfloor db migrate" in done.stderr


def test_a_database_newer_than_this_code_is_not_touched(cli: Any, admin: Connection) -> None:
    admin.execute("UPDATE shopfloor.schema_version SET version_num = '9999'")

    done = cli("db", "migrate")

    assert done.exit_code == 1
    assert "newer than this shopfloor knows" in done.stderr
    assert admin.execute("SELECT version_num FROM shopfloor.schema_version").fetchone() == ("9999",)


def test_migrating_again_changes_nothing(cli: Any) -> None:
    assert cli("db", "migrate", "--json").json["before"] == newest_version()
    assert "up to date" in cli("db", "migrate", "--dry-run").stdout


def test_the_address_of_a_role_logs_in_as_that_role(shop: Shop) -> None:
    for role in Role:
        with psycopg.connect(shop.url(role)) as conn:
            assert conn.execute("SELECT current_user").fetchone() == (login(role),)


def test_url_prints_the_address_of_the_role_asked_for(cli: Any, shop: Shop) -> None:
    assert cli("db", "url").stdout.strip() == shop.url(Role.READ)
    assert cli("db", "url", "--role", "audit", "--json").json["url"] == shop.url(Role.AUDIT)
    assert cli("db", "url", "--role", "migrate").stdout.strip() == shop.migration_url()


def test_url_refuses_a_role_that_there_is_not(cli: Any) -> None:
    done = cli("db", "url", "--role", "root")

    assert done.exit_code == 2
    assert "audit" in done.stderr


def test_an_external_database_needs_the_url_of_the_role_that_is_asked_for(cli: Any, shop: Shop) -> None:
    done = cli("db", "url", "--role", "sweep", env=as_external(shop, Role.READ))

    assert done.exit_code == 2
    assert "SHOPFLOOR_DATABASE_URL_SWEEP" in done.stderr


def test_logins_of_an_external_database_get_the_passwords_of_their_urls(cli: Any, shop: Shop) -> None:
    done = cli("db", "migrate", "--make-roles", "--json", env=as_external(shop, *Role))

    assert done.exit_code == 0
    assert set(done.json["roles"]) == {"shopfloor_owner", *(login(role) for role in Role)}
    # They have to have kept their passwords: every other test logs in with these.
    with psycopg.connect(shop.url(Role.READ)) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_logins_are_not_made_while_one_of_them_has_no_url(cli: Any, shop: Shop) -> None:
    done = cli("db", "migrate", "--make-roles", env=as_external(shop, Role.READ, Role.INTAKE))

    assert done.exit_code == 2
    assert "SHOPFLOOR_DATABASE_URL_" in done.stderr


def test_migrating_as_a_login_that_may_not_is_refused_in_words(cli: Any, shop: Shop) -> None:
    mistaken = as_external(shop, *Role) | {"SHOPFLOOR_DATABASE_URL": shop.url(Role.READ)}

    done = cli("db", "migrate", env=mistaken)

    assert done.exit_code == 1
    assert "GRANT shopfloor_owner TO shopfloor_read" in done.stderr
