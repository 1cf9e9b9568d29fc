"""Severity of a template by its wording, and of a log level by its name.

The words are general English of logs, not those of one program. A phrase that softens ("corrected", "by user request") counts
less, a phrase that denies ("no errors", "failed=0") counts nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

SOFTENED = 0.4

# Grade in (0, 1] → phrases. Each phrase must stand between non-letters; camel case and underscores are split before.
WORDS: dict[float, str] = {
    1.0: (
        r"panic(?:ked|s)?|crash(?:ed|es|ing)?|corrupt(?:ed|ion|s)?|core dump(?:ed)?|segfault(?:ed)?|segmentation (?:fault|violation)|"
        r"dead ?lock(?:s|ed)?|out of (?:memory|disk|space)|no space left|disk (?:is )?full|(?:data|packet) loss|i ?/? ?o error|oom|"
        r"checksum|bus error|stack trace|traceback|assertion|unrecoverable|uncorrectable|irrecoverable|split brain|killed|emergency|"
        r"catastroph\w+|double fault|bad block|attack|intrusion|compromis\w+"
    ),
    0.8: (
        r"fatal(?:ly)?|fail(?:s|ed|ing|ure|ures)?|exceptions?|abort(?:s|ed|ing)?|unable|can ?not|can't|could not|couldn't|timed? ?out|"
        r"time ?outs?|unreachable|lost|broken|refused|critical|severe|terminated|interrupted|damaged|unexpected(?:ly)?|unhandled|uncaught|"
        r"permission denied|access denied|(?:does|do|did) not respond|not responding|no response|unresponsive|stuck|hung|down|read only|"
        r"degraded|exhausted|exceeded|too many|dropped|inconsistent|mismatch(?:ed)?|no route|premature(?:ly)?|truncated|shutting down"
    ),
    0.6: (
        r"errors?|err|denied|reject(?:s|ed|ing|ion)?|illegal|bad|wrong|forbidden|unauthori[sz]ed|reset|unavailable|not available|missing|"
        r"rollback|rolled back|revert(?:ed)?|expired|violat(?:es|ed|ion|ions)|unsafe|malformed|conflict(?:s|ing)?|overflow(?:ed)?|"
        r"underflow|faults?|alert"
    ),
    0.3: (
        r"warn(?:s|ed|ing|ings)?|invalid|unknown|undefined|unsupported|unrecogni[sz]ed|"
        r"not (?:found|exist|exists|known|supported|allowed|permitted|ready|running)|no such|retry(?:ing)?|retries|retried|deferred|"
        r"delay(?:ed|s)?|slow|suspicious|quota|limit|ignor(?:e|ed|ing)|cancel(?:l?ed|l?ing|l?ation)?|disconnect(?:ed|ion)?|closed|duplicate|"
        r"skipp(?:ed|ing)|deprecated|stale|blocked|suspend(?:ed)?|already"
    ),
}
SOFT = (
    r"corrected|recovered|resolved|repaired|restored|handled|succeeded|successful(?:ly)?|completed|by (?:the )?user|user request|syntax|"
    r"does not exist|no longer|will retry|retrying|unique constraint|duplicate key|not null|cleared|passed"
)
DENIED = (
    r"(?:no|0|zero|without(?: any)?) (?:\w+ )?(?:errors?|failures?|failed|warnings?|alerts?|problems?|faults?|exceptions?)(?![a-z])|"
    r"(?:errors?|failures?|failed|faults?)\s*[=:]\s*(?:0|none|null|false)(?![a-z0-9])"
)
LEVELS: dict[str, float] = {
    **dict.fromkeys(("fatal", "critical", "crit", "alert", "emerg", "emergency", "panic", "f", "0", "1", "2"), 1.0),
    **dict.fromkeys(("severe", "failure"), 0.83),
    **dict.fromkeys(("error", "err", "e", "3"), 0.67),
    **dict.fromkeys(("warning", "warn", "w", "4"), 0.33),
}
MASK = re.compile(r"<[^<>\s]{0,24}>")
CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
GRADES = [(grade, re.compile(rf"(?<![a-z])(?:{phrases})(?![a-z])")) for grade, phrases in sorted(WORDS.items(), reverse=True)]
IS_SOFT = re.compile(rf"(?<![a-z])(?:{SOFT})(?![a-z])")
IS_DENIED = re.compile(rf"(?<![a-z])(?:{DENIED})")


@lru_cache(maxsize=100_000)
def wording_severity(text: str) -> float:
    """Return the severity of a template's wording in [0, 1].

    >>> [wording_severity(text) for text in ("Kernel panic", "IOException in <*>", "3 errors corrected", "no errors found", "started")]
    [1.0, 0.8, 0.24, 0.0, 0.0]
    """
    split = CAMEL.sub(" ", MASK.sub(" ", text))
    plain = IS_DENIED.sub(" ", re.sub(r"[\s_-]+", " ", split).lower())
    grade = next((grade for grade, phrases in GRADES if phrases.search(plain)), 0.0)
    return round(grade * SOFTENED, 6) if grade and IS_SOFT.search(plain) else grade


def level_severity(level: str | None) -> float:
    """Return the severity of a log level's name in [0, 1]; 0 for a name that is not known. Case does not matter; digits are syslog's.

    >>> level_severity("FATAL"), level_severity("Warn"), level_severity("INFO"), level_severity(None)
    (1.0, 0.33, 0.0, 0.0)
    """
    return LEVELS.get((level or "").strip().lower(), 0.0)


def severities(texts: Mapping[str, str], levels: Mapping[str, str]) -> dict[str, float]:
    """Return template id → the larger severity of its wording and its level, in [0, 1]."""
    return {name: max(wording_severity(text or ""), level_severity(levels.get(name))) for name, text in texts.items()}
