"""An expression that is blind to what marks stand for has the same matches in all texts that a marked text stands for."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nightlog.parsing.visibility import MARK, MARKS, Sight
from nightlog.systems.spec import DEFAULT_MASKS_OF

ANY_HEX, HEX_LETTER, _, _, ANY_LOWER, _, ANY = MARKS
PATTERNS = [
    *(mask.pattern for masks in DEFAULT_MASKS_OF.values() for mask in masks),
    *(r"blk_-?\d+", r"req-\w+", r"[13579]+", r"(?i)fa[ct]+", r"(?i:BAD)|bee", r"(\d)\1", r"(a)?(?(1)b|c)", "[^a-f ]+", r"\D+\b", r"\W+"),
    *(
        r"(?>a|ab)c",
        r"(?:\d+)++5",
        r"\d*+[a-f]",
        r"(?<=\d)[a-z]{2}(?!\d)",
        r"(?<!a1)b",
        "(?<=[0-4]{3})x",
        r"\bcafe\b",
        r"\B\d",
        "$|^a",
        "e$",
    ),
    *(
        r"(?=.*\d)\w{6,}",
        r"(?!.*[a-f]\d)\w+",
        r"(?:a|b(?:c|[0-3])){2,3}",
        r"x{0}a",
        r"a{0,2}?\d",
        "[^0-9]",
        r"[\D0-3]+",
        "é[a-f]",
        "(?s).a",
        "",
    ),
]
TEXT = st.text(st.sampled_from([*MARKS, *"abf059x_- .:/é\n", ANY, ANY_HEX, ANY_LOWER]), max_size=14)


def filled(marked: str, rng: random.Random) -> str:
    """A text that a marked one stands for."""
    return MARK.sub(lambda mark: rng.choice(sorted(MARKS[mark[0]])), marked)


def is_blind(pattern: str, marked: str, whole: bool = False) -> bool:
    return not Sight(re.compile(pattern, re.ASCII), whole).spans(marked)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PATTERNS), TEXT, st.integers(0, 2**32))
def test_a_blind_expression_has_the_same_matches_in_all_texts(pattern: str, marked: str, seed: int) -> None:
    compiled, rng = re.compile(pattern, re.ASCII), random.Random(seed)
    texts = [filled(marked, rng) for _ in range(6)]
    if is_blind(pattern, marked):
        assert len({tuple(match.span() for match in compiled.finditer(text)) for text in texts}) == 1
    if is_blind(pattern, marked, whole=True):
        matches = [compiled.fullmatch(text) for text in texts]
        assert len({match and tuple(match.span(group) for group in range(compiled.groups + 1)) for match in matches}) == 1


ATOMS = [
    "a",
    "[0-9]",
    r"\d",
    r"\w",
    "[a-f]",
    "[^b]",
    ".",
    "1",
    "(?:a|b5)",
    "(c|d)",
    r"\b",
    "(?=a)",
    r"(?!\d)",
    "(?<=b)",
    "(?<!0)",
    "-",
    "x",
    "(?>b|bb)",
]
PIECES = st.tuples(st.sampled_from(ATOMS), st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{1,3}", "*?", "*+"]))


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, min_size=1, max_size=5), TEXT, st.integers(0, 2**32), st.booleans())
def test_so_do_blind_expressions_made_at_random(pieces: list[tuple[str, str]], marked: str, seed: int, has_choice: bool) -> None:
    words = [atom + (times if atom[:2] not in (r"\b", "(?") or atom.startswith(("(?:", "(?>")) else "") for atom, times in pieces]
    pattern = "|".join(["".join(words[:2]), "".join(words[2:])]) if has_choice and len(words) > 2 else "".join(words)
    compiled, rng = re.compile(pattern, re.ASCII), random.Random(seed)
    texts = [filled(marked, rng) for _ in range(6)]
    if is_blind(pattern, marked):
        assert len({tuple(match.span() for match in compiled.finditer(text)) for text in texts}) == 1
    if is_blind(pattern, marked, whole=True):
        assert len({match and match.span(0) for match in map(compiled.fullmatch, texts)}) == 1


UUID = "-".join(ANY_HEX * n for n in (8, 4, 4, 4, 12))


@pytest.mark.parametrize(
    ("pattern", "marked", "expected"),
    [
        (DEFAULT_MASKS_OF[2][0].pattern, f"id {UUID} gone", True),
        (r"\d+", f"id {UUID} gone", False),
        (r"id \S+", f"id {UUID} gone", True),
        (r"^\d{6} \d{6} (?P<message>.*)", f"081109 203615 {UUID}", True),
        (r"\b(?=\d*[a-f])(?=[a-f]*\d)[\da-f]{8,}\b", f"{HEX_LETTER}1{ANY_HEX * 8}", True),
        (r"\b(?=\d*[a-f])(?=[a-f]*\d)[\da-f]{8,}\b", f"{ANY_HEX * 10}", False),
        (r"0x\w+", f"{ANY_HEX * 3}0x12", True),
        (r"0x\w+", f"{ANY_HEX * 3}x12", False),
    ],
)
def test_an_expression_sees_an_id_where_it_tells_its_characters_apart(pattern: str, marked: str, expected: bool) -> None:
    assert is_blind(pattern, marked) == expected
