"""The memory of a text run does not depend on how many stories there are.

    LUMINANET_STREAM_MEGABYTES=2000 pytest tests/training/data/test_streaming.py -s

tries it with as much text as the whole of TinyStories has, in about half an hour.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.datasets import write_many_stories

MEGABYTES = int(os.environ.get("LUMINANET_STREAM_MEGABYTES", "100"))
TIMES = 8
MAY_RISE_KB = 40_000
WORDS = ["--preset", "gpt2", "--steps", "20", "--batch", "8", "--context", "64", "--width", "32"]
WORDS += ["--vocab-size", "1024", "--threads", "1"]
# ru_maxrss would count the memory of the process that starts this one.
TRAIN = """
import re, sys
from pathlib import Path
from training.train import main

status = main(sys.argv[1:])
print(re.search(r"VmHWM:.*", Path("/proc/self/status").read_text())[0])
sys.exit(status)
"""


def peak_kb(folder: Path, megabytes: int) -> int:
    """Of `python -m training.train` on so much text, tokenizer and all."""
    write_many_stories(folder / "data", megabytes)
    words = [*WORDS, "--data", str(folder / "data"), "--out", str(folder / "run")]
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, *words], capture_output=True, text=True, timeout=6000
    )
    assert done.returncode == 0, done.stderr
    found = re.search(r"VmHWM:\s*(\d+) kB", done.stdout)
    assert found
    return int(found[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read on Linux")
def test_peak_memory_stays_flat_with_a_hundred_megabytes(tmp_path: Path) -> None:
    little = peak_kb(tmp_path / "little", MEGABYTES // TIMES)
    much = peak_kb(tmp_path / "much", MEGABYTES)
    print(f"peak {little} kB with {MEGABYTES // TIMES} MB of text, {much} kB with {MEGABYTES} MB")
    assert (tmp_path / "much" / "run" / "tokens.bin").stat().st_size > 60_000 * MEGABYTES
    assert much - little < MAY_RISE_KB
