from pathlib import Path

import pytest
from contracts.errors import BadInput, BadSetting, NotFound, Unavailable
from contracts.nouns import Action
from workcells.appliers import NAMES, SendThrottled, SendUnknown, applier_class, open_applier

COMMENT = Action(name="comment", target="o/r#1", payload={"body": "x"}, precondition={})


@pytest.mark.parametrize("name", NAMES)
def test_what_an_applier_can_do_is_known_without_a_credential(name: str) -> None:
    found = applier_class(name)
    assert found.name == name
    assert found.idempotency in ("native", "convergent", "probeable", "none")
    assert found.actions is None or "close" in found.actions
    assert found.fields is None or "body_sha256" in found.fields


def test_an_unknown_applier_is_refused_with_the_known_ones() -> None:
    with pytest.raises(NotFound, match="tracker, demo, github, sink"):
        open_applier("gitlab")


def test_a_setting_that_an_applier_does_not_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="unexpected keyword argument 'token'"):
        open_applier("tracker", folder=tmp_path, token="x")
    with pytest.raises(BadSetting, match="missing a required argument"):
        open_applier("github")


def test_an_unknown_effect_is_never_taken_for_an_unreachable_target() -> None:
    assert not issubclass(SendUnknown, Unavailable)
    assert issubclass(SendThrottled, Unavailable)


@pytest.mark.parametrize("field", ["comments", "updated_at", "stars"])
def test_a_field_that_cannot_be_observed_is_refused_by_name(tmp_path: Path, field: str) -> None:
    for applier in (open_applier("tracker", folder=tmp_path), open_applier("github", token="t")):
        with pytest.raises(BadInput, match=field):
            applier.observe("o/r#1", ["state", field])


def test_a_payload_can_be_checked_before_anybody_approves_it(tmp_path: Path) -> None:
    for applier in (open_applier("tracker", folder=tmp_path), open_applier("github", token="t"), open_applier("sink")):
        applier.check(COMMENT)


def test_the_sink_takes_everything_and_keeps_nothing() -> None:
    sink = open_applier("sink")
    action = Action(name="anything", target="wherever", payload={"x": 1}, precondition={"field": None})
    sink.check(action)
    assert sink.observe("wherever", ["field"]) == action.precondition
    assert sink.send(action, key="ab").changed is False
    assert sink.send(action, key="ab") == sink.send(action, key="ab")
    assert sink.probe(action, key="ab", seconds_since_sent=0) == "absent"
    assert sink.preview(action) == ""
