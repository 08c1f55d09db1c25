from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from export.checks import timing
from export.checks.timing import example, interleaved
from export.freeze import main
from export.graph.count import macs, work_of
from export.network.choose import MEASURE, NAMES, best, choose, graphs
from export.network.lowerings import Form
from export.network.text_inputs import embedding_table
from export.network.unroll import unroll
from luminanet.cost import macs as cost
from luminanet.errors import ExportError
from luminanet.fields import ImageInput, Patch
from luminanet.frozen import FrozenNet, TextHead
from luminanet.reference import forward
from luminanet.topology import Activation, Cluster, Connection, Topology
from tests.export.network.test_unroll import inputs_of, run
from tests.nets import (
    LABELS,
    random_net,
    random_weights,
    tiny_image_topology,
    tiny_text_topology,
)
from training.checkpoint import Checkpoint, save
from training.topologies import scales_dense_image

FORMS = list(Form)
SEEDS = st.integers(0, 100_000)


def assert_same_as_reference(net: FrozenNet, form: Form, batch: int, seed: int = 0) -> None:
    inputs = inputs_of(net, batch, seed)
    expected = forward(net, inputs)
    difference = np.abs(run(unroll(net, form), inputs) - expected).max()
    assert difference <= 1e-4 * max(1, np.abs(expected).max())


def names_of(net: FrozenNet, form: Form) -> set[str]:
    return {node.name for node in unroll(net, form).graph.node}


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=40)
@given(SEEDS, st.integers(1, 4), st.booleans())
def test_every_form_of_any_network_agrees_with_the_reference(
    form: Form, seed: int, batch: int, text: bool
) -> None:
    assert_same_as_reference(random_net(seed, text), form, batch, seed)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("activation", list(Activation))
@pytest.mark.parametrize("topology", [tiny_image_topology(), tiny_text_topology(300)])
def test_every_form_agrees_with_every_activation(
    topology: Topology, activation: Activation, form: Form
) -> None:
    assert_same_as_reference(random_weights(replace(topology, activation=activation)), form, 3)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=25)
