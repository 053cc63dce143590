"""Single fields of GitHub rows, each read strictly: the value in its one form, or RowRefused with its place."""

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from workcells.shapes import RowRefused

NUMBER_LIMIT = 10**12
TITLE_CHARS = 4096
ASSOCIATIONS = frozenset(("COLLABORATOR", "CONTRIBUTOR", "FIRST_TIMER", "FIRST_TIME_CONTRIBUTOR", "MANNEQUIN", "MEMBER", "NONE", "OWNER"))
STATE_REASONS = frozenset(("completed", "not_planned", "reopened", "duplicate"))

_API_URL = re.compile(r"https?://[^/\s]+/(?:api/v3/)?(?:repos/)?([A-Za-z0-9_.-]{1,40}/[A-Za-z0-9_.-]{1,100})/?")
_PAGE_URL = re.compile(r"https?://[^/\s]+/([A-Za-z0-9_.-]{1,40}/[A-Za-z0-9_.-]{1,100})/(issues|pull)/([0-9]{1,12})(?:[/?#].*)?")
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:[.,]\d{1,9})?(Z|z|[+-]\d\d:\d\d)", re.ASCII)


def number_of(row: Mapping[str, Any]) -> int:
    number = row.get("number")
    if type(number) is not int:  # a bool is an int to isinstance
        raise _absent_or_type(row, "number", "an integer")
    if not 0 < number < NUMBER_LIMIT:
        raise value_refused("/number", f"1 to {NUMBER_LIMIT - 1}", "a number outside")
    return number


def page_of(row: Mapping[str, Any], field: str, number: int) -> tuple[str | None, str | None]:
    """Return the repository and `issues` or `pull` from the page's address; two times None without one."""
    page = row.get(field)
    if page is None:
        return None, None
    if type(page) is not str:
        raise type_refused(f"/{field}", "a string", page)
    match = _PAGE_URL.fullmatch(page)
    if match is None:
        raise value_refused(f"/{field}", "the address of an issue or pull request page", page)
    if int(match[3]) != number:
        raise value_refused(f"/{field}", f"the page of number {number}", page)
    return match[1], match[2]


def repository_of(row: Mapping[str, Any]) -> str | None:
    """Return `owner/repo` from `repository_url`, None without one."""
    address = row.get("repository_url")
    if address is None:
        return None
    if type(address) is not str:
        raise type_refused("/repository_url", "a string", address)
    return _repository(address)


@lru_cache(maxsize=256)
def _repository(address: str) -> str:
    match = _API_URL.fullmatch(address)
    if match is None:
        raise value_refused("/repository_url", "the address of a repository", address)
    return match[1]


def pull_of(row: Mapping[str, Any]) -> dict[str, Any] | None:
    pull = row.get("pull_request")
    if pull is not None and type(pull) is not dict:
        raise type_refused("/pull_request", "an object or null", pull)
    return pull


def state_of(row: Mapping[str, Any], *, is_pull: bool) -> str:
    state = row.get("state")
    if state == "open" or state == "OPEN":
        return "open"
    if state == "closed" or state == "CLOSED" or (is_pull and state == "MERGED"):
        return "closed"
    if type(state) is not str:
        raise _absent_or_type(row, "state", "a string")
    raise value_refused("/state", "open or closed", state)


def reason_of(row: Mapping[str, Any], field: str) -> str | None:
    reason = row.get(field)
    if reason is None or reason == "":
        return None
    if type(reason) is str and reason.lower() in STATE_REASONS:
        return reason.lower()
    raise value_refused(f"/{field}", "completed, not_planned, reopened, duplicate or null", reason)


def title_of(row: Mapping[str, Any]) -> str:
    if type(row.get("title")) is not str:
        raise _absent_or_type(row, "title", "a string")
    title = text_of(row, "title")
    if not title.strip() or len(title) > TITLE_CHARS:
        raise value_refused("/title", f"1 to {TITLE_CHARS} characters", f"{len(title)} characters")
    return title


