"""Distinct masked messages → templates, by Drain3, in parallel for each token count and exact.

Drain's tree branches on the token count first, so messages of different lengths never meet, and one tree for each token count gives
what a single tree gives (He et al., ICWS 2017; drain3's own tree). Messages are fed in the order of their text and known
templates in the order of their foundation, so that partitions, files and retries cannot change a template.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import xor
from typing import TYPE_CHECKING, Any, NamedTuple

from nightlog.systems.spec import Templates

if TYPE_CHECKING:
    import pandas as pd

WILDCARD = "<*>"
MASK_ALONE = re.compile(r"<[A-Z_*]+>")
VALUE = re.compile(r"\d|<[A-Z_*]+>|[/@\\]")
NAMED = re.compile(r"([A-Za-z_.-]+)[=(\[]")


@dataclass
class Cluster:
    """A template while it is mined."""

    template_id: str
    first_message: str
    ordinal: int
    founded: bool


def template_id(system: str, first_message: str) -> str:
    """Return the template's permanent name: hash of its system and of the message that founded it."""
    return hashlib.sha256(f"{system}\0{first_message}".encode()).hexdigest()[:16]


def catch_all(n_words: int) -> str:
    """Return the text of the template that takes what has none of its own.

    >>> catch_all(2)
    '<*> <*>'
    """
    return " ".join([WILDCARD] * n_words)


def is_catch_all(text: str) -> bool:
    """Return True if a message or a template has no word but wildcards."""
    return text == catch_all(1 + text.count(" "))


class Miner:
    """Drain over the messages of one token count.

    Messages come with typed masks, so a message is compared with a template by its words alone: see `similarity_of_words`. A
    merge that would leave no word at all is refused, and the message founds a template of its own; past `cap` templates, what fits
    none goes to one catch-all of wildcards.
    """

    def __init__(self, system: str, config: Templates):
        from drain3.drain import Drain

        self.system = system
        self.config = config
        self.drain = Drain(depth=config.depth, sim_th=config.similarity, max_children=config.max_children, param_str=WILDCARD)
        self.drain.get_seq_distance = partial(similarity_of_words, named=config.version > 1)
        if config.version > 1:
            self.drain.has_numbers = is_value  # tokens that look like values share a branch of the tree
        # If all words must agree, a message is compared only with the templates that have its words, or a wildcard somewhere.
        self.with_words: defaultdict[tuple[str | None, ...], set[int]] = defaultdict(set)
        self.with_wildcards: set[int] = set()
        if config.similarity == 1.0:
            self.drain.fast_match = partial(self.match, self.drain.fast_match)
        self.clusters: dict[int, Cluster] = {}
        self.numbers: dict[str, int] = {}
        self.values: defaultdict[int, set[str]] = defaultdict(set)

    def learn_values(self, messages: Iterable[str]) -> None:
        """Note which tokens stand in each place of messages that are otherwise the same."""
        for message in messages:
            tokens = message.split()
            for token, context in zip(tokens, self.contexts(tokens), strict=True):
                if len(self.values[context]) < self.config.values:
                    self.values[context].add(token)

    def contexts(self, tokens: Sequence[str]) -> list[int]:
        """Return for each place a hash of what stands around it."""
        return contexts([f"{name_of(t)}{WILDCARD}" if is_value(t) else t for t in tokens] if self.config.version > 1 else tokens)

    def generalize(self, message: str) -> str:
        """The message with wildcards where too many values were seen; as it is, where that would leave no word."""
        tokens = message.split()
        seen = [len(self.values[context]) for context in self.contexts(tokens)]
        general = [WILDCARD if n >= self.config.values else token for token, n in zip(tokens, seen, strict=True)]
        return " ".join(general if any(map(is_word, general)) else tokens)

    def restore(self, cluster: Cluster, widened: str) -> None:
        """Put a known template where its first message put it in the tree."""
        self.widen(self.found(cluster), widened.split())

    def widen(self, node: Any, tokens: Sequence[str]) -> None:
        """Let these be the tokens of a template."""
        node.log_template_tokens = tuple(tokens)
        if WILDCARD in tokens:
            self.with_wildcards.add(node.cluster_id)
        else:
            self.with_words[words_alone(tokens)].add(node.cluster_id)

    def match(self, best: Callable[..., Any], numbers: Iterable[int], tokens: Sequence[str], *how: Any) -> Any:
        """Return the node that fits a message best, as Drain's `fast_match` does, without comparing those that cannot fit.

        Args: best: Drain's own; numbers: nodes to choose from.
        """
        fitting = self.with_wildcards | self.with_words.get(words_alone(tokens), set())
        return best([number for number in numbers if number in fitting], tokens, *how)

    def found(self, cluster: Cluster) -> Any:
        """A new node of Drain's tree for a template."""
        from drain3.drain import LogCluster

        self.drain.clusters_counter += 1
        node = LogCluster(cluster.first_message.split(), self.drain.clusters_counter)
        self.drain.id_to_cluster[node.cluster_id] = node
        self.widen(node, node.log_template_tokens)
        self.drain.add_seq_to_prefix_tree(self.drain.root_node, node)
        self.clusters[node.cluster_id] = cluster
        self.numbers[cluster.template_id] = node.cluster_id
        return node

    def assign(self, message: str) -> int:
        """The cluster of a message, widened or founded for it."""
        message = self.generalize(message)
        tokens = message.split()
        node = self.drain.tree_search(self.drain.root_node, tokens, self.drain.sim_th, False)
        if node is not None:
            merged = self.drain.create_template(tokens, node.log_template_tokens)
            if any(map(is_word, merged)) or list(node.log_template_tokens) == merged:
                self.widen(node, merged)
                return int(node.cluster_id)
        if len(self.clusters) >= self.config.cap:
            message = catch_all(len(tokens))
        name = template_id(self.system, message)
        known = self.numbers.get(name)
        return known or int(self.found(Cluster(name, message, len(self.clusters), True)).cluster_id)

    def text(self, number: int) -> str:
        """A template's text as it is now."""
        return str(self.drain.id_to_cluster[number].get_template())


