"""What comes back -> how many tokens, and when. A failure is a line of text, "" for none."""

import json
from dataclasses import dataclass, field
from typing import Any

DATA = b"data: "
DONE = b"[DONE]"
CUT = "the stream ended without [DONE]"


@dataclass(slots=True)
class Stream:
    """The server-sent events of a generation, as they come. Times are those of the clock given.

    `first_s` is the first event with text that is not empty, `gaps_s` the waits from each such
    event to the next; one event holds all tokens of one call of the network.
    """

    first_s: float | None = None
    last_s: float | None = None
    gaps_s: list[float] = field(default_factory=list)
    tokens: int = 0
    text: str = ""
    error: str = CUT

    def frame(self, frame: bytes, now_s: float) -> None:
        """One event, `data: ` and what follows."""
        data = frame.strip().removeprefix(DATA)
        if data == DONE:
            self.error = "" if self.error == CUT else self.error
            return
        content = json.loads(data)
        if text := content.get("text"):
            self.text += text
            self._text(now_s)
        if "usage" in content:
            self.tokens = content["usage"]["completion_tokens"]
        if "error" in content:
            self.error = failure(content)

    def _text(self, now_s: float) -> None:
        if self.first_s is None:
            self.first_s = now_s
        if self.last_s is not None:
            self.gaps_s.append(now_s - self.last_s)
        self.last_s = now_s


def tokens_of(body: bytes) -> int:
    """Tokens of an answer that came whole; 0 for one without text."""
    content = json.loads(body)
    return int(content.get("usage", {}).get("completion_tokens", 0))


def failure(content: Any) -> str:
    """What an error answer says, in a few words."""
    error = content.get("error") if isinstance(content, dict) else None
    return str(error.get("type", error)) if isinstance(error, dict) else "no JSON error"
