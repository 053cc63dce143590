import pytest
from contracts.excerpts import visible
from workcells.appliers.preview import difference

BEFORE = {"title": "It breaks", "state": "open", "state_reason": None, "labels": ["bug"]}


def test_a_preview_is_a_unified_diff() -> None:
    after = BEFORE | {"state": "closed", "state_reason": "completed"}
    assert difference("o/r#1", BEFORE, after, "Bye.\nThanks.").splitlines() == [
        "--- o/r#1 as it is",
        "+++ o/r#1 as it would be",
        "@@ -1,3 +1,7 @@",
        " title: It breaks",
        "-state: open",
        "+state: closed",
        "+state_reason: completed",
        " label: bug",
        "+comment:",
        "+| Bye.",
        "+| Thanks.",
    ]


def test_a_preview_of_no_change_is_empty() -> None:
    assert difference("o/r#1", BEFORE, BEFORE, None) == ""


@pytest.mark.parametrize(
    "hidden",
    [
        "\x1b[2J",
        "\x9b1m",
        "\r",
        "\x00",
        "\u202e",
        "\u2066",
        "\u200b",
        "\u2028",
        "\ufeff",
        "\U000e0041",
        "\ud800",
        "\ue000",
    ],
)
def test_what_a_screen_would_obey_or_hide_is_written_out(hidden: str) -> None:
    shown = difference("o/r#1", BEFORE, BEFORE | {"title": f"a{hidden}b", "labels": [f"l{hidden}"]}, f"c{hidden}d")
    assert hidden not in shown
    assert f"a{ascii(hidden[0])[1:-1]}" in shown
    assert shown.count(ascii(hidden[0])[1:-1]) == 3


def test_a_line_break_in_a_title_cannot_fake_a_line_of_the_diff() -> None:
    shown = difference("o/r#1", BEFORE, BEFORE | {"title": "x\n+state: closed"}, None)
    assert "+title: x\\n+state: closed" in shown.splitlines()


def test_ordinary_text_of_any_language_is_left_alone() -> None:
    assert visible("não é 日本語 ✓") == "não é 日本語 ✓"
    assert visible("a\tb", keep="\t") == "a\tb"
