"""`up` and `down`, one right after the other."""

from typing import Any

from pipeline.compose import Shop
from pipeline.crew_file import running


def test_down_finds_the_crew_that_up_has_just_started(cli: Any, shop: Shop) -> None:
    up = cli("up", "--json", env={"SHOPFLOOR_WORKERS": "1"})
    try:
        crew = running(shop)
        assert (up.exit_code, crew is not None and crew.pid) == (0, up.json["pid"])
        assert cli("up", "--json").json["pid"] == up.json["pid"], "a second one joins the first"
    finally:
        down = cli("down", "--workers-only", "--json")
    assert down.json == {"schema_version": 1, "crew": True, "services": False}
    assert running(shop) is None
