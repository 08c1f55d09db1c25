import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tokenizers import Tokenizer as Inner
from tokenizers import decoders, models, pre_tokenizers

from export.assembly.describe import Label, pack
from export.checks.verify import verify
from export.gpt2.cached import unroll_gpt2
from export.gpt2.huggingface import files_of, load_gpt2
from export.gpt2.standard_ops import unroll_plain_gpt2
from luminanet.errors import CheckpointError, MissingExtraError
from luminanet.gpt2 import Gpt2Net, forward
from luminanet.tokenizer import END_OF_TEXT, Tokenizer
from tests.nets import SENTENCES, frozen, random_gpt2, tiny_tokenizer
from training.checkpoint import Checkpoint, load, save

save_file = pytest.importorskip("safetensors.numpy", reason="needs luminanet[export]").save_file
TOKENIZER = tiny_tokenizer()
NET = random_gpt2(3, replace(random_gpt2(0).config, vocab_size=TOKENIZER.vocab_size))
Tensors = Mapping[str, NDArray[Any]]


def prefixed(tensors: Tensors = NET.tensors) -> dict[str, NDArray[Any]]:
    return {f"transformer.{name}": np.array(array) for name, array in tensors.items()}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """NET as `save_pretrained` writes it."""
    folder, config = tmp_path / "small-gpt2", NET.config
    folder.mkdir()
    described = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-05,
        "n_inner": None,
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "reorder_and_upcast_attn": False,
        "eos_token_id": TOKENIZER.end_id,
        "vocab_size": config.vocab_size,
        "n_positions": config.context,
        "n_embd": config.width,
        "n_head": config.heads,
        "n_layer": config.layers,
    }
    (folder / "config.json").write_text(json.dumps(described))
    (folder / "tokenizer.json").write_text(TOKENIZER.to_json())
    save_file(prefixed(), folder / "model.safetensors")
    return folder


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def assert_same(found: Gpt2Net, expected: Tensors) -> None:
    assert found.config == NET.config
    assert set(found.tensors) == set(expected)
    for name, array in expected.items():
        assert np.array_equal(found.tensors[name], array.astype(np.float32)), name


def test_a_directory_becomes_the_network_it_was_made_from(directory: Path) -> None:
    net, tokenizer, name = load_gpt2(directory)
    assert_same(net, NET.tensors)
    assert name == "small-gpt2"
    assert Tokenizer.from_json(tokenizer).encode("a big dog") == TOKENIZER.encode("a big dog")


def test_it_freezes_like_a_checkpoint(directory: Path) -> None:
    net, tokenizer, name = load_gpt2(directory)
    assert verify(unroll_gpt2(net), net).difference < 1e-5
    packed = pack(net, frozen(net), Label(name, tokenizer))
    assert packed.manifest.vocab_size == TOKENIZER.vocab_size


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_halved_weights_are_read_exactly(directory: Path, dtype: Any) -> None:
    halved = {name: array.astype(dtype) for name, array in NET.tensors.items()}
    stored = {name: torch.from_numpy(array.astype(np.float32)) for name, array in halved.items()}
    kind = torch.float16 if dtype is np.float16 else torch.bfloat16
    from safetensors.torch import save_file as save_torch

    save_torch({n: t.to(kind) for n, t in stored.items()}, directory / "model.safetensors")
    assert_same(load_gpt2(directory).net, halved)


def test_old_files_carry_masks_and_the_tied_output_layer(directory: Path) -> None:
    mask = np.tri(NET.config.context, dtype=np.bool_)[None, None]
    tensors = prefixed() | {
        "transformer.h.0.attn.bias": mask,
        "transformer.h.0.attn.masked_bias": np.array(-1e4, np.float32),
        "lm_head.weight": np.array(NET.tensors["wte.weight"]),
    }
    save_file(tensors, directory / "model.safetensors")
    assert_same(load_gpt2(directory).net, NET.tensors)


