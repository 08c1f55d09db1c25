"""A GPT-2 directory of Hugging Face -> Gpt2Net and tokenizer: a baseline from elsewhere.

    config.json          the architecture (config.py): honoured, or refused by name
    model.safetensors    weights, stored as float32, float16, bfloat16 or float64; or
                         pytorch_model.bin; or several of one kind with an index (weight_files.py)
    tokenizer.json       byte-level BPE with <|endoftext|>; or vocab.json and merges.txt

Tensor names and layouts are Gpt2Net's own, with or without `transformer.` before them. Nothing in
the directory is executed: a .bin file is read with torch's `weights_only`.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from export.gpt2.config import check_end, config_of, score_scales
from export.gpt2.json_files import read_json, read_text
from export.gpt2.weight_files import Weights, read_weights, weight_files
from luminanet.errors import CheckpointError, LuminaNetError, MissingExtraError
from luminanet.gpt2 import Gpt2Config, Gpt2Net
from luminanet.tokenizer import Tokenizer
from luminanet.untrusted import line

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
VOCABULARY, MERGES, TOKENIZER_CONFIG = "vocab.json", "merges.txt", "tokenizer_config.json"
GENERATION = "generation_config.json"
HEAD, EMBEDDING = "lm_head.weight", "wte.weight"
FOREIGN_LICENSE = "unknown: that of the weights, see where they come from"
PROBE = (
    "Once upon a time,  there was\n\tan \N{LATIN SMALL LETTER E WITH ACUTE}\N{SNOWMAN}? 'Yes' 12"
)


class LoadedGpt2(NamedTuple):
    """A network, its tokenizer's JSON, and the name of the directory."""

    net: Gpt2Net
    tokenizer: str
    name: str


def load_gpt2(directory: Path) -> LoadedGpt2:
    """Raises CheckpointError when the directory holds anything else than such a GPT-2."""
    raw = read_json(directory / CONFIG)
    try:
        config = config_of(raw, directory / CONFIG)
        tensors = _named(read_weights(directory), directory)
        net = Gpt2Net(*_scaled(raw, *_with_output(config, tensors, directory)))
    except (LuminaNetError, KeyError, TypeError) as error:
        if isinstance(error, CheckpointError | MissingExtraError):
            raise
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{directory} is no GPT-2 that can be frozen: {reason}") from error
    tokenizer = _tokenizer(directory, config)
    for path in (directory / CONFIG, directory / GENERATION):
        check_end(read_json(path) if path.is_file() else {}, tokenizer.end_id, path)
    return LoadedGpt2(net, tokenizer.to_json(), line(directory.resolve().name) or "gpt2")


def files_of(directory: Path) -> list[Path]:
    """What `load_gpt2` reads of a directory."""
    whole = directory / TOKENIZER
    words = [whole] if whole.is_file() else [directory / VOCABULARY, directory / MERGES]
    return [directory / CONFIG, *words, *weight_files(directory)]


def _named(found: Weights, directory: Path) -> dict[str, Any]:
    tensors = {name.removeprefix("transformer."): array for name, array in found.items()}
    if len(tensors) != len(found):
        raise CheckpointError(f"{directory} has tensors twice, with and without `transformer.`")
    return tensors


def _with_output(
    config: Gpt2Config, tensors: dict[str, Any], directory: Path
) -> tuple[Gpt2Config, dict[str, Any]]:
    """An output layer that is the embedding again is left out."""
    head = tensors.get(HEAD)
    if head is None and not config.tied:
        raise CheckpointError(
            f"{directory / CONFIG} says tie_word_embeddings false and there is no {HEAD} in the "
            "weights: save the model with its output layer"
        )
    is_again = head is not None and np.array_equal(head, tensors.get(EMBEDDING, ()), equal_nan=True)
    if head is not None and config.tied and not is_again:
        raise CheckpointError(
            f"{directory} has an output layer ({HEAD}) that is not its embedding ({EMBEDDING}), "
            f"and {CONFIG} says that the two are tied: set tie_word_embeddings to false there, or "
            f"leave {HEAD} out"
        )
    if not is_again:
        return config, tensors
    return replace(config, tied=True), {n: a for n, a in tensors.items() if n != HEAD}


def _scaled(
    raw: Mapping[str, Any], config: Gpt2Config, tensors: dict[str, Any]
) -> tuple[Gpt2Config, dict[str, Any]]:
    """Scores of attention that are scaled otherwise: by other queries."""
    changed = {}
    for layer, scale in enumerate(score_scales(raw, config)):
        for kind in ("weight", "bias") if scale != 1 else ():
            name = f"h.{layer}.attn.c_attn.{kind}"
            array = np.array(tensors[name])
            array[..., : config.width] *= np.float32(scale)
            changed[name] = array
    return config, tensors | changed


def _tokenizer(directory: Path, config: Gpt2Config) -> Tokenizer:
    """Without truncation and padding, and tried."""
    path = directory / TOKENIZER
    try:
        if not path.is_file() and (directory / VOCABULARY).is_file():
            path = directory / VOCABULARY
            tokenizer = _parted(directory)
        else:
            described = read_json(path) | {"truncation": None, "padding": None}
            tokenizer = Tokenizer.from_json(json.dumps(described))
    except LuminaNetError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: {error}") from error
    if tokenizer.vocab_size != config.vocab_size:
        raise CheckpointError(
            f"{path} has {tokenizer.vocab_size} tokens and the network {config.vocab_size}: save "
            "the model after resize_token_embeddings(len(tokenizer))"
        )
    if tokenizer.decode(tokenizer.encode(PROBE)) != PROBE:
        raise CheckpointError(f"{path} does not give back every text: it is no byte-level BPE")
    return tokenizer


def _parted(directory: Path) -> Tokenizer:
    """Of the two files that the first GPT-2s came with."""
    path = directory / TOKENIZER_CONFIG
    said = read_json(path) if path.is_file() else {}
    for name in ("add_prefix_space", "add_bos_token"):
        if said.get(name):
            raise CheckpointError(
                f"{path} has {name} {said[name]!r}, and only a plain byte-level BPE can be frozen: "
                f"save the tokenizer again as {TOKENIZER}"
            )
    vocabulary = read_json(directory / VOCABULARY)
    extra = directory / "added_tokens.json"
    added = read_json(extra) if extra.is_file() else {}
    if any(vocabulary.get(token) != number for token, number in added.items()):
        raise CheckpointError(f"{extra} adds tokens: save the tokenizer again as {TOKENIZER}")
    return Tokenizer.from_parts(vocabulary, read_text(directory / MERGES))
