"""The nodes choose what the oracle chooses, row by row, whatever the other rows ask for."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from export.decoding.counter_rng import counter, uniform_logs
from export.decoding.sampler import Sampler, tokens
from export.graph.builder import Graph
from export.graph.declare import sizes
from export.graph.region import Region
from luminanet.interface import SAMPLER
from luminanet.reference import NO_TOKEN
from luminanet.sampling import INPUTS, SEED, Sampling, Token, blocks, choose, uniform

Arrays = dict[str, NDArray[Any]]
SIZES = (1, 2, 50, 500, 4096)


def model(vocab_size: int) -> onnx.ModelProto:
    graph = Graph("sampler")
    graph.input("logits", np.float32, ["batch", vocab_size])
    graph.input("seen", np.int64, ["batch", "length"])
    graph.input("step", np.int64, [])
    for tensor in SAMPLER:
        graph.input(tensor.name, tensor.dtype, sizes(tensor))
    sampler = Sampler(graph, vocab_size, graph.constant("steps", np.array(4)))
    ids, logs = sampler.choose(graph, "step/", "logits", "seen", "step")
    tokens(graph, ids, logs, "ids")
    graph.node("Identity", [logs], "logs")
    graph.output("ids", np.int64, ["batch", 1])
    graph.output("logs", np.float32, ["batch", 1])
    return graph.build()


@pytest.fixture(scope="module")
def sessions() -> Mapping[int, onnxruntime.InferenceSession]:
    return {size: session(model(size)) for size in SIZES}


def session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def random_rows(rng: np.random.Generator, rows: int, vocab_size: int) -> Arrays:
    """Rows that ask for any mixture of things."""
    ids = rng.integers(-1, vocab_size, (rows, 12))
    ids[rng.random(rows) < 0.1] = NO_TOKEN
    found: Arrays = {
        "temperature": rng.choice([0, 1e-9, 0.3, 0.8, 1, 3], rows),
        "top_k": rng.choice([0, 0, 1, 3, 40, 10**6], rows),
        "top_p": rng.choice([1, 1, 0, 0.05, 0.5, 0.95], rows),
        "min_p": rng.choice([0, 0, 0.02, 0.3, 1], rows),
        "repetition_penalty": rng.choice([1, 1, 1.3, 0.7], rows),
        "seeds": rng.integers(-(2**63), 2**63 - 1, rows),
        "positions": rng.integers(0, 5000, rows),
    }
    found = {name: array.astype(INPUTS[name]) for name, array in found.items()}
    logits = (rng.normal(size=(rows, vocab_size)) * rng.choice([1, 4])).astype(np.float32)
    return found | {"logits": logits, "seen": ids, "step": np.array(rng.integers(0, 4))}


def asked(rows: Arrays, row: int) -> Sampling:
    names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
    return Sampling(
        **{name: rows[name][row].item() for name in names}, seed=int(rows["seeds"][row])
    )


def expected(rows: Arrays, row: int) -> Token:
    position = int(rows["positions"][row] + rows["step"])
    return choose(rows["logits"][row], rows["seen"][row].tolist(), asked(rows, row), position)


@pytest.mark.parametrize("vocab_size", SIZES)
def test_nodes_and_oracle_choose_the_same(
    sessions: Mapping[int, onnxruntime.InferenceSession], vocab_size: int
) -> None:
    rng = np.random.default_rng(vocab_size)
    for _ in range(60):
        rows = random_rows(rng, int(rng.integers(1, 9)), vocab_size)
        ids, logs = sessions[vocab_size].run(["ids", "logs"], rows)
        for row in range(len(ids)):
            token = expected(rows, row)
            assert ids[row, 0] == token.id, asked(rows, row)
            assert logs[row, 0] == pytest.approx(token.log_probability, abs=1e-4)


def test_a_row_does_not_depend_on_its_neighbours(
    sessions: Mapping[int, onnxruntime.InferenceSession],
) -> None:
    rows = random_rows(np.random.default_rng(0), 64, 500)
    together = sessions[500].run(["ids", "logs"], rows)
    for row in range(64):
        alone = {n: a[row : row + 1] if a.ndim else a for n, a in rows.items()}
        for found, of_all in zip(sessions[500].run(["ids", "logs"], alone), together, strict=True):
            assert found[0, 0] == of_all[row, 0]


def test_equal_logits_are_treated_alike_and_greedy_takes_the_lower_id(
    sessions: Mapping[int, onnxruntime.InferenceSession],
) -> None:
    rng = np.random.default_rng(1)
    for _ in range(60):
        rows = random_rows(rng, 8, 50)
        rows["logits"] = np.round(rows["logits"])
        rows["top_p"][:] = 1  # sums of equal weights end exactly on a border
        rows["repetition_penalty"] = rng.choice([1, 2], 8).astype(np.float32)
        ids = sessions[50].run(["ids"], rows)[0]
        assert ids[:, 0].tolist() == [expected(rows, row).id for row in range(8)]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_name_no_token_give_none_and_leave_the_others_alone(
    sessions: Mapping[int, onnxruntime.InferenceSession], bad: float
) -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        rows = random_rows(rng, 6, 500)
        before = sessions[500].run(["ids"], rows)[0]
        rows["logits"][2, rng.integers(500)] = bad
        rows["logits"][4] = -np.inf
        ids, logs = sessions[500].run(["ids", "logs"], rows)
        assert ids[[2, 4], 0].tolist() == [NO_TOKEN, NO_TOKEN]
        assert np.isnan(logs[[2, 4]]).all()
        assert ids[[0, 1, 3, 5]].tolist() == before[[0, 1, 3, 5]].tolist()


def test_impossible_tokens_are_never_chosen(
    sessions: Mapping[int, onnxruntime.InferenceSession],
) -> None:
    rows = random_rows(np.random.default_rng(3), 32, 50)
    rows["logits"][:] = -np.inf
    rows["logits"][:, 17] = -50
    assert sessions[50].run(["ids"], rows)[0].tolist() == [[17]] * 32


@pytest.mark.parametrize("broken", ["temperature", "top_p", "min_p", "repetition_penalty"])
def test_parameters_that_are_no_numbers_end_the_races(
    sessions: Mapping[int, onnxruntime.InferenceSession], broken: str
) -> None:
    rows = random_rows(np.random.default_rng(4), 8, 50)
    rows[broken][:] = np.nan
    ids = sessions[50].run(["ids"], rows)[0]
    assert ((ids >= NO_TOKEN) & (ids < 50)).all()


def test_the_random_numbers_are_those_of_the_oracle() -> None:
    graph, shape = Graph("numbers"), blocks(500)
    graph.input("keys", np.uint64, ["rows", 1])
    graph.input("positions", np.int64, ["rows", 1])
    region = Region(graph, "numbers/")
    logs = uniform_logs(region, "keys", counter(region, "positions"), shape)
    graph.node("Exp", [logs], "u")
    graph.output("u", np.float32, ["rows", shape.indices])
    rng = np.random.default_rng(0)
    seeds, positions = rng.integers(0, 2**63, 50), rng.integers(0, 2**31, 50)
    keys = np.array([[int(seed) * SEED % 2**64] for seed in seeds], np.uint64)
    (found,) = session(graph.build()).run(None, {"keys": keys, "positions": positions[:, None]})
    for row, seed, at in zip(found, seeds, positions, strict=True):
        np.testing.assert_allclose(row, uniform(int(seed), int(at), 0, shape.indices), atol=3e-7)


@pytest.mark.parametrize("vocab_size", [50, 4096])
def test_the_graph_is_valid_and_the_same_every_time(vocab_size: int) -> None:
    proto = model(vocab_size)
    onnx.checker.check_model(proto, full_check=True)
    assert proto.SerializeToString() == model(vocab_size).SerializeToString()
