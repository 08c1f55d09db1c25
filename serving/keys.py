"""API keys: a file holds one SHA-256 a line, a client sends the key. `python -m serving.keys` makes
one: the key goes to stderr, to be given away, and its line to stdout, to be kept:

    python -m serving.keys "who it is for" >> keys.txt

A key is 256 random bits, which nobody guesses, so a plain hash of it is enough.
"""

import argparse
import hmac
import re
import secrets
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from luminanet.errors import ConfigError

KEY_BYTES = 32
LINE = re.compile(r"([0-9a-f]{64})(\s.*)?", re.ASCII)


class Keys:
    """The keys that are accepted, as hashes."""

    def __init__(self, hashes: Sequence[bytes]) -> None:
        self._hashes = tuple(hashes)

    def __len__(self) -> int:
        return len(self._hashes)

    def find(self, key: bytes) -> int | None:
        """The number of a key in the file. All are compared, each in constant time."""
        given = sha256(key).digest()
        same = [hmac.compare_digest(known, given) for known in self._hashes]
        return same.index(True) if any(same) else None


def read(path: Path) -> Keys:
    """Raises ConfigError. Lines are `hash who`; empty ones and those with # first are notes."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(f"{path} cannot be read: {reason}") from error
    hashes = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            match = LINE.fullmatch(line)
            if match is None:
                raise ConfigError(
                    f"{path}, line {number}: this is no SHA-256 in hex: make a key with "
                    f"`python -m serving.keys >> {path}`"
                )
            hashes.append(bytes.fromhex(match[1]))
    if not hashes:
        raise ConfigError(f"{path} has no key: make one with `python -m serving.keys >> {path}`")
    return Keys(hashes)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m serving.keys", description="Makes an API key.")
    parser.add_argument("who", nargs="*", help="who it is for: a note beside its hash")
    key = secrets.token_urlsafe(KEY_BYTES)
    who = " ".join(" ".join(parser.parse_args(arguments).who).split())
    print(f"{sha256(key.encode()).hexdigest()} {who}".rstrip())
    print(f"the key, shown once: {key}", file=sys.stderr)


if __name__ == "__main__":
    main()
