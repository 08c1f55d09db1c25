"""Files that were damaged on their way."""

import zipfile
from pathlib import Path


def flip_a_bit(path: Path) -> None:
    """In the middle of the largest member of a zip archive, which a checkpoint is."""
    with zipfile.ZipFile(path) as archive:
        member = max(archive.infolist(), key=lambda member: member.file_size)
        content = archive.read(member)
    data = bytearray(path.read_bytes())
    data[data.index(content, member.header_offset) + len(content) // 2] ^= 1
    path.write_bytes(data)
