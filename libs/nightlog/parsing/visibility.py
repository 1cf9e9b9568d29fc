"""Decide if an expression can tell apart what the marks of a text stand for.

In a marked text, one mark stands for any of several characters (see MARKS). An expression that cannot tell these characters apart has the
same matches in all lines that a marked text stands for. It can tell them apart if some match, or some part of a match that decides about
it, passes a mark at a place of the expression that takes some of the mark's characters and not the others. `Sight` searches for just
these paths: for each such place it has a copy of the expression in which the place takes marks alone, and all other places take what they
took, or a mark for it. Look-arounds count as paths as well. What follows an atomic group is left out, because the group is decided first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from re import _compiler as sre_compiler  # type: ignore[attr-defined]  # Python's own parser of expressions has no public name
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser as sre_parser  # type: ignore[attr-defined]
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Any

# Noncharacters of Unicode, and what each of them stands for.
MARKS: dict[str, frozenset[str]] = {
    "\ufdd0": frozenset(digits + "abcdef"),
    "\ufdd1": frozenset("abcdef"),
    "\ufdd2": frozenset(digits + "ABCDEF"),
    "\ufdd3": frozenset("ABCDEF"),
    "\ufdd4": frozenset(digits + ascii_lowercase),
    "\ufdd5": frozenset(digits + ascii_uppercase),
    "\ufdd6": frozenset(digits + ascii_lowercase + ascii_uppercase),
}
MARK = re.compile(f"[{''.join(MARKS)}]")
CHARACTERS = (sre.LITERAL, sre.NOT_LITERAL, sre.IN, sre.ANY)
REPEATS = (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)
ANY_MARK = (sre.IN, [(sre.LITERAL, ord(mark)) for mark in MARKS])
WORDS = (sre.IN, [(sre.CATEGORY, sre.CATEGORY_WORD), *ANY_MARK[1]])
Nodes = list[Any]


class Unclear(Exception):
    """The expression has a part of which it is not clear what it can tell apart."""


class Sight:
    """The matches of an expression that depend on what marks stand for. `whole`: the expression must match whole texts."""

    def __init__(self, pattern: re.Pattern[str], whole: bool = False):
        self.pattern = pattern
        self.whole = whole

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return where a match may depend on what the marks of a text stand for; empty if none does."""
        if MARK.search(text) is None or (paths := paths_of(self.pattern, self.whole)) is None:
            return []
        return [each.span() for each in paths.finditer(text)]


@lru_cache(maxsize=1024)
def paths_of(pattern: re.Pattern[str], whole: bool) -> re.Pattern[str] | None:
    """Return the expression of all paths that pass a mark; None if there are none. One of unclear parts is taken to see all marks.

    It takes a twentieth of a second, and most systems have the same masks: it is kept for all of them.
    """
    tree = sre_parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE | re.ASCII)
    paths = Paths(tree.state.flags, {})
    start, end = ([(sre.AT, each)] if whole else [] for each in (sre.AT_BEGINNING_STRING, sre.AT_END_STRING))
    try:
        found = [paths.tree([*start, *nodes, *([] if is_cut else end)]) for nodes, is_cut in paths.through(list(tree))]
    except Unclear:
        return re.compile(".+", re.DOTALL)
    if not found:
        return None
    compiled: re.Pattern[str] = sre_compiler.compile(paths.tree([(sre.BRANCH, (None, found))]), paths.flags)
    return compiled


