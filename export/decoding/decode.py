"""Decode graphs: K steps of a text model with the sampler in between, in one call.

Both kinds take the parameters of every row (sampling.INPUTS, each [batch]) and give

    sampled_ids int64 [batch, K], NO_TOKEN where the logits named no token (a NaN, for example):
        what follows in that row means nothing, and the other rows are as ever
    log_probabilities float32 [batch, K], natural, of the plain softmax at temperature 1
    next_token_ids int64 [batch, context], which may be bound to the memory of token_ids

LuminaNet, K given at each call; the state of a sequence is its window:

    token_ids int64 [batch, context], newest last, NO_TOKEN before the text
    steps int64 [], how many tokens to draw

GPT-2, K fixed when the graph is built; token_ids is the text from its beginning:

    token_ids int64 [batch, context], column p holds token p, NO_TOKEN after the text
    past_lengths int32 [batch], tokens in the cache; the newest token, at that column, is not in it
    past_keys.N, past_values.N float32 [batch, heads, context, head width]
    -> present_keys.N.T, present_values.N.T for every step T < K

Every present of layer N must be bound to the very buffer of past N: the cache is updated in place.
The first `past_lengths` tokens of a text get into it through the graph of cached.py. The caller
adds K to past_lengths, and to positions, before the next call. A row that ends (the end-of-text
token, a full context) goes on producing tokens, and the caller cuts them off; a full cache is not
overrun, but tokens from there on mean nothing.

The steps are those of any graph with the interface of manifest.py, whatever its form or
precision. LuminaNet's are a Loop whose body holds the weights, so that onnxruntime prepares them
once; GPT-2's are written out, because a Loop would copy the cache.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from export.decoding.sampler import Sampler, tokens
from export.graph.builder import Graph, Shape
from export.graph.region import Region
from export.graph.splice import complete, shape, splice, width
from luminanet.errors import ExportError

INT64 = onnx.TensorProto.INT64
INT32 = onnx.TensorProto.INT32
PASTS = ("past_keys.", "past_values.")


def decode_windows(step: onnx.ModelProto) -> onnx.ModelProto:
    """The decode graph around a graph token_ids -> logits. Raises ExportError for others."""
    if [value.name for value in step.graph.input] != ["token_ids"]:
        raise ExportError("only a graph from token_ids to logits decodes text: give a text network")
    context, vocab_size = width(step.graph.input, "token_ids"), width(step.graph.output, "logits")
    graph = Graph("luminanet-decode")
    window = ("batch", context)
    graph.input("token_ids", np.int64, window)
    graph.input("steps", np.int64, [])
    sampler, region = Sampler(graph, vocab_size, "steps"), Region(graph, "call/")

    def body(
        s: Region, number: str, state: Sequence[str]
    ) -> tuple[str, Sequence[str], Sequence[str]]:
        (window_BW,) = state
        logits_BV = splice(s, step, {"token_ids": window_BW})["logits"]
        token_B1, log_B1 = sampler.choose(s.graph, s.prefix, logits_BV, window_BW, number)
        one, far = s.constant("one", [1]), s.constant("far", [context])
        kept_BW = s.node("Slice", [window_BW, one, far, one], "window/kept")
        next_BW = s.node("Concat", [kept_BW, token_B1], "window/next", axis=1)
        return s.constant("go_on", np.array(True)), [next_BW], [token_B1, log_B1]

    go = region.constant("go_on", np.array(True))
    column = ("batch", 1)
    rows = [(np.int64, column), (np.float32, column)]
    state = [("token_ids", (np.int64, window))]
    last_BW, ids_KB1, logs_KB1 = Region(graph, "").loop("decode", "steps", go, state, body, rows)
    ids_1BK = region.node("Transpose", [ids_KB1], "ids/turned", perm=[2, 1, 0])
    logs_1BK = region.node("Transpose", [logs_KB1], "logs/turned", perm=[2, 1, 0])
    front = region.constant("front", [0])
    ids_BK = region.node("Squeeze", [ids_1BK, front], "ids")
    logs_BK = graph.node("Squeeze", [logs_1BK, front], "log_probabilities")
    tokens(graph, ids_BK, logs_BK, "sampled_ids")
    graph.node("Identity", [last_BW], "next_token_ids")
    graph.output("sampled_ids", np.int64, ["batch", "steps"])
    graph.output("log_probabilities", np.float32, ["batch", "steps"])
    graph.output("next_token_ids", np.int64, window)
    return complete(graph)


def decode_caches(step: onnx.ModelProto, steps: int) -> onnx.ModelProto:
    """The decode graph around the graph of gpt2/cached.py. Raises ExportError for others."""
    shapes = {value.name: shape(value) for value in step.graph.input}
    caches = {name: sizes for name, sizes in shapes.items() if name.startswith(PASTS)}
    if steps < 1 or not caches:
        raise ExportError("only a graph with a cache decodes by steps, one at least: give a GPT-2")
    return _Caches(step, steps, caches).model()


class _Caches:
    """The decode graph of a GPT-2 in the making; `caches` are the names and shapes of pasts."""

    def __init__(self, step: onnx.ModelProto, steps: int, caches: Mapping[str, Shape]) -> None:
        self.context = width(step.graph.input, PASTS[0] + "0", -2)
        self.step_graph = step
        self.steps = steps
        self.caches = caches
        self.graph = Graph("gpt2-decode")

    def model(self) -> onnx.ModelProto:
        graph, text = self.graph, ("batch", self.context)
        graph.input("token_ids", np.int64, text)
        graph.input("past_lengths", np.int32, ["batch"])
        for name, sizes in self.caches.items():
            graph.input(name, np.float32, sizes)
        region, vocab_size = Region(graph, "call/"), width(self.step_graph.graph.output, "logits")
        self.sampler = Sampler(graph, vocab_size, region.constant("steps", self.steps))
        ids, logs, text_BC = self.decode()
        ids_BK = graph.node("Concat", ids, "ids", axis=1)
        logs_BK = graph.node("Concat", logs, "log_probabilities", axis=1)
        tokens(graph, ids_BK, logs_BK, "sampled_ids")
        graph.node("Identity", [text_BC], "next_token_ids")
        graph.output("sampled_ids", np.int64, ["batch", self.steps])
        graph.output("log_probabilities", np.float32, ["batch", self.steps])
        graph.output("next_token_ids", np.int64, text)
        for number in range(self.steps):
            for name, sizes in self.caches.items():
                graph.output(_present(name, number), np.float32, sizes)
        return complete(graph)

    def decode(self) -> tuple[list[str], list[str], str]:
        """Adds all steps: token ids [B, 1] and their log-probabilities, and the text [B, C]."""
        columns = self.columns()
        text_BC = "token_ids"
        newest_B1 = self.graph.node("GatherElements", [text_BC, columns[0]], "newest", axis=1)
        ids, logs = [], []
        for number in range(self.steps):
            region = Region(self.graph, f"step{number}/")
            logits_BV = self.network(region, number, newest_B1, columns[number])
            newest_B1, log_B1 = self.sampler.choose(
                self.graph, region.prefix, logits_BV, text_BC, region.constant("number", number)
            )
            inputs = [text_BC, columns[number + 1], newest_B1]
            text_BC = region.node("ScatterElements", inputs, "text", axis=1)
            ids.append(newest_B1)
            logs.append(log_B1)
        return ids, logs, text_BC

    def columns(self) -> list[str]:
        """Where the newest token stands before each step and after the last, int64 [B, 1]."""
        region = Region(self.graph, "columns/")
        axis, last = region.constant("axis", [1]), region.constant("last", self.context - 1)
        past_B1 = region.node("Unsqueeze", ["past_lengths", axis], "past")
        first_B1 = region.node("Cast", [past_B1], "first", to=INT64)
        ahead = [region.constant(f"ahead{i}", i) for i in range(self.steps + 1)]
        free = [region.node("Add", [first_B1, a], f"free{i}") for i, a in enumerate(ahead)]
        return [region.node("Min", [f, last], str(i)) for i, f in enumerate(free)]

    def network(self, region: Region, number: int, newest_B1: str, column_B1: str) -> str:
        """The logits [B, V] of one step; its presents are outputs, and the next step's pasts."""
        axis = region.constant("axis", [1])
        lengths_B = region.node("Squeeze", [column_B1, axis], "lengths")
        past_B = region.node("Cast", [lengths_B], "past_lengths", to=INT32)
        before = {name: _present(name, number - 1) if number else name for name in self.caches}
        outputs = {_present(name): _present(name, number) for name in self.caches}
        inputs = {"token_ids": newest_B1, "past_lengths": past_B, **before}
        return splice(region, self.step_graph, inputs, outputs)["logits"]


def _present(past: str, number: int | None = None) -> str:
    name = past.replace("past_", "present_", 1)
    return name if number is None else f"{name}.{number}"
