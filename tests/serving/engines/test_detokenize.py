"""Stop strings end the text wherever the borders of its pieces lie."""

from hypothesis import given
from hypothesis import strategies as st

from serving.engines.detokenize import StopFilter, Transcript
from tests.serving.helpers import Alphabet

TEXTS = st.text("ab", max_size=30)
STOPS = st.lists(st.text("ab", min_size=1, max_size=5), max_size=3)


def cut(text: str, stops: list[str]) -> str:
    """Letter by letter: the text before the stop string that is complete first (longest wins)."""
    for end in range(len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))]
    return text


@given(TEXTS, STOPS, st.data())
def test_the_text_is_cut_at_the_first_stop_string_in_whatever_pieces_it_comes(
    text: str, stops: list[str], data: st.DataObject
) -> None:
    borders = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *borders], [*borders, len(text)], strict=True)]
    stop_filter = StopFilter(stops)
    given_text, stopped = "", False
    for piece in pieces:
        if not stopped:
            out, stopped = stop_filter.push(piece)
            given_text += out
    given_text += stop_filter.flush()
    assert given_text == cut(text, stops)
    assert stopped == (given_text != text)


def test_only_what_may_become_a_stop_string_is_held_back() -> None:
    stop_filter = StopFilter(["END"])
    assert stop_filter.push("abE") == ("ab", False)
    assert stop_filter.push("N") == ("", False)
    assert stop_filter.push("Nc") == ("ENNc", False)
    assert stop_filter.push("E") == ("", False)
    assert stop_filter.flush() == "E"
    assert stop_filter.flush() == ""


def test_without_stop_strings_nothing_is_held_back() -> None:
    transcript = Transcript(Alphabet(), ())  # type: ignore[arg-type]
    assert [transcript.push(token) for token in (7, 8)] == [("h", False), ("i", False)]
    assert transcript.flush() == ""
