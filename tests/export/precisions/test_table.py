"""The rows of the table of precisions fit each other, and what an artifact and a server ask."""

from itertools import groupby
from typing import get_args

import pytest

from export.precisions.table import ROWS, TABLE, WORDS, Row
from luminanet.artifact.manifest import GRAPH_FILE, Precision, Runtime, Served


def test_every_precision_has_its_row_its_word_and_a_file_of_its_own() -> None:
    assert list(TABLE) == list(Precision) == [p for found in WORDS.values() for p in found]
    assert all(GRAPH_FILE.fullmatch(row.file) for row in ROWS)
    assert len({row.file for row in ROWS}) == len(ROWS)


def test_graphs_of_one_word_share_the_batch_sizes() -> None:
    for _, rows in groupby(ROWS, lambda row: row.word):
        batches = [row.from_batch for row in rows]
        assert batches[0] == 1
        assert batches == sorted(set(batches))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.precision)
def test_what_a_server_is_asked_for_is_what_the_command_line_makes(row: Row) -> None:
    assert row.precision.served == (row.word if row.runtime is not Runtime.TENSORRT else None)


def test_every_word_of_the_server_has_graphs() -> None:
    assert {p.served for p in Precision if p.served} == set(get_args(Served))
