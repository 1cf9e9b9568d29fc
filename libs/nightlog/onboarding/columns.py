"""The columns of a header: the most telling kind that fits what comes next in nearly all lines.

A column is a time stamp, a bracketed group, punctuation, a severity, `name[pid]:`, a number, a dotted name, else a word.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nightlog.onboarding.timestamps import Form, form_of, key_of, literal, scan
from nightlog.systems.levels import WORDS

MOST = 0.85  # of the lines that are left must have a column
FEW_LINES = 8
# PostgreSQL's additions to a record stand where its level would be.
NO_LEVEL = ("detail", "hint", "context", "statement", "query")
SEVERITY = re.compile(rf"(?i)(?:debug\d|{'|'.join([*' '.join(WORDS.values()).split(), *NO_LEVEL])})")
SEVERITY_LETTER = re.compile(r"[VTDINWEFCAS]")
TOPICS = re.compile(rf"(?i)(?:[\w-]+,)+(?:{SEVERITY.pattern[4:]})")
CLOSERS = {"[": "]", "(": ")", "<": ">", "{": "}"}
DOTTED = re.compile(r"[A-Za-z_$][\w$-]*(?:(?:\.|/|::|\$)[\w$<>~-]+)+|[a-z]+(?:_[a-z0-9]+)+")
IP = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?")
UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")

Places = list[tuple[str, int]]


@dataclass(frozen=True)
class HeaderColumn:
    """A column: its regular expression (named groups included) with what separates it from the next, and what it is.

    `strong` columns may follow words; `anchor` columns may end a header; `closing` ones usually come right before a message.
    """

    pattern: str
    kind: str
    names: tuple[str, ...] = ()
    anchor: bool = False
    strong: bool = False
    closing: bool = False
    form: Form | None = None


Step = tuple[HeaderColumn, Places] | None


class Names:
    """Gives each column a name of its own."""

    def __init__(self) -> None:
        self.used: Counter[str] = Counter()

    def take(self, name: str) -> str:
        """The name, numbered if it is taken."""
        self.used[name] += 1
        return name if self.used[name] == 1 else f"{name}{self.used[name]}"


def blanks(places: Places) -> tuple[str, Places]:
    """Return what separates a column from the next one, and the places behind it."""
    after, runs = [], Counter[str]()
    for text, at in places:
        end = at
        while end < len(text) and text[end] in " \t":
            end += 1
        after.append((text, end))
        runs[text[at:end]] += end < len(text) or end > at
    if not runs.get("") and len(runs) == 1 and (run := next(iter(runs))) in (" ", "\t"):
        return {" ": " ", "\t": r"\t"}[run], after
    blank = r"[ \t]" if any("\t" in run for run in runs) else " "
    return ("" if set(runs) <= {""} else blank + ("*" if "" in runs else "+")), after


def advance(places: Places, find: Callable[[str, int], int | None]) -> Places | None:
    """The places behind what is found, of those lines that have it; None where too few do."""
    after = [(text, end) for text, at in places if (end := find(text, at)) is not None]
    return after if len(after) >= MOST * len(places) and after else None


def by_pattern(pattern: str) -> Callable[[str, int], int | None]:
    """Finds where a regular expression's match ends."""
    compiled = re.compile(pattern, re.ASCII | re.DOTALL)

    def find(text: str, at: int) -> int | None:
        found = compiled.match(text, at)
        return found.end() if found and found.end() > at else None

    return find


def tokens(places: Places) -> list[str]:
    """Return what stands at each place up to the next blank."""
    return [text[at:].split(maxsplit=1)[0] if text[at:] and not text[at].isspace() else "" for text, at in places]


def share(values: Sequence[str], pattern: re.Pattern[str]) -> float:
    """Share of the values that the pattern matches whole."""
    return sum(pattern.fullmatch(value) is not None for value in values) / max(1, len(values))


def few(values: Sequence[str]) -> bool:
    """Return whether values are so few that they name kinds of things, not single things."""
    return len(set(values)) <= max(20, len(values) * 0.05)


def finish(column: HeaderColumn, places: Places) -> tuple[HeaderColumn, Places]:
    """The column with its separator, and the places behind."""
    separator, after = blanks(places)
    return replace(column, pattern=column.pattern + separator), after


def stamp_step(places: Places, names: Names) -> Step:
    """A column of time stamps."""
    seen = [found for text, at in places if (found := scan(text, at))]
    voted = form_of(seen) if len(seen) >= MOST * len(places) else None
    if voted is None:
        return None
    form, key = voted
    pattern = f"(?P<{names.take('time')}>{form.pattern})"
    group = re.findall(r"<(\w+)>", pattern)[0]
    groups: tuple[str, ...] = (group,)

    def find(text: str, at: int) -> int | None:
        stamp = scan(text, at)
        return stamp.end if stamp and key_of(stamp) == key else None

    after = advance(places, find)
    if after is None:
        return None
    return finish(HeaderColumn(pattern, "stamp", groups, anchor=True, strong=True, form=form), after)


