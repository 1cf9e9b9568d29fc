"""The words of a night's page: sentences, numbers, times, and log text that can do no harm."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import UTC, date, datetime

from markupsafe import Markup, escape

from nightlog.outcomes import SUCCESSES, OutcomeKind
from nightlog.pages.model import SystemNight, merged_trend
from nightlog.publishing.account import input_sentence, llm_sentence, night_sentence, unjudged_sentence

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
LONGEST_TEXT = 2000
BY = {"llm": "LLM", "student": "student", "small_model": "small model", "history": "history", "feedback": "analyst"}
OUTCOMES = {
    "done": "done",
    "incomplete": "incomplete",
    "no_input": "no input",
    "gated": "stopped by a quality gate",
    "failed": "failed",
    "transient": "failed, and may go through when tried again",
}
# Letters and marks that show nothing, besides what Unicode calls control, format or separator.
BLANKS = frozenset("\u115f\u1160\u2800\u3164\uffa0\u034f\u17b4\u17b5") | {
    chr(n) for n in (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
}


def is_unseen(char: str) -> bool:
    """Return True if a character shows nothing or steers what is around it: controls, bidirectional and zero-width ones, odd spaces.

    >>> [is_unseen(char) for char in ("a", " ", "\\t", "\\x1b", "\\u202e", "\\u200b", "\\ud800")]
    [False, False, False, True, True, True, True]
    """
    if char in " \t":
        return False
    return char in BLANKS or unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def symbol(char: str) -> str:
    """Return the symbol of an unseen character: its number.

    >>> symbol("\\x1b"), symbol("\\u202e")
    ('⟨U+001B⟩', '⟨U+202E⟩')
    """
    return f"⟨U+{ord(char):04X}⟩"


def visible(text: object) -> Markup:
    """Text of logs, LLMs or analysts as HTML: inert, every unseen character shown as a symbol, very long text cut.

    >>> visible("<b>\\x00")
    Markup('&lt;b&gt;<span class="unseen">⟨U+0000⟩</span>')
    """
    whole = "" if text is None else str(text)
    parts: list[Markup] = []
    plain: list[str] = []
    for char in whole[:LONGEST_TEXT]:
        if is_unseen(char):
            parts += [escape("".join(plain)), Markup('<span class="unseen">{}</span>').format(symbol(char))]
            plain = []
        else:
            plain.append(char)
    parts.append(escape("".join(plain)))
    if len(whole) > LONGEST_TEXT:
        parts.append(Markup(' <span class="cut">… {:,} characters more</span>').format(len(whole) - LONGEST_TEXT))
    return Markup("").join(parts)


def n_of(n: int | None, thing: str) -> str:
    """A number of things.

    >>> n_of(1, "session"), n_of(1608, "session")
    ('1 session', '1,608 sessions')
    """
    return f"{n or 0:,} {thing}{'' if n == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def long_day(ds: str) -> str:
    """A day in words.

    >>> long_day("2026-03-04")
    'Wednesday 4 March 2026'
    """
    at = date.fromisoformat(ds)
    return f"{WEEKDAYS[at.weekday()]} {at.day} {MONTHS[at.month - 1]} {at.year}"


def long_month(month: str) -> str:
    """Return a month in words.

    >>> long_month("2026-03")
    'March 2026'
    """
    return f"{MONTHS[int(month[5:]) - 1]} {month[:4]}"


def clock(at: datetime | None, ds: str, parts: str = "seconds") -> str:
    """A time in UTC, with its day where that is not `ds`.

    >>> clock(datetime(2026, 3, 4, 14, 38, 11, 343000), "2026-03-04"), clock(datetime(2026, 3, 3, 23, 59), "2026-03-04")
    ('14:38:11', '2026-03-03 23:59:00')
    """
    if at is None:
        return "no time"
    there = at.astimezone(UTC) if at.tzinfo is not None else at
    time = there.strftime("%H:%M:%S.%f")[:-3] if parts == "milliseconds" else there.strftime("%H:%M:%S")
    return time if there.date().isoformat() == ds else f"{there.date().isoformat()} {time}"


def share(value: float | None) -> str:
    """A share in percent, with so many digits as tell something.

    >>> share(1.0), share(0.034), share(0.00004), share(None)
    ('100 %', '3.4 %', '0.004 %', '–')
    """
    return "–" if value is None else f"{float(f'{100 * value:.2g}') if value < 0.1 else round(100 * value, 1):g} %"


def money(value: float) -> str:
    """US dollars; small sums are not rounded to nothing.

    >>> money(0), money(0.00314), money(12.5)
    ('$0', '$0.0031', '$12.50')
    """
    return "$0" if not value else f"${value:.2f}" if value >= 0.1 else f"${value:.2g}"


def seconds(value: float) -> str:
    """A duration.

    >>> seconds(0.218), seconds(45.8), seconds(3725)
    ('0.2 s', '46 s', '1 h 2 min')
    """
    if value < 10:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    minutes = round(value / 60)
    return f"{minutes} min" if minutes < 120 and value < 3600 else f"{minutes // 60} h {minutes % 60} min"


def head_line(night: SystemNight) -> str:
    """A system's night in words."""
    if not night.published:
        return f"Nothing was published: {troubled(night)}."
    total = night.night.get("n_sessions")
    sentences = []
    if (sentence := input_sentence(night.night)) is not None:
        sentences = [f"{sentence[0].upper()}{sentence[1:]}."]
    if (sentence := unjudged_sentence(night.night)) is not None:
        sentences.append(f"{sentence}.")
    if (sentence := llm_sentence(night.night)) is not None:
        sentences.append(f"{sentence[0].upper()}{sentence[1:]}.")
    judged = (total or 0) - (night.night.get("n_unjudged") or 0)
    if not night.n_anomalies and not judged and sentences:
        sentences.append("No session was judged.")
    elif not night.n_anomalies:
        others = "the other " if night.night.get("n_unjudged") else ""
        sentences.append(f"None of {others}{n_of(judged, 'session')} is anomalous{' so far' * may_change(night)}.")
    else:
        verb = "is" if night.n_anomalies == 1 else "are"
        in_findings = f", in {n_of(night.n_findings, 'finding')}" if night.n_findings else ""
        sentences += [f"{night.n_anomalies:,} of {n_of(total, 'session')} {verb} anomalous{in_findings}."]
    if night.night_before is not None and night.n_findings:
        n = night.n_new
        sentences.append(f"{n_of(n, 'finding') if n else 'No finding'} {'is' if n in (0, 1) else 'are'} new tonight.")
    if waiting := night.night.get("n_provisional") or 0:
        verb, them = ("is", "it") if waiting == 1 else ("are", "them")
        sentences.append(f"{n_of(waiting, 'session')} {verb} provisional: the LLM has not judged {them} yet.")
    if night.outcome.outcome not in SUCCESSES:
        sentences.append(f"The last run did not publish ({troubled(night)}); this is what an earlier run found.")
    return " ".join(sentences)


