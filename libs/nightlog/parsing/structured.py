"""Records of named values: JSON, logfmt, journald's export. Spark's own column expressions; the patterns serve Python as well."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from nightlog.systems.spec import Header

if TYPE_CHECKING:
    from pyspark.sql import Column

# Possessive and unrolled: Java needs stack for each turn of a loop over alternatives.
QUOTED = r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"'
ESCAPED = r"\\(.)"


def logfmt_pattern(key: str) -> str:
    """Matches a logfmt record that has the key: group 1 its quoted value, group 2 its bare one.

    Reading goes from pair to pair, so what stands within quotes is never taken for a pair.
    """
    value = f"(?:{QUOTED.replace('(', '(?:', 1)}|\\S*+)"
    name = re.escape(key)
    return rf'^(?:\s*+(?!{name}=)[^\s="]++(?:={value})?)*+\s*+{name}=(?:{QUOTED}|(\S*+))'


def export_pattern(key: str) -> str:
    """Matches a record of journald's export format that has the key: group 1 is its value.

    A value of several lines stands on the lines after the key, behind its length in eight bytes.
    """
    return rf"(?s)(?:^|\n){re.escape(key)}(?:=|\n.{{8}})(.*?)(?=\n[A-Z0-9_]+(?:=|\n.{{8}})|$)"


def message_part(number: int, key: str) -> str:
    """What stands before a value in the message: nothing before the first one, the key's last part before others.

    >>> message_part(0, "msg"), message_part(1, "$.http.status"), message_part(1, "status")
    ('', 'status=', 'status=')
    """
    return "" if number == 0 else (re.findall(r"[\w.-]+", key.removeprefix("$")) or [key])[-1].rsplit(".", 1)[-1] + "="


def values_of(kind: str, text: Column, keys: list[str]) -> dict[str, Column]:
    """The value of each key in the text, null where it has none."""
    if kind == "json":
        whole = F.from_json(text, "map<string,string>")
        return {key: F.get_json_object(text, key) if key.startswith("$") else F.try_element_at(whole, F.lit(key)) for key in keys}
    found = {}
    for key in keys:
        if kind == "logfmt":
            pattern = logfmt_pattern(key)
            quoted, bare = F.regexp_extract(text, pattern, 1), F.regexp_extract(text, pattern, 2)
            value = F.when(quoted != "", F.regexp_replace(quoted, ESCAPED, "$1")).otherwise(bare)
        else:
            pattern = export_pattern(key)
            value = F.regexp_extract(text, pattern, 1)
        found[key] = F.when(text.rlike(pattern), value)
    return found


def split_keys(text: Column, header: Header, apart: dict[str, Column], wanted: list[str]) -> dict[str, Column]:
    """The wanted fields of each record, and "matched": whether one of the message's keys has a value.

    Args: apart, what the header's pattern has taken apart already, "matched" and "message" with it; empty where the whole text
    holds the values.
    """
    named = {name: header.keys[name] for name in wanted if name in header.keys and name != "message"}
    every = [*header.message_keys, *(key for key in named.values() if isinstance(key, str))]
    values = values_of(header.kind, apart.get("message", text), list(dict.fromkeys(every)))
    parts = [F.concat(F.lit(message_part(n, key)), values[key]) for n, key in enumerate(header.message_keys)]
    present = F.coalesce(*(values[key] for key in header.message_keys)).isNotNull()
    fields = {name: value for name, value in apart.items() if name in wanted} | {
        name: F.coalesce(values[key], F.lit("")) for name, key in named.items() if isinstance(key, str)
    }
    matched = present & apart["matched"] if apart else present
    return {"matched": matched} | fields | {"message": F.concat_ws(" ", *parts)}
