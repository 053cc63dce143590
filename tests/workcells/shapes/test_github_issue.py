"""What normalise makes of the rows of both exports, and what it refuses."""

import copy
import json
from typing import Any

import pytest
from contracts.errors import ROW_CODES
from workcells.shapes import RowRefused
from workcells.shapes.github_issue import export_command, mentions, normalise, unsupported_findings

REST_PULL: dict[str, Any] = {
    "url": "https://api.github.com/repos/Harbor/Lantern/issues/47",
    "repository_url": "https://api.github.com/repos/Harbor/Lantern",
    "html_url": "https://github.com/Harbor/Lantern/pull/47",
    "number": 47,
    "title": "Accept empty beam files",
    "user": {"login": "tobias-r", "id": 5},
    "labels": [{"name": "ready"}, {"name": "bug"}, {"name": "bug"}],
    "state": "closed",
    "state_reason": None,
    "locked": False,
    "comments": 2,
    "created_at": "2026-04-08T08:00:00Z",
    "updated_at": "2026-04-10T16:20:00Z",
    "closed_at": "2026-04-10T16:20:00Z",
    "author_association": "MEMBER",
    "draft": False,
    "pull_request": {"url": "x", "merged_at": "2026-04-10T16:20:00Z"},
    "body": "Fixes #41\r\n\r\nSee also\rbelow",
}
GH_ISSUE: dict[str, Any] = {
    "number": 41,
    "title": "Decoder crashes",
    "body": "…",
    "state": "OPEN",
    "stateReason": "REOPENED",
    "author": {"login": "mira-k", "is_bot": False},
    "labels": [{"id": "L1", "name": "bug", "color": "f00"}],
    "createdAt": "2026-03-02T09:15:00Z",
    "updatedAt": "2026-03-04T10:00:00Z",
    "closedAt": None,
    "url": "https://github.com/Harbor/Lantern/issues/41",
}


def changed(row: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**copy.deepcopy(row), **fields}


def test_a_merged_pull_request_of_the_rest_api_takes_its_documented_form():
    assert normalise(REST_PULL) == {
        "key": "harbor/lantern#47",
        "repo": "Harbor/Lantern",
        "number": 47,
        "kind": "pull_request",
        "title": "Accept empty beam files",
        "body": "Fixes #41\n\nSee also\nbelow",
        "state": "closed",
        "state_reason": None,
        "merged_at": "2026-04-10T16:20:00Z",
        "draft": False,
        "labels": ["bug", "ready"],
        "author": "tobias-r",
        "author_association": "MEMBER",
        "created_at": "2026-04-08T08:00:00Z",
        "updated_at": "2026-04-10T16:20:00Z",
        "closed_at": "2026-04-10T16:20:00Z",
        "comments": 2,
        "locked": False,
        "url": "https://github.com/Harbor/Lantern/pull/47",
    }


def test_both_exports_give_the_same_fields_in_the_same_order():
    assert list(normalise(REST_PULL)) == list(normalise(GH_ISSUE))


def test_an_issue_that_gh_printed_keeps_its_reason_in_lower_case():
    issue = normalise(GH_ISSUE)
    assert (issue["key"], issue["kind"], issue["state"], issue["state_reason"]) == (
        "harbor/lantern#41", "issue", "open", "reopened",
    )  # fmt: skip
    assert issue["author_association"] is None


def test_a_pull_request_that_gh_calls_merged_is_closed_and_merged_when_it_was_closed():
    row = changed(
        GH_ISSUE,
        state="MERGED",
        stateReason=None,
        closedAt="2026-04-01T00:00:00Z",
        url="https://github.com/a/b/pull/41",
    )
    pull = normalise(row)
    assert (pull["kind"], pull["state"], pull["merged_at"]) == ("pull_request", "closed", "2026-04-01T00:00:00Z")


def test_a_pull_request_of_the_pulls_api_carries_its_merge_on_the_row():
    row = changed(REST_PULL, merged_at="2026-04-10T16:20:00Z")
    del row["pull_request"]
    assert normalise(row)["merged_at"] == "2026-04-10T16:20:00Z"


def test_a_row_without_any_address_belongs_to_the_local_tracker():
    row = changed(GH_ISSUE)
    del row["url"]
    assert normalise(row)["key"] == "local/tracker#41"


def test_names_that_differ_by_case_or_unicode_form_are_one():
    shouted = changed(REST_PULL, repository_url="https://api.github.com/repos/HARBOR/lantern")
    assert normalise(shouted)["key"] == normalise(REST_PULL)["key"]
    composed = normalise(changed(REST_PULL, labels=[{"name": "caf\u00e9"}, {"name": "cafe\u0301"}]))
    assert composed["labels"] == ["caf\u00e9"]


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("2026-04-10T18:20:00+02:00", "2026-04-10T16:20:00Z"),
        ("2026-04-10 16:20:00.75Z", "2026-04-10T16:20:00Z"),
        ("2026-04-10t16:20:00z", "2026-04-10T16:20:00Z"),
    ],
)
def test_timestamps_become_utc_seconds(written, kept):
    assert normalise(changed(REST_PULL, updated_at=written))["updated_at"] == kept


def test_a_deleted_author_is_called_ghost_and_no_body_is_empty():
    row = normalise(changed(REST_PULL, user=None, body=None))
    assert (row["author"], row["body"]) == ("ghost", "")


def test_the_zero_time_of_go_means_never():
    row = changed(GH_ISSUE, mergedAt="0001-01-01T00:00:00Z", isDraft=True)
    assert normalise(row)["merged_at"] is None