def may_change(night: SystemNight) -> bool:
    """Return True if the LLM is still to judge some sessions of the night."""
    return bool(night.night.get("n_provisional"))


def is_complete(nights: Sequence[SystemNight]) -> bool:
    """Return True if every system's night was read, judged and published completely: only then may a page say "none"."""
    return bool(nights) and all(
        night.outcome.outcome == OutcomeKind.DONE and night.published and not night.night.get("n_unjudged") and not may_change(night)
        for night in nights
    )


def troubled(night: SystemNight) -> str:
    """Return the trouble, in a few words."""
    has_stage = night.outcome.stage and night.outcome.outcome not in (OutcomeKind.NO_INPUT, OutcomeKind.INCOMPLETE)
    where = f" in stage {night.outcome.stage}" if has_stage else ""
    return f"{OUTCOMES.get(night.outcome.outcome, night.outcome.outcome)}{where}"


def night_head_line(nights: Sequence[SystemNight], unread: Sequence[str]) -> str:
    """The night of all systems in words."""
    total = sum(night.n_anomalies for night in nights)
    findings = sum(night.n_findings for night in nights)
    in_findings = f" in {n_of(findings, 'finding')}" if findings else ""
    sentences = []
    if (sentence := night_sentence([{"system": night.system, **night.night} for night in nights if night.published])) is not None:
        sentences = [f"{sentence}."]
    if names := [night.system for night in nights if night.published and input_sentence(night.night) is not None]:
        sentences.append(f"{listed(names)} had no input: only sessions that had waited are judged.")
    if names := [night.system for night in nights if llm_sentence(night.night) is not None]:
        sentences.append(f"No LLM judged {listed(names)}.")
    n_read = sum(night.published for night in nights) + len(unread)
    sentences.append(f"{n_of(total, 'anomalous session')}{in_findings} of {n_of(n_read, 'system')}.")
    if waiting := sum(night.night.get("n_provisional") or 0 for night in nights):
        sentences.append(f"{n_of(waiting, 'session')} {'is' if waiting == 1 else 'are'} provisional.")
    for outcomes, words in (
        (("no_input",), "had no input"),
        (("gated",), "stopped at a quality gate"),
        (("failed", "transient"), "failed"),
    ):
        if names := [night.system for night in nights if night.outcome.outcome in outcomes]:
            sentences.append(f"{listed(names)} {words}.")
    if unread:
        sentences.append(f"No page could be written for {listed(unread)}.")
    return " ".join(sentences)


def trend_words(nights: Sequence[SystemNight]) -> str:
    """The anomalies of the last nights, for who hears the page."""
    known = [f"{ds}: {n:,}" for ds, n in merged_trend(nights) if n is not None]
    return f"anomalous sessions by night; {'; '.join(known)}"
