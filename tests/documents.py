"""The documents of this repository, their blocks of code, and how the commands in them are read."""

import argparse
import re
import runpy
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from serving.__main__ import read_settings
from serving.settings import Settings

ROOT = Path(__file__).parent.parent
README, SERVING = ROOT / "README.md", ROOT / "docs" / "serving.md"
CODE = ("luminanet", "training", "export", "serving", "loadtest", "monitoring", "benchmarks")
VARIABLES = {"LUMINANET_DATA", *(f"LUMINANET_{name.upper()}" for name in Settings.model_fields)}
FOREIGN = {
    "docker",
    "kubectl",
    "tensorboard",
    "pre-commit",
    "curl",
    "promtool",
    "apt-get",
    "locust",
}
"""Programs of others, whose options are not ours to check."""
FENCE = re.compile(
    r"(?:<!-- (?P<note>[^\n>]*) -->\n)?```(?P<kind>\w*)\n(?P<text>.*?)\n```\n", re.DOTALL
)
NOT_RUN = "not run: "


@dataclass(frozen=True, slots=True)
class Block:
    """Code between ``` in a document, and why it is not run ("" where it is)."""

    where: str
    kind: str
    text: str
    why_not: str


@dataclass(frozen=True, slots=True)
class Command:
    """A command of ours: the file of its module and its words, or a program of others."""

    words: tuple[str, ...]
    file: Path | None = None
    variables: tuple[str, ...] = ()


class WrongCommandError(AssertionError):
    """A document shows a command that does not exist."""


class _Parsed(BaseException):
    """The options were accepted: nothing more is done."""


@dataclass
class Page:
    path: Path
    text: str = field(init=False)

    def __post_init__(self) -> None:
        self.text = self.path.read_text("utf-8")

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    def blocks(self) -> Iterator[Block]:
        for found in FENCE.finditer(self.text):
            line = self.text.count("\n", 0, found.start("text")) + 1
            note = found["note"] or ""
            why_not = note.removeprefix(NOT_RUN) if note.startswith(NOT_RUN) else ""
            yield Block(f"{self.name}:{line}", found["kind"], found["text"], why_not)

    def commands(self) -> Iterator[str]:
        """Those of ours that stand in a line of text or in a table, with their options."""
        for code in re.findall(r"`([^`\n]+)`", self.prose()):
            if re.match(r"(\.venv/bin/)?(python|torchrun) .* ", code):
                yield code.replace("NAME", "cifar10")

    def prose(self) -> str:
        """Without blocks of code, and without what commands write between marks."""
        marked = r"<!-- (\w+):begin -->.*?<!-- \1:end -->\n"
        return re.sub(marked, "", FENCE.sub("", self.text), flags=re.DOTALL)


def pages() -> list[Page]:
    """What people read first to last: model cards and tables of measurements are not among them."""
    named = (README, ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md")
    return [Page(path) for path in (*named, *sorted((ROOT / "docs").glob("*.md")))]


def commands(text: str) -> list[Command]:
    """The commands of a shell block, one a line; a line that ends in a backslash goes on."""
    lines = text.replace("\\\n", " ").splitlines()
    return [command_of(words) for line in lines if (words := shlex.split(line, comments=True))]


def command_of(words: Sequence[str]) -> Command:
    """Raises WrongCommandError for a program, module, target or variable that does not exist."""
    variables = [word for word in words if re.match(r"[A-Z_]+=", word)]
    program, *rest = [
        Path(word).name if k == 0 else word
        for k, word in enumerate([word for word in words if word not in variables])
    ]
    if program == "export":
        variables, rest = rest, []
    if unknown := {name.split("=")[0] for name in variables} - VARIABLES:
        raise WrongCommandError(f"nobody reads {sorted(unknown)}")
    if program == "make":
        _check_targets(rest)
    elif program == "torchrun":
        return _distributed(rest)
    elif program == "python":
        file, options = _script(rest)
        return Command(tuple(options), file, tuple(variables))
    elif program not in FOREIGN | {"export"}:
        raise WrongCommandError(f"{program!r} is no program that these documents may use")
    return Command((program, *rest), None, tuple(variables))


def _check_targets(targets: Sequence[str]) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in targets:
        if not re.search(rf"^{target}:", makefile, re.MULTILINE):
            raise WrongCommandError(f"make knows no {target!r}")


def _script(words: Sequence[str]) -> tuple[Path, Sequence[str]]:
    """The words after `python` -> the file that is run, and its options."""
    if words[0] == "-m":
        return module_file(words[1]), words[2:]
    if not (ROOT / words[0]).is_file():
        raise WrongCommandError(f"there is no {words[0]}")
    return ROOT / words[0], words[1:]


def module_file(module: str) -> Path:
    """The file that `python -m module` runs."""
    path = ROOT.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__main__.py"):
        if file.is_file():
            return file
    raise WrongCommandError(f"python -m {module} does not exist")


def _distributed(words: Sequence[str]) -> Command:
    from torch.distributed.run import get_args_parser

    given = get_args_parser().parse_args(list(words))
    if not given.module:
        raise WrongCommandError("torchrun runs a module here: -m")
    return Command(tuple(given.training_script_args), module_file(given.training_script))


def run(command: Command) -> None:
    """Runs it in this process, in the folder that is the current one. Raises SystemExit."""
    assert command.file
    with patch("sys.argv", [str(command.file), *command.words]):
        runpy.run_path(str(command.file), run_name="__main__")


def check_options(command: Command) -> None:
    """The command's own parser reads its options; nothing is done. Raises SystemExit or a
    ConfigError when it refuses them."""
    if command.file == module_file("serving"):
        read_settings(command.words)
        return
    original = argparse.ArgumentParser.parse_args

    def parse(self: argparse.ArgumentParser, *given: object) -> None:
        original(self, *given)  # type: ignore[call-overload]
        raise _Parsed

    with patch.object(argparse.ArgumentParser, "parse_args", parse):
        try:
            run(command)
        except _Parsed:
            return
        except SystemExit as ended:
            if ended.code == 0:  # an option that is a whole command, such as --list
                return
            raise
    raise WrongCommandError(f"{command.file} takes no options")
