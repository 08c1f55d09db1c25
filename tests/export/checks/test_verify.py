import sys
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from export.checks import verify as module
from export.checks.verify import TOLERANCE, verify
from export.gpt2.cached import unroll_gpt2
from export.network.unroll import unroll
from luminanet import gpt2
from luminanet.errors import MissingExtraError, VerificationError
from luminanet.frozen import FrozenNet
from luminanet.gpt2 import Gpt2Config, Gpt2Net, forward
from tests.nets import (
    random_gpt2,
    random_net,
    random_weights,
    tiny_image_topology,
    tiny_text_topology,
)

IMAGE = random_weights(tiny_image_topology())
TEXT = random_weights(tiny_text_topology(300))
GPT2 = random_gpt2(0)
NETS = pytest.mark.parametrize("net", [IMAGE, TEXT, GPT2], ids=["image", "text", "gpt2"])


def graph_of(net: FrozenNet | Gpt2Net) -> onnx.ModelProto:
    return unroll_gpt2(net) if isinstance(net, Gpt2Net) else unroll(net)


def change_a_weight(model: onnx.ModelProto, by: float) -> None:
    """Adds `by` to one number of the largest matrix that tokens or pixels always pass."""
    tensor = next(t for t in model.graph.initializer if "see/weights" in t.name or "c_fc" in t.name)
    array = numpy_helper.to_array(tensor).copy()
    array.flat[0] += by
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


@NETS
def test_a_faithful_graph_is_close(net: FrozenNet | Gpt2Net) -> None:
    verification = verify(graph_of(net), net)
    assert verification.difference < TOLERANCE / 10
    assert verification.rows >= 8


@NETS
def test_one_changed_weight_is_found(net: FrozenNet | Gpt2Net) -> None:
    model = graph_of(net)
    change_a_weight(model, by=0.5)
    with pytest.raises(VerificationError, match=r"from the numpy reference, 1e-04 is allowed"):
        verify(model, net)


@NETS
def test_weights_that_are_not_finite_are_refused(net: FrozenNet | Gpt2Net) -> None:
    if isinstance(net, Gpt2Net):
        broken: FrozenNet | Gpt2Net = replace(
            net, tensors={**net.tensors, "ln_f.bias": np.full(32, np.nan, np.float32)}
        )
    else:
        weights = net.clusters[0]
        bad = replace(weights, bias_H=np.full_like(weights.bias_H, np.inf))
        broken = replace(net, clusters={**net.clusters, 0: bad})
    with pytest.raises(VerificationError, match="not finite"):
        verify(graph_of(broken), broken)


def test_the_graph_of_another_network_is_refused() -> None:
    wider = random_weights(replace(tiny_image_topology(), outputs=11))
    with pytest.raises(VerificationError, match="not the same network"):
        verify(unroll(wider), IMAGE)
    with pytest.raises(VerificationError, match="onnxruntime cannot run the graph"):
        verify(unroll(TEXT), IMAGE)


@pytest.mark.parametrize("context", [1, 2, 5])
def test_the_shortest_contexts_are_verified_too(context: int) -> None:
    net = random_gpt2(0, Gpt2Config(20, context, width=16, heads=2))
    assert verify(unroll_gpt2(net), net).difference < TOLERANCE


@pytest.mark.parametrize("work", [1, 20 * GPT2.parameters])
def test_a_net_that_is_too_large_for_whole_prompts_is_verified_to_the_end_of_its_context(
    work: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def counted(net: Gpt2Net, tokens_BT: NDArray[Any], *pasts: Any) -> NDArray[np.float64]:
        read.append(tokens_BT.size)
        return forward(net, tokens_BT, *pasts)

    monkeypatch.setattr(gpt2, "forward", counted)
    monkeypatch.setattr(module, "WORK", work)
    assert verify(unroll_gpt2(GPT2), GPT2).difference < TOLERANCE / 10
    assert sum(read) <= max(work // GPT2.parameters, 3 * 4) + 1
    places = GPT2.tensors["wpe.weight"].copy()
    places[-1, 0] += 1
    with pytest.raises(VerificationError, match="from the numpy reference"):
        verify(unroll_gpt2(replace(GPT2, tensors={**GPT2.tensors, "wpe.weight": places})), GPT2)


@pytest.mark.parametrize("seed", range(3))
def test_any_random_network_passes(seed: int) -> None:
    for net in (random_net(seed, text=False), random_net(seed, text=True)):
        assert verify(unroll(net), net, seed).difference < TOLERANCE / 10


def test_a_missing_onnxruntime_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"luminanet\[cpu\]"):
        verify(unroll(IMAGE), IMAGE)
