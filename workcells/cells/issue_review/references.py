"""What a pull request's text says about another item: that it closes it, replaces it, reverts it, or only names it.

GitHub's own closing keywords are the core; around them stands what people really write: lists, markdown
links, hedges ("should fix"), denials ("does not fix"), parts ("fixes #7 partially"), quoted and commented text.
Where the reading is in doubt the weaker one is taken. Every pattern works on a bounded window: the text
is a stranger's.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from workcells.shapes.github_references import REFERENCE, key_of

Says = Literal["closes", "replaces", "reverts", "hedged", "partial", "related", "names"]
Field = Literal["title", "body"]
CLAIMS_PER_FIELD = 20

_HIDDEN = re.compile(
    r"<!--.*?(?:-->|\Z)"  # comments: what is left of an unfilled template
    r"|^[ ]{0,3}(?P<fence>```++|~~~++)[^\n]*+\n.*?(?:^[ ]{0,3}(?P=fence)[`~]*[ \t]*$|\Z)"
    r"|<(?P<tag>blockquote|pre|code|details)\b[^>]{0,200}>.*?(?:</(?P=tag)>|\Z)"
    r"|^[ ]{0,3}>[^\n]*(?:\n(?![ ]{0,3}(?:[-*+#>]|\d+[.)])|[ \t]*\n)[^\n]+)*"  # a quote and its lazy continuation
    r"|(?<=\n\n)(?:(?:[ ]{4}|\t)[^\n]*(?:\n|\Z))+"
    r"|(?P<tick>(?<!`)`++).{1,2000}?(?<!`)(?P=tick)(?!`)",
    re.DOTALL | re.MULTILINE | re.IGNORECASE,
)
_MAY_HIDE = re.compile(r"[<`>~\t]|[ ]{4}")
_LIST_ABOVE = re.compile(r"(?:\A|\n)[ \t]*+(?:[-*+]|\d++[.)])[ \t][^\n]*+\n(?:[^\n]*+\n)?\s*+\Z")

# Possessive wherever two neighbours could share characters: in "#1    #2    #3 x" every gap could else be parted in many ways,
# and all their combinations be tried.
_REF = r"(?:https?://github\.com/[\w.-]+/[\w.-]+/(?:issues|pull)/\d++|(?:[\w.-]+/[\w.-]+)?#\d++|gh-\d++)"
_CLOSE = r"(?P<verb>fix(?:es|ed)?|close[sd]?|resolve[sd]?)"  # GitHub's nine words; "solves" stays a hedge
_REPLACE = r"(?P<verb>supersede[sd]?|replace[sd]?|obsolete[sd]?|takes[ ]over(?:[ ]from)?)"
_NOUNS = (
    r"(?:[\s:*_]+(?:for|the|this|an?|our|github|bugs?|issues?|tickets?|problems?|prs?|pull[ ]requests?|number|no\.)"
    r"(?=[\s:*_#\[(]))*"
)
_JOIN = r"[\s:*_~(\[<\"'–—-]*+"
_ITEMS = (
    rf"(?:\[?{_REF}(?:\]\([^)\s]*\))?(?:\s*+[)*_]++)*+(?:\s*+(?:,[ ]*and\b|,|and\b|&|\+|/|or\b)|[^\S ]*+[ ])"
    r"[\s(\[]*+(?:also[ ])?(?:issue[ ])?)*"
)
_BULLETS = rf"[*_]*+(?:[ ]the[ ]following)?(?:[ ]issues?)?[ \t*_:]*+\n(?:\s*+[-*+][ \t]++{_REF}[^\n]*+\n)*+\s*+[-*+][ \t]++"


def _heading(verbs: str) -> re.Pattern[str]:
    """Match the end of the text before a reference when it says that the reference's target is `verbs`-ed."""
    return re.compile(rf"(?<![\w-]){verbs}(?:{_NOUNS}{_JOIN}{_ITEMS}|{_BULLETS})\Z", re.IGNORECASE | re.ASCII)


