"""From verdicts in the lake to a model of the system's own: taught, held to its gate, promoted, and asked in the LLM's place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from distillation_help import DIMENSIONS, EYE, QUICK, SOURCE, TARGET, TRUTH, verdicts_of
from nightlog.detector.calibration import Calibration
from nightlog.detector.examples import sequences
from nightlog.detector.manifest import Manifest
from nightlog.detector.network import Network, predict
from nightlog.detector.patterns import Patterns
from nightlog.detector.registry import Model, load, promote, promoted, save, serving
from nightlog.detector.sources import read_source
from nightlog.detector.training import fit
from nightlog.distillation.retrain import distil_system, distil_systems, final_verdicts, gate, measures
from nightlog.distillation.rounds import Distilled, PseudoLabel, Round
from nightlog.errors import ConfigError, ModelIntegrityError
from nightlog.lake.lake import Lake
from nightlog.lake.tables import ANSWERS, MODELS, PATTERNS, PSEUDO_LABELS, SESSIONS, TEMPLATES, VECTORS, VERDICTS
from nightlog.llm.items import Verdict
from nightlog.llm.prompt import prompt_hash
from nightlog.llm.verdicts import night_questions
from nightlog.routing.router import route
from nightlog.systems.spec import Input, Labels, Session, System

NOW = datetime(2026, 3, 5, 2, 0, tzinfo=UTC)
NIGHTS = ("2026-03-03", "2026-03-04")
BY_ID = Session(kind="id", pattern=r"s\d+")
TEACHER = System(name="source", role="source", input=Input(path="{ds}"), session=BY_ID, labels=Labels(file="truth.csv"))
APP = System(name="target", role="target", input=Input(path="{ds}"), session=BY_ID)
CATALOG = {"source": TEACHER, "target": APP}


@pytest.fixture(scope="module")
def network() -> Network:
    return fit([SOURCE], [TARGET], QUICK)


def put_system(lake: Lake, system: System, patterns: Patterns) -> None:
    """Templates, vectors and patterns of a system; even patterns occur in both nights, the odd ones in the second alone."""
    names = [f"t{n:02d}" for n in range(DIMENSIONS)]
    lake.append(TEMPLATES, [{"system": system.name, "template_id": t, "text": text} for t, text in zip(names, patterns.texts, strict=True)])
    lake.append(
        VECTORS, [{"system": system.name, "template_id": t, "encoder": "e", "vector": EYE[n].tolist()} for n, t in enumerate(names)]
    )
    for night, ds in enumerate(NIGHTS):
        rows = []
        for i, (pattern, question, events) in enumerate(zip(patterns.ids, patterns.questions, patterns.events, strict=True)):
            if i % 2 == 0 or night == 1:
                seen = [{"template_id": names[row], "count": count} for row, count in events]
                row = {"system": system.name, "ds": ds, "pattern_id": pattern, "question_id": question, "events": seen}
                rows.append(row | {"n_sessions": int(patterns.sessions[i])})
        lake.append(PATTERNS, rows)


def put_verdicts(lake: Lake, verdicts: dict[str, Verdict]) -> None:
    said = {"system": APP.name, "prompt": prompt_hash(APP), "llm": "judge", "reason": "", "events": [], "asked_at": NOW}
    names = ("label", "confidence", "round", "group")
    lake.append(VERDICTS, [said | {"question_id": v.id} | {name: getattr(v, name) for name in names} for v in verdicts.values()])


def served(lake: Lake, system: System) -> Model:
    return serving(lake, [system])[system.name]


@dataclass
class Place:
    """A lake where a general model serves that was taught by the source, and how to distil there."""

    lake: Lake
    data: Path
    general: Model

    def distil(self, run_id: str = "run", system: System = APP, catalog: dict[str, System] = CATALOG) -> str:
        return distil_system(
            self.lake,
            system,
            lambda name, encoder: read_source(self.lake, catalog[name], self.data, encoder) if name in catalog else None,
            run_id,
            NOW,
            QUICK,
        )

    def statuses(self) -> dict[str, str]:
        return {row["version"]: row["status"] for row in self.lake.rows(MODELS)}


@pytest.fixture
def place(lake: Lake, network: Network, tmp_path: Path) -> Place:
    manifest = Manifest(
        encoder="e",
        tau=None,
        threshold=None,
        foreign_threshold=None,
        foreign=Calibration(),
        shape=QUICK.shape,
        source_texts=SOURCE.texts[:8],
        source_systems=("source",) * 8,
        sources=("source",),
        data={"source": {}},
    )
    model = save(lake, network, EYE[:8], manifest, {}, NOW)
    promote(lake, model.version)
    put_system(lake, TEACHER, SOURCE)
    sessions = [{"system": "source", "ds": NIGHTS[0], "session_id": f"s{i}", "pattern_id": name} for i, name in enumerate(SOURCE.ids)]
    lake.append(SESSIONS, sessions)
    (tmp_path / "truth.csv").write_text("session_id,label\n" + "".join(f"s{i},{int(bad)}\n" for i, bad in enumerate(SOURCE.anomalous)))
    put_system(lake, APP, TARGET)
    return Place(lake, tmp_path, model)


def words(model: Model, patterns: Patterns) -> np.ndarray:
    return predict(load(model).network, sequences(patterns), patterns.vectors)[0]


@pytest.mark.slow
def test_verdicts_become_a_model_that_serves_its_system_alone(place: Place) -> None:
    lake = place.lake
    put_verdicts(lake, verdicts_of(TARGET, TRUTH.anomalous))
    before = lake.table(MODELS).version()
    story = place.distil("first")
    own = promoted(lake, "target")
    assert own is not None and story.startswith(f"model {own.version} serves: "), story
    assert lake.table(MODELS).version() == before + 2, "one commit registers it, one promotes it"
    assert place.statuses() == {place.general.version: "promoted", own.version: "promoted"}

    assert served(lake, APP) == served(lake, APP.model_copy(update={"collaboration": "fusionlog"})) == own
    assert served(lake, APP.model_copy(update={"collaboration": "generallog"})) == place.general
    assert served(lake, APP.model_copy(update={"name": "other"})) == place.general

    assert ((words(own, TARGET) >= load(own).manifest.threshold) == (TRUTH.anomalous == 1)).all()
    rows = lake.rows(PSEUDO_LABELS)
    assert {row["pattern_id"] for row in rows} == set(TARGET.ids) and len(rows) == 40
    assert {(row["system"], row["model"], row["origin"], row["run_id"]) for row in rows} == {("target", own.version, "confident", "first")}
    told = {row["pattern_id"]: row["probability"] for row in rows}
    expected = {name: 0.95 if bad else 0.05 for name, bad in zip(TARGET.ids, TRUTH.anomalous, strict=True)}
    assert told == pytest.approx(expected)
    (row,) = lake.rows(MODELS, system="target")
    assert (row["sources"], dict(row["metrics"])["covered"], dict(row["metrics"])["pseudo_labels"]) == (["source"], 1.0, 40.0)

    # A night after it: what the student learnt is familiar to it, so nobody is asked.
    manifest, sources = load(own).manifest, load(own).sources
    assert set(sources.texts) == {f"text {row}" for row in [*range(8), *{row for events in TARGET.events for row, _ in events}]}
    ds = NIGHTS[1]
    general = load(place.general)
    assert route(lake, APP, ds, general.sources, general.manifest.tau, "m", "e") == {"n_proprietary": 40}
    assert len(night_questions(lake, APP, ds)[0]) == 40
    assert route(lake, APP, ds, sources, manifest.tau, own.version, "e") == {"n_proprietary": 0}
    assert night_questions(lake, APP, ds)[0] == []

    # Nothing new: nothing is done.
    version = lake.table(MODELS).version()
    assert place.distil("again") == f"model {own.version} knows all verdicts already"
    assert lake.table(MODELS).version() == version and lake.rows(PSEUDO_LABELS) == rows


@pytest.mark.slow
def test_an_analysts_answer_outranks_the_verdict_and_teaches_a_new_student(place: Place) -> None:
    lake = place.lake
    verdicts = verdicts_of(TARGET, TRUTH.anomalous)
    put_verdicts(lake, verdicts)
    place.distil("first")
    first = promoted(lake, "target")
    assert first is not None

    wrong = [i for i, bad in enumerate(TRUTH.anomalous) if bad == 1 and any(row == 14 for row, _ in TARGET.events[i])]
    asked = [TARGET.questions[i] for i in wrong]
    answer = {"system": "target", "group": "g", "name": "fan", "label": "normal", "questions": asked, "answered_by": "kim"}
    lake.append(ANSWERS, [answer | {"answered_at": NOW + timedelta(hours=1)}])
    found = final_verdicts(lake, APP)
    assert {question for question, verdict in found.items() if verdict.round == 0} == set(asked)
    assert {question: verdict.label for question, verdict in found.items()} == {
        question: "normal" if question in asked else verdict.label for question, verdict in verdicts.items()
    }

    story = place.distil("second")
    second = promoted(lake, "target")
    assert second is not None and second != first and "serves" in story, story
    assert place.statuses() == {place.general.version: "promoted", first.version: "retired", second.version: "promoted"}
    rows = {row["pattern_id"]: row for row in lake.rows(PSEUDO_LABELS, model=second.version)}
    assert {name for name, row in rows.items() if row["origin"] == "feedback"} == {TARGET.ids[i] for i in wrong}
    assert all(rows[TARGET.ids[i]]["probability"] == 0 for i in wrong)
    assert len(lake.rows(PSEUDO_LABELS, model=first.version)) == 40, "what the student before was taught stays on record"
    assert (words(first, TARGET)[wrong] >= 0.5).all() and (words(second, TARGET)[wrong] < 0.5).mean() > 0.9


@pytest.mark.slow
def test_a_student_that_knows_too_little_stays_a_candidate(place: Place) -> None:
    lake = place.lake
    half = TARGET.take(range(20))
    unsure = verdicts_of(TARGET.take(range(20, 40)), np.zeros(20), 0.5)
    put_verdicts(lake, verdicts_of(half, TRUTH.anomalous[:20]) | unsure)
    unsettled = {name: verdict for name, verdict in final_verdicts(lake, APP).items() if verdict.confidence == 0.5}
    assert len(unsettled) == 20

    story = place.distil()
    assert "does not serve: pseudo-labels and general knowledge cover" in story and "95% are needed" in story, story
    (row,) = lake.rows(MODELS, system="target")
    assert row["status"] == "candidate" and row["version"] in story
    assert promoted(lake, "target") is None and served(lake, APP) == place.general
    assert {row["model"] for row in lake.rows(PSEUDO_LABELS)} == {row["version"]}, "and yet its lineage is kept"


def test_the_gate_looks_at_harm_coverage_and_faith() -> None:
    def student(*rounds: Round) -> Distilled:
        return Distilled(Network(QUICK.shape), (), rounds, 0.9)

    fine = Round(1, 40, 40, 0.2, 0.9, False)
    undone = replace(fine, rolled_back=True)
    good = {"covered": 0.95, "faithful": 0.98}
    assert gate(student(fine), good) is None
    assert gate(student(fine, replace(undone, number=2)), good) is None, "the first round stands"
    for refused, word in (
        (gate(student(undone), good), "first round cost too much"),
        (gate(student(fine), good | {"covered": 0.949}), "cover 94.9%"),
        (gate(student(fine), good | {"faithful": 0.979}), "97.9%"),
    ):
        assert refused is not None and word in refused


def test_the_gate_measures_sessions_and_not_patterns(network: Network) -> None:
    """Pattern 0 has a pseudo-label that the student does not share, pattern 1 has one that it does, pattern 2 is general, 3 is open."""
    four = replace(TARGET.take(range(4)), sessions=np.array([10, 30, 40, 20]))
    own = predict(network, sequences(four), four.vectors)[0]
    labels = [PseudoLabel(four.ids[i], "q", float((own[i] >= 0.5) != (i == 0)), "confident", 1, 0.5, 0.5) for i in range(2)]
    found = measures(Distilled(network, tuple(labels), (), 0.7), four, np.array([False, False, True, False]))
    assert (found["covered"], found["faithful"]) == (0.8, 0.75)
    assert (found["source_score"], found["pseudo_labels"]) == (0.7, 2)


def test_without_verdicts_or_a_general_model_there_is_nothing_to_distil(place: Place, tmp_path: Path) -> None:
    assert place.distil() == "no verdicts yet, so nothing to distil"
    assert place.statuses() == {place.general.version: "promoted"} and not place.lake.exists(PSEUDO_LABELS)
    with pytest.raises(ConfigError, match="nightlog train"):
        distil_system(Lake(tmp_path / "empty", place.lake.runner.spark), APP, lambda *_: None, "run", NOW, QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("gone", ["its system file", "its rows in the lake"])
def test_a_source_that_is_gone_does_not_keep_a_system_from_its_model(place: Place, gone: str) -> None:
    put_verdicts(place.lake, verdicts_of(TARGET, TRUTH.anomalous))
    catalog = dict(CATALOG)
    if gone == "its system file":
        del catalog["source"]
    else:
        for spec in (SESSIONS, PATTERNS, TEMPLATES, VECTORS):
            place.lake.table(spec).delete("system = 'source'")
    story = place.distil(catalog=catalog)
    assert promoted(place.lake, "target") is not None, story


@pytest.mark.slow
def test_a_system_that_fails_does_not_stop_the_others(place: Place) -> None:
    put_verdicts(place.lake, verdicts_of(TARGET, TRUTH.anomalous))
    place.distil()
    own = promoted(place.lake, "target")
    assert own is not None
    Path(own.path).write_bytes(b"altered")
    load.cache_clear()
    told: list[str] = []
    other = APP.model_copy(update={"name": "other"})
    systems = [APP, TEACHER, other.model_copy(update={"collaboration": "generallog"}), other]
    with pytest.raises(ModelIntegrityError):
        distil_systems(place.lake, systems, CATALOG, place.data, NOW, QUICK, told.append)
    assert [line.split(": ")[:2] for line in told] == [["target", "failed"], ["other", "no verdicts yet, so nothing to distil"]]