@pytest.mark.parametrize(
    ("fields", "code", "place"),
    [
        ({"number": True}, "intake.type", "/number"),
        ({"number": "47"}, "intake.type", "/number"),
        ({"number": 47.0}, "intake.type", "/number"),
        ({"number": -1}, "intake.value", "/number"),
        ({"number": 10**4000}, "intake.value", "/number"),
        ({"title": None}, "intake.type", "/title"),
        ({"title": "  "}, "intake.value", "/title"),
        ({"title": "x" * 5000}, "intake.value", "/title"),
        ({"title": "a\0b"}, "intake.encoding", "/title"),
        ({"body": 7}, "intake.type", "/body"),
        ({"body": "a\ud800"}, "intake.encoding", "/body"),
        ({"state": "MERGED?"}, "intake.value", "/state"),
        ({"state": ["open"]}, "intake.type", "/state"),
        ({"state": "open"}, "intake.value", "/state"),
        ({"state_reason": "bored"}, "intake.value", "/state_reason"),
        ({"created_at": None}, "intake.required", "/created_at"),
        ({"created_at": "2026-02-30T00:00:00Z"}, "intake.value", "/created_at"),
        ({"created_at": "2026-W05-1T00:00:00Z"}, "intake.value", "/created_at"),
        ({"created_at": "2026-04-08T08:00:00"}, "intake.value", "/created_at"),
        ({"created_at": "1969-12-31T23:59:59Z"}, "intake.value", "/created_at"),
        ({"created_at": "٢٠٢٦-04-08T08:00:00Z"}, "intake.value", "/created_at"),
        ({"updated_at": 1770000000}, "intake.type", "/updated_at"),
        ({"closed_at": "soon"}, "intake.value", "/closed_at"),
        ({"pull_request": {"merged_at": "2026-13-01T00:00:00Z"}}, "intake.value", "/pull_request/merged_at"),
        ({"pull_request": "yes"}, "intake.type", "/pull_request"),
        ({"labels": "bug"}, "intake.type", "/labels"),
        ({"labels": [{"name": "bug"}, {"name": None}]}, "intake.type", "/labels/1"),
        ({"user": {"id": 5}}, "intake.type", "/user"),
        ({"author_association": "BOSS"}, "intake.value", "/author_association"),
        ({"comments": -2}, "intake.value", "/comments"),
        ({"comments": True}, "intake.value", "/comments"),
        ({"locked": "no"}, "intake.type", "/locked"),
        ({"html_url": "https://github.com/Harbor/Lantern/pull/48"}, "intake.value", "/html_url"),
        ({"html_url": "javascript:alert(1)"}, "intake.value", "/html_url"),
        ({"repository_url": "https://api.github.com/repos/../etc/passwd"}, "intake.value", "/repository_url"),
    ],
)
def test_a_row_that_cannot_be_vouched_for_is_refused_with_its_place(fields, code, place):
    with pytest.raises(RowRefused) as refused:
        normalise(changed(REST_PULL, **fields))
    assert (refused.value.instance_code, refused.value.field) == (code, place)
    assert code in ROW_CODES
    assert refused.value.message.startswith(place)


@pytest.mark.parametrize("name", ["number", "title", "state", "created_at", "updated_at"])
def test_a_missing_field_is_named(name):
    row = changed(REST_PULL)
    del row[name]
    with pytest.raises(RowRefused) as refused:
        normalise(row)
    assert (refused.value.instance_code, refused.value.field) == ("intake.required", f"/{name}")


def test_a_message_shows_hostile_text_escaped_and_cut():
    with pytest.raises(RowRefused) as refused:
        normalise(changed(REST_PULL, state="\x1b[31m" + "\u202e" + "x" * 500))
    assert refused.value.message.isascii()
    assert refused.value.message.isprintable()
    assert len(refused.value.message) < 120


def test_a_normalised_row_survives_json_unchanged():
    row = normalise(REST_PULL)
    assert json.loads(json.dumps(row)) == row


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("see #12 and #13, again #12", ("harbor/lantern#12", "harbor/lantern#13")),
        ("GH-9 and gh-8", ("harbor/lantern#9", "harbor/lantern#8")),
        ("https://github.com/Other/Repo/issues/5#issuecomment-1", ("other/repo#5",)),
        ("Other/Repo#5, (#6)", ("other/repo#5", "harbor/lantern#6")),
        ("itself: #47", ()),
        ("&#123; page.html#12 a#3 colour #123abc /pull/#x", ()),
    ],
)
def test_mentions_are_the_keys_that_the_text_names(body, named):
    assert mentions(normalise(changed(REST_PULL, title="t", body=body))) == named


def test_a_changelog_names_no_more_than_two_hundred():
    body = " ".join(f"#{number}" for number in range(1000, 3000))
    assert len(mentions(normalise(changed(REST_PULL, body=body)))) == 200


def test_an_export_that_lacks_fields_says_which_findings_it_cannot_support():
    assert unsupported_findings(REST_PULL) == []
    lacking = unsupported_findings(GH_ISSUE)
    assert ("resolved_by_merged_pr", "authorAssociation") in lacking
    assert ("resolved_by_merged_pr", "mergedAt") in lacking
    assert ("labelled_but_open", "labels") not in lacking


def test_the_export_command_fetches_issues_and_pull_requests_of_every_state():
    command = export_command("harbor/lantern")
    assert "repos/harbor/lantern/issues?state=all" in command
    assert "--paginate" in command