_CLOSES = _heading(_CLOSE)
_REPLACES = _heading(_REPLACE)
_REVERTS = re.compile(
    r"(?<![\w-])(?P<verb>reverts?)(?:[ ](?:pr|pull[ ]request|commit|the|changes|in|of|from))*" + _JOIN + r"\Z",
    re.IGNORECASE,
)
_LOOSELY = re.compile(
    r"(?<![\w-])(?P<verb>(?:fix|clos|resolv|solv)(?:e[sd]?|es|ed|ing)?|address(?:es|ed|ing)?|implement(?:s|ed|ing)?"
    r"|supersed(?:es?|ing)|replac(?:es?|ing)|replacement|continu(?:es|ation)|requested|reported)\b"
    r"(?![ ](?:in|by|with|via|as|since)[ (\[]*\Z)[^\n]{0,80}\Z",
    re.IGNORECASE,
)
_LINK_TEXT = re.compile(r"\[[^\[\]\n]{0,120}\]\(<?\Z")
_SENTENCE = re.compile(r"[.!?;](?=\s|\Z)|\n")
_BREATH = re.compile(r"[.!?;](?=\s|\Z)|\n|[ ]*:\s|[ ]by[ ]")
_CLAUSE = re.compile(r"[(,]|[ ][–—-]+[ ]|:\s")
_ASIDE = re.compile(r"[(]|[ ][–—-]+[ ]")
_NEITHER = re.compile(r"\b(?:n?or)\b", re.IGNORECASE)
_EMPTY_BOX = re.compile(r"(?:\A|\n)[ \t]*[-*+][ \t]+\[ \][^\n]*\Z")

