"""The modes that are compared, by name. A mode sees a `Case` and says a `Judgement`; labels of the target are out of its reach."""

from __future__ import annotations

from nightlog.evaluation.case import Mode
from nightlog.evaluation.fusion import fusionlog, generallog, llm_only, llm_two_rounds, small_model
from nightlog.evaluation.metaproto import METAPROTO_MODES, SHOTS

MODES: dict[str, Mode] = {
    "generallog": generallog,
    "fusionlog": fusionlog,
    "small_model": small_model,
    "llm_only": llm_only,
    "llm_two_rounds": llm_two_rounds,
    **METAPROTO_MODES,
}

SEEDLESS = frozenset({"llm_only", "llm_two_rounds"})  # the same for every seed: run once
WITH_ANSWERS = frozenset({"generallog", "fusionlog"})  # can put questions to an analyst, as many as --answers says
EXAMPLES: dict[str, tuple[int, ...]] = {"metaproto": SHOTS}  # are run besides with this many answers, as labelled examples
FROM_SOURCES = frozenset({"small_model", *METAPROTO_MODES})  # know only what sources teach: shuffled source labels must leave nothing

KNOWN: dict[str, str] = {  # what a mode is given of the target; answers, "+k answers", are told apart
    "generallog": "the LLM judges what is proprietary in both parts; an answer settles one group of questions",
    "fusionlog": "the LLM judges the adaptation part alone, the small model learns it and judges the test part; answers as there",
    "small_model": "sources with labels, the adaptation part without",
    "llm_only": "the LLM, each pattern once",
    "llm_two_rounds": "the LLM, uncertain patterns a second time side by side",
    "metaproto": "support of a target: its drift-labelled sample, no true label; with k answers: k labelled patterns chosen without labels",
    **{name: "sources with labels alone, on MetaProto's features and columns" for name in METAPROTO_MODES if name.startswith("learner:")},
}
