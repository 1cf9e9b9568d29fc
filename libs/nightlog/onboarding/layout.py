"""The header that lines of text share: its columns, found one after the other, and made to fit the lines that lack some.

Words alone never end a header: it ends behind the last column that is structure (an anchor), and what follows is the message. Words between
anchors belong to it, as a host name does between time and process. Columns that a part of the lines lacks become optional where that lets
more lines match.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nightlog.onboarding.columns import FEW_LINES, HeaderColumn, Names, Places, blanks, next_step, punctuation_step

ENOUGH = 0.6  # of all lines must be left at the end
MAX_COLUMNS = 24
WORDS_BETWEEN = 4


@dataclass(frozen=True)
class Layout:
    """The columns of a header, without the message."""

    columns: tuple[HeaderColumn, ...]
    tail: str = "(?P<message>.*)"

    @property
    def pattern(self) -> str:
        """The header's regular expression."""
        return "".join(column.pattern for column in self.columns) + self.tail

    def start(self) -> str | None:
        """Return what a record begins with, as a regular expression without groups: up to the first time stamp, or else severity."""
        for kind in ("stamp", "level"):
            for number, column in enumerate(self.columns):
                if column.kind == kind:
                    return re.sub(r"\(\?P<\w+>", "(?:", "".join(p.pattern for p in self.columns[: number + 1])).rstrip(" *+?")
        return None

    def with_entry(self) -> str:
        """The header's regular expression with one more group, `entry`: all that stands behind the first time stamp, message included."""
        first = next((number for number, column in enumerate(self.columns) if column.kind == "stamp"), -1) + 1
        before, behind = ("".join(column.pattern for column in part) for part in (self.columns[:first], self.columns[first:]))
        return f"{before}(?P<entry>{behind}{self.tail})"

    @property
    def stamps(self) -> list[HeaderColumn]:
        """The columns that are time stamps."""
        return [column for column in self.columns if column.kind == "stamp"]


def find_layout(lines: Sequence[str]) -> Layout:
    """The columns that the lines share, each line the first of a record; no columns where they share none."""
    names, columns, cut = Names(), list[HeaderColumn](), 0
    separator, places = blanks([(line, 0) for line in dict.fromkeys(lines)])
    if separator:
        columns.append(HeaderColumn(separator.replace("+", "*") if separator != " " else " *", "literal"))
    total, words, delimiter, stamped = len(places), 0, "", False
    while len(columns) < MAX_COLUMNS and places:
        step = next_step(places, names, delimiter)
        if step is None or len(step[1]) < ENOUGH * total:
            break
        column, after = step
        # Punctuation before the first stamp or severity ends no header.
        first = next((number for number, p in enumerate(columns) if p.kind in ("stamp", "level")), cut)
        closed = any(p.closing and (p.kind == "process" or number > first) for number, p in enumerate(columns[:cut]))
        if closed and (words or not column.strong or column.kind == "process") and not again(after, columns):
            break
        if not column.anchor:
            words += column.kind != "literal"
            # Few different lines do not show which of their words vary.
            sparse = stamped and total < FEW_LINES and any(p.kind == "level" for p in columns)
            if words > WORDS_BETWEEN * (1 if stamped else 2) or (sparse and column.kind == "word"):
                break
        columns.append(column)
        places = after
        stamped = stamped or column.kind == "stamp"
        if column.anchor and (words == 0 or column.strong):
            cut, words = len(columns), 0
        delimiter = delimiter_of(column, delimiter)
    return with_wordiest(with_dash(Layout(tuple(named_host(columns[:cut]))), lines), delimiter, lines)


def with_dash(layout: Layout, lines: Sequence[str]) -> Layout:
    """End the header behind a dash that stands among the first words of nearly all messages, as in `[time] program *64 - message`."""
    compiled = re.compile(layout.pattern, re.ASCII | re.DOTALL)
    messages = [found["message"] for line in lines if (found := compiled.fullmatch(line))]
    dashed = [re.match(r"((?:[^\s-]\S* +){0,2}?)- ", message) for message in messages]
    if not layout.stamps or len(messages) < FEW_LINES or sum(found is not None for found in dashed) < 0.97 * len(messages):
        return layout
    return Layout(
        (*layout.columns, HeaderColumn(r"(?P<more>(?:[^\s-]\S* +){0,2}?)- ", "word", ("more",), anchor=True, closing=True)), layout.tail
    )


