"""Whether a graph takes and gives what its manifest asks for (luminanet/interface.py), and whether
a sequence fits into memory."""

from luminanet import interface
from luminanet.artifact.manifest import GraphEntry, Manifest, Role
from luminanet.errors import ArtifactError
from serving.runtimes.backend import Backend

MAX_STATE_BYTES = 1 << 30
"""What one sequence may keep between two tokens."""


def check_state(manifest: Manifest, where: str) -> None:
    """Raises ArtifactError when one sequence would need more memory than any real one."""
    if state_bytes(manifest) > MAX_STATE_BYTES:
        raise ArtifactError(
            f"{where} asks for {state_bytes(manifest):,} bytes for each sequence, more than "
            f"{MAX_STATE_BYTES:,}: freeze a model with a shorter context"
        )


def state_bytes(manifest: Manifest) -> int:
    """A text and a cache, and logits: what one row of a batch is bound to."""
    return interface.of(manifest).row_bytes


def check_interface(manifest: Manifest, entry: GraphEntry, backend: Backend, where: str) -> None:
    """Raises ArtifactError unless the graph has the interface that its manifest asks for; one that
    decodes gives its logits as well (decode_logits.py)."""
    wanted = interface.interface(manifest, entry.role, entry.steps)
    if entry.role is Role.DECODE:
        logits = interface.of(manifest).logits().outputs[0]
        wanted = wanted._replace(outputs=(*wanted.outputs, logits))
    found = interface.Interface(backend.inputs, backend.outputs)
    for kind, asked, there in zip(wanted._fields, wanted, found, strict=True):
        if {tensor.name: tensor for tensor in there} != {t.name: t for t in asked}:
            raise ArtifactError(
                f"{where} has {kind} {'; '.join(map(str, there))}, but its manifest asks for "
                f"{'; '.join(map(str, asked))}: freeze the model again"
            )
