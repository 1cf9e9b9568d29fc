"""A header that fits nearly all lines, made to fit the others, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nightlog.onboarding.columns import Layout, Piece, matching


def mend(layout: Layout, lines: Sequence[str], rounds: int = 3) -> Layout:
    """Make columns optional, or let words be several, where that makes more of the lines match.

    Nothing changes before the first stamp or severity.
    """
    for _ in range(rounds):
        missed = [line for line, ok in zip(lines, matching(lines, layout.pattern), strict=True) if not ok]
        if not missed:
            break
        first = next((n for n, p in enumerate(layout.pieces) if p.kind in ("stamp", "level")), -1) + 1
        size = len(layout.pieces)
        tried = [(with_option(layout, i, j), loss(layout.pieces[i:j], i)) for i in range(first, size) for j in range(i + 1, size + 1)]
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


def loss(middle: Sequence[Piece], at: int) -> tuple[int, int, int]:
    """Return what is given up where columns become optional: structure first, then their number; later ones are given up rather."""
    return sum(p.kind not in ("word", "literal", "component") for p in middle), len(middle), -at


def with_option(layout: Layout, i: int, j: int) -> Layout | None:
    """The layout whose columns from i to j may be missing together; literals alone are never optional."""
    middle = layout.pieces[i:j]
    if all(p.kind == "literal" for p in middle) or any(p.pattern.startswith("(?:") and p.pattern.endswith(")?") for p in middle):
        return None
    names = tuple(name for p in middle for name in p.names)
    joined = Piece(f"(?:{''.join(p.pattern for p in middle)})?", middle[0].kind if len(middle) == 1 else "optional", names, anchor=True)
    return Layout((*layout.pieces[:i], joined, *layout.pieces[j:]), layout.tail)


def with_words(layout: Layout, i: int) -> Layout | None:
    """The layout whose word before punctuation may be several words."""
    piece, behind = layout.pieces[i], layout.pieces[i + 1]
    if piece.kind not in ("word", "component") or behind.kind != "literal" or r"\S+" not in piece.pattern:
        return None
    return Layout((*layout.pieces[:i], replace(piece, pattern=piece.pattern.replace(r"\S+", ".+?")), *layout.pieces[i + 1 :]))
