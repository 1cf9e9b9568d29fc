"""Templates: the same for every order and partitioning of the messages, stable over nights, and never empty of words."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from nightlog.lake import runner
from nightlog.lake.lake import Lake
from nightlog.onboarding.trial import mine_messages
from nightlog.parsing import parse
from nightlog.systems.spec import Header, Templates
from nightlog.templates.miner import WILDCARD, Cluster, MessageGroup, Miner, mine_group, similarity_of_words, template_id
from parsing_help import make_system, parsed_lines
from pyspark.sql import SparkSession

KNOWN = ["template_id", "widened", "first_message", "token_count", "ordinal"]
NOTHING = pd.DataFrame({name: [] for name in KNOWN})
CONFIG = Templates()

COLOURS = ("amber", "black", "cyan", "denim", "ecru", "fawn", "green", "hazel", "ivory", "jade")
VERBS = ("open", "close", "lock")


def corpus(seed: int = 0) -> list[str]:
    """Masked messages of many lengths: variables in words, values that differ, things that look alike and are not."""
    chosen = random.Random(seed)
    messages = [f"user {colour} logged in from <IP> port <NUM>" for colour in COLOURS]
    messages += [f"{verb} of file f{n} by user u{n} took <NUM> ms" for verb in VERBS for n in range(5)]
    messages += [f"job {chosen.randrange(10**6):x} done" for _ in range(20)]
    messages += [f"cannot {verb} {colour} box" for verb in VERBS for colour in COLOURS]
    messages += ["<NUM>", "<IP> <NUM>", "", "heartbeat", "connection to <IP> lost", "connection from <IP> lost"]
    messages += [" ".join(chosen.choice(COLOURS) for _ in range(n)) for n in range(2, 9) for _ in range(4)]
    return list(dict.fromkeys(messages))


def mined(messages: list[str], known: pd.DataFrame = NOTHING, config: Templates = CONFIG) -> pd.DataFrame:
    """What the groups of all token counts give, one row a message."""
    groups: dict[int, list[str]] = defaultdict(list)
    for message in messages:
        groups[len(message.split())].append(message)
    frames = []
    for count, members in groups.items():
        new = pd.DataFrame({"message_id": range(len(members)), "message": members})
        frames.append(mine_group(MessageGroup(count, new, known[known["token_count"] == count]), "app", config))
    return pd.concat(frames).sort_values("message").reset_index(drop=True)


def assignment(found: pd.DataFrame) -> dict[str, str]:
    return dict(zip(found["message"], found["template_id"], strict=True))


def texts(found: pd.DataFrame) -> dict[str, str]:
    return dict(zip(found["template_id"], found["widened"], strict=True))


def one_go(messages: list[str], config: Templates = CONFIG) -> tuple[dict[str, str], dict[str, str]]:
    """Message → template id and template id → text, by one tree over messages of all lengths."""
    miner = Miner("app", config)
    ordered = sorted(messages)
    miner.learn_values(ordered)
    numbers = {message: miner.assign(message) for message in ordered}
    return (
        {message: miner.clusters[number].template_id for message, number in numbers.items()},
        {miner.clusters[number].template_id: miner.text(number) for number in numbers.values()},
    )


def test_messages_of_one_kind_share_a_template_and_others_do_not() -> None:
    found = mined(corpus())
    by_text: dict[str, set[str]] = defaultdict(set)
    for message, text in zip(found["message"], found["widened"], strict=True):
        by_text[text].add(message)
    assert by_text[f"user {WILDCARD} logged in from <IP> port <NUM>"] == {f"user {c} logged in from <IP> port <NUM>" for c in COLOURS}
    assert by_text["connection to <IP> lost"] == {"connection to <IP> lost"}
    for verb in VERBS:
        assert by_text[f"cannot {verb} {WILDCARD} box"] == {f"cannot {verb} {colour} box" for colour in COLOURS}
        assert len(by_text[f"{verb} of file {WILDCARD} by user {WILDCARD} took <NUM> ms"]) == 5
    assert len(by_text) < len(found)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_messages_has_no_influence(seed: int) -> None:
    messages = corpus()
    shuffled = random.Random(seed).sample(messages, len(messages))
    pd.testing.assert_frame_equal(mined(messages).drop(columns="message_id"), mined(shuffled).drop(columns="message_id"))


def test_a_tree_for_each_token_count_gives_what_one_tree_gives() -> None:
    for seed in range(3):
        found = mined(corpus(seed))
        assert (assignment(found), texts(found)) == one_go(corpus(seed))


def test_templates_fit_their_messages() -> None:
    found = mined(corpus())
    for row in found.itertuples():
        tokens, template = row.message.split(), row.widened.split()
        assert len(tokens) == len(template) == row.token_count
        agree = [b in (a, WILDCARD) for a, b in zip(tokens, template, strict=True)]
        assert all(agree), (row.message, row.widened)
        assert row.template_id == template_id("app", row.first_message)


def test_every_system_has_its_own_templates() -> None:
    assert template_id("app", "started") != template_id("web", "started")
    assert template_id("app", "started") != template_id("app", "stopped")


# Night after night


def known_after(found: pd.DataFrame, known: pd.DataFrame = NOTHING) -> pd.DataFrame:
    """The templates as the lake would hold them after a night."""
    return pd.concat([found[KNOWN], known]).drop_duplicates("template_id").reset_index(drop=True)


def test_known_templates_take_their_messages_back() -> None:
    first = mined(corpus())
    again = mined(corpus(), known_after(first).sample(frac=1, random_state=3))
    assert assignment(again) == assignment(first)
    assert texts(again) == texts(first)
    assert not again["founded"].any()
    assert first["founded"].all()


def test_a_second_night_widens_but_keeps_ids_and_words_only_get_fewer() -> None:
    first = mined([message for message in corpus() if "amber" not in message and "f4" not in message])
    known = known_after(first)
    fresh = sorted(set(corpus(7)) - set(first["message"]))
    second = mined(fresh, known)
    after = known_after(second, known)

    assert set(after["template_id"]) >= set(known["template_id"])
    old = dict(zip(known["template_id"], known["widened"], strict=True))
    for row in after.itertuples():
        if row.template_id in old:
            for before, now in zip(old[row.template_id].split(), row.widened.split(), strict=True):
                assert now in (before, WILDCARD)
    by_message = assignment(second)
    for verb in VERBS:
        home = assignment(first)[f"{verb} of file f0 by user u0 took <NUM> ms"]
        assert by_message[f"{verb} of file f4 by user u4 took <NUM> ms"] == home
    assert by_message["user amber logged in from <IP> port <NUM>"] == assignment(first)["user black logged in from <IP> port <NUM>"]
    assert set(second.loc[second["founded"], "template_id"]).isdisjoint(known["template_id"])


def test_ordinals_go_on_where_the_night_before_ended() -> None:
    first = mined(["alpha beta", "gamma delta"])
    second = mined(["zeta eta", "theta iota"], known_after(first))
    assert sorted(first["ordinal"]) == [0, 1]
    assert sorted(second["ordinal"]) == [2, 3]


# Guards


def test_wildcards_never_swallow_every_word() -> None:
    loose = Templates(similarity=0.01, values=2)
    for seed in range(3):
        found = mined(corpus(seed), config=loose)
        for row in found.itertuples():
            if any(token[0] != "<" for token in row.message.split()):
                assert any(token != WILDCARD for token in row.widened.split()), (row.message, row.widened)


def test_messages_of_one_word_stay_apart_however_many_there_are() -> None:
    found = mined([*COLOURS, *(f"<NUM> {colour}" for colour in COLOURS)])
    assert sorted(texts(found).values()) == sorted([*COLOURS, *(f"<NUM> {colour}" for colour in COLOURS)])


def test_past_the_cap_what_fits_no_template_goes_to_one_catch_all() -> None:
    few = Templates(cap=3)
    messages = [f"{letter}{letter} {letter * 3}" for letter in "abcdefgh"]
    found = mined(messages, config=few)
    by_message, by_id = assignment(found), texts(found)
    assert len(by_id) == 4
    assert [by_id[by_message[message]] for message in messages] == messages[:3] + [f"{WILDCARD} {WILDCARD}"] * 5

    later = mined(["bb bbb", "yy yyy", "zz zzz"], known_after(found), few)
    assert assignment(later) == {"bb bbb": by_message["bb bbb"], "yy yyy": by_message["hh hhh"], "zz zzz": by_message["hh hhh"]}


def test_a_catch_all_takes_nothing_that_fits_a_template() -> None:
    few = Templates(cap=2)
    first = mined(["<NUM> files read", "<NUM> files sent", "<NUM> rows lost"], config=few)
    later = mined(["<NUM> files read", "<NUM> files sent"], known_after(first), few)
    assert assignment(later) == {message: assignment(first)[message] for message in ("<NUM> files read", "<NUM> files sent")}


@pytest.mark.parametrize(
    ("template", "message", "share"),
    [
        ("disk full", "disk full", 1.0),
        ("disk full", "disk empty", 0.5),
        ("read <NUM> of <NUM>", "read <NUM> of <NUM>", 1.0),
        ("read f1 of /a/b", "read f2 of /c/d", 1.0),
        ("read f1 bytes", "read two bytes", 2 / 3),
        (f"read {WILDCARD} bytes", "read two bytes", 1.0),
        ("<NUM> <IP>", "<NUM> <IP>", 1.0),
    ],
)
def test_only_words_count_when_messages_are_compared(template: str, message: str, share: float) -> None:
    assert similarity_of_words(template.split(), message.split())[0] == pytest.approx(share)


@pytest.mark.parametrize("seed", range(5))
def test_templates_that_cannot_fit_are_passed_over_without_a_difference(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = random.Random(seed)
    tokens = ["open", "close", "x=1", "x=2", "y=<NUM>", "<NUM>", "<IP>", "/a/b", "/c", WILDCARD, "f1", "f2"]
    messages = corpus(seed) + [" ".join(chosen.choices(tokens, k=chosen.randint(1, 5))) for _ in range(400)]
    half = sorted(messages)[::2]
    for config in (Templates(cap=20), Templates(), Templates(version=1)):
        known = known_after(mined(half, config=config))
        found = [mined(half, config=config), mined(messages, known, config)]
        with monkeypatch.context() as patch:
            patch.setattr(Miner, "match", lambda _, best, *given: best(*given))
            compared = [mined(half, config=config), mined(messages, known, config)]
        for one, other in zip(found, compared, strict=True):
            pd.testing.assert_frame_equal(one, other)


def test_a_message_is_not_compared_with_each_template_of_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0
    real = Miner.match

    def count(miner: Miner, best: Any, numbers: list[int], tokens: list[str], *how: Any) -> Any:
        def counted(left: list[int], *given: Any) -> Any:
            nonlocal compared
            compared += len(left)
            return best(left, *given)

        return real(miner, counted, numbers, tokens, *how)

    monkeypatch.setattr(Miner, "match", count)
    words = ["".join(letters) for letters in itertools.product("abcdefgh", repeat=3)]
    mined([f"copy {one} to {other}" for one, other in zip(words, reversed(words), strict=True)], config=Templates(values=10_000))
    assert compared <= 2 * len(words)


def test_a_template_is_restored_with_its_widened_text() -> None:
    miner = Miner("app", CONFIG)
    miner.restore(Cluster("t1", "user amber left at once", 0, False), f"user {WILDCARD} left at once")
    number = miner.assign("user black left at once")
    assert miner.clusters[number].template_id == "t1"
    assert miner.text(number) == f"user {WILDCARD} left at once"


@pytest.mark.parametrize("way", ["this process", "other processes", "Spark"])
def test_messages_are_mined_alike_wherever_the_work_is_done(
    way: str, spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = corpus()
    half = [message for message in messages if len(message) % 2]
    known, fresh = known_after(mined(half)), sorted(set(messages) - set(half))
    expected = mined(fresh, known)
    random.Random(1).shuffle(fresh)
    lake = Lake(tmp_path, None if way != "Spark" else spark, 0)
    new = pd.DataFrame({"message_id": range(len(fresh)), "message": fresh})
    if way == "other processes":
        monkeypatch.setattr(runner, "ONE_PROCESS_BYTES", 0)
    found = parse.mine_messages(lake, new, known, make_system(name="app", templates=CONFIG))
    if way != "Spark":  # the session is that of other tests
        lake.runner.close()
    in_order = found.sort_values("message").reset_index(drop=True)
    pd.testing.assert_frame_equal(in_order.drop(columns="message_id"), expected.drop(columns="message_id"), check_dtype=False)


def templates_of(messages: list[str], version: int = 2) -> dict[str, str]:
    """The template text of each message by the default masks and rules of a version."""
    templates = Templates(version=version, similarity=1.0 if version > 1 else 0.9)
    system = make_system(header=Header(), timestamp=None, templates=templates)
    masked = [line.message for line in parsed_lines(system, messages)[0]]
    return dict(zip(messages, [mine_messages(masked, system)[message] for message in masked], strict=True))


def test_opposites_stay_apart_and_what_varies_freely_is_one_template() -> None:
    took = [f"Took {n}.5 seconds to {verb} the instance on the hypervisor now" for n in range(20) for verb in ("spawn", "destroy")]
    assert len(set(templates_of(took).values())) == 2
    assert len(set(templates_of(took, version=1).values())) == 1, "what version 1 did"
    days = [f"connection from 10.0.0.{n} () at {day} Jul {n} 12:00:0{n % 10} 2005" for n in range(1, 20) for day in ("Mon", "Fri")]
    users = [f"session closed for user {name}" for name in ("root", "cyrus", "news", "test")]
    lists = ['10.0.0.1 "GET /a/b" status: 200', '10.0.0.1,10.0.0.2 "GET /a/b" status: 200']
    hosts = ["a.example.com:80 open through proxy p.example.org:5070", "10.0.0.1:80 open through proxy p.example.org:5070"]
    for same in (days, users, lists, hosts):
        assert len(set(templates_of(same).values())) == 1, same[0]
    names = ["session opened by (uid=0)", "session opened by LOGIN(uid=0)"]
    assert len(set(templates_of(names).values())) == 2


def test_a_place_in_a_source_file_is_no_host() -> None:
    (text,) = templates_of(["at shop.Cart.add(Cart.java:10)"]).values()
    assert text == "at shop.Cart.add(Cart.java:<NUM>)"