def test_a_bin_file_is_read(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    stored = {
        name: torch.from_numpy(array).to(torch.bfloat16) for name, array in prefixed().items()
    }
    torch.save(stored, directory / "pytorch_model.bin")
    halved = {name: array.astype(ml_dtypes.bfloat16) for name, array in NET.tensors.items()}
    assert_same(load_gpt2(directory).net, halved)


def test_a_bin_file_that_would_run_code_is_refused(directory: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    (directory / "model.safetensors").unlink()
    torch.save({"wte.weight": Evil()}, directory / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="more than tensors"):
        load_gpt2(directory)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "llama"}, "model_type 'llama', and only 'gpt2'"),
        ({"activation_function": "mish"}, "activation_function 'mish'"),
        ({"activation_function": ["relu"]}, "activation_function list"),
        ({"scale_attn_weights": "no"}, "scale_attn_weights"),
        ({"scale_attn_weights": 1}, "scale_attn_weights 1, and only True or False"),
        ({"scale_attn_by_inverse_layer_idx": None}, "scale_attn_by_inverse_layer_idx"),
        ({"reorder_and_upcast_attn": "yes"}, "reorder_and_upcast_attn"),
        ({"add_cross_attention": True}, "add_cross_attention"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads"),
        ({"dtype": "int8"}, "has dtype 'int8'"),
        ({"torch_dtype": "float8_e4m3fn"}, "torch_dtype 'float8_e4m3fn'"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings 'false'"),
        ({"tie_word_embeddings": False}, r"false and there is no lm_head\.weight"),
        ({"layer_norm_epsilon": 0}, "norm_epsilon is 0"),
        ({"layer_norm_epsilon": float("nan")}, "norm_epsilon is nan"),
        ({"layer_norm_epsilon": "1e-5"}, "layer_norm_epsilon is '1e-5', not a number"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"n_inner": 64}, r"c_fc\.weight is .*\[32, 128\], expected float32\[32, 64\]"),
        ({"n_inner": 0}, "0 wide"),
        ({"n_inner": 128.0}, "n_inner is 128.0, not a whole number"),
        ({"n_ctx": 8}, "one size in several ways"),
        ({"hidden_size": 64}, "one size in several ways"),
        ({"n_layer": 3}, r"h\.2\."),
        ({"n_positions": 8}, r"wpe\.weight"),
        ({"n_embd": 64}, "expected float32"),
        ({"n_head": 5}, "multiple of heads"),
        ({"n_head": 8}, "heads are 4 wide"),
        ({"n_layer": "2"}, "whole numbers"),
        ({"n_head": 0}, "at least 1"),
        ({"eos_token_id": 7}, "ends texts with token 7"),
        ({"eos_token_id": [TOKENIZER.end_id, 7]}, "ends texts with token 0 or 7"),
        ({"eos_token_id": [7]}, "ends texts with token 7"),
        ({"eos_token_id": "0"}, "ends texts with token '0'"),
        ({"eos_token_id": False}, "ends texts with token False"),
        ({"vocab_size": 290}, r"wte\.weight"),
    ],
)
def test_another_architecture_is_refused(
    directory: Path, values: dict[str, Any], message: str
) -> None:
    change(directory / "config.json", **values)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_gpt2(directory)
    assert str(directory) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_config_that_lacks_a_size_is_refused(directory: Path) -> None:
    path = directory / "config.json"
    raw = json.loads(path.read_text())
    del raw["n_embd"]
    path.write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match="'n_embd'"):
        load_gpt2(directory)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("data", [None, b"", b"[]", b"\xff" * 64])
