"""Tokens of a text -> the classes that each belongs to, by what a model needs to predict it.

Shape legend: K blocks, T positions, U = T + 1 tokens of a block; V vocabulary. The token at
position t of a block is predicted from the t tokens before it.
"""

import json
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luminanet.tokenizer import END_OF_TEXT

Labels = NDArray[np.int64]
DISTANCES = (1, 5, 17, 65, 129)
"""Where the classes by distance begin, in tokens back."""
RANKS = (0, 100, 1000)
"""Where the classes by frequency begin: ranks among the training tokens."""
SPACE, NEWLINE = (
    "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}",
    "\N{LATIN CAPITAL LETTER C WITH DOT ABOVE}",
)
"""How a byte-level vocabulary writes a space and the end of a line."""
KINDS = (
    *("end of a story", "sign", "quotation mark", "first word of a sentence"),
    *("name", "rest of a word", "other word"),
)
ENDS = re.compile(r"[.!?]")


def distances(tokens_KU: NDArray[Any]) -> tuple[Labels, tuple[str, ...]]:
    """Of the last T tokens of each block: how far back the same token stood last, [K, T]."""
    found_KT = np.zeros((tokens_KU.shape[0], tokens_KU.shape[1] - 1), np.int64)
    for block, own in zip(tokens_KU.tolist(), found_KT, strict=True):
        last: dict[int, int] = {}
        for t, token in enumerate(block):
            if t:
                own[t - 1] = t - last[token] if token in last else 0
            last[token] = t
    names = [f"{a} to {b - 1} tokens back" for a, b in pairwise(DISTANCES)]
    labels_KT = np.searchsorted(DISTANCES, found_KT, side="right") - 1
    return labels_KT % (len(DISTANCES) + 1), (*names, f"{DISTANCES[-1]} or more", "not in sight")


def frequencies(tokens: NDArray[Any], counts_V: NDArray[Any]) -> tuple[Labels, tuple[str, ...]]:
    """By rank among the training tokens, the most frequent first."""
    rank_V = np.empty(len(counts_V), np.int64)
    rank_V[np.argsort(-counts_V, kind="stable")] = np.arange(len(counts_V))
    ends = (*RANKS[1:], len(counts_V))
    names = tuple(f"rank {a + 1:,} to {b:,}" for a, b in zip(RANKS, ends, strict=True))
    return np.searchsorted(RANKS, rank_V[tokens], side="right") - 1, names


def kinds(tokens_KU: NDArray[Any], tokenizer: str) -> tuple[Labels, tuple[str, ...]]:
    """Of the last T tokens of each block, by what they are in a sentence, [K, T].

    A name is a capitalised word inside a sentence; words of one letter, such as I, are none.
    """
    named = vocabulary(tokenizer)
    words = [named.get(number, "") for number in range(max(named) + 1)]
    alone_V = np.array([_alone(word) for word in words])
    bare = [word.lstrip(SPACE) for word in words]
    capital_V = np.array([word[:1].isupper() for word in bare])
    long_V = np.array([len(word) > 1 for word in bare])
    begins_V = np.array([_begins(word) for word in words])
    now_KT = tokens_KU[:, 1:]
    labels_KT = alone_V[now_KT]
    word_KT = labels_KT == KINDS.index("other word")
    first_KT = word_KT & begins_V[tokens_KU[:, :-1]]
    labels_KT = np.where(first_KT, KINDS.index("first word of a sentence"), labels_KT)
    name_KT = word_KT & ~first_KT & capital_V[now_KT] & long_V[now_KT]
    return np.where(name_KT, KINDS.index("name"), labels_KT), KINDS


def _alone(word: str) -> int:
    """The class of a token that can be told from itself."""
    bare = word.lstrip(SPACE)
    if word == END_OF_TEXT:
        return KINDS.index("end of a story")
    if not any(c.isalnum() for c in bare.replace(NEWLINE, "")):
        return KINDS.index("quotation mark" if '"' in bare else "sign")
    if not word.startswith(SPACE) and not bare[0].isupper():
        return KINDS.index("rest of a word")
    return KINDS.index("other word")


def _begins(word: str) -> bool:
    """Whether a sentence begins after this token."""
    return word == END_OF_TEXT or NEWLINE in word or '"' in word or bool(ENDS.search(word))


def vocabulary(tokenizer: str) -> Mapping[int, str]:
    """Token id -> its name in a byte-level vocabulary, of a tokenizer as JSON."""
    raw = json.loads(tokenizer)
    named: dict[str, int] = dict(raw["model"]["vocab"])
    named |= {token["content"]: token["id"] for token in raw.get("added_tokens", [])}
    return {number: name for name, number in named.items()}
