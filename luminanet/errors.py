"""One tree of errors. Every message says what is wrong, where, and how to mend it.

LuminaNetError
├── TopologyError        a network that cannot exist (or a mutation that would make one)
├── ConfigError          an option or preset that makes no sense
├── DataError            a data set that is missing or has another layout
├── CheckpointError      a ckpt.pt that cannot be read or resumed
├── ArtifactError        a frozen artifact that is missing, damaged or not to be trusted
├── ExportError          a graph that could not be built
│   └── VerificationError    a graph that disagrees with the numpy reference
├── DivergedError        a network that is no network any more: its loss is no number
├── DeviceError          a GPU, or its driver, that does not do what it is asked
└── MissingExtraError    an optional library is not installed
"""

from pathlib import Path


class LuminaNetError(Exception):
    """Base of all errors a user can cause and mend."""


class TopologyError(LuminaNetError):
    """A network that cannot exist."""


class ConfigError(LuminaNetError):
    """An option or preset that makes no sense."""


class DataError(LuminaNetError):
    """A data set that is missing or has another layout."""


class CheckpointError(LuminaNetError):
    """A checkpoint that cannot be read or resumed."""


class ArtifactError(LuminaNetError):
    """A frozen artifact that is missing, damaged or not to be trusted."""


class ExportError(LuminaNetError):
    """A graph that could not be built."""


class VerificationError(ExportError):
    """A graph that disagrees with the numpy reference."""


class DivergedError(LuminaNetError):
    """Training that led to weights, or to a loss, that are no numbers."""


class DeviceError(LuminaNetError):
    """A GPU, or its driver, that does not do what it is asked."""


class MissingExtraError(LuminaNetError):
    """An optional library is not installed."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f"{library} is not installed: pip install 'luminanet[{extra}]'")


def told(error: OSError, otherwise: Path | None = None) -> str:
    """What the operating system says, in one line: "runs/a/ckpt.pt: No space left on device"."""
    where, why = error.filename or otherwise, error.strerror or str(error)
    return f"{where}: {why}" if where else why