def test_missing_and_damaged_files_are_named(
    directory: Path, name: str, data: bytes | None
) -> None:
    (directory / name).unlink()
    if data is not None:
        (directory / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_gpt2(directory)


def test_truncated_weights_are_refused(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match=r"safetensors is damaged"):
        load_gpt2(directory)


def test_weights_in_another_layout_are_refused(directory: Path) -> None:
    tensors = prefixed()
    name = "transformer.h.0.mlp.c_fc.weight"
    tensors[name] = np.ascontiguousarray(tensors[name].T)
    save_file(tensors, directory / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"c_fc\.weight is float32\[128, 32\], expected"):
        load_gpt2(directory)


def test_weights_of_another_type_are_refused(directory: Path) -> None:
    tensors = prefixed() | {"transformer.ln_f.bias": np.zeros(32, np.int8)}
    save_file(tensors, directory / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"ln_f\.bias .* is stored as I8"):
        load_gpt2(directory)


def test_tensors_given_twice_are_refused(directory: Path) -> None:
    twice = prefixed() | {"ln_f.bias": np.zeros(32, np.float32)}
    save_file(twice, directory / "model.safetensors")
    with pytest.raises(CheckpointError, match="twice"):
        load_gpt2(directory)


def test_truncation_and_padding_of_a_tokenizer_do_not_reach_the_network(directory: Path) -> None:
    inner = Inner.from_str(TOKENIZER.to_json())
    inner.enable_truncation(2)
    inner.enable_padding(length=9)
    (directory / "tokenizer.json").write_text(inner.to_str())
    loaded = Tokenizer.from_json(load_gpt2(directory).tokenizer)
    assert loaded.encode("a big dog") == TOKENIZER.encode("a big dog")


def test_a_tokenizer_that_loses_text_is_refused(directory: Path) -> None:
    inner = Inner(models.BPE({END_OF_TEXT: 0, "a": 1, "b": 2}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    (directory / "tokenizer.json").write_text(inner.to_str())
    small = random_gpt2(0, replace(NET.config, vocab_size=3))
    save_file(prefixed(small.tensors), directory / "model.safetensors")
    change(directory / "config.json", vocab_size=3)
    with pytest.raises(CheckpointError, match="does not give back every text"):
        load_gpt2(directory)


def test_a_tokenizer_of_another_size_is_refused(directory: Path) -> None:
    wider = random_gpt2(0, replace(NET.config, vocab_size=NET.config.vocab_size + 47))
    save_file(prefixed(wider.tensors), directory / "model.safetensors")
    change(directory / "config.json", vocab_size=wider.config.vocab_size)
    with pytest.raises(CheckpointError, match="resize_token_embeddings"):
        load_gpt2(directory)


def test_a_missing_safetensors_names_its_extra(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingExtraError, match=r"luminanet\[export\]"):
        load_gpt2(directory)


ACTIVATIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
}


def by_torch(said: Mapping[str, Any], tensors: Tensors, tokens: NDArray[Any]) -> NDArray[Any]:
    """What a directory means, written down apart from this project's own code; float64 [B, T, V].

    It gave the logits of `transformers` 5.24 to 1e-14 for every case of this file.
    """
    w = {name: torch.from_numpy(array).double() for name, array in tensors.items()}
    heads, layers = said["n_head"], said["n_layer"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        scale, bias = w[f"{name}.weight"], w[f"{name}.bias"]
        return F.layer_norm(x, scale.shape, scale, bias, said["layer_norm_epsilon"])

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    x = w["wte.weight"][tokens] + w["wpe.weight"][: tokens.shape[1]]
    for n in range(layers):
        qkv = linear(norm(x, f"h.{n}.ln_1"), f"h.{n}.attn.c_attn").chunk(3, -1)
        shape = (*tokens.shape, heads, -1)
        q, k, v = (part.reshape(shape).transpose(1, 2) for part in qkv)
        scale = q.shape[-1] ** -0.5 if said["scale_attn_weights"] else 1.0
        scale /= n + 1 if said["scale_attn_by_inverse_layer_idx"] else 1
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
        x = x + linear(mixed.transpose(1, 2).flatten(2), f"h.{n}.attn.c_proj")
        inner = ACTIVATIONS[said["activation_function"]](
            linear(norm(x, f"h.{n}.ln_2"), f"h.{n}.mlp.c_fc")
        )
        x = x + linear(inner, f"h.{n}.mlp.c_proj")
    output = w["wte.weight"] if said.get("tie_word_embeddings", True) else w["lm_head.weight"]
    return np.asarray(norm(x, "ln_f") @ output.T)


DECLARED: list[dict[str, Any]] = [
    *({"activation_function": name} for name in ACTIVATIONS),
    {"layer_norm_epsilon": 1e-6},
    {"layer_norm_epsilon": 0.1},
    {"n_inner": 40},
    {"tie_word_embeddings": False},
    {"scale_attn_weights": False},
    {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True},
    {
        "activation_function": "relu",
        "layer_norm_epsilon": 1e-3,
        "n_inner": 24,
        "tie_word_embeddings": False,
        "scale_attn_weights": False,
        "scale_attn_by_inverse_layer_idx": True,
    },
]


def declare(directory: Path, said: Mapping[str, Any]) -> tuple[dict[str, Any], Tensors]:
    """Makes the directory one of a network that is declared so; returns all of config.json, and
    the tensors."""
    inner, tied = said.get("n_inner"), said.get("tie_word_embeddings", True)
    net = random_gpt2(5, replace(NET.config, inner=inner, tied=tied))
    head = {n: np.array(a) for n, a in net.tensors.items() if n == "lm_head.weight"}
    body = {name: array for name, array in net.tensors.items() if name not in head}
    save_file(prefixed(body) | head, directory / "model.safetensors")
    change(directory / "config.json", **said)
    return json.loads((directory / "config.json").read_text()), net.tensors


@pytest.mark.parametrize("said", DECLARED, ids=str)
def test_what_a_directory_declares_is_computed(directory: Path, said: dict[str, Any]) -> None:
    whole, tensors = declare(directory, said)
    tokens = np.random.default_rng(0).integers(0, NET.config.vocab_size, (2, NET.config.context))
    expected = by_torch(whole, tensors, tokens)
    net = load_gpt2(directory).net
    assert np.abs(forward(net, tokens) - expected).max() < 1e-6  # scales are folded into float32
    if any(
        said.get(word, value) not in (value, "gelu_pytorch_tanh") for word, value in PLAIN.items()
    ):
        tied = {**tensors, "lm_head.weight": tensors["wte.weight"]}
        assert np.abs(expected - by_torch(whole | PLAIN, tied, tokens)).max() > 1e-6
    for unroll in (unroll_gpt2, unroll_plain_gpt2):
        assert verify(unroll(net), net).difference < 1e-5


PLAIN = {
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True,
}


@pytest.mark.parametrize("said", DECLARED[2:], ids=str)
def test_other_precisions_and_checkpoints_keep_what_is_declared(
    directory: Path, tmp_path: Path, said: dict[str, Any]
) -> None:
    declare(directory, said)
    net, tokenizer, name = load_gpt2(directory)
    made = frozen(net, "fp32,int8,fp16,bf16", tensorrt=True, decode=(2,))  # each is verified
    assert pack(net, made, Label(name, tokenizer)).manifest.parameters == net.parameters
    save(tmp_path / "ckpt.pt", Checkpoint(name, net, tokenizer))
    again = load(tmp_path / "ckpt.pt").net
    assert isinstance(again, Gpt2Net)
    assert again.config == net.config
    assert again.tensors.keys() == net.tensors.keys()


def test_the_words_of_a_plain_gpt2_change_nothing(directory: Path) -> None:
    """Names that say the same again, and what does not matter to a trained network."""
    config = NET.config
    change(
        directory / "config.json",
        n_ctx=config.context,
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        n_inner=4 * config.width,
        torch_dtype="float16",
        dtype=None,
        resid_pdrop=0.1,
        use_cache=False,
        pruned_heads={},
        tie_word_embeddings=True,
        eos_token_id=[TOKENIZER.end_id],
        task_specific_params={"text-generation": {"do_sample": True}},
    )
    net = load_gpt2(directory).net
    assert net.summary() == NET.summary()
    assert np.array_equal(forward(net, np.arange(9)[None]), forward(NET, np.arange(9)[None]))


def test_how_texts_are_made_may_end_them_with_the_end_token_alone(directory: Path) -> None:
    path = directory / "generation_config.json"
    for said in ({}, {"eos_token_id": TOKENIZER.end_id}, {"eos_token_id": [TOKENIZER.end_id]}):
        path.write_text(json.dumps(said | {"temperature": 0.7}))
        assert_same(load_gpt2(directory).net, NET.tensors)
    path.write_text(json.dumps({"eos_token_id": [TOKENIZER.end_id, 9]}))
    with pytest.raises(
        CheckpointError, match=r"generation_config\.json ends texts with token 0 or 9"
    ):
        load_gpt2(directory)


def test_what_is_not_usual_is_told_in_the_summary(directory: Path) -> None:
    declare(directory, DECLARED[-1])
    told = load_gpt2(directory).net.summary()
    for words in ("activation relu", "epsilon 0.001", "perceptrons of 24", "layer of its own"):
        assert words in told


def test_an_output_layer_that_is_said_to_be_tied_and_is_not_is_refused(directory: Path) -> None:
    other = np.array(NET.tensors["wte.weight"]) * 2
    save_file(prefixed() | {"lm_head.weight": other}, directory / "model.safetensors")
    with pytest.raises(
        CheckpointError, match="says that the two are tied: set tie_word_embeddings"
    ):
        load_gpt2(directory)
    change(directory / "config.json", tie_word_embeddings=False)
    net = load_gpt2(directory).net
    assert np.array_equal(net.tensors["lm_head.weight"], other)


def test_an_output_layer_that_is_the_embedding_again_is_tied(directory: Path) -> None:
    again = {"lm_head.weight": np.array(NET.tensors["wte.weight"])}
    save_file(prefixed() | again, directory / "model.safetensors")
    change(directory / "config.json", tie_word_embeddings=False)
    assert_same(load_gpt2(directory).net, NET.tensors)


def test_doubled_weights_are_rounded_to_float32(directory: Path) -> None:
    doubled = {name: array.astype(np.float64) / 3 for name, array in prefixed().items()}
    save_file(doubled, directory / "model.safetensors")
    thirds = {name: array.astype(np.float64) / 3 for name, array in NET.tensors.items()}
    assert_same(load_gpt2(directory).net, thirds)


def as_bin(directory: Path, tensors: Mapping[str, torch.Tensor]) -> Path:
    (directory / "model.safetensors").unlink(missing_ok=True)
    plain = {name: torch.from_numpy(array) for name, array in prefixed().items()}
    path = directory / "pytorch_model.bin"
    torch.save(plain | {f"transformer.{name}": t for name, t in tensors.items()}, path)
    return path


def test_parameters_are_read_as_the_tensors_they_are(directory: Path) -> None:
    kept = {n: torch.nn.Parameter(torch.from_numpy(a)) for n, a in NET.tensors.items()}
    as_bin(directory, kept)
    assert_same(load_gpt2(directory).net, NET.tensors)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.float8_e4m3fn])
def test_a_bin_file_of_another_type_is_refused(directory: Path, dtype: torch.dtype) -> None:
    as_bin(directory, {"ln_f.bias": torch.zeros(32).to(dtype)})
    with pytest.raises(CheckpointError, match=r"ln_f\.bias .* is stored as .*: save it as float32"):
        load_gpt2(directory)


def test_a_bin_file_with_a_changed_byte_is_refused(directory: Path) -> None:
    """torch reads it without a word: its archive's sums are not compared."""
    path = as_bin(directory, {})
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="does not match its sum"):
        load_gpt2(directory)