def contexts(tokens: Sequence[str]) -> list[int]:
    """Return for each place a hash of all the other tokens and their places; linear in the number of tokens."""
    marks = [int.from_bytes(hashlib.blake2b(f"{place} {token}".encode(), digest_size=8).digest()) for place, token in enumerate(tokens)]
    whole = reduce(xor, marks, 0)
    return [hash((whole ^ mark, place)) for place, mark in enumerate(marks)]


def is_word(token: str) -> bool:
    """Return True if a token has a meaning: it is neither a wildcard nor a mask alone.

    >>> is_word("<NUM>"), is_word("size=<NUM>"), is_word("<*>")
    (False, True, False)
    """
    return MASK_ALONE.fullmatch(token) is None


def words_alone(tokens: Sequence[str]) -> tuple[str | None, ...]:
    """Return tokens with None for each that looks like a value.

    >>> words_alone(["read", "<NUM>", "bytes"])
    ('read', None, 'bytes')
    """
    return tuple(None if is_value(token) else token for token in tokens)


def is_value(token: str) -> bool:
    """Return True if a token looks like a value: it has a digit, a mask, a path, or an address in it.

    >>> is_value("<NUM>"), is_value("size=<NUM>"), is_value("closed")
    (True, True, False)
    """
    return VALUE.search(token) is not None


def name_of(token: str) -> str:
    """Return the name of a value: the word before an equals sign or a bracket.

    >>> name_of("rhost=<IP>"), name_of("LOGIN(uid=<NUM>)"), name_of("(uid=<NUM>)"), name_of("<IP>")
    ('rhost', 'LOGIN', '', '')
    """
    found = NAMED.match(token)
    return found[1] if found else ""


def similarity_of_words(
    template: Sequence[str], tokens: Sequence[str], _include_params: bool = False, named: bool = True
) -> tuple[float, int]:
    """Share of the words that agree, and how many wildcards the template has.

    Masks are no words, and where both tokens look like values (a digit, a mask within, a path, an address) a difference is
    no disagreement, unless they are values of different names (`named`).
    """
    wildcards = words = same = differ = 0
    for ours, theirs in zip(template, tokens, strict=True):
        if ours == WILDCARD:
            wildcards += 1
        elif ours == theirs:
            words += is_word(ours)
            same += is_word(ours)
        elif is_value(ours) and is_value(theirs) and (not named or name_of(ours) == name_of(theirs)):
            differ += 1
        else:
            words += 1
    if wildcards == len(template):  # the catch-all: messages come to it by the cap alone
        return 0.0, wildcards
    return (same / words if words else float(not differ)), wildcards


class MessageGroup(NamedTuple):
    """Messages of one token count that are mined together.

    `new` (message_id, message): distinct and never seen before; `known` (template_id, widened, first_message, ordinal): the templates of
    this token count so far.
    """

    n_tokens: int
    new: pd.DataFrame
    known: pd.DataFrame


def mine_group(group: MessageGroup, system: str, config: Templates) -> pd.DataFrame:
    """Give each new message its template.

    Returns: one row per message: message_id, message, template_id, widened, first_message, token_count, ordinal, founded; `widened` is the
    template's text after all of them.
    """
    import pandas as pd

    miner = Miner(system, config)
    for row in group.known.sort_values("ordinal").itertuples():
        miner.restore(Cluster(row.template_id, row.first_message, row.ordinal, False), row.widened)
    ordered = group.new.sort_values("message")
    miner.learn_values([*group.known["first_message"], *ordered["message"]])
    numbers = [miner.assign(message) for message in ordered["message"]]
    clusters = [miner.clusters[number] for number in numbers]
    return pd.DataFrame(
        {
            "message_id": ordered["message_id"].to_numpy(),
            "message": ordered["message"].to_numpy(),
            "template_id": [cluster.template_id for cluster in clusters],
            "widened": [miner.text(number) for number in numbers],
            "first_message": [cluster.first_message for cluster in clusters],
            "token_count": group.n_tokens,
            "ordinal": [cluster.ordinal for cluster in clusters],
            "founded": [cluster.founded for cluster in clusters],
        }
    )
