"""A GPT-2 directory of Hugging Face -> Gpt2Net and tokenizer: a baseline from elsewhere.

    config.json          the architecture, checked to be the one gpt2.py computes
    model.safetensors    weights in float32, float16 or bfloat16; or pytorch_model.bin
    tokenizer.json       byte-level BPE with <|endoftext|>

Tensor names and layouts are Gpt2Net's own, with or without `transformer.` before them. Nothing in
the directory is executed: a .bin file is read with torch's `weights_only`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from export.weight_files import read_bin, read_safetensors
from luminanet.errors import CheckpointError, LuminaNetError, MissingExtraError, TopologyError
from luminanet.gpt2 import Gpt2Config, Gpt2Net
from luminanet.reference import NORM_EPSILON
from luminanet.tokenizer import END_OF_TEXT, Tokenizer

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
SAFETENSORS, BIN = "model.safetensors", "pytorch_model.bin"
MAX_JSON_BYTES = 1 << 26
FOREIGN_LICENSE = "unknown: that of the weights, see where they come from"
ASKED: Mapping[str, tuple[Any, ...]] = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "reorder_and_upcast_attn": (False,),
    "add_cross_attention": (False,),
    "layer_norm_epsilon": (NORM_EPSILON,),
    "quantization_config": (None,),
}
"""What the computation of gpt2.py allows; what config.json leaves out has GPT-2's default, the
first one here."""
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
    raw = _json(directory / CONFIG)
    for name, allowed in ASKED.items():
        found = raw.get(name, allowed[0])
        if found not in allowed:
            wanted = " or ".join(map(repr, allowed))
            raise CheckpointError(
                f"{directory / CONFIG} has {name} {found!r}, and only {wanted} can be frozen: "
                "use a plain GPT-2, such as the four of OpenAI"
            )
    try:
        config = _config(raw)
        net = Gpt2Net(config, _named(_tensors(directory), directory))
    except (LuminaNetError, KeyError, TypeError) as error:
        if isinstance(error, CheckpointError | MissingExtraError):
            raise
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{directory} is no GPT-2 that can be frozen: {reason}") from error
    return LoadedGpt2(net, _tokenizer(directory, config, raw), directory.resolve().name)


def _config(raw: Mapping[str, Any]) -> Gpt2Config:
    sizes = {
        "vocab_size": raw["vocab_size"],
        "context": raw["n_positions"],
        "width": raw["n_embd"],
        "heads": raw["n_head"],
        "layers": raw["n_layer"],
    }
    if any(type(size) is not int for size in sizes.values()):
        raise TypeError(f"sizes must be whole numbers, and {CONFIG} has {sizes}")
    config = Gpt2Config(**sizes)
    if raw.get("n_inner") not in (None, 4 * config.width):
        raise TopologyError(
            f"n_inner is {raw['n_inner']}, and only 4 * n_embd = {4 * config.width} can be frozen"
        )
    if config.width // config.heads % 8:
        raise TopologyError(
            f"its heads are {config.width // config.heads} wide, and onnxruntime's attention takes "
            "multiples of 8"
        )
    return config


def _named(found: Mapping[str, NDArray[np.float32]], directory: Path) -> dict[str, Any]:
    """Without prefix and without the tied output layer."""
    tensors = {name.removeprefix("transformer."): array for name, array in found.items()}
    if len(tensors) != len(found):
        raise CheckpointError(f"{directory} has tensors twice, with and without `transformer.`")
    head = tensors.pop("lm_head.weight", None)
    if head is not None and not np.array_equal(head, tensors.get("wte.weight", ())):
        raise CheckpointError(
            f"{directory} has an output layer (lm_head.weight) that is not its embedding "
            "(wte.weight): only tied ones can be frozen"
        )
    return tensors


def _tensors(directory: Path) -> dict[str, NDArray[np.float32]]:
    if (directory / SAFETENSORS).is_file():
        return read_safetensors(directory / SAFETENSORS)
    if (directory / BIN).is_file():
        return read_bin(directory / BIN)
    raise CheckpointError(
        f"{directory} has neither {SAFETENSORS} nor {BIN} (weights in several files cannot be "
        "read): save the model with save_pretrained(..., max_shard_size='2GB')"
    )


def _tokenizer(directory: Path, config: Gpt2Config, raw: Mapping[str, Any]) -> str:
    """The tokenizer's JSON, without truncation and padding, after it was tried."""
    path = directory / TOKENIZER
    described = _json(path) | {"truncation": None, "padding": None}
    try:
        tokenizer = Tokenizer.from_json(json.dumps(described))
    except LuminaNetError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if tokenizer.vocab_size != config.vocab_size:
        raise CheckpointError(
            f"{path} has {tokenizer.vocab_size} tokens and the network {config.vocab_size}: save "
            "the model after resize_token_embeddings(len(tokenizer))"
        )
    if raw.get("eos_token_id", tokenizer.end_id) not in (None, tokenizer.end_id):
        raise CheckpointError(
            f"{directory / CONFIG} ends texts with token {raw['eos_token_id']}, and {END_OF_TEXT} "
            f"is {tokenizer.end_id}: these are not of one model"
        )
    if tokenizer.decode(tokenizer.encode(PROBE)) != PROBE:
        raise CheckpointError(f"{path} does not give back every text: it is no byte-level BPE")
    return tokenizer.to_json()


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise CheckpointError(f"{path} is larger than {MAX_JSON_BYTES} bytes")
        raw = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} is missing: a GPT-2 directory has {CONFIG}, {SAFETENSORS} and {TOKENIZER}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} is damaged: it holds no object")
    return raw
