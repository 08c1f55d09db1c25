"""What is told of a server that is asked more than it can."""

from benchmarks.overload import Found, Seen, row


def test_texts_that_are_refused_take_no_part_in_the_latency_of_those_that_are_taken() -> None:
    low = [Seen(0.1, 0.1, 200, False)]
    high = [Seen(0.2, 0.2, 200, False), Seen(9.0, 0.01, 429, True), Seen(9.0, 9.0, 0, False)]
    name, _, unloaded, taken, ratio, counts, retry, quick, _ = row("x", Found(1, low, high, 0))
    assert (name, unloaded, taken, ratio) == ("x", "100 ms", "200 ms", "2.0")
    assert (counts, retry, quick) == ("1, 1, 1", "1 of 1", "10.0, 10.0 ms")
