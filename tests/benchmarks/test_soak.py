"""A soak holds what clients sent against what the server counted."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.soak import mix
from benchmarks.soak.clients import Seen, run
from benchmarks.soak.laws import counts, laws
from benchmarks.soak.mix import Leave, Request, errands
from loadtest import workload
from serving.models.load import load
from tests.nets import write_tiny_artifacts
from tests.serving.helpers import running, wait_until

SENT = 150


def test_a_short_soak_of_a_whole_server_breaks_no_law(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_artifacts(tmp_path, decode=(4,))
    for module in mix, workload:  # texts that fit the tiny contexts
        monkeypatch.setattr(module, "PROMPTS", ("a", "Once"))
    with running(load(tmp_path, threads=1)) as server:
        before = counts(server.client.get("/metrics").text)
        url = str(server.client.base_url)
        seen = asyncio.run(run(url, errands(0, SENT), clients=4))
        wait_until(lambda: server.service.idle)
        server.client.get("/health/live")  # the connections of those who left are closed by then
        found = laws(seen, before, counts(server.client.get("/metrics").text))
    assert len(seen) == SENT
    assert {leave for one in seen if (leave := one.leaves)} == set(Leave)
    assert not [one.fault for one in seen if one.fault]
    assert not [law for law in found if not law.holds]


def test_errands_follow_from_the_seed() -> None:
    assert [*errands(1, 50)] == [*errands(1, 50)] != [*errands(2, 50)]


def test_a_request_that_was_counted_twice_or_not_at_all_breaks_a_law() -> None:
    one = Seen(Request("", "/generate", b"", "gpt2"), 0.0, 200, "stop")
    kinds = ("answers", "/generate"), ("finished", "gpt2")
    right = Counter({(*kind, *end): 1 for kind in kinds for end in ((), ("200",), ("stop",))})
    del right["answers", "/generate", "stop"], right["finished", "gpt2", "200"]
    assert all(law.holds for law in laws([one], {}, right))
    for key in right:
        for wrong in 0, 2:
            found = laws([one], {}, Counter({**right, key: wrong}))
            assert [law.what for law in found if not law.holds] == [" ".join(key)]


def test_what_no_client_sent_breaks_a_law() -> None:
    (found,) = laws([], {}, Counter({("answers", "/generate", "500"): 1}))
    assert not found.holds


def test_of_one_who_left_it_is_open_how_it_ended_and_not_whether_it_ended_twice() -> None:
    left = Seen(Request("", "/generate", b"", "gpt2"), 0.0, 200, leaves=Leave.ANSWER)
    for ending in "stop", "cancelled":
        after = Counter(
            {
                ("answers", "/generate"): 1,
                ("answers", "/generate", "200"): 1,
                ("finished", "gpt2"): 1,
                ("finished", "gpt2", ending): 1,
            }
        )
        assert all(law.holds for law in laws([left], {}, after))
        after["finished", "gpt2"] = 2
        assert not all(law.holds for law in laws([left], {}, after))