def test_nobody_is_told_to_run_what_a_pickle_holds(directory: Path) -> None:
    as_bin(directory, {})
    torch.save({"wte.weight": Path("a")}, directory / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="only tensors are read: save it as safetensors"):
        load_gpt2(directory)


def in_shards(directory: Path, kind: str) -> tuple[Path, dict[str, str]]:
    """NET in two files of a kind, and their index; returns it and what it says."""
    whole = directory / "model.safetensors"
    whole.unlink()
    stem, suffix = kind.split(".")
    tensors, named = prefixed(), dict[str, str]()
    for part in (0, 1):
        name = f"{stem}-0000{part + 1}-of-00002.{suffix}"
        own = dict(list(tensors.items())[part::2])
        named |= dict.fromkeys(own, name)
        if suffix == "bin":
            torch.save({n: torch.from_numpy(a) for n, a in own.items()}, directory / name)
        else:
            save_file(own, directory / name)
    index = directory / f"{kind}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": named}))
    return index, named


KINDS = ["model.safetensors", "pytorch_model.bin"]


@pytest.mark.parametrize("kind", KINDS)
def test_weights_in_several_files_are_put_together(directory: Path, kind: str) -> None:
    index, named = in_shards(directory, kind)
    assert_same(load_gpt2(directory).net, NET.tensors)
    parts = [directory / name for name in sorted(set(named.values()))]
    assert files_of(directory) == [
        directory / "config.json",
        directory / "tokenizer.json",
        index,
        *parts,
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_part_is_named(directory: Path, kind: str) -> None:
    _, named = in_shards(directory, kind)
    missing = max(named.values())
    (directory / missing).unlink()
    with pytest.raises(CheckpointError, match=f"{missing} is missing"):
        load_gpt2(directory)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_and_their_index_must_agree(directory: Path, kind: str) -> None:
    index, named = in_shards(directory, kind)
    first, *_ = named
    other = max(named.values()) if named[first] == min(named.values()) else min(named.values())
    for wrong, message in (
        ({**named, first: other}, f"holds {first}, and .* does not say so"),
        ({n: f for n, f in named.items() if n != first}, f"holds {first}, and"),
        ({**named, "transformer.h.9.ln_1.bias": other}, r"has no transformer\.h\.9"),
    ):
        index.write_text(json.dumps({"weight_map": wrong}))
        with pytest.raises(CheckpointError, match=message):
            load_gpt2(directory)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tensor_in_two_parts_is_refused(directory: Path, kind: str) -> None:
    _, named = in_shards(directory, kind)
    first, last = min(named.values()), max(named.values())
    (directory / last).write_bytes((directory / first).read_bytes())
    with pytest.raises(CheckpointError, match=f"has transformer.* in two files, {last} is one"):
        load_gpt2(directory)


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/passwd", "a/b.bin", "..", ".", "", "..\\x", "C:\\x", 7, None]
)
def test_a_part_that_is_not_beside_its_index_is_refused(directory: Path, name: Any) -> None:
    index, named = in_shards(directory, KINDS[0])
    save_file(prefixed(), directory.parent / "x.safetensors")
    index.write_text(json.dumps({"weight_map": dict.fromkeys(named, name)}))
    with pytest.raises(CheckpointError, match="which is no file beside it"):
        load_gpt2(directory)


