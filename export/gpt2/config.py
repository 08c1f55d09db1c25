"""config.json of a GPT-2 of Hugging Face -> Gpt2Config: what it declares is honoured or refused.

What it leaves out has GPT-2's default. Words that do not change the function of a trained network
(dropout, the cache, what it was stored as) are left alone. Source: GPT2Config of `transformers`.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from luminanet.errors import CheckpointError, TopologyError
from luminanet.gpt2 import GELU_TANH, Gpt2Config
from luminanet.reference import NORM_EPSILON
from luminanet.tokenizer import END_OF_TEXT
from luminanet.topology import Activation
from luminanet.untrusted import shown

SIZES = {
    "vocab_size": ("vocab_size",),
    "context": ("n_positions", "max_position_embeddings", "n_ctx"),
    "width": ("n_embd", "hidden_size"),
    "heads": ("n_head", "num_attention_heads"),
    "layers": ("n_layer", "num_hidden_layers"),
}
"""Every name that a size goes by; all that are given must say the same."""
ACTIVATIONS = {
    **dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate"), GELU_TANH),
    **dict.fromkeys(("gelu", "gelu_python"), str(Activation.GELU)),
    **dict.fromkeys(("silu", "swish"), str(Activation.SILU)),
    "relu": str(Activation.RELU),
    "tanh": str(Activation.TANH),
}
STORED = (None, "auto", "float32", "float16", "bfloat16", "float64")
ASKED: Mapping[str, tuple[Any, ...]] = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", *ACTIVATIONS),
    "scale_attn_weights": (True, False),
    "scale_attn_by_inverse_layer_idx": (False, True),
    "reorder_and_upcast_attn": (False, True),
    "tie_word_embeddings": (True, False),
    "add_cross_attention": (False,),
    "is_encoder_decoder": (False,),
    "pruned_heads": (None, {}),
    "quantization_config": (None,),
    "dtype": STORED,
    "torch_dtype": STORED,
}
"""What can be computed; the first is the default. reorder_and_upcast_attn is about halves: in
float32 it is the same function."""


def config_of(raw: Mapping[str, Any], path: Path) -> Gpt2Config:
    """Raises CheckpointError or TopologyError for what cannot be frozen, KeyError for a size that
    is missing, TypeError for one that is no number."""
    for name, allowed in ASKED.items():
        found = raw.get(name, allowed[0])
        if not any(type(found) is type(value) and found == value for value in allowed):
            wanted = " or ".join(dict.fromkeys(map(repr, allowed)))
            raise CheckpointError(
                f"{path} has {name} {shown(found)}, and only {wanted} can be frozen: use a plain "
                "GPT-2, such as the four of OpenAI"
            )
    config = Gpt2Config(
        **{name: _size(raw, names) for name, names in SIZES.items()},
        activation=ACTIVATIONS[raw.get("activation_function", "gelu_new")],
        norm_epsilon=_epsilon(raw),
        inner=_inner(raw),
        tied=raw.get("tie_word_embeddings", True),
    )
    if config.width // config.heads % 8:
        raise TopologyError(
            f"its heads are {config.width // config.heads} wide, and onnxruntime's attention takes "
            "multiples of 8"
        )
    return config


def score_scales(raw: Mapping[str, Any], config: Gpt2Config) -> list[float]:
    """For every layer, the scale of its attention's scores over that of a plain GPT-2."""
    scale = 1.0 if raw.get("scale_attn_weights", True) else math.sqrt(config.width // config.heads)
    by_layer = raw.get("scale_attn_by_inverse_layer_idx", False)
    return [scale / (layer + 1 if by_layer else 1) for layer in range(config.layers)]


def check_end(raw: Mapping[str, Any], end_id: int, path: Path) -> None:
    """Raises CheckpointError unless a text ends with this token, and with no other."""
    said = raw.get("eos_token_id")
    ends = said if isinstance(said, list) else [said]
    if any(end is not None and (type(end) is not int or end != end_id) for end in ends):
        told = " or ".join(map(shown, ends))
        raise CheckpointError(
            f"{path} ends texts with token {told}, and {END_OF_TEXT}, with which a frozen GPT-2 "
            f"ends them, is {end_id}: these are not of one model, or it has several such tokens"
        )


def _size(raw: Mapping[str, Any], names: tuple[str, ...]) -> int:
    given = {name: raw[name] for name in names if raw.get(name) is not None}
    sizes = list(given.values())
    if not given:
        raise KeyError(names[0])
    if any(type(size) is not int for size in sizes):
        raise TypeError(f"sizes must be whole numbers, and config.json has {given}")
    if len(set(sizes)) > 1:
        raise TopologyError(f"config.json says one size in several ways: {given}")
    return int(sizes[0])


def _inner(raw: Mapping[str, Any]) -> int | None:
    found = raw.get("n_inner")
    if found is not None and type(found) is not int:
        raise TypeError(f"n_inner is {shown(found)}, not a whole number")
    return found


def _epsilon(raw: Mapping[str, Any]) -> float:
    found = raw.get("layer_norm_epsilon", NORM_EPSILON)
    if type(found) not in (int, float):
        raise TypeError(f"layer_norm_epsilon is {shown(found)}, not a number")
    return float(found)
