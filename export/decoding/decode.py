"""Decode graphs: K steps of a text model with the sampler in between, in one call.

Their inputs and outputs, and what a caller binds to what, are told in luminanet/interface.py
(WindowGraphs.decode, CacheGraphs.decode). A GPT-2's reads prompts too, so that a server needs no
other graph. The caller adds what was read and drawn, less one, to past_lengths, and K to positions,
before the next call. A row that ends (the end-of-text token, a full context) goes on producing
tokens, and the caller cuts them off; a full cache is not overrun, but tokens from there on mean
nothing.

The steps are those of any graph that gives logits, whatever its form or precision. LuminaNet's are
a Loop whose body holds the weights, of which onnxruntime keeps two copies; outside of the body it
keeps one, and a token of a single row takes 5 to 11 % longer. GPT-2's are written out, because a
Loop would copy the cache. A node takes about 10 kB of a server's memory, so servers call the
float32 graph of one step K times, which is as fast.
"""

from collections.abc import Sequence

import numpy as np
import onnx

from export.decoding.sampler import Sampler, tokens
from export.graph.builder import Graph
from export.graph.declare import declare, declared
from export.graph.region import Region
from export.graph.splice import complete, splice
from luminanet.errors import ExportError
from luminanet.interface import (
    DRAWN,
    LENGTHS,
    LOGITS,
    LOGS,
    NEXT,
    READ,
    STEPS,
    TOKENS,
    CacheGraphs,
    WindowGraphs,
    present,
)

INT64 = onnx.TensorProto.INT64
INT32 = onnx.TensorProto.INT32


def decode_windows(step: onnx.ModelProto) -> onnx.ModelProto:
    """The decode graph around a graph token_ids -> logits. Raises ExportError for others."""
    graphs = declared(step)
    if not isinstance(graphs, WindowGraphs):
        raise ExportError("only a graph from token_ids to logits decodes text: give a text network")
    graph = Graph("luminanet-decode")
    declare(graph, graphs.decode())
    sampler, region = Sampler(graph, graphs.vocab_size, STEPS), Region(graph, "call/")

    def body(
        s: Region, number: str, state: Sequence[str]
    ) -> tuple[str, Sequence[str], Sequence[str]]:
        (window_BW,) = state
        logits_BV = splice(s, step, {TOKENS: window_BW})[LOGITS]
        token_B1, log_B1 = sampler.choose(s.graph, s.prefix, logits_BV, window_BW, number)
        one, far = s.constant("one", [1]), s.constant("far", [graphs.context])
        kept_BW = s.node("Slice", [window_BW, one, far, one], "window/kept")
        next_BW = s.node("Concat", [kept_BW, token_B1], "window/next", axis=1)
        return s.constant("go_on", np.array(True)), [next_BW], [token_B1, log_B1]

    go = region.constant("go_on", np.array(True))
    column = ("batch", 1)
    rows = [(np.int64, column), (np.float32, column)]
    state = [(TOKENS, (np.int64, ("batch", graphs.context)))]
    last_BW, ids_KB1, logs_KB1 = Region(graph, "").loop("decode", STEPS, go, state, body, rows)
    ids_1BK = region.node("Transpose", [ids_KB1], "ids/turned", perm=[2, 1, 0])
    logs_1BK = region.node("Transpose", [logs_KB1], "logs/turned", perm=[2, 1, 0])
    front = region.constant("front", [0])
    ids_BK = region.node("Squeeze", [ids_1BK, front], "ids")
    logs_BK = graph.node("Squeeze", [logs_1BK, front], LOGS)
    tokens(graph, ids_BK, logs_BK, DRAWN)
    graph.node("Identity", [last_BW], NEXT)
    return complete(graph)


def decode_caches(step: onnx.ModelProto, steps: int) -> onnx.ModelProto:
    """The decode graph around the graph of gpt2/cached.py. Raises ExportError for others."""
    graphs = declared(step)
    if steps < 1 or not isinstance(graphs, CacheGraphs):
        raise ExportError("only a graph with a cache decodes by steps, one at least: give a GPT-2")
    return _Caches(step, steps, graphs).model()


