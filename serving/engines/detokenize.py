"""Tokens -> the text a client gets: decoding, and stop strings that may span tokens."""

from collections.abc import Sequence

from luminanet.tokenizer import TextStream


class StopFilter:
    """Cuts a stream of text before the first stop string; what might become one is held back.

    The first stop string is the one that is complete first, whatever the pieces the text comes
    in; of several complete at the same character the longest. Text after it is never given.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """What can be given now, and whether a stop string was met."""
        if not self._stops:
            return text, False
        text = self._held + text
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self._held = ""
            return text[: min(found)[1]], True
        safe = len(text) - self._possible_prefix(text)
        self._held = text[safe:]
        return text[:safe], False

    def flush(self) -> str:
        """What was held back, at the end of the text."""
        held, self._held = self._held, ""
        return held

    def _possible_prefix(self, text: str) -> int:
        """Length of the longest end of `text` that begins a stop string."""
        longest = min(len(text), max(map(len, self._stops)) - 1)
        for length in range(longest, 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0


class Transcript:
    """The text of one generation, piece by piece; its first `unstopped` tokens are not searched for
    stop strings."""

    def __init__(self, stream: TextStream, stops: Sequence[str], unstopped: int = 0) -> None:
        self._stream = stream
        self._filter = StopFilter(stops)
        self._unstopped = unstopped

    def push(self, token: int) -> tuple[str, bool]:
        text = self._stream.push(token)
        if self._unstopped:
            self._unstopped -= 1
            return text, False
        return self._filter.push(text)

    def flush(self) -> str:
        return self._filter.flush()
