"""System files: what is read, what is refused and in which words, and which of two files of one name counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from nightlog.errors import ConfigError
from nightlog.outcomes import EXIT_PERMANENT
from nightlog.systems.catalog import choose, load_catalog, parse_system

HEAD = 'name = "app"\nrole = "target"\n'
INPUT = '[input]\npath = "app-{ds}.log"\n'
SESSION = '[session]\nkind = "id"\npattern = "req-[0-9]+"\n'
WINDOWS = """[session]
kind = "window"
[header]
pattern = '(?P<time>[0-9-]+) (?P<message>.*)'
[timestamp]
value = "{time}"
format = "yyyy-MM-dd"
[[variants]]
[variants.header]
pattern = '(?P<message>.*)'
"""
VARIANT = "[[variants]]\n[variants.header]\npattern = '(?P<message>.*)'\n[variants.timestamp]\n"
LABELLED = '[labels]\nfile = "truth.csv"\n'


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_system(text, "app.toml")
    assert caught.value.exit_code == EXIT_PERMANENT
    return str(caught.value)


def test_a_small_file_is_enough_and_the_rest_has_defaults() -> None:
    system = parse_system(HEAD + INPUT + SESSION, "app.toml")
    assert (system.name, system.role, system.input.path) == ("app", "target", "app-{ds}.log")
    assert system.header.fields == ["message"]
    assert system.session.lookback_days == 1
    assert system.llm.allowed
    assert [mask.name for mask in system.all_masks] == ["UUID", "TIME", "IP", "HOST", "USER", "MAC", "HEX", "PATH", "NUM"]


def test_the_detector_is_the_gru_or_metaproto() -> None:
    assert parse_system(HEAD + INPUT + SESSION, "app.toml").detector == "gru"
    assert parse_system(HEAD + 'detector = "metaproto"\n' + INPUT + SESSION, "app.toml").detector == "metaproto"
    told = refused(HEAD + 'detector = "proto"\n' + INPUT + SESSION)
    assert "detector" in told and "metaproto" in told


def test_own_masks_come_before_the_typed_ones_and_can_stand_alone() -> None:
    own = '[[masks]]\nname = "REQ"\npattern = "req-[0-9]+"\n'
    both = parse_system(HEAD + INPUT + SESSION + own, "app.toml")
    alone = parse_system(HEAD + "default_masks = false\n" + INPUT + SESSION + own, "app.toml")
    assert [mask.name for mask in both.all_masks][:2] == ["REQ", "UUID"]
    assert [mask.name for mask in alone.all_masks] == ["REQ"]


def test_shipped_systems_load_as_what_they_are() -> None:
    catalog = load_catalog()
    assert {"hdfs", "bgl", "openstack"} <= set(catalog)
    assert {name: catalog[name].role for name in ("hdfs", "bgl", "openstack")} == {"hdfs": "target", "bgl": "source", "openstack": "source"}
    bgl = catalog["bgl"].labels
    assert bgl is not None and bgl.pattern is not None and bgl.file is None
    for name, system in catalog.items():
        assert system.name == name
        assert system.role == "target" or system.labels is not None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('rolle = "target"\n' + HEAD + INPUT + SESSION, ["`rolle`", "`role`"]),
        (HEAD + INPUT + 'deliverd = "2020-01-01"\n' + SESSION, ["`input.deliverd`", "`delivered`"]),
        (HEAD + INPUT + SESSION + "lookback = 2\n", ["`session.lookback`", "`lookback_days`"]),
        (HEAD + INPUT + SESSION + '[header]\npatern = "x"\n', ["`header.patern`", "`pattern`"]),
        (HEAD + INPUT + SESSION + '[timestamp]\nvalue = "{ds_year}"\nformat = "yyyy"\ntimezon = "UTC"\n', ["timezon", "`timezone`"]),
        (HEAD + INPUT + SESSION + '[[masks]]\nnmae = "A"\npattern = "a"\n', ["nmae", "`name`"]),
        (HEAD + INPUT + SESSION + "[templates]\nsimilarty = 0.5\n", ["similarty", "`similarity`"]),
        (HEAD + INPUT + SESSION + '[labels]\nflie = "a.csv"\n', ["flie", "`file`"]),
        (HEAD + INPUT + SESSION + "[llm]\nalowed = false\n", ["alowed", "`allowed`"]),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one_and_the_file(text: str, told: list[str]) -> None:
    message = refused(text)
    assert message.startswith("app.toml: ")
    assert "unknown key" in message
    for word in told:
        assert word in message


def test_a_key_like_no_other_is_refused_without_a_guess() -> None:
    message = refused("zzzzzzzzqq = 1\n" + HEAD + INPUT + SESSION)
    assert "unknown key `zzzzzzzzqq`" in message
    assert "did you mean" not in message


def test_all_faults_of_a_file_are_told_at_once() -> None:
    message = refused(HEAD + INPUT + SESSION + '[header]\npattern = "("\n[llm]\nalowed = true\n[templates]\nsimilarity = 7\n')
    for word in ("header.pattern", "alowed", "templates.similarity"):
        assert word in message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name = ", "not TOML"),
        (HEAD + INPUT, "`session`"),
        (HEAD.replace("target", "judge") + INPUT + SESSION, "`role`"),
        (HEAD.replace("app", "My App") + INPUT + SESSION, "`name`"),
        (HEAD + INPUT + SESSION + '[header]\npattern = "(?P<message>.*"\n', "not a regular expression"),
        (HEAD + INPUT + SESSION + '[header]\npattern = "(?P<text>.*)"\n', "(?P<message>"),
        (HEAD + INPUT + SESSION.replace("req-[0-9]+", "req-["), "not a regular expression"),
        (HEAD + INPUT + '[session]\nkind = "id"\n', "needs it"),
        (HEAD + INPUT + '[session]\nkind = "field"\nfield = "message"\npattern = "x"\n', '`pattern` belongs to kind = "id"'),
        (HEAD + INPUT + '[session]\nkind = "field"\nfield = "node"\n', "no such header field: node"),
        (HEAD + INPUT + '[session]\nkind = "window"\n', "time window need a [timestamp]"),
        (HEAD + INPUT + SESSION + '[timestamp]\nvalue = "{date} {time}"\nformat = "yyyy"\n', "no such header field: date, time"),
        (HEAD + INPUT + SESSION + '[timestamp]\nvalue = "{ds}"\nformat = "yyyy-MM-dd"\n', "has no field of a line"),
        (HEAD + INPUT + SESSION + VARIANT + 'value = "{ds}"\nformat = "yyyy-MM-dd"\n', "variants[1]: `timestamp.value`"),
        (HEAD + INPUT + SESSION + VARIANT + 'value = "{at}"\nformat = "yyyy"\n', "variants[1]: no such header field: at"),
        (HEAD + INPUT + WINDOWS, "variants[1]: sessions by time window need its timestamp, too"),
        (HEAD + INPUT + SESSION + "lookback_days = -1\n", "lookback_days"),
        (HEAD + INPUT + SESSION + '[[masks]]\nname = "lower"\npattern = "a"\n', "masks.0.name"),
        (HEAD + INPUT + SESSION + '[[masks]]\nname = "A"\npattern = "["\n', "masks.0.pattern"),
        (HEAD + INPUT + SESSION + "[labels]\n", "either `file` or `pattern`"),
        (HEAD + INPUT + SESSION + '[labels]\nfile = "a.csv"\npattern = "(?P<label>.)"\n', "either `file` or `pattern`"),
        (HEAD + INPUT + SESSION + "[labels]\npattern = '\\S+ '\n", "(?P<label>"),
        (HEAD.replace("target", "source") + INPUT + SESSION, "give [labels]"),
        (HEAD + '[input]\npath = "app.log"\n' + SESSION, "delivered"),
        (HEAD + INPUT + "delivered = 2020-01-01\n" + SESSION, "delivered"),
    ],
)
def test_what_cannot_be_right_is_refused_with_the_file_and_the_reason(text: str, told: str) -> None:
    message = refused(text)
    assert message.startswith("app.toml: ")
    assert told in message


def test_a_missing_header_group_is_answered_with_the_groups_there_are() -> None:
    message = refused(HEAD + INPUT + "[session]\nkind = 'field'\nfield = 'host'\n[header]\npattern = '(?P<node>\\S+) (?P<message>.*)'\n")
    assert "host" in message and "message, node" in message


def test_a_source_needs_labels_and_has_enough_with_them() -> None:
    assert parse_system(HEAD.replace("target", "source") + INPUT + SESSION + LABELLED, "app.toml").role == "source"


def test_a_user_file_is_added_and_replaces_a_shipped_one_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "ours.toml").write_text(HEAD + INPUT + SESSION)
    (tmp_path / "hdfs.toml").write_text((HEAD + INPUT + SESSION).replace('"app"', '"hdfs"'))
    (tmp_path / "README.md").write_text("not a system")
    catalog = load_catalog(tmp_path)
    assert catalog["app"].input.path == catalog["hdfs"].input.path == "app-{ds}.log"
    assert catalog["hdfs"].header.pattern != load_catalog()["hdfs"].header.pattern
    assert catalog["bgl"] == load_catalog()["bgl"]


def test_a_bad_user_file_is_named_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("nmae = 'x'\n")
    with pytest.raises(ConfigError, match=r"bad\.toml") as caught:
        load_catalog(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_folder_of_systems_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        load_catalog(tmp_path / "nowhere")


def test_systems_are_chosen_once_each_in_the_order_asked_for() -> None:
    catalog = load_catalog()
    assert [system.name for system in choose(catalog, ["openstack", "hdfs", "openstack"])] == ["openstack", "hdfs"]
    assert choose(catalog, []) == []


def test_an_unknown_system_is_answered_with_the_nearest_and_all_known_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        choose(load_catalog(), ["hdfs", "hfds"])
    message = str(caught.value)
    assert "no system `hfds`" in message and "did you mean `hdfs`" in message
    for name in load_catalog():
        assert name in message


def test_a_placeholder_that_does_not_exist_is_named() -> None:
    words = "no placeholder {date}; there are {ds}, {ds_nodash}, {year}, {month}, {day}, {hour}"
    assert words in refused(HEAD + INPUT.replace("{ds}", "{ds}-{date}") + SESSION)
    assert "give either a path with {ds}" in refused(HEAD + INPUT.replace("{ds}", "{year}-{month}") + SESSION)


@pytest.mark.parametrize("path", ["/var/log/app-{ds}.log", "~/app-{ds}.log", "s3://bucket/app-{ds}.log", "file:///logs/app-{ds}.log"])
def test_a_path_that_is_not_under_the_data_folder_is_refused(path: str) -> None:
    assert "is not relative: give the path under the data folder" in refused(HEAD + INPUT.replace("app-{ds}.log", path) + SESSION)


def test_a_time_without_a_field_of_the_lines_is_refused() -> None:
    stamp = '[timestamp]\nvalue = "{ds}"\nformat = "yyyy-MM-dd"\n'
    assert "has no field of" in refused(HEAD + INPUT + stamp + SESSION)


def test_a_folder_of_systems_that_has_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("none yet")
    (tmp_path / "file").write_text("x")
    (tmp_path / "latin").mkdir()
    (tmp_path / "latin" / "app.toml").write_bytes(b'name = "caf\xe9"')
    for name, word in (("empty", "no system file"), ("gone", "no such folder"), ("file", "cannot be read"), ("latin", "not UTF-8")):
        with pytest.raises(ConfigError, match=word):
            load_catalog(tmp_path / name)