class _Caches:
    """The decode graph of a GPT-2 in the making."""

    def __init__(self, step: onnx.ModelProto, steps: int, graphs: CacheGraphs) -> None:
        self.step_graph = step
        self.steps = steps
        self.graphs = graphs
        self.graph = Graph("gpt2-decode")

    def model(self) -> onnx.ModelProto:
        graph = self.graph
        declare(graph, self.graphs.decode(self.steps))
        count = Region(graph, "call/").constant("steps", self.steps)
        self.sampler = Sampler(graph, self.graphs.vocab_size, count)
        ids, logs, text_BC = self.decode()
        ids_BK = graph.node("Concat", ids, "ids", axis=1)
        logs_BK = graph.node("Concat", logs, LOGS, axis=1)
        tokens(graph, ids_BK, logs_BK, DRAWN)
        graph.node("Identity", [text_BC], NEXT)
        return complete(graph)

    def decode(self) -> tuple[list[str], list[str], str]:
        """Adds all steps: token ids [B, 1] and their log-probabilities, and the text [B, C].

        The first reads R tokens of every row, each other the one that was drawn before it.
        """
        read_BR, past_B, columns = self.columns()
        text_BC = TOKENS
        tokens_BS = self.graph.node("GatherElements", [text_BC, read_BR], "read", axis=1)
        ids, logs = [], []
        for number, column_B1 in enumerate(columns):
            region = Region(self.graph, f"step{number}/")
            logits_BV = self.network(region, number, tokens_BS, past_B)
            tokens_BS, log_B1 = self.sampler.choose(
                self.graph, region.prefix, logits_BV, text_BC, region.constant("number", number)
            )
            text_BC = region.node(
                "ScatterElements", [text_BC, column_B1, tokens_BS], "text", axis=1
            )
            past_B = self.lengths(region, column_B1) if number < self.steps - 1 else ""
            ids.append(tokens_BS)
            logs.append(log_B1)
        return ids, logs, text_BC

    def columns(self) -> tuple[str, str, list[str]]:
        """Where the tokens stand that are read, int64 [B, R], how many are in the cache before,
        int32 [B], and where each step writes, int64 [B, 1]."""
        region = Region(self.graph, "columns/")
        axis, last = region.constant("axis", [1]), region.constant("last", self.graphs.context - 1)
        most = region.constant("most_past", np.int32(self.graphs.context - 1))
        past_B = region.node("Min", [LENGTHS, most], "past")
        past_B1 = region.node("Unsqueeze", [past_B, axis], "past/column")
        first_B1 = region.node("Cast", [past_B1], "first", to=INT64)
        zero, one = region.constant("zero", 0), region.constant("one", 1)
        ahead_R = region.node("Range", [zero, READ, one], "ahead")
        free_BR = region.node("Add", [first_B1, ahead_R], "read/free")
        read_BR = region.node("Min", [free_BR, last], "read")
        column_B1, columns = region.node("Add", [first_B1, READ], "write0/free"), []
        for number in range(self.steps):
            columns.append(region.node("Min", [column_B1, last], f"write{number}"))
            if number < self.steps - 1:
                column_B1 = region.node("Add", [column_B1, one], f"write{number + 1}/free")
        return read_BR, past_B, columns

    def lengths(self, region: Region, column_B1: str) -> str:
        """How many tokens are in the cache before the one that this step drew, int32 [B]."""
        axis = region.constant("axis", [1])
        lengths_B = region.node("Squeeze", [column_B1, axis], "lengths")
        return region.node("Cast", [lengths_B], LENGTHS, to=INT32)

    def network(self, region: Region, number: int, tokens_BS: str, past_B: str) -> str:
        """The logits [B, V] of one step; its presents are outputs, and the next step's pasts."""
        pasts = self.graphs.pasts
        before = {name: present(name, number - 1) if number else name for name in pasts}
        outputs = {present(name): present(name, number) for name in pasts}
        inputs = {TOKENS: tokens_BS, LENGTHS: past_B, **before}
        return splice(region, self.step_graph, inputs, outputs)[LOGITS]
