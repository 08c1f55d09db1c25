"""`python -m benchmarks.examples CHECKPOINT --data DIR`: real inputs for `freeze.py --examples`.

They come from the part of the training data that no preset trains on: images with their mirror
images, windows of stories, or whole blocks of stories for a GPT-2. A first part, which is in no
example, is for calibration. The file is the one that export/checks/examples.py describes.

Shape legend: N examples, T tokens of a block, W window.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from export.checks.examples import Examples, feeds_of, save
from luminanet.artifact.manifest import TOKENIZER
from luminanet.errors import DataError, LuminaNetError
from luminanet.fields import TextInput
from luminanet.gpt2 import Gpt2Net
from luminanet.reference import NO_TOKEN
from luminanet.tokenizer import Tokenizer
from training.checkpoint import Checkpoint, load
from training.data.datasets import resolve
from training.presets import PRESETS
from training.run.task import prepare

EXAMPLES = 4000
HELD_OUT_ALWAYS = 0.04
"""The share of the images that no preset of any version trains on, with its first seed."""
CALIBRATION_BLOCKS = 8
CALIBRATION_IMAGES = 500


class Selected(NamedTuple):
    """Examples, and the inputs that their feeds were made of."""

    examples: Examples
    calibration: NDArray[Any]


def examples(checkpoint: Checkpoint, data: str | None) -> Selected:
    """Raises DataError where there is no data."""
    net, folder = checkpoint.net, resolve(data)
    shape = None if isinstance(net, Gpt2Net) else net.topology.input
    is_text = shape is None or isinstance(shape, TextInput)
    preset = PRESETS["tinystories" if is_text else "cifar10"].having(held_out=HELD_OUT_ALWAYS)
    with tempfile.TemporaryDirectory() as made:
        tokenizer = Path(made) / TOKENIZER
        tokenizer.write_text(checkpoint.tokenizer or "", "utf-8")
        held_out = prepare(preset, folder, tokenizer if is_text else None).source.held_out
    inputs = np.concatenate([batch.inputs.numpy() for batch in held_out])
    targets = np.concatenate([batch.targets.numpy() for batch in held_out])
    least = CALIBRATION_BLOCKS if is_text else CALIBRATION_IMAGES
    if len(inputs) <= least:
        raise DataError(
            f"only {len(inputs)} of the training data are held out, and {least} are for "
            "calibration: use the whole data set"
        )
    if not is_text:
        first, rest = inputs[:CALIBRATION_IMAGES], inputs[CALIBRATION_IMAGES:]
        both = np.concatenate([rest, rest[..., ::-1]])
        answers = np.tile(targets[CALIBRATION_IMAGES:], 2)
        return Selected(Examples(both, answers, feeds_of(net, first)), first)
    assert checkpoint.tokenizer
    spelled = _bytes_per_token(checkpoint.tokenizer, targets)
    first, rest, answers = (
        inputs[:CALIBRATION_BLOCKS],
        *(array[CALIBRATION_BLOCKS:] for array in (inputs, targets)),
    )
    if isinstance(net, Gpt2Net):
        blocks = EXAMPLES // inputs.shape[1]
        given = Examples(rest[:blocks], answers[:blocks], feeds_of(net, first), spelled)
        return Selected(given, first)
    assert isinstance(shape, TextInput)
    chosen = np.random.default_rng(0).permutation(answers.size)[:EXAMPLES]
    windows, first = _windows(rest, shape.window)[chosen], _windows(first, shape.window)
    given = Examples(windows, answers.reshape(-1)[chosen], feeds_of(net, first), spelled)
    return Selected(given, first)


def _bytes_per_token(tokenizer: str, ids: NDArray[np.int64]) -> float:
    text = Tokenizer.from_json(tokenizer).decode(ids.reshape(-1).tolist())
    return len(text.encode()) / ids.size


def _windows(inputs_NT: NDArray[np.int64], window: int) -> NDArray[np.int64]:
    """[N * T, W]: the window that ends at each position of each block."""
    padded = np.pad(inputs_NT, ((0, 0), (window, 0)), constant_values=NO_TOKEN)
    views = np.lib.stride_tricks.sliding_window_view(padded[:, 1:], window, axis=1)
    return np.ascontiguousarray(views.reshape(-1, window))


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 2 with one line on stderr for what a user can mend."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.examples", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="ckpt.pt, or the folder that has one")
    parser.add_argument("--data", help="folder of Parquet files; default as in training")
    parser.add_argument("--out", type=Path, default=Path("examples.npz"), help="file to write")
    arguments = parser.parse_args(argv)
    path: Path = arguments.checkpoint
    path = path / "ckpt.pt" if path.is_dir() else path
    try:
        checkpoint = load(path)
        found, calibration = examples(checkpoint, arguments.data)
        save(arguments.out, checkpoint.net, found, calibration)
    except (LuminaNetError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{arguments.out}: {len(found.inputs)} examples, {len(calibration)} to calibrate")
    return 0


if __name__ == "__main__":
    sys.exit(main())
