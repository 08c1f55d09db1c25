"""A decode graph is only written when it draws what numpy draws."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.checks.assess import Net
from export.checks.verify_decode import TOLERANCE, verify_decode
from export.decoding.decode import decode_caches, decode_windows
from export.gpt2.cached import unroll_gpt2
from export.network.unroll import unroll
from export.precisions.convert import convert
from export.precisions.rewrite import graphs
from luminanet.artifact.manifest import Precision
from luminanet.errors import VerificationError
from luminanet.gpt2 import Gpt2Config, Gpt2Net
from tests.nets import random_gpt2, random_net, random_weights, tiny_text_topology

TEXT = random_weights(tiny_text_topology(300))
GPT2 = random_gpt2(0, Gpt2Config(50, context=12, width=32, heads=4))
NETS = pytest.mark.parametrize("net", [TEXT, GPT2], ids=["text", "gpt2"])


def made(net: Net) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The decode graph, and the one that gives logits."""
    if isinstance(net, Gpt2Net):
        step = unroll_gpt2(net)
        return decode_caches(step, 2), step
    step = unroll(net)
    return decode_windows(step), step


@NETS
def test_a_faithful_graph_is_close(net: Net) -> None:
    assert verify_decode(*made(net), net) < TOLERANCE / 10


@pytest.mark.parametrize("seed", range(3))
def test_any_network_passes_and_any_seed(seed: int) -> None:
    net = random_net(seed, text=True)
    assert verify_decode(*made(net), net, seed) < TOLERANCE / 10


@pytest.mark.parametrize("context", [1, 2, 5])
def test_the_shortest_caches_are_verified_too(context: int) -> None:
    net = random_gpt2(0, Gpt2Config(20, context, width=16, heads=2))
    assert verify_decode(*made(net), net) < TOLERANCE


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.INT8_BATCH])
def test_the_steps_of_int8_are_those_of_its_own_graph(precision: Precision) -> None:
    net = random_gpt2(0, Gpt2Config(300, context=12, width=128, heads=4))
    step = convert(unroll_gpt2(net), precision)
    assert verify_decode(decode_caches(step, 2), step, net) < TOLERANCE / 10
    with pytest.raises(VerificationError):
        verify_decode(decode_caches(unroll_gpt2(net), 2), step, net)


def constant(model: onnx.ModelProto, name: str, change: Callable[[float], float]) -> None:
    """Changes a number that the sampler holds."""
    found = [t for g in graphs(model.graph) for t in g.initializer if t.name.endswith(name)]
    assert found
    for tensor in found:
        array = numpy_helper.to_array(tensor)
        new = np.asarray([change(x) for x in array.ravel().tolist()]).reshape(array.shape)
        tensor.CopyFrom(numpy_helper.from_array(new.astype(array.dtype), tensor.name))


@NETS
@pytest.mark.parametrize("name", ["seeds/factor", "position/factor", "half_step", "lowest"])
def test_a_sampler_that_draws_otherwise_is_refused(net: Net, name: str) -> None:
    model, step = made(net)
    constant(model, name, lambda x: x + 1 if x >= 1 else 100.0)
    with pytest.raises(VerificationError, match=r"numpy draws|onnxruntime cannot run"):
        verify_decode(model, step, net)


@NETS
def test_one_changed_weight_is_found(net: Net) -> None:
    model, step = made(net)
    names = ("see/weights", "c_fc.weight")
    tensors = (t for g in graphs(model.graph) for t in g.initializer if t.name.endswith(names))
    tensor = next(tensors)
    array = numpy_helper.to_array(tensor).copy()
    array.flat[0] += 0.5
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    with pytest.raises(VerificationError, match="freeze with --decode none"):
        verify_decode(model, step, net)


@NETS
def test_a_graph_that_forgets_its_text_is_refused(net: Net) -> None:
    model, step = made(net)
    for node in model.graph.node:
        if "next_token_ids" in node.output:
            node.input[0] = "token_ids"
    with pytest.raises(VerificationError, match="loses its text"):
        verify_decode(model, step, net)
