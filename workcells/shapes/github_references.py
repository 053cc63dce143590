"""How GitHub text names other issues and pull requests."""

import re
from collections.abc import Mapping
from typing import Any

MENTIONS_PER_ROW = 200
"""A changelog that names thousands of issues says nothing about any of them."""

REFERENCE = re.compile(
    r"(?<![\w&/#.-])(?:"
    r"https?://(?:www\.)?github\.com/(?P<url_repo>[A-Za-z0-9_.-]{1,40}/[A-Za-z0-9_.-]{1,100})/(?:issues|pull)/"
    r"(?P<url_no>\d{1,12})(?!\d)"
    r"(?P<fragment>#[\w-]+|/[\w/-]+)?"
    r"|(?P<repo>[A-Za-z0-9_.-]{1,40}/[A-Za-z0-9_.-]{1,100})?(?:#|(?<![A-Za-z0-9/])[Gg][Hh]-)(?P<no>\d{1,12})(?![\w-])"
    r")",
    re.ASCII,
)
"""Every way in which a text names an issue or pull request: `#12`, `GH-12`, `owner/repo#12`, the page's address."""


def mentions(normalised: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys that title and body name, in order of first appearance, without the row's own."""
    home = normalised["repo"].lower()
    own = normalised["key"]
    found: dict[str, None] = {}
    for text in (normalised["title"], normalised["body"]):
        # Cheap refusal first: most of the time goes into bodies that name nothing.
        if "#" not in text and "github.com/" not in text and "gh-" not in text and "GH-" not in text:
            continue
        for match in REFERENCE.finditer(text):
            key = key_of(match, home)
            if key != own and len(found) < MENTIONS_PER_ROW:
                found[key] = None
    return tuple(found)


def key_of(match: re.Match[str], home: str) -> str:
    """Return the key that a match of REFERENCE names, seen from repository `home` (lower case)."""
    repo = match["url_repo"] or match["repo"]
    return f"{repo.lower() if repo else home}#{int(match['url_no'] or match['no'])}"
