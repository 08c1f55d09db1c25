"""The inputs and outputs that a graph must have, and what a sequence keeps between two calls.

They are those of manifest.py and, of graphs that decode, of export/decoding/decode.py.
"""

from math import prod

import numpy as np

from luminanet.artifact.manifest import Family, Manifest, Role, Task
from luminanet.errors import ArtifactError
from luminanet.sampling import INPUTS
from serving.runtimes.onnxruntime_cpu import Tensor

IMAGE_SHAPE = (3, 32, 32)
MAX_STATE_BYTES = 1 << 30
"""What one sequence may keep between two tokens."""

LENGTHS = Tensor("past_lengths", "int32", (None,))

Interface = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]


def check_state(manifest: Manifest, where: str) -> None:
    """Raises ArtifactError when one sequence would need more memory than any real one."""
    if state_bytes(manifest) > MAX_STATE_BYTES:
        raise ArtifactError(
            f"{where} asks for {state_bytes(manifest):,} bytes for each sequence, more than "
            f"{MAX_STATE_BYTES:,}: freeze a model with a shorter context"
        )


def state_bytes(manifest: Manifest) -> int:
    """A text and a cache, and logits: what one row of a batch is bound to."""
    cache = 8 * manifest.layers * manifest.heads * manifest.context * manifest.head_width
    images = 4 * prod(IMAGE_SHAPE) if manifest.task is Task.CLASSIFICATION else 0
    return cache + images + 8 * manifest.context + 4 * (manifest.vocab_size + len(manifest.labels))


def check_interface(
    expected: Interface, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], where: str
) -> None:
    """Raises ArtifactError unless the graph has the interface that its manifest asks for."""
    for kind, wanted, found in zip(("inputs", "outputs"), expected, (inputs, outputs), strict=True):
        if {tensor.name: tensor for tensor in found} != {t.name: t for t in wanted}:
            raise ArtifactError(
                f"{where} has {kind} {'; '.join(map(str, found))}, but its manifest asks for "
                f"{'; '.join(map(str, wanted))}: freeze the model again"
            )


def interface(manifest: Manifest, role: Role = Role.LOGITS, steps: int = 0) -> Interface:
    """The inputs and outputs of a graph of this manifest; `steps` is GraphEntry.steps."""
    if role is Role.DECODE:
        return _decoding(manifest, steps)
    if manifest.task is Task.CLASSIFICATION:
        images = Tensor("images", "float32", (None, *IMAGE_SHAPE))
        return (images,), (Tensor("logits", "float32", (None, len(manifest.labels))),)
    logits = Tensor("logits", "float32", (None, manifest.vocab_size))
    if manifest.family is Family.LUMINANET:
        return (Tensor("token_ids", "int64", (None, manifest.context)),), (logits,)
    tokens = Tensor("token_ids", "int64", (None, None))
    past, present = cache(manifest, "past"), cache(manifest, "present")
    return (tokens, LENGTHS, *past), (logits, *present)


def _decoding(manifest: Manifest, steps: int) -> Interface:
    tokens = Tensor("token_ids", "int64", (None, manifest.context))
    asked = [Tensor(name, np.dtype(dtype).name, (None,)) for name, dtype in INPUTS.items()]
    drawn = (None, steps or None)
    outputs = (
        Tensor("sampled_ids", "int64", drawn),
        Tensor("log_probabilities", "float32", drawn),
        Tensor("next_token_ids", "int64", (None, manifest.context)),
    )
    if manifest.family is Family.LUMINANET:
        return (tokens, Tensor("steps", "int64", ()), *asked), outputs
    presents = [t for step in range(steps) for t in cache(manifest, "present", f".{step}")]
    return (tokens, LENGTHS, *cache(manifest, "past"), *asked), (*outputs, *presents)


def cache(manifest: Manifest, side: str, ending: str = "") -> tuple[Tensor, ...]:
    """The KV cache of a GPT-2 on one side of a graph, past or present."""
    shape = (None, manifest.heads, manifest.context, manifest.head_width)
    return tuple(
        Tensor(f"{side}_{part}.{layer}{ending}", "float32", shape)
        for layer in range(manifest.layers)
        for part in ("keys", "values")
    )