@pytest.mark.parametrize("text", ["{}", "[]", '{"weight_map": {}}', '{"weight_map": []}', "\0"])
def test_an_index_that_is_none_is_refused(directory: Path, text: str) -> None:
    index, _ = in_shards(directory, KINDS[0])
    index.write_text(text)
    with pytest.raises(CheckpointError, match=r"index\.json is damaged"):
        load_gpt2(directory)


def test_parts_may_be_links_as_in_a_cache(directory: Path) -> None:
    _, named = in_shards(directory, KINDS[0])
    for name in set(named.values()):
        (directory / name).rename(directory.parent / name)
        (directory / name).symlink_to(directory.parent / name)
    assert_same(load_gpt2(directory).net, NET.tensors)


def part(directory: Path) -> None:
    """vocab.json and merges.txt instead of tokenizer.json."""
    model = json.loads((directory / "tokenizer.json").read_text())["model"]
    (directory / "tokenizer.json").unlink()
    (directory / "vocab.json").write_text(json.dumps(model["vocab"]))
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (directory / "merges.txt").write_text("\n".join(["#version: 0.2", *pairs, ""]))


def test_the_two_files_of_old_tokenizers_give_the_same_tokens(directory: Path) -> None:
    part(directory)
    found = Tokenizer.from_json(load_gpt2(directory).tokenizer)
    assert found.end_id == TOKENIZER.end_id
    for text in (
        *SENTENCES,
        f"a{END_OF_TEXT}b",
        " \n\t caf\u00e9 \u2603 'll 12",
        "".join(map(chr, range(256))),
    ):
        assert found.encode(text) == TOKENIZER.encode(text)
        assert found.decode(found.encode(text)) == text
    names = [path.name for path in files_of(directory)]
    assert names == ["config.json", "vocab.json", "merges.txt", "model.safetensors"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("merges.txt", None, r"merges\.txt is missing"),
        ("merges.txt", "#version: 0.2\na b c\n", "line 2 of its merges is 'a b c', not two tokens"),
        ("merges.txt", "ab\n", "line 1 of its merges"),
        ("merges.txt", "zz yy\n", "not a tokenizer"),
        ("vocab.json", None, r"tokenizer\.json is missing"),
        ("vocab.json", "[]", "holds no object"),
        ("vocab.json", '{"a": "b"}', "not a tokenizer"),
        ("vocab.json", "\0", r"vocab\.json is damaged"),
        ("added_tokens.json", '{"<pad>": 300}', "adds tokens: save the tokenizer again as"),
        ("tokenizer_config.json", '{"add_prefix_space": true}', "add_prefix_space True"),
        ("tokenizer_config.json", '{"add_bos_token": true}', "add_bos_token True"),
    ],
)
def test_old_tokenizers_that_are_not_whole_are_refused(
    directory: Path, name: str, text: str | None, message: str
) -> None:
    part(directory)
    (directory / name).unlink(missing_ok=True)
    if text is not None:
        (directory / name).write_text(text)
    with pytest.raises(CheckpointError, match=message):
        load_gpt2(directory)


def test_an_old_tokenizer_without_the_end_token_is_refused(directory: Path) -> None:
    part(directory)
    path = directory / "vocab.json"
    path.write_text(path.read_text().replace(END_OF_TEXT, "<end>"))
    with pytest.raises(CheckpointError, match=r"vocab\.json: .*no <\|endoftext\|> token"):
        load_gpt2(directory)


def test_a_directory_of_any_name_gives_a_plain_name(directory: Path) -> None:
    odd = directory.rename(directory.with_name("a\nb\x1b[1m"))
    assert load_gpt2(odd).name == "a b?[1m"
