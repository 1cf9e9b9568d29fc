"""An answer is checked item by item: what is sound is kept, what is not stays open."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError
from pydantic_core import from_json

from nightlog.llm.items import Item, Label, Verdict

MAX_REASON, MAX_GROUP = 400, 100


class Judged(BaseModel):
    """One verdict as the LLM gave it, under the request's short id."""

    model_config = ConfigDict(frozen=True)

    id: StrictStr
    label: Label
    confidence: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
    reason: StrictStr


class JudgedAgain(Judged):
    """One verdict of the second round."""

    group: StrictStr | None


@dataclass(frozen=True)
class Reading:
    """The sound verdicts by short id, and what was wrong with the rest, None where nothing was. Holds no text of the answer
    but the reasons."""

    verdicts: dict[str, Judged]
    trouble: str | None


def one_line(text: str, limit: int = MAX_REASON) -> str:
    """Text fit for a table cell: no control or invisible characters, single blanks, at most `limit` characters."""
    seen = "".join(
        " " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text if unicodedata.category(c) not in ("Cf", "Cs", "Co", "Cn")
    )
    return " ".join(seen.split())[:limit]


def listed(text: str) -> tuple[list[Any], bool]:
    """The elements of `verdicts` in a JSON text, and whether the text was whole.

    Of a text that was cut off, all elements before the last are taken: the last may have lost its end.
    Raises: ValueError where it is no JSON object with a list `verdicts`.
    """
    start = max(text.find("{"), 0)
    try:
        found, whole = from_json(text[start:].rstrip().removesuffix("```")), True
    except ValueError:
        found, whole = from_json(text[start:], allow_partial=True), False
    verdicts = found.get("verdicts") if isinstance(found, dict) else None
    if not isinstance(verdicts, list):
        raise ValueError("no list of verdicts")
    return (verdicts if whole else verdicts[:-1]), whole


def verdict_of(item: Item, label: Label, confidence: float, reason: str, group: str | None) -> Verdict:
    """The verdict on an item of either round. In the second the first verdict stands where no group is named."""
    if item.comparison is None:
        return Verdict(item.id, label, confidence, one_line(reason))
    if not (name := one_line(group or "", MAX_GROUP)):
        return replace(item.comparison.first, id=item.id, round=2, group=None)
    return Verdict(item.id, label, confidence, one_line(reason), 2, name)


def read_answer(text: str, asked: Iterable[str], number: int = 1) -> Reading:
    """Check an answer of round `number` against the short ids that were asked.

    Dropped are: verdicts that do not fit the schema, a confidence outside [0, 1], ids that were not asked, and ids that were
    answered more than once (which of them was meant cannot be known).
    """
    open_ids = set(asked)
    form = JudgedAgain if number == 2 else Judged
    try:
        elements, whole = listed(text)
    except ValueError:
        return Reading({}, "the answer is not JSON of the agreed form")
    faults: Counter[str] = Counter()
    named = Counter(element.get("id") for element in elements if isinstance(element, dict) and isinstance(element.get("id"), str))
    verdicts: dict[str, Judged] = {}
    for element in elements:
        try:
            judged = form.model_validate(element)
        except ValidationError as error:
            faults["with a bad " + "/".join(sorted({str(fault["loc"][0]) if fault["loc"] else "form" for fault in error.errors()}))] += 1
            continue
        if judged.id not in open_ids:
            faults["with an unknown id"] += 1
        elif named[judged.id] > 1:
            faults["with a repeated id"] += 1
        else:
            verdicts[judged.id] = judged.model_copy(update={"reason": one_line(judged.reason)})
    if missing := len(open_ids - named.keys()):
        faults["missing"] += missing
    said = ", ".join(f"{count} {fault}" for fault, count in sorted(faults.items()))
    if not whole:
        return Reading(verdicts, "the answer is cut off" + (f" ({said})" if said else ""))
    return Reading(verdicts, f"verdicts not usable: {said}" if said else None)
