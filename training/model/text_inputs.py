"""What a network takes from a text, for training: all kinds of fields, echoes and habits.

Seen from all positions of a sequence at once, or from the last one alone. Shape legend: K clusters
of a group, B sequences, T tokens, N positions (B * T, or B: the last ones), F echoes, and the
legend of frozen.py.
"""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from luminanet.fields import Lags, Recall, TextField, TextInput, in_order, is_pooled
from luminanet.frozen import HASH, SALIENCE_RATE, SALIENCE_START
from luminanet.reference import NO_TOKEN
from luminanet.topology import Topology
from training.model.inputs import Group

Seen = dict[TextField, Tensor]
"""Every field, as rows of a table [N, E]."""


class TextFields(nn.Module):
    """Tokens [B, T] and their embeddings [B, T, E] -> per group what its clusters see of them,
    [K, N, I]."""

    def __init__(self, topology: Topology, groups: tuple[Group, ...]) -> None:
        super().__init__()
        assert isinstance(topology.input, TextInput)
        self.shape = topology.input
        self.fields = [[c.text_fields for c in group.clusters] for group in groups]

    def forward(self, tokens_BT: Tensor, rows_BTE: Tensor, newest: bool = False) -> list[Tensor]:
        distinct = {field for group in self.fields for own in group for field in own}
        found = self.look(tokens_BT, rows_BTE, distinct, newest)
        positions = tokens_BT[:, -1] if newest else tokens_BT
        nothing = rows_BTE.new_zeros(positions.numel(), 0)
        return [
            torch.stack([torch.cat([nothing, *(found[i] for i in fields)], 1) for fields in group])
            for group in self.fields
        ]

    def look(
        self, tokens_BT: Tensor, rows_BTE: Tensor, fields: Iterable[TextField], newest: bool = False
    ) -> Seen:
        """What is seen of each field, [N, E], in `rows_BTE`, one for every token."""
        look = _from_the_last if newest else self._from_all
        return look(tokens_BT, rows_BTE, in_order(fields))

    def _from_all(self, tokens_BT: Tensor, rows_BTE: Tensor, fields: list[TextField]) -> Seen:
        length, window = rows_BTE.shape[1], self.shape.window
        if recalls := [f for f in fields if isinstance(f, Recall)]:
            followers = followers_of(tokens_BT, recalls, window)
            after_nothing = F.pad(rows_BTE, (0, 0, 1, 0))
        # padded[:, window + t] is the token at t, lag 0.
        padded = F.pad(rows_BTE, (0, 0, window, 0))
        if any(map(is_pooled, fields)):
            totals = F.pad(padded.float().cumsum(1), (0, 0, 1, 0))

        def pooled(lags: range) -> Tensor:
            # A sum over lags that follow each other is a difference of two running totals.
            low, high = window + 1 - lags.stop, window + 1 - lags.start
            if len(lags) == 1:
                view = padded[:, high - 1 : high - 1 + length]
            else:
                total = totals[:, high : high + length] - totals[:, low : low + length]
                view = total / len(lags) ** 0.5
            return view.flatten(0, 1).to(rows_BTE.dtype)

        def recalled(recall: Recall) -> Tensor:
            at_BTE = followers[recall][..., None].expand_as(rows_BTE)
            return after_nothing.gather(1, at_BTE).flatten(0, 1)

        return {f: pooled(f.lags) if isinstance(f, Lags) else recalled(f) for f in fields}

    def echo(
        self,
        tokens_BT: Tensor,
        vocabulary_VO: Tensor,
        salience_VF: Tensor,
        gates_NF: Tensor,
        newest: bool = False,
    ) -> Tensor:
        """What the echoes add to the output [N, O] (frozen.TextHead)."""
        rows_BTO = F.embedding(tokens_BT, vocabulary_VO)
        scaled_BTF = SALIENCE_RATE * F.embedding(tokens_BT, salience_VF)
        salience_BTF = F.softplus(scaled_BTF + SALIENCE_START)
        total: Tensor = rows_BTO.new_zeros(())
        for f, field in enumerate(self.shape.echoes):
            rows = rows_BTO * salience_BTF[..., f : f + 1]
            seen = self.look(tokens_BT, rows, [field], newest)
            total = total + gates_NF[:, f : f + 1] * seen[field]
        return total


def habit(tokens_BT: Tensor, habit_PE: Tensor, newest: bool = False) -> Tensor:
    """The rows of the table for the newest two tokens at every position, [N, E]."""
    before_BT = F.pad(tokens_BT[:, :-1], (1, 0), value=NO_TOKEN)
    pairs_BT = (HASH[0] * before_BT + HASH[1] * tokens_BT)[:, -1 if newest else 0 :]
    return F.embedding(pairs_BT % len(habit_PE), habit_PE).flatten(0, 1)


def _from_the_last(tokens_BT: Tensor, rows_BTE: Tensor, fields: list[TextField]) -> Seen:
    """Of a text that is no longer than a window."""
    length = rows_BTE.shape[1]

    def pooled(lags: range) -> Tensor:
        first, end = (max(0, length - lag) for lag in (lags.stop, lags.start))
        seen_BE: Tensor = rows_BTE[:, first:end].sum(1) / len(lags) ** 0.5
        return seen_BE

    def recalled(recall: Recall) -> Tensor:
        if length < recall.order + recall.nth:
            return torch.zeros_like(rows_BTE[:, 0])
        runs = tokens_BT.unfold(1, recall.order, 1)
        alike = (runs[:, :-1] == runs[:, -1:]).all(2)
        places = torch.arange(recall.order, length, device=alike.device)
        last_B = torch.where(alike, places, 0).topk(recall.nth, 1).values[:, -1]
        # Place 0 follows nothing: there, nothing is recalled.
        found_BE: Tensor = rows_BTE[torch.arange(len(last_B)), last_B]
        return found_BE * (last_B > 0)[:, None]

    return {f: pooled(f.lags) if isinstance(f, Lags) else recalled(f) for f in fields}


def followers_of(tokens_BT: Tensor, recalls: Sequence[Recall], window: int) -> dict[Recall, Tensor]:
    """Where the newest tokens at every position stood before in the window ending there. [B, T] a
    recall: 1 + the position after them, the nth last such; 0 if they did not so often."""
    at_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
    back_TT = at_T[:, None] - at_T
    alike_BTT = tokens_BT[:, :, None] == tokens_BT[:, None]
    equal_BTT, found = alike_BTT, dict[Recall, Tensor]()
    for order in range(1, 1 + max(recall.order for recall in recalls)):
        if order > 1:
            alike_BTT = F.pad(alike_BTT[:, :-1, :-1], (1, 0, 1, 0))
            equal_BTT = equal_BTT & alike_BTT
        inside_TT = (back_TT > 0) & (back_TT <= window - order)
        places_BTT = torch.where(equal_BTT & inside_TT, at_T + 2, 0)
        for nth in range(1, 1 + max((r.nth for r in recalls if r.order == order), default=0)):
            if nth > 1:
                struck_BTT = places_BTT == found[Recall(order, nth - 1)][..., None]
                places_BTT = places_BTT.masked_fill(struck_BTT, 0)
            found[Recall(order, nth)] = places_BTT.amax(2)
    return found
