"""Log levels: the words that programs use, and the eight names that they are normalised to."""

from __future__ import annotations

import re
from functools import lru_cache

LEVELS = ("trace", "debug", "info", "notice", "warning", "error", "critical", "fatal")
# Words of loggers, syslog (also by number), java.util.logging, klog, PostgreSQL and MySQL. What stands for no severity is left out.
WORDS = {
    "trace": "trace trc verbose vrb finest finer",
    "debug": "debug dbg dbug fine",
    "info": "info inf information informational config system log",
    "notice": "notice note",
    "warning": "warning warn wrn",
    "error": "error err eror severe failure",
    "critical": "critical crit alert",
    "fatal": "fatal ftl emerg emergency panic",
}
NUMBERS = {
    **{"trace": "10", "debug": "7 20", "info": "6 30", "notice": "5"},
    **{"warning": "4 40", "error": "3 50", "critical": "1 2", "fatal": "0 60"},
}
LETTERS = {"trace": "v t", "debug": "d", "info": "i", "notice": "n", "warning": "w", "error": "e", "critical": "c a", "fatal": "f"}
MARKS = {"notice": "*", "warning": "#", "debug": "."}  # of Redis
LEVEL_OF = {text: level for table in (WORDS, NUMBERS, LETTERS, MARKS) for level, texts in table.items() for text in texts.split()}


@lru_cache(maxsize=4096)
def normal_level(text: str | None) -> str | None:
    """Return the level of LEVELS that a text stands for, None if it stands for none. Case, brackets and what stands before a topic's
    point, comma or colon do not matter.

    >>> [normal_level(text) for text in ("WARN", "[INF]", "auth.err", "D2", "Note", "3", "fail", "")]
    ['warning', 'info', 'error', 'debug', 'notice', 'error', None, None]
    """
    plain = (text or "").strip().strip("[]()<>:,|;! ").lower()
    for each in (plain, re.split(r"[.:,/|]", plain)[-1], re.sub(r"(?<=[a-z]) ?\d+$", "", plain)):
        if each in LEVEL_OF:
            return LEVEL_OF[each]
    return None