def text_of(row: Mapping[str, Any], field: str) -> str:
    """Return the text with Unix line ends; the empty string for null or nothing."""
    text = row.get(field)
    if text is None:
        return ""
    if type(text) is not str:
        raise type_refused(f"/{field}", "a string or null", text)
    if "\0" in text:
        raise RowRefused("intake.encoding", f"/{field}", f"/{field}: holds a NUL character")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            message = f"/{field}: holds a lone surrogate at character {error.start}"
            raise RowRefused("intake.encoding", f"/{field}", message) from None
    if "\r" in text:
        return text.replace("\r\n", "\n").replace("\r", "\n")
    return text


def label_names(row: Mapping[str, Any]) -> list[str]:
    labels = row.get("labels")
    if labels is None:
        return []
    if type(labels) is not list:
        raise type_refused("/labels", "an array", labels)
    names = set()
    for index, label in enumerate(labels):
        name = label.get("name") if type(label) is dict else label
        if type(name) is not str or not name:
            raise type_refused(f"/labels/{index}", "a label with a name", label)
        names.add(name if name.isascii() else unicodedata.normalize("NFC", name))
    return sorted(names)


def login_of(row: Mapping[str, Any], field: str) -> str:
    user = row.get(field)
    if user is None:
        return "ghost"  # what GitHub itself shows for a deleted account
    login = user.get("login") if type(user) is dict else user
    if type(login) is not str or not login:
        raise type_refused(f"/{field}", "an object with a login", user)
    return login


def association_of(row: Mapping[str, Any], field: str) -> str | None:
    association = row.get(field)
    if association is None:
        return None
    if type(association) is str and association in ASSOCIATIONS:
        return association
    raise value_refused(f"/{field}", "an author association such as NONE or MEMBER", association)


def comments_of(row: Mapping[str, Any]) -> int | None:
    """Return how many comments there are; `gh` lists the comments themselves."""
    comments = row.get("comments")
    if type(comments) is list:
        return len(comments)
    if comments is None or (type(comments) is int and comments >= 0):
        return comments
    raise value_refused("/comments", "a count of 0 or more", comments)


def flag_of(row: Mapping[str, Any], field: str) -> bool:
    flag = row.get(field)
    if flag is not None and type(flag) is not bool:
        raise type_refused(f"/{field}", "true, false or null", flag)
    return flag is True


def instant_of(value: Any, field: str, *, optional: bool = False) -> Any:
    """Return the instant as `YYYY-MM-DDTHH:MM:SSZ` in UTC, None for none where that is allowed."""
    if value is None:
        if optional:
            return None
        raise missing_refused(field)
    if type(value) is not str:
        raise type_refused(field, "a timestamp", value)
    if optional and value.startswith("0001-01-01T00:00:00"):
        return None  # the zero time of Go programs, `gh` among them
    match = _INSTANT.fullmatch(value)
    if match is None:
        raise value_refused(field, "a timestamp such as 2024-05-31T09:30:00Z", value)
    try:
        # fromisoformat alone would take week dates and times without a zone.
        at = datetime.fromisoformat(f"{match[1]}T{match[2]}{match[3].upper()}")
        if at.year < 1970:
            raise ValueError
        if match[3] == "Z" and len(value) == 20 and value[10] == "T":
            return value
        return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):
        raise value_refused(field, "a date that exists, from 1970 on", value) from None


def missing_refused(field: str) -> RowRefused:
    return RowRefused("intake.required", field, f"{field}: missing")


def type_refused(field: str, needed: str, seen: Any) -> RowRefused:
    return RowRefused("intake.type", field, f"{field}: expected {needed}, got {_kind_of(seen)}")


def value_refused(field: str, needed: str, seen: Any) -> RowRefused:
    shown = ascii(seen)[:60] if type(seen) is str else _kind_of(seen)
    return RowRefused("intake.value", field, f"{field}: expected {needed}, got {shown}")


def _absent_or_type(row: Mapping[str, Any], field: str, needed: str) -> RowRefused:
    return type_refused(f"/{field}", needed, row[field]) if field in row else missing_refused(f"/{field}")


def _kind_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    names = {int: "a number", float: "a number", str: "a string", list: "an array", dict: "an object"}
    return names.get(type(value), type(value).__name__)
