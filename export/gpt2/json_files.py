"""Text and JSON from the files of others, of bounded size."""

import json
from pathlib import Path
from typing import Any

from luminanet.errors import CheckpointError

MAX_BYTES = 1 << 26


def read_text(path: Path) -> str:
    """Raises CheckpointError when the file is missing, too large, or no UTF-8."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CheckpointError(f"{path} is larger than {MAX_BYTES} bytes")
        return path.read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} is missing: a GPT-2 directory has config.json, model.safetensors and "
            "tokenizer.json, as save_pretrained of the model and of the tokenizer write them"
        ) from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file. Raises CheckpointError as `read_text`, and when there is none."""
    try:
        raw = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} is damaged: it holds no object")
    return raw
