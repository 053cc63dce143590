"""How the phrases around a reference are read."""

import time

import pytest
from workcells.cells.issue_review.references import claims_about, closing_targets, is_revert, visible

TARGET = "harbor/lantern#12"


def said(body: str, title: str = "A change") -> list[str]:
    row = {"key": "harbor/lantern#99", "title": title, "body": body}
    return [claim.says for claim in claims_about(row, TARGET)]


@pytest.mark.parametrize(
    "body",
    [
        "Fixes #12",
        "fixes: #12.",
        "**Closes** #12",
        "Resolves GH-12",
        "Fix issue #12",
        "Fix for #12 as discussed",
        "Fixes https://github.com/Harbor/Lantern/issues/12",
        "Closes [#12](https://github.com/harbor/lantern/issues/12)",
        "Closes [the crash](https://github.com/harbor/lantern/issues/12).",
        "Fixed Harbor/Lantern#12",
        "Fixes #10, #12 and #13",
        "Fixes #10 #12",
        "Fixes **#10** \n #12",
        "Fixes [#10](x)*, #11* (#12)",
        "Fixes:\n- #10\n- #12",
        "Part of #11, fixes #12",
        "Fixes #12, part of #11",
        "Fixes #12, related to #13",
        "- [x] Fixes #12",
        "Don't read past the end (fixes #12)",
        "Fixes #12 by not reading past the end",
        "<!-- name the issue -->\nFixes #12",
        "Fixes\n#12",
    ],
)
def test_a_closing_phrase_closes(body):
    assert said(body) == ["closes"]


@pytest.mark.parametrize(
    "body",
    [
        "Does not fix #12",
        "This doesn't close #12 yet",
        "Fixes #12 partially",
        "Fix partially #12",
        "fixes part of #12",
        "Part of #12",
        "Fixes #12 but only on Windows",
        "A first step to fix #12",
        "- [ ] Fixes #12",
        "Temporary workaround, not fixing #12 (step 1 of 3)",
    ],
)
def test_a_denial_or_a_part_closes_nothing(body):
    assert set(said(body)) <= {"partial", "related"}
    assert said(body)


@pytest.mark.parametrize(
    "body",
    [
        "This should fix #12",
        "Might resolve #12",
        "It seems to solve #12",
        "Addresses #12",
        "in order to fix #12 we change the reader",
        "Implements what was requested in #12",
        "Fix crash in reader (#12)",
        "Fixes #12?",
        "Closes https://github.com/harbor/lantern/issues/12#issuecomment-4",
    ],
)
def test_a_hedge_stays_a_hedge(body):
    assert said(body) == ["hedged"]


@pytest.mark.parametrize("body", ["Related to #12", "Follow-up to #12", "See #12", "Same class of bug, see #12", "Needed because of #12"])
def test_a_relation_is_no_claim(body):
    assert said(body) == ["related"]


@pytest.mark.parametrize("body", ["#12", "I fixed everything. #12", "fixed in #12", "closed by #12", "superseded by #12"])
def test_a_bare_name_is_only_a_name(body):
    assert said(body) == ["names"]


@pytest.mark.parametrize(
    "body",
    [
        "`Fixes #12`",
        "```\nFixes #12\n```",
        "~~~\nFixes #12\n~~~",
        "```\nFixes #12",
        "> Fixes #12",
        "> quoted\nFixes #12",
        "<!-- Fixes #12 -->",
        "<!-- Fixes #12",
        "<details>\nFixes #12\n</details>",
        "text\n\n    Fixes #12\n",
        "Fixes #ISSUE",
        "Fixes #(12)",
        "Fixes other/repo#12",
        "Fixes [#12](https://github.com/other/repo/issues/12)",
        "Fixes #123",
        "Fixes #12ab",
    ],
)
def test_what_is_not_said_of_the_target_is_not_heard(body):
    assert said(body) == []


@pytest.mark.parametrize("body", ["Supersedes #12", "Replaces PR #12", "This takes over #12"])
def test_a_pull_request_can_take_the_place_of_another(body):
    assert said(body) == ["replaces"]


def test_a_revert_is_recognised_by_title_and_by_body():
    assert is_revert({"title": 'Revert "Keep the cache"'})
    assert said("Reverts harbor/lantern#12") == ["reverts"]


def test_the_claim_is_the_exact_text_at_its_offsets():
    row = {"key": "harbor/lantern#99", "title": "é", "body": "Größe ✓ `x` <!-- c -->\n\nFixes #12 now"}
    (claim,) = claims_about(row, TARGET)
    assert claim.text == "Fixes #12" == row["body"][claim.start : claim.end]
    assert row["body"][claim.reference_start : claim.end] == "#12"


def test_hiding_keeps_every_offset():
    text = "a `b` <!-- c\nd --> e\n> f\ng\n\n```x\ny\n```\nz"
    hidden = visible(text)
    assert len(hidden) == len(text)
    assert [at for at, char in enumerate(text) if char == "\n"] == [at for at, char in enumerate(hidden) if char == "\n"]
    assert hidden.endswith("z")


def test_every_target_of_a_changelog_is_counted():
    body = "\n".join(f"* fixes #{number}" for number in range(20, 40))
    assert len(closing_targets({"key": "harbor/lantern#99", "title": "Release", "body": body})) == 20


@pytest.mark.parametrize(
    "body",
    [
        "`" * 65_000,
        "".join("`" * (n % 300) + "x" for n in range(1, 430)),
        "<pre " * 13_000,
        "<!--" * 16_000,
        "> a\n" * 16_000,
        "#12 " * 16_000,
        "Fixes #1, " * 6_500 + "#12",
        ("Fixes " + "#1          " * 20 + "x #12 ") * 250,
        ("Fixes " + "#1 *_ _* " * 25 + "x #12 ") * 250,
        ("Fixes" + "*" * 250 + "#12 ") * 250,
        ("Fixes the following issues:\n" + "\n - #1 a" * 20 + " #12 ") * 350,
        "- a\n \n" + " \n\n    a" * 8_000,
        "fixes " * 10_000 + "#12",
        "[" * 65_000 + "#12",
        "\n\n    a" * 9_000,
        " - " * 20_000 + "#12",
        "Fixes" + " " * 60_000 + "#12",
    ],
)
def test_hostile_text_does_not_hang_the_reader(body):
    row = {"key": "harbor/lantern#99", "title": "t", "body": body[:65_536]}
    began = time.process_time()
    claims_about(row, TARGET)
    closing_targets(row)
    assert time.process_time() - began < 3  # seconds of CPU; an unbounded pattern takes minutes
