"""How much of what is planted in real lines is taken out, and how much of the real lines with it: `pytest -s` prints the figures."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from nightlog.llm.redaction import outgoing_template
from nightlog.systems.spec import DEFAULT_MASKS
from planted import NAMES, SECRETS, Planted, plant, real_messages

SEED, TIMES = 20260304, 12
BOTH = ("user", "host")


def masked(text: str) -> str:
    """As the parser would leave it."""
    for mask in DEFAULT_MASKS:
        text = re.sub(mask.pattern, f"<{mask.name}>", text)
    return text


def pieces(secret: str) -> list[str]:
    """What is left of a secret behind masks: pieces of four or more letters that are not the name of the kind."""
    return [
        piece for piece in re.split(r"<[A-Z]+>|[^\w+/=~.-]", secret) if len(piece) >= 4 and piece not in ("PRIVATE", "-----END", "-----")
    ]


def leaked(found: Planted, read: Callable[[str], str], names: tuple[str, ...]) -> bool:
    """Is any piece of the secret still in what would leave?"""
    sent = outgoing_template(read(found.line), names)
    rest = sent.replace(read(found.line.replace(found.secret, "")), "")
    return any(piece in rest for piece in pieces(read(found.secret)))


def recall(planted: list[Planted], read: Callable[[str], str], names: tuple[str, ...] = ()) -> tuple[float, Counter[str]]:
    missed = Counter(found.kind for found in planted if leaked(found, read, names))
    return 1 - missed.total() / len(planted), missed


def test_planted_secrets_do_not_leave() -> None:
    planted = list(plant(SEED, TIMES, SECRETS))
    assert len(planted) >= 300
    assert len(SECRETS) >= 25
    print(f"\n{len(planted)} secrets of {len(SECRETS)} kinds planted in real lines")
    for what, read in (("as written", str), ("after masking", masked)):
        share, missed = recall(planted, read)
        print(f"  recall {what}: {share:.2%}" + (f", missed: {dict(missed)}" if missed else ""))
        assert share >= 0.99


def test_names_do_not_leave_where_the_policy_says_so() -> None:
    planted = list(plant(SEED + 1, TIMES, NAMES))
    print(f"\n{len(planted)} user and host names of {len(NAMES)} kinds planted in real lines")
    for what, read in (("as written", str), ("after masking", masked)):
        share, missed = recall(planted, read, BOTH)
        print(f"  recall {what}: {share:.2%}" + (f", missed: {dict(missed)}" if missed else ""))
        assert share >= 0.95
    assert recall(planted, str)[0] < 0.6, "without the policy names are what the LLM reads"


def test_real_lines_stay_what_they_are() -> None:
    """False hits on lines in which nothing was planted: what they lose beside the addresses and e-mail that they do hold."""
    lines = {masked(line) for line in real_messages(6000)}
    hits = Counter(
        place for line in lines for place in re.findall(r"<(?:SECRET|TOKEN|JWT|PRIVATE_KEY|CREDENTIALS)>", outgoing_template(line))
    )
    touched = sum(re.search(r"<(?:SECRET|TOKEN|JWT|PRIVATE_KEY|CREDENTIALS)>", outgoing_template(line)) is not None for line in lines)
    print(f"\n{len(lines)} distinct masked lines without secrets: {touched} lose something to a secret's rule ({dict(hits)})")
    assert touched <= 0.005 * len(lines)
