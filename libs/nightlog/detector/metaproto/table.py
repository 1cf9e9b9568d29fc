"""The 80 structural features by name: what each says of a pattern, relative to what is usual in its system.

Source: arXiv 2601.14336, which joins 80 structural features of templates and sessions to the sentence vector without naming them; these
are ours. "Rare" and "usual" are by share of the system's sessions; a distance counts steps of log2 count, so a template that is there
once and one that is not are 1 apart; "surprise" is -log10 of a share. Features marked (q) are log odds of the value's quantile among the
system's sessions.
"""

from __future__ import annotations

FEATURES: tuple[tuple[str, str], ...] = (
    # the pattern's size and shape
    ("templates", "log number of distinct templates"),
    ("templates_q", "number of distinct templates (q)"),
    ("templates_off", "log ratio of distinct templates to the system's median session"),
    ("events_q", "number of events, in steps of log2 (q)"),
    ("events_off", "log ratio of events to the system's median session"),
    ("entropy_q", "entropy of the events over templates (q)"),
    ("evenness", "entropy over its greatest possible value"),
    ("largest_share", "share of events that are the most frequent template"),
    ("single_share", "share of templates that occur once"),
    ("strongest_q", "steps of the most frequent template (q)"),
    # how rare the pattern is
    ("pattern_surprise", "surprise of the pattern"),
    ("pattern_tail", "share of sessions whose pattern is at most as frequent, -log10"),
    ("set_surprise", "surprise of the set of templates, whatever the counts"),
    ("set_tail", "share of sessions whose set of templates is at most as frequent, -log10"),
    ("in_set_surprise", "surprise of the pattern among those of the same set"),
    ("pattern_rank", "share of the system's distinct patterns that are more frequent"),
    ("set_patterns", "log number of distinct patterns of the same set"),
    # how usual its templates are
    ("share_least", "share of sessions with its rarest template"),
    ("share_mean", "mean share of sessions with its templates"),
    ("share_most", "share of sessions with its most usual template"),
    ("surprise_most", "surprise of its rarest template"),
    ("surprise_mean", "mean surprise of its templates"),
    ("surprise_sum", "log of the summed surprise of its templates"),
    ("surprise_events", "mean surprise of its events"),
    ("surprise_tail", "surprise of its rarest template (q)"),
    ("rare_templates", "log number of templates in under 1 % of sessions"),
    ("rare_share", "share of its templates in under 1 % of sessions"),
    ("seldom_share", "share of its templates in under 10 % of sessions"),
    ("usual_share", "share of its templates in most sessions"),
    # what it lacks
    ("absent_most", "share of sessions with the most usual template that it lacks"),
    ("absent_surprise", "surprise of lacking that template"),
    ("absent_sum", "log of the summed surprise of all that it lacks"),
    ("absent_usual", "log number of templates of nine sessions in ten that it lacks"),
    ("absent_half", "log number of templates of most sessions that it lacks"),
    ("absent_share", "share of the templates of most sessions that it lacks"),
    ("absent_given", "greatest share, among sessions with a template it has, of those with one it lacks"),
    ("absent_given_surprise", "surprise of lacking that one"),
    # what comes together
    ("pair_least", "least share of sessions with one of its templates that have another one too"),
    ("pair_mean", "mean of these shares over all pairs"),
    ("pair_surprise", "surprise of its rarest pair of templates"),
    ("pair_surprise_mean", "mean surprise of its pairs"),
    ("pair_lift_least", "least log lift of a pair: how much rarer together than by chance"),
    ("pair_lift_mean", "mean log lift of its pairs"),
    # counts against the usual counts of the same templates
    ("count_off_most", "largest distance of a template's step from its usual step"),
    ("count_off_mean", "mean distance from the usual steps"),
    ("count_above", "largest excess over the usual step"),
    ("count_below", "largest shortfall from the usual step"),
    ("count_surprise_most", "greatest surprise of a template's step, where it occurs"),
    ("count_surprise_mean", "mean surprise of its templates' steps"),
    ("count_surprise_sum", "log of the summed surprise of its steps"),
    # the frequent patterns around it
    ("near_head", "distance to the nearest frequent pattern (patterns of four sessions in five)"),
    ("near_head_q", "this distance (q)"),
    ("near_top", "distance to the nearest of the patterns of half of the sessions"),
    ("near_any", "distance to the nearest other pattern"),
    ("near_mean_q", "mean distance to the system's sessions (q)"),
    ("near_extra", "steps that it has beyond the nearest frequent pattern"),
    ("near_lack", "steps that the nearest frequent pattern has beyond it"),
    ("near_extra_surprise", "surprise of the rarest template that it has beyond the nearest frequent pattern"),
    ("near_lack_surprise", "surprise of lacking the most usual template that the nearest frequent pattern has beyond it"),
    ("near_overlap", "Jaccard similarity of steps to the nearest frequent pattern"),
    ("near_ratio", "log ratio of the nearest frequent pattern's sessions to its own"),
    # meaning against the system's usual meaning
    ("vector_mean_cosine", "cosine of its vector to the mean session's"),
    ("vector_mean_q", "this cosine (q)"),
    ("vector_head_cosine", "greatest cosine of its vector to a frequent pattern's"),
    ("vector_least_usual", "least, over its templates, of the greatest cosine to a template of most sessions"),
    ("vector_spread", "1 - mean cosine of its templates to its vector"),
    # how its templates are worded
    ("length_q", "mean log length of its templates (q)"),
    ("length_most_q", "log length of its longest template (q)"),
    ("wildcards_q", "mean share of wildcards among words (q)"),
    ("digits_q", "mean share of digits in the text (q)"),
    ("capitals_q", "mean share of capital letters in the text (q)"),
    ("punctuation_q", "mean share of punctuation in the text (q)"),
    ("severity_most", "severity of its worst-worded template: 3 fatal, 2 error, 1 warning, 0 neither"),
    ("severity_q", "mean severity of its events (q)"),
    ("severity_templates", "log number of templates worded as error or worse"),
    ("severity_rare", "greatest product of severity and surprise over its templates"),
    ("severity_extra", "greatest severity of a template that the nearest frequent pattern lacks"),
    ("negation_rare", "greatest surprise of a template with a negation"),
    ("closing_balance", "share of templates that speak of an end minus share that speak of a start"),
    ("closing_balance_q", "this balance (q)"),
)
NAMES: tuple[str, ...] = tuple(name for name, _ in FEATURES)


INTRODUCTION = """# The features of MetaProto

Beside the sentence vector of a pattern, less that of the system's mean session, `detector = "metaproto"` reads these {n} features of its
templates and counts. The paper (arXiv 2601.14336) names none of its own {n}; these are ours. All are relative to what is usual in the
system itself, so that they mean the same in every system, and none knows a word of one system's own. Of all columns, vector included, the
200 that say most of the sources' anomalies are kept.

*Rare* and *usual* are by share of the system's sessions. A *step* is a power of two of a count: a template that is there once and one that
is not are one step apart, and distances count steps. *Surprise* is -log10 of a share. A feature marked (q) is the log odds of the value's
quantile among the system's sessions.

| | feature | what it says of a pattern |
|---|---|---|
"""


def as_markdown() -> str:
    """The table as `docs/features.md` shows it."""
    rows = (f"| {number} | `{name}` | {meaning} |" for number, (name, meaning) in enumerate(FEATURES, 1))
    return INTRODUCTION.format(n=len(FEATURES)) + "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(as_markdown(), end="")