class Paths:
    """Rewrites parts of an expression; `flags` are those that hold for the part. `known`: what was found out about nodes so far."""

    def __init__(self, flags: int, known: dict[tuple[int, str], tuple[dict[str, frozenset[str]], set[str]]]):
        self.flags = flags
        self.known = known

    def tree(self, nodes: Nodes) -> Any:
        """Return nodes as a part of an expression that the compiler takes."""
        state = sre_parser.State()
        state.flags = self.flags
        return sre_parser.SubPattern(state, nodes)

    def inside(self, group: Sequence[Any]) -> Paths:
        """Return what rewrites the inside of a group, which may have flags of its own."""
        _, added, removed, _ = group
        return Paths((self.flags | added) & ~removed, self.known)

    def taken(self, node: Any) -> tuple[dict[str, frozenset[str]], set[str]]:
        """Return which of each mark's characters a node takes that takes one character, and which of the marks themselves."""
        key = (self.flags, repr(node))
        if key not in self.known:
            one = sre_compiler.compile(self.tree([node]), self.flags)
            characters = {mark: frozenset(each for each in meant if one.fullmatch(each)) for mark, meant in MARKS.items()}
            self.known[key] = characters, {mark for mark in MARKS if one.fullmatch(mark)}
        return self.known[key]

    def character(self, node: Any) -> Nodes:
        """Return a node that takes what a node takes that takes one character, and each mark of which it takes some characters."""
        characters, had = self.taken(node)
        wanted = {mark for mark, some in characters.items() if some}
        lacking = [(sre.LITERAL, ord(mark)) for mark in MARKS if mark in wanted - had]
        kind, value = node
        if had <= wanted and kind is sre.LITERAL:
            return [(sre.IN, [node, *lacking])]
        if had <= wanted and kind is sre.IN and value[0][0] is not sre.NEGATE:
            return [(sre.IN, [*value, *lacking])]
        own = [node] if had <= wanted else [(sre.ASSERT_NOT, (1, self.tree([ANY_MARK]))), node]
        marks = [(sre.LITERAL, ord(mark)) for mark in MARKS if mark in wanted and (had - wanted or mark not in had)]
        return [(sre.BRANCH, (None, [self.tree(own), self.tree([(sre.IN, marks)])]))] if marks else own

    def likely(self, nodes: Nodes) -> Nodes:
        """Return nodes that match wherever some text that the marks stand for is matched by these nodes; they may match elsewhere, too."""
        return [each for node in nodes for each in self.likely_node(node)]

    def likely_node(self, node: Any) -> Nodes:
        kind, value = node
        if kind in CHARACTERS:
            return self.character(node)
        if kind in REPEATS:
            low, high, part = value
            return [(sre.MAX_REPEAT, (low, high, self.tree(self.likely(list(part)))))]
        if kind is sre.BRANCH:
            return [(sre.BRANCH, (None, [self.tree(self.likely(list(each))) for each in value[1]]))]
        if kind is sre.SUBPATTERN:
            return [(sre.SUBPATTERN, (None, *value[1:3], self.tree(self.inside(value).likely(list(value[3])))))]
        if kind is sre.ATOMIC_GROUP:
            return [(sre.SUBPATTERN, (None, 0, 0, self.tree(self.likely(list(value)))))]
        if kind is sre.ASSERT:
            return [(kind, (value[0], self.tree(self.likely(list(value[1])))))]
        if kind is sre.ASSERT_NOT:  # left out if it may fail for some of the texts alone
            inner = list(value[1])
            return [(kind, (value[0], self.tree(self.likely(inner))))] if self.is_exact(inner) else []
        if kind is sre.AT:
            return self.boundary(value) if value in (sre.AT_BOUNDARY, sre.AT_NON_BOUNDARY) else [node]
        if kind is sre.FAILURE:
            return [node]
        raise Unclear(kind)

    def boundary(self, code: Any) -> Nodes:
        """Return a word's boundary, or its opposite, for texts in which marks are parts of words."""
        before, after = ((sre.ASSERT, (way, self.tree([WORDS]))) for way in (-1, 1))
        not_before, not_after = ((sre.ASSERT_NOT, (way, self.tree([WORDS]))) for way in (-1, 1))
        cases = [[before, not_after], [not_before, after]] if code is sre.AT_BOUNDARY else [[before, after], [not_before, not_after]]
        return [(sre.BRANCH, (None, [self.tree(case) for case in cases]))]

    def is_exact(self, nodes: Nodes) -> bool:
        """Return whether `likely` matches just where the nodes match, whatever the marks stand for."""
        return not any(True for _ in self.through(nodes)) and not any(holds_atomic(node) for node in nodes)

    def through(self, nodes: Nodes, fixed: bool = False) -> Iterator[tuple[Nodes, bool]]:
        """Yield the paths through nodes that pass a mark at a place which takes some of its characters alone, and whether a path is cut
        behind an atomic group.

        Args: fixed: paths must have one length, as those of a look-behind.
        """
        for number, node in enumerate(nodes):
            for path, is_cut in self.through_node(node, fixed):
                if fixed and is_cut:
                    raise Unclear(node[0])
                yield [*self.likely(nodes[:number]), *path, *([] if is_cut else self.likely(nodes[number + 1 :]))], is_cut

    def through_node(self, node: Any, fixed: bool) -> Iterator[tuple[Nodes, bool]]:
        kind, value = node
        if kind in CHARACTERS:
            apart = [mark for mark, some in self.taken(node)[0].items() if some and some != MARKS[mark]]
            if apart:
                yield [(sre.IN, [(sre.LITERAL, ord(mark)) for mark in apart])], False
        elif kind in REPEATS:
            yield from self.through_repeat(kind, value, fixed)
        elif kind is sre.BRANCH:
            for each in value[1]:
                yield from self.through(list(each), fixed)
        elif kind is sre.SUBPATTERN:
            inside = self.inside(value)
            for path, is_cut in inside.through(list(value[3]), fixed):
                yield [(sre.SUBPATTERN, (None, *value[1:3], inside.tree(path)))], is_cut
        elif kind is sre.ATOMIC_GROUP:
            yield from ((path, True) for path, _ in self.through(list(value), fixed))
        elif kind in (sre.ASSERT, sre.ASSERT_NOT):
            for path, is_cut in self.through(list(value[1]), fixed=value[0] < 0):
                yield [(sre.ASSERT, (value[0], self.tree(path)))], is_cut
        elif kind not in (sre.AT, sre.FAILURE):
            raise Unclear(kind)

    def through_repeat(self, kind: Any, value: tuple[int, Any, Any], fixed: bool) -> Iterator[tuple[Nodes, bool]]:
        low, high, part = value
        if not high:
            return
        others = self.likely(list(part))

        def turns(least: int, most: Any) -> Nodes:
            return [(sre.MAX_REPEAT, (least, most, self.tree(others)))] if most else []

        rest = high if high is sre.MAXREPEAT else high - 1
        for path, is_cut in self.through(list(part), fixed):
            if is_cut or kind is sre.POSSESSIVE_REPEAT:
                yield [*turns(0, rest), *path], True
            elif fixed:
                yield from (([*turns(n, n), *path, *turns(low - 1 - n, low - 1 - n)], False) for n in range(low))
            else:
                yield [*turns(0, rest), *path, *turns(0, rest)], False


def holds_atomic(node: Any) -> bool:
    """Return whether a node has an atomic group or a possessive repeat in it."""
    kind, value = node
    if kind in (sre.ATOMIC_GROUP, sre.POSSESSIVE_REPEAT):
        return True
    parts = value[1] if kind is sre.BRANCH else value if isinstance(value, tuple) else ()
    return any(holds_atomic(each) for part in parts if isinstance(part, sre_parser.SubPattern) for each in part)