_DENIAL = (
    r"partial\w*|partly|in[ ]part|parts?[ ](?:of|\d+)|steps?|toward[s]?|not|no[ ]longer|never|cannot|without|\w+n['’]?t"
    r"|temporar\w*|work-?around|for[ ]now|so[ ]far|except|only|some[ ]of|half|almost|remaining|prerequisite|prepar\w*"
    r"|instead[ ]of|rather[ ]than|supposed|fail(?:s|ed)?|re-?open\w*|yet"
)
_DENIED_BEFORE = re.compile(rf"\b(?:{_DENIAL}|follow(?:s|ed|ing)?[ -]?up|relate[sd]?)\b", re.IGNORECASE)
_DENIED_AFTER = re.compile(rf"\b(?:{_DENIAL}|but)\b", re.IGNORECASE)
_PARTLY = re.compile(r"\b(?:partial\w*|partly|in[ ]part|parts?[ ](?:of|\d+)|steps?[ ](?:towards?|\d+))\b", re.IGNORECASE)
_HEDGE_BEFORE = re.compile(
    r"\b(?:should|might|may|could|would|hope\w*|seems?|think|believe|probably|likely|perhaps|maybe|possibl[ey]"
    r"|attempt\w*|try|tries|trying|tried|helps?|aims?|if|when|once|after|before|until|unless|while|was|were|been|already"
    r"|previous\w*|earlier|same|similar|like|see|wip|draft|todo|please|to[ ]*\Z)\b|\bto\s*\Z",
    re.IGNORECASE,
)
_HEDGE_AFTER = re.compile(
    r"\b(?:in[ ](?:the[ ])?case|for[ ](?:some|certain|the[ ]case)|if|unless|when|hopefully|maybe|i[ ]think)\b",
    re.IGNORECASE,
)
_UNRELATED = re.compile(
    r"\b(?:see|cf|relate[sd]?|similar|unlike|depend\w*|block\w*|inspired|because|regression|introduc\w*|caus\w*|since|after"
    r"|follow\w*|motivat\w*|discuss\w*|context|require[sd]?|need\w*|not|\w+n['’]?t|revert\w*|from|hack)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Claim:
    """What `row` says about one target, and where: `row[field][start:end]` is the phrase with the reference."""

    row: Mapping[str, Any]
    says: Says
    field: Field
    start: int
    end: int
    reference_start: int
    """Where the reference alone begins."""

    @property
    def text(self) -> str:
        return str(self.row[self.field])[self.start : self.end]


def visible(text: str) -> str:
    """Return `text`, at equal length, without what a reader does not take as its author's own words.

    Comments become spaces; code and quotes become a mark that no phrase can reach across. Line ends stay.
    """
    if not _MAY_HIDE.search(text):
        return text

    def blank(match: re.Match[str]) -> str:
        hidden = match[0]
        if hidden[0] in " \t" and not hidden.lstrip(" ").startswith((">", "`", "~")):
            start = match.start()
            if _LIST_ABOVE.search(text, max(0, start - 600), start):
                return hidden  # deep indentation under a list item is the item's next line, not code
        mark = " " if hidden.startswith("<!--") else "\ufffd"
        return "\n".join(mark * len(line) for line in hidden.split("\n"))

    return _HIDDEN.sub(blank, text)


def is_revert(row: Mapping[str, Any]) -> bool:
    """True when the pull request takes another one back; the phrases it repeats are then not its own."""
    return str(row["title"]).lstrip("[( ").lower().startswith("revert")


def claims_about(row: Mapping[str, Any], target: str) -> list[Claim]:
    """Return the claims that `row`'s title and body make about the subject `target`, in order."""
    found: list[Claim] = []
    for field in ("title", "body"):
        text = visible(row[field])
        places = 0
        for match in REFERENCE.finditer(text):
            if places == CLAIMS_PER_FIELD:
                break
            if key_of(match, _home(row)) == target and not _is_link_text(text, match):
                places += 1
                found.append(_read(row, field, text, match))
    return found


def closing_targets(row: Mapping[str, Any]) -> set[str]:
    """Return the keys that the row's text says it closes; many of them mean a changelog, not a fix."""
    text = visible(f"{row['title']}\n{row['body']}")
    return {
        key_of(match, _home(row)) for match in REFERENCE.finditer(text) if _CLOSES.search(text, max(0, match.start() - 200), match.start())
    }


def _home(row: Mapping[str, Any]) -> str:
    return str(row["key"]).rpartition("#")[0]


def _is_link_text(text: str, match: re.Match[str]) -> bool:
    """True for the `#12` of `[#12](address)`: where the link leads counts, not what it shows."""
    return text[match.start() - 1 : match.start()] == "[" and text[match.end() : match.end() + 2] == "]("


def _read(row: Mapping[str, Any], field: Field, text: str, match: re.Match[str]) -> Claim:
    start, end = match.span()
    link = _LINK_TEXT.search(text, max(0, start - 130), start)
    upto = link.start() if link else start
    window = max(0, upto - 300)
    before = text[window:upto]
    after = _same_breath(text[end : end + 120])
    asked = text[end : end + 1] == "?"

    def claim(says: Says, at: int) -> Claim:
        return Claim(row, says, field, at, end, start)

    reverts = _REVERTS.search(before)
    if reverts:
        return claim("reverts", window + reverts.start())
    direct = _CLOSES.search(before) or _REPLACES.search(before)
    if direct is None:
        sentence_at = _last_break(before, _SENTENCE)
        sentence = before[sentence_at:]
        if _PARTLY.search(sentence) or _PARTLY.search(after):
            return claim("partial", start)
        loose = _LOOSELY.search(sentence)
        if _UNRELATED.search(sentence) or _DENIED_BEFORE.search(sentence) or _DENIED_AFTER.search(after):
            return claim("related", start)
        if loose is None:
            return claim("names", start)
        return claim("hedged", window + sentence_at + loose.start())
    at = window + direct.start()
    lead = before[_last_break(before[: direct.start()], _SENTENCE) : direct.start()]
    others = list(REFERENCE.finditer(lead))
    if others and not _NEITHER.search(lead, others[-1].end()):
        lead = lead[others[-1].end() :]  # "part of #6, fixes #7": what stands before #6 is said of #6
    # Commas part what is hedged from what is not; only brackets and dashes part off a denial.
    aside = lead[_last_break(lead, _ASIDE) :]
    if _DENIED_BEFORE.search(aside) or _DENIED_AFTER.search(after) or _EMPTY_BOX.search(before[: direct.start()]):
        return claim("partial", at)
    # A link to one comment names what that comment says, not the whole item.
    to_comment = "comment" in (match["fragment"] or "")
    if to_comment or asked or _HEDGE_BEFORE.search(lead[_last_break(lead, _CLAUSE) :]) or _HEDGE_AFTER.search(after):
        return claim("hedged", at)
    return claim("closes" if direct["verb"][:3].lower() in ("fix", "clo", "res") else "replaces", at)


def _same_breath(after: str) -> str:
    """Return the rest of the sentence, up to how it was done and to the clause that leads to the next reference."""
    stop = _BREATH.search(after)
    rest = after[: stop.start()] if stop else after
    following = REFERENCE.search(rest)
    if following is None:
        return rest
    rest = rest[: following.start()]
    cut = max(rest.rfind(parting) for parting in (",", "(", " and ", " - ", "&", "/"))
    return rest[:cut] if cut >= 0 else rest


def _last_break(text: str, at: re.Pattern[str]) -> int:
    """Return where the last sentence or clause of `text` begins."""
    end = 0
    for match in at.finditer(text):
        end = match.end()
    return end
