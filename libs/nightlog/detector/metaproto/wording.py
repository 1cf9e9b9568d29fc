"""What a template's text looks like, by general English of logs: no word of one system's own."""

from __future__ import annotations

import re

import numpy as np


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FATAL = _words("fatal panic crash crashed critical emergency emerg corrupt corrupted corruption segfault severe alert")
ERROR = _words(
    "error errors err exception exceptions fail failed fails failing failure failures abort aborted aborting traceback denied "
    "refused rejected invalid illegal unexpected unable cannot missing lost dead died killed violation overflow broken bad "
    "unreachable unavailable uncorrectable unrecoverable unhandled fault faulty"
)
WARNING = _words(
    "warn warning warnings timeout timeouts timed retry retries retrying interrupted interrupt unknown conflict mismatch "
    "degraded slow dropped expired exceeded skip skipped skipping ignored ignoring duplicate late stale stopped disconnected "
    "reset"
)
NEGATION = _words("not no never none without nothing cannot unable")
OPENING = _words(
    "start starts started starting begin begins began beginning open opened opening create created creating connect connected "
    "connecting allocate allocated allocating receive receiving request requested requesting attempt attempting init "
    "initializing boot booting spawn spawning launch launching acquire acquired login add adding mount mounting load loading"
)
CLOSING = _words(
    "end ends ended ending finish finished complete completed completes done close closed closing exit exited terminate "
    "terminated terminating delete deleted deleting remove removed removing release released releasing stop stopped stopping "
    "destroy destroyed success successful successfully succeeded received transmitted disconnect logout unmount shutdown "
    "verified"
)
COLUMNS = ("severity", "negation", "opening", "closing", "length", "words", "wildcards", "digits", "capitals", "punctuation", "letters")


def wording(texts: tuple[str, ...]) -> dict[str, np.ndarray]:
    """COLUMNS of each text, (T,) each: `severity` 0 to 3 by its worst word, flags, log lengths, and shares of words or characters.

    >>> {name: float(column[0].round(2)) for name, column in wording(("Link down: fatal error <*>",)).items() if name in COLUMNS[:2]}
    {'severity': 3.0, 'negation': 0.0}
    """
    rows = np.array([_describe(text) for text in texts], dtype=float).reshape(len(texts), len(COLUMNS))
    return {name: rows[:, column] for column, name in enumerate(COLUMNS)}


def _describe(text: str) -> tuple[float, ...]:
    plain = re.sub(r"<[^<>\s]*>", " ", text)
    found = set(re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", plain).lower()))
    severity = 3 if found & FATAL else 2 if found & ERROR else 1 if found & WARNING else 0
    words, size = max(1, len(text.split())), max(1, len(plain))
    return (
        severity,
        bool(found & NEGATION),
        bool(found & OPENING),
        bool(found & CLOSING),
        float(np.log1p(len(text))),
        float(np.log1p(words)),
        min(1.0, len(re.findall(r"<[^<>\s]*>", text)) / words),
        sum(c.isdigit() for c in plain) / size,
        sum(c.isupper() for c in plain) / size,
        sum(not c.isalnum() and not c.isspace() for c in plain) / size,
        sum(c.isalpha() for c in plain) / size,
    )