def lettered_step(places: Places, names: Names) -> Step:
    """A severity of one letter right before the stamp, as in `W0304 12:00:00.1`."""
    behind = [(text, at + 1) for text, at in places if re.match(r"[A-Z]\d", text[at : at + 2])]
    if len(behind) < MOST * len(places) or share([text[at - 1] for text, at in behind], SEVERITY_LETTER) < MOST:
        return None
    if sum(scan(text, at) is not None for text, at in behind) < MOST * len(behind):
        return None
    return HeaderColumn(f"(?P<{names.take('level')}>[A-Z])", "level", ("level",), anchor=True, strong=True), behind


def group_step(places: Places, names: Names) -> Step:
    """A bracketed group, or only its opening where a stamp stands behind it."""
    opener, n = Counter(text[at : at + 1] for text, at in places).most_common(1)[0]
    if opener not in CLOSERS or n < MOST * len(places):
        return None
    inside = [(text, at + 1) for text, at in places if text[at : at + 1] == opener]
    if sum(scan(text, at) is not None or re.match(DAY, text[at:]) is not None for text, at in inside) >= MOST * len(inside):
        return HeaderColumn(literal(opener), "literal"), inside
    o, c = (re.escape(x) for x in (opener, CLOSERS[opener]))
    flat, nested = f"[^{o}{c}]*", f"(?:[^{o}{c}]|{o}[^{o}{c}]*{c})*"
    for content in (flat, nested):
        after = advance(places, by_pattern(f"{o}{content}{c}"))
        if after is not None and (content == nested or len(after) == n):
            break
    if after is None:
        return None
    before = dict(places)
    values = [text[before[text] + 1 : end - 1].strip() for text, end in after]
    topics = [re.split(r"[:,/]", value)[-1] for value in values]
    letters = share(values, SEVERITY_LETTER) >= 0.99 and "level" not in names.used
    kind = "level" if share(topics, SEVERITY) >= MOST or letters else kind_of(values)
    if kind == "level" and topics != values and content == flat:
        content = r"[^\s:,/\[\]()]*"
    name = names.take({"level": "level", "word": "context", "number": "pri" if opener == "<" else "pid"}.get(kind, kind))
    blank = " *" if any(v != v.strip() for v in (text[before[text] + 1 : end - 1] for text, end in after)) else ""
    body = f"{literal(opener)}{blank}(?P<{name}>{content}?){blank}{literal(CLOSERS[opener])}" if blank else ""
    topic = r"(?:[^\s:,/]*[:,/])*" if kind == "level" and topics != values else ""
    body = body or f"{literal(opener)}{topic}(?P<{name}>{content}){literal(CLOSERS[opener])}"
    colon = advance(after, by_pattern(":")) if all(text[end : end + 1] == ":" for text, end in after) else None
    column = HeaderColumn(body + (":" if colon else ""), kind, (name,), anchor=True, strong=True, closing=colon is not None)
    return finish(column, colon or after)


DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? "


def day_step(places: Places, _: Names) -> Step:
    """The name of a day before a stamp: it repeats the date, so it is passed over."""
    after = advance(places, by_pattern(DAY))
    if after is None or sum(scan(text, at) is not None for text, at in after) < MOST * len(after):
        return None
    return HeaderColumn("[A-Z][a-z]+,? ", "literal"), after


def punctuation_step(places: Places, _: Names) -> Step:
    """Punctuation that stands in all lines."""
    runs = [re.match(r"[^\w\s\"'\[(<{/\\.+&%$@*#]{0,3}", text[at:]) for text, at in places]
    first, n = Counter(run[0] for run in runs if run).most_common(1)[0]
    if not first or n < 0.97 * len(places):
        return None
    if first == "-" and (n < len(places) or places[0][1] == 0):
        return None  # it stands for a missing value
    after = [(text, at + len(first)) for (text, at), run in zip(places, runs, strict=True) if run and run[0] == first]
    return finish(
        HeaderColumn(literal(first), "literal", anchor=True, strong=True, closing=first in ("-", ":", "--", "->", "=>", "::")), after
    )


def level_step(places: Places, names: Names) -> Step:
    """A severity, with the punctuation behind it."""
    if "level" not in names.used and share(tokens(places), TOPICS) >= MOST:
        after = advance(places, by_pattern(r"(?:[\w-]+,)+[A-Za-z]+"))
        if after is not None:
            return finish(
                HeaderColumn(rf"(?:[\w-]+,)+(?P<{names.take('level')}>[A-Za-z]+)", "level", ("level",), anchor=True, strong=True), after
            )
    stripped = [token.strip(":,|;") for token in tokens(places)]
    letters = share(stripped, SEVERITY_LETTER) >= 0.99 and len(set(stripped)) > 1
    heads = [re.split(r"[:,|;/]", token)[0] for token in tokens(places)]
    if not letters and share(heads, SEVERITY) < MOST:
        return None
    words = stripped if letters else [head for head in heads if SEVERITY.fullmatch(head)]
    case = (
        "[A-Z]"
        if letters
        else "[A-Z]+"
        if all(w.isupper() for w in words)
        else "[a-z]+"
        if all(w.islower() for w in words)
        else "[A-Za-z]+"
    )
    if any(re.search(r"\d", w) for w in words):
        case = case.replace("]", "0-9]")
    behind = Counter(m[1] for text, at in places if (m := re.match(rf"{case}( ?[:,|;]?)", text[at:])))
    mark = behind.most_common(1)[0][0] if behind else ""
    mark = mark if behind and behind[mark] >= MOST * len(places) and mark.strip() else ""
    after = advance(places, by_pattern(case + re.escape(mark)))
    if after is None:
        return None
    return finish(HeaderColumn(f"(?P<{names.take('level')}>{case}){literal(mark)}", "level", ("level",), anchor=True, strong=True), after)


