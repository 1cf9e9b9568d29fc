"""Names of users and hosts, taken out where a system's policy says so: they are found by the places in which names stand."""

from __future__ import annotations

import re
from collections.abc import Collection

from nightlog.llm.redaction import HOLE, MASK, NOTHING, SYSTEMD, Rule

CHARACTER = rf"(?:[\w.$+-]|{HOLE})"
NAME = rf"(?:\\?\"[^\"]{{1,100}}\"|\\?'[^']{{1,100}}'|<(?!(?-i:\*|[A-Z][A-Z0-9_]*)>){CHARACTER}{{1,64}}>|{CHARACTER}{{1,64}})"
PLAIN = (
    r"(?:not|invalid|illegal|is|was|has|had|does|did|can|cannot|could|will|and|or|of|in|on|to|for|from|by|with|at|the|a|an|no|name|names|agent|id|ids"
    r"|unknown|error|errors|failed|failure|logged|login|logout|session|sessions|authentication|authenticated|account|space|mode|process"
    r"|table|limit|quota|request|requests|requested|defined|interrupt|interrupted|data|key|keys|level|input|list|lookup|down|up"
    r"|unreachable|available|unavailable|found|disconnected|connected|connection|refused|rejected|timeout|closed|gone|exists|added|removed"
    r"|based|side|controller|memory|cpu|port|ports|address|byte|class|method|type|state|status|group|groups|tried|attempt)"
)
WORD = rf"(?!{PLAIN}(?![\w.-])){NAME}"
USER_KEY = r"(?:user(?:[_-]?name)?|login|logname|r?user|acct|account|principal|identity|owner|member|role)"
HOST_KEY = r"(?:r?host(?:[_-]?name)?|server(?:[_-]?name)?|node|client|peer|relay|helo|machine|domain|fqdn|upstream|broker|workstation)"
SEPARATOR = r"\\?[\"']?\s?[:=]\s?"
# Names of files and of code end like countries do; among them only what has three labels or more counts as a host.
SUFFIX = (
    r"(?:com|net|org|edu|gov|mil|int|info|biz|io|dev|app|cloud|local|internal|intranet|lan|corp|home|localdomain|arpa|example|test|invalid)"
)
FILES = r"(?:py|rs|js|sh|so|gz|cc|md|pl|go|ts|db|xz|ko|hs|kt|ml|mm|ps|rb|cs|vb|tf|in|la|ps)"
CODE = r"(?!(?:com|org|net|io|edu|gov|java|javax|kotlin|scala|sun|jdk|dev|app)\.)"
LABEL = rf"(?:[a-z0-9_-]|{HOLE}){{1,63}}\."


def rules(kind: str, patterns: Collection[str]) -> tuple[Rule, ...]:
    """A rule for each pattern: its first group stays, its second becomes `kind`, unless it says nothing or is a mask already."""

    def name_out(match: re.Match[str]) -> str:
        bare = re.sub(MASK, "", match[2]).strip("\\\"'<>.,;:()[]{}")
        says_nothing = NOTHING.fullmatch(bare) is not None or not any(c.isalpha() for c in bare) or bare == "unknown"
        return match[0] if says_nothing else match[1] + kind

    return tuple((re.compile(pattern), name_out) for pattern in patterns)


RULES: dict[str, tuple[Rule, ...]] = {
    "user": rules(
        "<USER>",
        (
            rf"(?i)((?<![a-z]){USER_KEY}{SEPARATOR})((?![\w-]+\s?[:=]){NAME})",
            rf"(?i)(\b(?:users?|username|login|account|role|identity|principal)\s+)(\"[^\"]{{1,100}}\"|'[^']{{1,100}}'|<(?!(?-i:\*|[A-Z][A-Z0-9_]*)>){CHARACTER}{{1,64}}>)",
            rf"(?i)(\b(?:user|username)\s+)({WORD})",
            rf"(?i)(\b(?:password|publickey|keyboard-interactive(?:/pam)?|gssapi[\w-]*|hostbased|none)\s+for\s+(?:(?:invalid|illegal)\s+user\s+)?)({WORD})",
            rf"()((?<![\w.$+-]){CHARACTER}{{1,64}})(?=\((?:e?uid|gid)=)",
            rf"((?:/home|/Users|\\Users\\?)[/\\])((?:[\w.-]|{HOLE}){{1,100}})",
            rf"()(\b[A-Z][A-Z0-9-]+\\(?:[\w.$-]|{HOLE}){{1,100}})",
            rf"()((?<![\w.+%-])(?:[\w.+-]|{HOLE}){{1,64}})(?=@(?:\w|<HOST>)(?!(?:[\w-]|{HOLE}){{0,64}}\.{SYSTEMD}))",
        ),
    ),
    "host": rules(
        "<HOST>",
        (
            rf"((?<=://)(?:<CREDENTIALS>@)?)((?:[A-Za-z0-9._-]|{HOLE}){{1,100}})",
            rf"(?i)((?<![a-z]){HOST_KEY}{SEPARATOR})((?:[\w.-]|{HOLE}){{1,100}}|\"[^\"]{{1,100}}\")",
            rf"()((?<![\w.-])(?:[\w.-]|{HOLE}){{1,100}})(?=\[(?:<IP>|\d{{1,3}}\.|<\*>))",
            rf"(?i)(\b(?:host|hostname)\s+)(\"[^\"]{{1,100}}\"|'[^']{{1,100}}'|(?!{PLAIN}(?![\w.-]))(?:[\w.-]|{HOLE}){{1,100}})",
            rf"(?i)(\b(?:from|to|with|at)\s+)((?!{PLAIN}(?![\w.-]))(?:[\w.-]|{HOLE}){{1,100}})(?=\s+port\b|:(?:\d|<NUM>))",
            rf"((?<=@))((?:[A-Za-z0-9-]|{HOLE}){{1,100}})(?![\w.<-])",
            rf"()((?<![\w.@/:-]){CODE}(?:{LABEL}){{1,8}}{SUFFIX}(?![\w(-]|\.\w))",
            rf"()((?<![\w.@/:-]){CODE}(?:{LABEL}){{2,8}}[a-z]{{2}}(?![\w(-]|\.\w))",
            rf"()((?<![\w.@/:-]){CODE}{LABEL}(?!{FILES}\b)[a-z]{{2}}(?![\w(-]|\.\w))",
        ),
    ),
}


def without_names(text: str, kinds: Collection[str]) -> str:
    """Put <USER> and <HOST> in the place of names of these kinds ("user", "host") that stand where names stand.

    A name that stands alone in a sentence, as in `restarted web1`, cannot be told from a word and stays.

    >>> without_names("session opened for user alice by root(uid=0) on host web1", ("user", "host"))
    'session opened for user <USER> by <USER>(uid=0) on host <HOST>'
    """
    for kind in kinds:
        for pattern, replacement in RULES[kind]:
            text = pattern.sub(replacement, text)
    return text