def with_wordiest(layout: Layout, delimiter: str, lines: Sequence[str]) -> Layout:
    """Let the wordiest of delimited columns be the message, if that is not the last one."""
    compiled = re.compile(layout.pattern, re.ASCII | re.DOTALL)
    rows = [found.groupdict() for line in lines if (found := compiled.fullmatch(line))]
    if not delimiter or not rows or sum(column.pattern.rstrip(" *+").endswith(delimiter) for column in layout.columns) < 3:
        return layout

    def wordiness(name: str) -> float:
        return sum(len((row[name] or "").split()) for row in rows) / len(rows)

    best = max((name for column in layout.columns for name in column.names if column.kind == "word"), key=wordiness, default="message")
    if best == "message" or wordiness(best) <= 1.5 * wordiness("message"):
        return layout
    renamed = tuple(replace(column, pattern=column.pattern.replace(f"(?P<{best}>", "(?P<message>")) for column in layout.columns)
    return Layout(renamed, "(?P<rest>.*)")


def again(places: Places, columns: Sequence[HeaderColumn]) -> bool:
    """Return whether what stands between the columns so far stands here again, as in `time - name - severity - message`."""
    last = next((p for p in reversed(columns) if p.closing), None)
    if last is None or last.kind != "literal":
        return False
    step = punctuation_step(places, Names())
    return step is not None and step[0].pattern == last.pattern


def delimiter_of(column: HeaderColumn, current: str) -> str:
    """The character that ends columns, once a column has shown it."""
    bare = column.pattern.replace("\\", "").strip(" *+?")
    return bare if column.kind == "literal" and bare in ("|", ",", ";") else "\t" if column.pattern.endswith("\\t") else current


def named_host(columns: Sequence[HeaderColumn]) -> list[HeaderColumn]:
    """The word before a process is the name of its host."""
    found = list(columns)
    for number in range(1, len(found)):
        column = found[number - 1]
        if found[number].kind == "process" and len(found[number].names) == 2 and column.kind == "word":
            found[number - 1] = replace(column, pattern=column.pattern.replace(f"<{column.names[0]}>", "<host>"), names=("host",))
    return found


def matching(lines: Sequence[str], pattern: str) -> list[bool]:
    """Return which lines the pattern matches whole."""
    compiled = re.compile(pattern, re.ASCII | re.DOTALL)
    return [compiled.fullmatch(line) is not None for line in lines]


def fit(layout: Layout, lines: Sequence[str], rounds: int = 3) -> Layout:
    """Make columns optional, or let words be several, where that makes more of the lines match.

    Nothing changes before the first stamp or severity.
    """
    for _ in range(rounds):
        missed = [line for line, ok in zip(lines, matching(lines, layout.pattern), strict=True) if not ok]
        if not missed:
            break
        first = next((n for n, p in enumerate(layout.columns) if p.kind in ("stamp", "level")), -1) + 1
        size = len(layout.columns)
        tried = [(with_option(layout, i, j), loss(layout.columns[i:j], i)) for i in range(first, size) for j in range(i + 1, size + 1)]
        tried += [(with_words(layout, i), (0, 0, -i)) for i in range(first, size - 1)]
        options, costs = [each for each, _ in tried if each], [cost for each, cost in tried if each]
        gains = [sum(matching(missed[:500], option.pattern)) for option in options]
        best = max(range(len(options)), key=lambda n: gains[n], default=0)
        if not options or not gains[best]:
            break
        # Of those that gain nearly as much the one that gives up least.
        near = [n for n in range(len(options)) if gains[n] >= 0.95 * gains[best]]
        layout = options[min(near, key=lambda n: costs[n])]
    return layout


def loss(middle: Sequence[HeaderColumn], at: int) -> tuple[int, int, int]:
    """Return what is given up where columns become optional: structure first, then their number; later ones are given up rather."""
    return sum(p.kind not in ("word", "literal", "component") for p in middle), len(middle), -at


def with_option(layout: Layout, i: int, j: int) -> Layout | None:
    """The layout whose columns from i to j may be missing together; literals alone are never optional."""
    middle = layout.columns[i:j]
    if all(p.kind == "literal" for p in middle) or any(p.pattern.startswith("(?:") and p.pattern.endswith(")?") for p in middle):
        return None
    names = tuple(name for p in middle for name in p.names)
    joined = HeaderColumn(
        f"(?:{''.join(p.pattern for p in middle)})?", middle[0].kind if len(middle) == 1 else "optional", names, anchor=True
    )
    return Layout((*layout.columns[:i], joined, *layout.columns[j:]), layout.tail)


def with_words(layout: Layout, i: int) -> Layout | None:
    """The layout whose word before punctuation may be several words."""
    column, behind = layout.columns[i], layout.columns[i + 1]
    if column.kind not in ("word", "component") or behind.kind != "literal" or r"\S+" not in column.pattern:
        return None
    return Layout((*layout.columns[:i], replace(column, pattern=column.pattern.replace(r"\S+", ".+?")), *layout.columns[i + 1 :]))