def process_step(places: Places, names: Names) -> Step:
    """`name[pid]:`, or another token that ends in a colon and names a kind of thing."""
    found = tokens(places)
    ended = [token for token in found if len(token) > 1 and token.endswith(":")]
    if len(ended) < MOST * len(found):
        return None
    with_pid = [m for token in ended if (m := re.fullmatch(r"([^\s\[\]]+)\[(\d+)\]:", token))]
    if len(with_pid) >= 0.2 * len(ended):
        name, pid = names.take("process"), names.take("pid")
        pattern = rf"(?P<{name}>[^\s\[\]]+?)(?:\[(?P<{pid}>\d+)\])?:"
        after = advance(places, by_pattern(pattern + r"(?=\s|$)"))
        return finish(HeaderColumn(pattern, "process", (name, pid), anchor=True, strong=True, closing=True), after) if after else None
    rough = [re.sub(r"[<(\[{].*|\d+", "", token) for token in ended]
    if not few(rough):
        return None
    after = advance(places, by_pattern(r"\S+:(?=\s|$)"))
    name = names.take("component")
    colons = any(":" in token[:-1] for token in ended)
    pattern = rf"(?P<{name}>{'[^ ]+' if colons else '[^ :]+'}):"
    return finish(HeaderColumn(pattern, "process", (name,), anchor=True, strong=True, closing=True), after) if after else None


def delimited_step(places: Places, names: Names, delimiter: str) -> Step:
    """A column that ends in the delimiter that ended the one before."""
    d = r"\t" if delimiter == "\t" else re.escape(delimiter)
    content = rf"[^{d}]{{0,200}}"
    after = advance(places, by_pattern(rf"{content}{d}"))
    if after is None or len(after) < 0.95 * len(places):
        return None
    before = dict(places)
    values = [text[before[text] : end - 1].strip() for text, end in after]
    kind = "level" if share(values, SEVERITY) >= MOST else kind_of(values)
    name = names.take({"word": "column"}.get(kind, kind))
    return finish(HeaderColumn(rf"(?P<{name}>[^{d}]*){d}", kind, (name,), anchor=True, strong=True), after)


def kind_of(values: Sequence[str]) -> str:
    """Return what nearly all values are: uuid, ip, number, or word."""
    for kind, pattern in (("uuid", UUID), ("ip", IP), ("number", re.compile(r"-?\d+"))):
        if share(values, pattern) >= 0.95:
            return kind
    return "word"


def token_step(places: Places, names: Names) -> Step:
    """A token that ends in a bracket, a number, an address, a dotted name, or just a word."""
    found = tokens(places)
    if sum(token.endswith("]") and "[" not in token for token in found) >= 0.95 * len(found):
        after = advance(places, by_pattern(r"[^\s\]]+\]"))
        name = names.take("source")
        return (
            finish(HeaderColumn(rf"(?P<{name}>[^\s\]]+)\]", "word", (name,), anchor=True, strong=True, closing=True), after)
            if after
            else None
        )
    if any(token == "" for token in found):
        places = [place for place, token in zip(places, found, strict=True) if token]
        if len(places) < MOST * len(found):
            return None
    kind = kind_of([token for token in found if token])
    dotted = share(found, DOTTED) >= 0.9 and few(found)
    pattern = {"uuid": UUID.pattern, "ip": IP.pattern, "number": r"-?\d+"}.get(kind, r"\S+")
    after = advance(places, by_pattern(pattern))
    if after is None:
        return None
    runs = [len(text[at:]) - len(text[at:].lstrip(" ")) for text, at in after]
    padded = sum(run > 1 for run in runs) >= 0.5 * len(runs) and few(found)
    kind = "component" if (dotted or padded) and kind == "word" else kind
    name = names.take(kind)
    column, behind = finish(HeaderColumn(f"(?P<{name}>{pattern})", kind, (name,), anchor=kind != "word"), after)
    return column, behind


def next_step(places: Places, names: Names, delimiter: str) -> Step:
    """Return what comes next in nearly all lines."""
    for find in (stamp_step, lettered_step, day_step, group_step, punctuation_step, level_step, process_step):
        if found := find(places, names):
            return found
    if delimiter and (found := delimited_step(places, names, delimiter)):
        return found
    return token_step(places, names)
