"""Redaction: secrets, addresses and invisible characters are removed before a text leaves."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Collection
from functools import lru_cache
from itertools import pairwise

MAX_TEMPLATE = 2000  # characters of a template that leave; longer ones are dumps, and their beginning says what they are
MAX_READ = 20 * MAX_TEMPLATE
ROUNDS = 5

HOLE = r"<(?:\*|NUM|HEX)>"
MASK = r"<(?:\*|[A-Z][A-Z0-9_]*)>"
# A bare value ends at a blank or quote, and at punctuation where something else begins.
BARE = r"(?:" + MASK + r"|(?![,;&)\]}](?:\s|$|[,;.)\]}\"']|[\w.-]+[=:]))[^\s\"'\\])+"
VALUE = rf"(?:\\?\"[^\"]+\"|\\?'[^']+'|\\?[\"']?{BARE})"
SEPARATOR = r"[\w.-]{0,40}?\\?[\"']?\s{0,3}(?:=>|:=|[:=])\s{0,3}"
STRONG = (
    r"(?:pass(?:word|wd|phrase|code)|pwd|secret|credentials?"
    r"|api[_-]?key|access[_-]?key|private[_-]?key|account[_-]?key|shared[_-]?key)"
)
WEAK = r"(?:token|\bauth|authorization|signature|\bsig)"
NOTHING = re.compile(r"(?i)(?:null|none|nil|true|false|yes|no|empty|unset|undefined|redacted|hidden|\*+|x{3,}|\[\w+\]|\.+)?")
SYSTEMD = r"(?:service|socket|timer|mount|automount|target|scope|slice|swap|path|device)\b"
GROUP = r"(?:[0-9A-Fa-f]|" + HOLE + r"){0,8}"

Rule = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]


def has_secret(value: str) -> bool:
    """Is there more in a value than masks, punctuation and words for nothing?

    >>> has_secret("hunter2"), has_secret("<*>"), has_secret('"null"')
    (True, False, False)
    """
    bare = re.sub(MASK, "", value).strip("\\\"'`,;.:()[]{}<>")
    return NOTHING.fullmatch(bare) is None


def looks_random(value: str) -> bool:
    """Does a value look made up by a machine: digits or masks among letters, or very long?

    >>> looks_random("expired"), looks_random("a8f3c2"), looks_random("abc<NUM>def")
    (False, True, True)
    """
    literal = re.sub(HOLE, "0", value)
    return (any(c.isdigit() for c in literal) and any(c.isalpha() for c in literal)) or len(literal) >= 24


def looks_secret(run: str) -> bool:
    """Is a run of letters, digits and masks a key or hash rather than a name? Masks count as the digits that they hide.

    Hexadecimal of 128 bits or more; base64 by how often upper case, lower case and digits take turns.
    """
    literal = re.sub(HOLE, "0", run)
    size = len(literal) + 1.5 * (len(re.findall(HOLE, run)))
    solid = re.sub(r"[^A-Za-z0-9]", "", literal)
    if size < 24 or not any(c.isdigit() for c in solid) or not any(c.isalpha() for c in solid):
        return False
    if re.fullmatch(r"(?:0x)?[0-9a-fA-F]+", literal):
        return size >= 32
    if (len(literal.rstrip("=")) - len(solid)) / len(literal) > 0.15:
        return False
    kinds = ["d" if c.isdigit() else "u" if c.isupper() else "l" for c in solid]
    turns = sum(a != b for a, b in pairwise(kinds)) / max(1, len(kinds) - 1)
    if {"u", "l"} <= set(kinds):
        return turns >= 0.4
    return size >= 32 and len(literal.rstrip("=")) == len(solid) and turns >= 0.25


def value_out(match: re.Match[str]) -> str:
    """The value after a key, unless it says nothing."""
    return match[1] + "<SECRET>" if has_secret(match[2]) else match[0]


def random_value_out(match: re.Match[str]) -> str:
    """The value after a word that is also used in plain sentences: only if a machine made it up."""
    return match[1] + "<SECRET>" if has_secret(match[2]) and looks_random(match[2]) else match[0]


def scheme_out(match: re.Match[str]) -> str:
    """What follows the name of an authentication scheme, unless it is a plain word."""
    mixed = re.search(r"[a-z][A-Z]", match[2]) is not None
    return match[1] + "<TOKEN>" if looks_random(match[2]) or mixed else match[0]


def run_out(match: re.Match[str]) -> str:
    """A run of letters and digits that looks like a key."""
    return "<SECRET>" if looks_secret(match[0]) else match[0]


def ipv6_out(match: re.Match[str]) -> str:
    """Masked groups are tried as if they held a 1; what is nothing but masks, or has no digit, stays (`std::bad`)."""
    address, colon = (match[0][:-1], ":") if match[0].endswith(":") and not match[0].endswith("::") else (match[0], "")
    tried = re.sub(r"0*([0-9a-fA-F]{1,4})[0-9a-fA-F]*", r"\1", re.sub(HOLE, "1", address))
    literal = re.sub(HOLE, "", address).replace(":", "")
    if not literal or not any(c.isdigit() for c in tried):
        return match[0]
    try:
        ipaddress.IPv6Address(tried)
    except ValueError:
        return match[0]
    return "<IP>" + colon


TOKEN = rf"(?:[\w~+/=-]|{HOLE})"
PREFIXED = (
    rf"(?:AKIA|ASIA|AROA)(?:[A-Z0-9]|{HOLE}){{8,}}|gh[pousr]_{TOKEN}{{8,}}|github_pat_{TOKEN}{{8,}}|glpat(?:-|{HOLE}){TOKEN}{{8,}}"
    rf"|xox[abeoprs](?:-|{HOLE}){TOKEN}{{6,}}|xapp-{TOKEN}{{6,}}|[sr]k[-_]{TOKEN}{{12,}}|pk_live_{TOKEN}{{8,}}|AIza{TOKEN}{{16,}}|ya<NUM>\.{TOKEN}{{8,}}"
    rf"|ya29\.{TOKEN}{{8,}}|npm_{TOKEN}{{12,}}|pypi-{TOKEN}{{12,}}|dop_v(?:1|<NUM>)_{TOKEN}{{8,}}|hv[sbr]\.{TOKEN}{{8,}}"
    rf"|SG\.{TOKEN}{{8,}}\.{TOKEN}{{8,}}|hf_{TOKEN}{{12,}}|(?<=hooks\.slack\.com/services/)\S+"
)
RULES: tuple[Rule, ...] = (
    (
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)", re.S
        ),
        "<PRIVATE_KEY>",
    ),
    (re.compile(r"(?i)(\b(?:set-)?cookie\\?[\"']?\s?[:=]\s?)([^\s<][^\"'\n]*)"), value_out),
    (re.compile(rf"\beyJ{TOKEN}{{4,}}(?:\.{TOKEN}*){{1,4}}"), "<JWT>"),
    (re.compile(rf"(?<=://)(?:{MASK}|[^\s/?#<>\"'])+@"), "<CREDENTIALS>@"),
    (re.compile(rf"(?<=://)[^\s/?#:@<>\"']{{0,100}}:(?:{MASK}|[^\s/<>\"']){{1,200}}@"), "<CREDENTIALS>@"),
    (
        re.compile(
            rf"(?i)(\bauthorization\\?[\"']?\s?[:=]\s?\\?[\"']?(?:bearer|basic|digest|token|negotiate|ntlm|apikey|aws4-hmac-sha<NUM>)\s+)({BARE})"
        ),
        value_out,
    ),
    (re.compile(rf"(?i)(\b(?:bearer|basic|negotiate|ntlm)\s+)((?:[\w.~+/=-]|{HOLE}){{8,}})"), scheme_out),
    (re.compile(rf"(?i)(\btoken\s+)((?:[\w.~+/=-]|{HOLE}){{8,}})"), random_value_out),
    (re.compile(rf"(?i)({STRONG}{SEPARATOR})({VALUE})"), value_out),
    (re.compile(rf"(?i)({WEAK}[\w.-]{{0,40}}?\\?[\"']?\s?=\s?)({VALUE})"), value_out),
    (re.compile(rf"(?i)({WEAK}{SEPARATOR})(?![a-z_]+=[^=\s])({VALUE})"), random_value_out),
    (re.compile(rf"(?i)((?<![\w-])--(?:[\w-]{{0,40}}?(?:password|passwd|passphrase|secret|token|api-?key))\s+)((?!-){BARE})"), value_out),
    (re.compile(r"(?i)(\b(?:password|passphrase|identified by)\s+(?:is\s+|was\s+|to\s+|of\s+)?)(\"[^\"]+\"|'[^']+')"), value_out),
    (re.compile(rf"(?i)(\b(?:password|passphrase|secret)\s+(?:is|was)\s+)({BARE})"), random_value_out),
    (re.compile(rf"(?<![A-Za-z0-9])(?:{PREFIXED})"), "<TOKEN>"),
    (re.compile(rf"(?:[\w.+%-]|{HOLE}){{1,64}}@(?:(?:[\w-]|{HOLE})+\.)+(?!{SYSTEMD})[^\W\d_]{{2,24}}(?![\w-])"), "<EMAIL>"),
    (re.compile(r"(?<![\w:-])(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}(?![\w:-])"), "<MAC>"),
    (re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?!\.?\d)"), "<IP>"),
    (re.compile(r"\bip-\d{1,3}(?:-\d{1,3}){3}\b"), "<IP>"),
    (re.compile(rf"(?<![\w:.])(?:{GROUP}:){{2,8}}{GROUP}(?!\w)"), ipv6_out),
    (re.compile(rf"(?:[A-Za-z0-9+/_=-]|{HOLE}){{16,}}"), run_out),
)


def redact(text: str) -> str:
    """Put typed placeholders in the place of what must not leave; what is already a mask stays.

    Pure and idempotent: the rules are applied until nothing changes.

    >>> redact("login of bob@example.com from <IP> with password=hunter2")
    'login of <EMAIL> from <IP> with password=<SECRET>'
    """
    for _ in range(ROUNDS):
        before = text
        for pattern, replacement in RULES:
            text = pattern.sub(replacement, text)
        if text == before:
            break
    return text


def visible(text: str) -> str:
    """Text without control, bidirectional, zero-width and other invisible characters; line ends become blanks."""
    kept = []
    for c in text:
        category = unicodedata.category(c)
        if category in ("Cc", "Zl", "Zp"):
            kept.append(" ")
        elif category not in ("Cf", "Cs", "Co", "Cn") and not ("\ufe00" <= c <= "\ufe0f" or "\U000e0100" <= c <= "\U000e01ef"):
            kept.append(c)
    return "".join(kept)


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
NAME_SEPARATOR = r"\\?[\"']?\s?[:=]\s?"
# Names of files and of code end like countries do; among them only what has three labels or more counts as a host.
SUFFIX = (
    r"(?:com|net|org|edu|gov|mil|int|info|biz|io|dev|app|cloud|local|internal|intranet|lan|corp|home|localdomain|arpa|example|test|invalid)"
)
FILES = r"(?:py|rs|js|sh|so|gz|cc|md|pl|go|ts|db|xz|ko|hs|kt|ml|mm|ps|rb|cs|vb|tf|in|la|ps)"
CODE = r"(?!(?:com|org|net|io|edu|gov|java|javax|kotlin|scala|sun|jdk|dev|app)\.)"
LABEL = rf"(?:[a-z0-9_-]|{HOLE}){{1,63}}\."


def name_rules(kind: str, patterns: Collection[str]) -> tuple[Rule, ...]:
    """A rule for each pattern: its first group stays, its second becomes `kind`, unless it says nothing or is a mask already."""

    def name_out(match: re.Match[str]) -> str:
        bare = re.sub(MASK, "", match[2]).strip("\\\"'<>.,;:()[]{}")
        says_nothing = NOTHING.fullmatch(bare) is not None or not any(c.isalpha() for c in bare) or bare == "unknown"
        return match[0] if says_nothing else match[1] + kind

    return tuple((re.compile(pattern), name_out) for pattern in patterns)


NAME_RULES: dict[str, tuple[Rule, ...]] = {
    "user": name_rules(
        "<USER>",
        (
            rf"(?i)((?<![a-z]){USER_KEY}{NAME_SEPARATOR})((?![\w-]+\s?[:=]){NAME})",
            rf"(?i)(\b(?:users?|username|login|account|role|identity|principal)\s+)(\"[^\"]{{1,100}}\"|'[^']{{1,100}}'|<(?!(?-i:\*|[A-Z][A-Z0-9_]*)>){CHARACTER}{{1,64}}>)",
            rf"(?i)(\b(?:user|username)\s+)({WORD})",
            rf"(?i)(\b(?:password|publickey|keyboard-interactive(?:/pam)?|gssapi[\w-]*|hostbased|none)\s+for\s+(?:(?:invalid|illegal)\s+user\s+)?)({WORD})",
            rf"()((?<![\w.$+-]){CHARACTER}{{1,64}})(?=\((?:e?uid|gid)=)",
            rf"((?:/home|/Users|\\Users\\?)[/\\])((?:[\w.-]|{HOLE}){{1,100}})",
            rf"()(\b[A-Z][A-Z0-9-]+\\(?:[\w.$-]|{HOLE}){{1,100}})",
            rf"()((?<![\w.+%-])(?:[\w.+-]|{HOLE}){{1,64}})(?=@(?:\w|<HOST>)(?!(?:[\w-]|{HOLE}){{0,64}}\.{SYSTEMD}))",
        ),
    ),
    "host": name_rules(
        "<HOST>",
        (
            rf"((?<=://)(?:<CREDENTIALS>@)?)((?:[A-Za-z0-9._-]|{HOLE}){{1,100}})",
            rf"(?i)((?<![a-z]){HOST_KEY}{NAME_SEPARATOR})((?:[\w.-]|{HOLE}){{1,100}}|\"[^\"]{{1,100}}\")",
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


def remove_names(text: str, kinds: Collection[str]) -> str:
    """Put <USER> and <HOST> in the place of names of these kinds ("user", "host") that stand where names stand.

    A name that stands alone in a sentence, as in `restarted web1`, cannot be told from a word and stays.

    >>> remove_names("session opened for user alice by root(uid=0) on host web1", ("user", "host"))
    'session opened for user <USER> by <USER>(uid=0) on host <HOST>'
    """
    for kind in kinds:
        for pattern, replacement in NAME_RULES[kind]:
            text = pattern.sub(replacement, text)
    return text


@lru_cache(maxsize=100_000)
def outgoing_template(template: str, names: Collection[str] = ()) -> str:
    """A template as it may leave: visible, redacted, at most MAX_TEMPLATE characters.

    Args: names, the kinds of names that the system's policy takes out besides, hashable.
    """
    return remove_names(redact(visible(template[:MAX_READ])), names)[:MAX_TEMPLATE]


def outgoing_text(text: str, names: Collection[str] = ()) -> str:
    """A text of several lines as it may leave: each line visible and redacted."""
    return "\n".join(remove_names(redact(visible(line)), names) for line in text.splitlines())
