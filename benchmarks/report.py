"""Figures -> Markdown: tables, the machine they come from, and marked places in documents."""

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from luminanet import machine


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def provenance(command: str, packages: Sequence[str], seed: str) -> str:
    """One line: command, machine, versions, seed, date."""
    return f"`{command}` on {machine.line()}; {_versions(packages)}; seed {seed}; {_today()}.\n"


def made(packages: Sequence[str]) -> str:
    """Of one result among several: machine, versions, date."""
    return f"{machine.line()}; {_versions(packages)}; {_today()}"


def _versions(packages: Sequence[str]) -> str:
    return ", ".join(f"{package} {version(package)}" for package in packages)


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def replace_marked(path: Path, name: str, text: str) -> None:
    """Puts `text` between the lines `<!-- name:begin -->` and `<!-- name:end -->` of a file."""
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
    before, rest = path.read_text("utf-8").split(begin)
    _, after = rest.split(end)
    path.write_text(f"{before}{begin}{text}{end}{after}", "utf-8")