@given(seed=SEEDS, text=st.booleans())
def test_every_form_is_valid_and_holds_no_dead_work(form: Form, seed: int, text: bool) -> None:
    net = random_net(seed, text)
    assume(any(cluster.fields for cluster in net.topology.clusters))
    model = unroll(net, form)
    onnx.checker.check_model(model, full_check=True)
    used = {name for node in model.graph.node for name in node.input} | {"logits"}
    assert all(used.intersection(node.output) for node in model.graph.node)
    assert {tensor.name for tensor in model.graph.initializer} <= used
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_bytes_every_time(form: Form) -> None:
    first, second = (
        unroll(random_weights(tiny_text_topology(300)), form).SerializeToString() for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize("form", FORMS)
def test_nodes_are_named_after_cluster_or_level_and_pass(form: Form) -> None:
    names = names_of(random_weights(tiny_image_topology()), form)
    unit = {Form.SHARED: "level1", Form.BLOCK: "level1"}.get(form, "cluster4")
    assert {f"{unit}/pass1/hidden", f"{unit}/pass2/hidden"} <= names


# ---------------------------------------------------------------------- what is computed


def chain() -> FrozenNet:
    """0 -> 1 -> 1: the second visit of 1 hears the same message of 0, and its own."""
    clusters = (Cluster(0, 0, 5, (Patch((0,), 0, 0, 1, 4),)), Cluster(1, 1, 7))
    links = (Connection(source=0, target=1), Connection(source=1, target=1))
    return random_weights(Topology(ImageInput(1, 1, 4), 3, 2, Activation.RELU, clusters, links))


def test_the_cost_of_every_form_can_be_counted_by_hand() -> None:
    see, readout = 4 * 5, (5 + 7) * 2
    send, hear = 5 * 3 + 7 * 3, 3 * 7
    expected = {
        Form.BUS: see + send + (1 + 2) * 3 + 2 * hear + readout,
        Form.SHARED: see + send + (1 + 2) * 3 + 2 * hear + readout,
        Form.BLOCK: see + 5 * 7 + (5 + 7) * 7 + readout,
    }
    assert {form: macs(unroll(chain(), form)) for form in Form} == expected
    assert cost.macs(chain().topology) == expected[Form.BUS]


def bus(width: int) -> FrozenNet:
    """Two levels of three that hear each other, all of a level alike."""
    fields = [(Patch((0,), 0, k, 1, 2),) for k in range(3)]
    clusters = tuple(Cluster(k, k // 3, width, fields[k % 3]) for k in range(6))
    links = [Connection(source=s, target=t) for s in range(6) for t in range(6) if s // 3 != t // 3]
    shape = ImageInput(1, 1, 4)
    net = random_weights(Topology(shape, 2, 2, Activation.TANH, clusters, tuple(links)))
    return replace(net, gates={link: 0.5 + link.source for link in net.gates})


def test_a_block_forms_sums_where_clusters_hear_the_same_and_it_pays() -> None:
    wide, narrow = bus(32), bus(4)
    assert "level1/pass1/sums" in names_of(wide, Form.BLOCK)
    assert "level1/pass1/sums" not in names_of(narrow, Form.BLOCK)
    some = next(iter(wide.gates))
    own = replace(wide, gates={**wide.gates, some: 7.0})
    for net, sums in ((wide, 1), (own, 2)):
        graph = unroll(net, Form.BLOCK)
        sizes = {tensor.name: tuple(tensor.dims) for tensor in graph.graph.initializer}
        assert sizes["level0/pass2/send/weights"] == (96, 2 * sums)
        assert sizes["level0/pass2/hear/weights"] == (2 * sums, 96)
        assert_same_as_reference(net, Form.BLOCK, 3)


def test_clusters_that_see_the_same_share_a_product() -> None:
    field = (Patch((0,), 0, 0, 1, 4),)
    clusters = tuple(Cluster(i, i % 2, 3 + i, field) for i in range(4))
    net = random_weights(Topology(ImageInput(1, 1, 4), 2, 2, Activation.GELU, clusters))
    assert "clusters0,2,1,3/see" in names_of(net, Form.BUS)
    assert "clusters0,2/see" in names_of(net, Form.SHARED)
    assert all(macs(unroll(net, form)) >= cost.macs(net.topology) for form in FORMS)


@pytest.mark.parametrize("channels", [((0, 1, 2),), ((0,), (1,), (2,)), ((1, 2), (2, 0))])
def test_patches_on_a_grid_are_cut_like_any_other(channels: tuple[tuple[int, ...], ...]) -> None:
    spots = [(top, left) for top in (0, 2, 4) for left in (0, 3) if (top, left) != (2, 3)]
    patches = [Patch(c, *spot, 2, 3) for c in channels for spot in spots]
    patches.append(Patch((0, 1, 2), 1, 1, 2, 3))
    clusters = tuple(Cluster(i, 0, 3, (patch,)) for i, patch in enumerate(patches))
    net = random_weights(Topology(ImageInput(3, 6, 6), 2, 2, Activation.TANH, clusters))
    assert any(name.startswith("pixels/tiles") for name in names_of(net, Form.BUS))
    assert_same_as_reference(net, Form.BUS, batch=3)


@pytest.mark.parametrize("form", FORMS)
def test_an_image_pyramid_is_pooled_once_a_scale_and_read_like_images(form: Form) -> None:
    net = random_weights(scales_dense_image(6, 4, 0))
    ops = [node.op_type for node in unroll(net, form).graph.node]
    assert ops.count("AveragePool") == 2
    assert_same_as_reference(net, form, batch=3)


def test_the_windows_of_a_level_of_a_pyramid_are_cut_by_one_transposition() -> None:
    spots = [(top, left) for top in (0, 8) for left in (0, 8)]
    clusters = tuple(Cluster(i, 0, 3, (Patch((0, 1), *at, 8, 8, 2),)) for i, at in enumerate(spots))
    net = random_weights(Topology(ImageInput(3, 32, 32), 2, 2, Activation.TANH, clusters))
    assert "pixels/tilespool2/c0,1y0x0:8x8" in names_of(net, Form.BUS)
    assert_same_as_reference(net, Form.BUS, batch=3)


def test_the_embedding_table_ends_with_nothing() -> None:
    head = random_weights(tiny_text_topology(50)).head
    assert isinstance(head, TextHead)
    table = embedding_table(head)
    assert table.shape == (51, 16)
    assert not table[-1].any()
    assert table[:-1].any(axis=1).all()


# ---------------------------------------------------------------------- the choice


@settings(max_examples=10)
@given(SEEDS, st.booleans())
def test_the_choice_is_the_same_every_time_and_says_why(seed: int, text: bool) -> None:
    net = random_net(seed, text)
    choices = choose(net)
    assert choices == choose(net)
    for choice in choices.values():
        assert choice.reason.startswith(f"predicted: {choice.form} ")
    assert "us at batch 1" in choices[1].reason


@pytest.mark.parametrize("form", FORMS)
def test_a_form_may_be_asked_for_by_name(form: Form) -> None:
    (choice,) = choose(random_net(1, text=False), form).values()
    assert choice.form is form


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ExportError, match="choose one of auto, measure, bus"):
        choose(random_net(1, text=False), "best")


def test_a_measured_choice_tells_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "ROUND_S", 0.0)
    (choice,) = choose(random_net(1, text=False), MEASURE).values()
    assert choice.reason.startswith(f"measured: {choice.form} ")
    for batch in (1, 8, 64):
        assert f"us at batch {batch}" in choice.reason


def test_the_best_form_is_least_far_from_the_fastest_at_every_batch_size() -> None:
    times = {Form.BUS: {1: 20.0, 64: 100.0}, Form.SHARED: {1: 11.0, 64: 110.0}}
    assert best(times | {Form.BLOCK: {1: 10.0, 64: 300.0}}, "told").form is Form.SHARED


def test_blocks_of_zeros_are_not_tried() -> None:
    spots = [(top, left) for top in range(0, 8, 2) for left in range(0, 8, 2)]
    clusters = tuple(Cluster(i, 0, 8, (Patch((0,), *at, 2, 2),)) for i, at in enumerate(spots))
    net = random_weights(Topology(ImageInput(1, 8, 8), 2, 2, Activation.GELU, clusters))
    assert Form.BLOCK not in dict(graphs(net))
    assert Form.BLOCK in dict(graphs(random_weights(tiny_image_topology())))


def test_the_work_of_a_graph_tells_batched_products_apart() -> None:
    found = {form: work_of(unroll(chain(), form)) for form in Form}
    assert found[Form.BUS].batched == found[Form.BLOCK].batched == 0
    assert found[Form.SHARED].batched == 5 * 3 + 7 * 3 + 2 * 3 * 7
    for form, work in found.items():
        assert work.macs + work.batched == macs(unroll(chain(), form))
    assert all(0 < work.steps <= work.nodes for work in found.values())


def test_examples_fit_the_network_and_timings_are_positive() -> None:
    for text in (False, True):
        net = random_net(3, text)
        assert len(forward(net, example(net, 2))) == 2
    assert interleaved({"sum": lambda: sum(range(1000))}, rounds=2)["sum"] > 0


@pytest.mark.parametrize("form", NAMES)
def test_freezing_takes_any_form_and_reports_it(
    form: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timing, "ROUND_S", 0.0)
    net = random_weights(tiny_image_topology())
    save(tmp_path / "ckpt.pt", Checkpoint("tiny", net, labels=LABELS))
    assert main([str(tmp_path / "ckpt.pt"), "--form", form]) == 0
    report = capsys.readouterr().out
    assert f"fp32, form {form if form in list(Form) else ''}" in report
