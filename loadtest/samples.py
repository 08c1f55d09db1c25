"""What one request was found to be, and the file that a run writes."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loadtest.plan import Step


@dataclass(frozen=True, slots=True)
class Sample:
    """Times in seconds of the system's monotonic clock.

    intended_s  when it was to be sent: in an open loop by the plan, in a closed one when it was
    first_s     first event with text; None where nothing was streamed
    tokens      generated; 0 for a picture
    gaps_s      from each event with text to the next
    error       "" for an answer that was whole
    """

    step: int
    shape: str
    intended_s: float
    sent_s: float
    done_s: float
    first_s: float | None = None
    last_s: float | None = None
    tokens: int = 0
    gaps_s: tuple[float, ...] = ()
    error: str = ""

    @property
    def latency_s(self) -> float:
        """done - intended: what a user waits, who does not care why."""
        return self.done_s - self.intended_s

    @property
    def service_s(self) -> float:
        """done - sent: what a closed loop would report."""
        return self.done_s - self.sent_s

    @property
    def lag_s(self) -> float:
        """sent - intended: how late the client was."""
        return self.sent_s - self.intended_s

    @property
    def ttft_s(self) -> float | None:
        """Time to the first token, from the intended time."""
        return None if self.first_s is None else self.first_s - self.intended_s

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first: (last - first) / (tokens - 1)."""
        if self.first_s is None or self.last_s is None or self.tokens < 2:
            return None
        return (self.last_s - self.first_s) / (self.tokens - 1)

    @property
    def tokens_per_second(self) -> float | None:
        """Of this one request, from the intended time to its end."""
        return self.tokens / self.latency_s if self.tokens and self.latency_s > 0 else None


@dataclass(frozen=True, slots=True)
class Recording:
    """A run that kept its schedule: its steps, when each began and ended, and its samples."""

    seed: int
    steps: Sequence[Step]
    spans_s: Sequence[tuple[float, float]]
    samples: Sequence[Sample]

    def write(self, path: Path) -> None:
        """Writes it whole or not at all. Raises OSError."""
        fresh = path.with_name(f".{path.name}.part")
        fresh.write_text(json.dumps(asdict(self)), "utf-8")
        fresh.replace(path)


def read(path: Path) -> Recording:
    """Raises OSError; the file is one that Recording.write wrote."""
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return Recording(
        seed=content["seed"],
        steps=[Step(**{**step, "shapes": tuple(step["shapes"])}) for step in content["steps"]],
        spans_s=[(begin, end) for begin, end in content["spans_s"]],
        samples=[Sample(**{**one, "gaps_s": tuple(one["gaps_s"])}) for one in content["samples"]],
    )
