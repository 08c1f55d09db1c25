"""A Dockerfile that is read, and whose steps are done without an engine: in folders instead of
layers, with a virtual environment instead of the base image's Python."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

TOPS = ("venv", "tools", "source", "artifacts", "app")
"""Folders at the root of a layer: /venv is STAGE/venv here."""
KEPT = ("PIP_", "SSL_", "http_", "https_", "HTTP_", "HTTPS_", "NO_PROXY", "no_proxy")
"""Variables of this machine by which pip finds packages."""

Sends = Callable[[Path], bool]
"""Whether a file of the context is sent to the engine."""


@dataclass(frozen=True, slots=True)
class Step:
    """An instruction, its flags (`--from=build`) and the rest of its line."""

    name: str
    flags: Mapping[str, str]
    text: str

    @property
    def words(self) -> list[str]:
        """Of the exec form, or split as a shell does."""
        if self.text.startswith("["):
            return [str(word) for word in json.loads(self.text)]
        return shlex.split(self.text)


@dataclass(frozen=True, slots=True)
class Stage:
    """FROM `base` AS `name`, and its steps."""

    base: str
    name: str
    steps: Sequence[Step]

    def all(self, name: str) -> list[Step]:
        return [step for step in self.steps if step.name == name]

    def last(self, name: str) -> Step:
        return self.all(name)[-1]


def parse(text: str, arguments: Mapping[str, str]) -> list[Stage]:
    """The stages of a Dockerfile; `arguments` replace what ARG lines set."""
    outer: dict[str, str] = {}
    stages: list[Stage] = []
    steps: list[Step] = []
    for line in _lines(text):
        step = _step(line)
        if step.name == "ARG":
            name, _, value = step.text.partition("=")
            value = arguments.get(name, value or outer.get(name, ""))
            if stages:
                steps.append(Step("ARG", {}, f"{name}={value}"))
            else:
                outer[name] = value
        elif step.name == "FROM":
            base, *alias = _expand(step.text, outer).split()
            steps = []
            stages.append(Stage(base, alias[1] if alias else "", steps))
        else:
            steps.append(step)
    return stages


def _lines(text: str) -> list[str]:
    """Instructions, one each: comments left out, continued lines joined."""
    kept = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(kept).replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip()]


def _step(line: str) -> Step:
    name, _, rest = line.partition(" ")
    flags = {}
    while found := re.match(r"\s*--([\w-]+)=(\S+)\s*", rest):
        flags[found[1]] = found[2]
        rest = rest[found.end() :]
    return Step(name.upper(), flags, rest.strip())


def _expand(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\$\{?(\w+)\}?", lambda found: values.get(found[1], found[0]), text)


@dataclass
class Layer:
    """A stage that was done: its folder, its variables and where it stands."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    where: str = "/"

    def path(self, name: str) -> Path:
        """A path of the layer in its folder."""
        return self.folder / str(PurePosixPath(self.where) / name).lstrip("/")

    def here(self, text: str) -> str:
        """A command or value of the layer as it is to be read here."""
        tops = "|".join(TOPS)
        return re.sub(rf"(?<![\w./-])/({tops})(?=[/\s\"':]|$)", rf"{self.folder}/\1", text)

    def environment(self, python: Path) -> dict[str, str]:
        """What a command of the layer sees."""
        own = {name: value for name, value in os.environ.items() if name.startswith(KEPT)}
        path = os.pathsep.join((str(python), os.defpath))
        seen = {**own, "HOME": "/tmp", "LANG": "C.UTF-8", "PATH": path}
        for name, value in self.variables.items():
            seen[name] = self.here(_expand(value, seen))
        return seen


class Builder:
    """Does the steps of stages, in folders below `root`, with files of `context`."""

    def __init__(self, root: Path, context: Path) -> None:
        self.root, self.context = root, context
        self.layers: dict[str, Layer] = {}
        self.python = root / "python" / "bin"
        subprocess.run([sys.executable, "-m", "venv", self.python.parent], check=True)

    def build(self, stages: Sequence[Stage]) -> Layer:
        """The last stage, after those that it stands on and no others."""
        by_name = {stage.name: stage for stage in stages}
        needed = _needed(stages[-1], by_name)
        for stage in [stage for stage in stages if stage in needed]:
            layer = self._from(stage)
            for step in stage.steps:
                print(f"{stage.name or 'last'}: {step.name} {step.text[:90]}", flush=True)
                getattr(self, f"_{step.name.lower()}", self._nothing)(step, layer)
            self.layers[stage.name] = layer
        return layer

    def _from(self, stage: Stage) -> Layer:
        folder = self.root / (stage.name or "last")
        base = self.layers.get(stage.base)
        if base:
            shutil.copytree(base.folder, folder, symlinks=True)
            return Layer(folder, dict(base.variables), base.where)
        folder.mkdir()
        return Layer(folder)

    def _nothing(self, step: Step, layer: Layer) -> None:
        """LABEL, EXPOSE, HEALTHCHECK, USER and ENTRYPOINT make no files."""

    def _arg(self, step: Step, layer: Layer) -> None:
        name, _, value = step.text.partition("=")
        layer.variables[name] = value

    def _env(self, step: Step, layer: Layer) -> None:
        layer.variables |= dict(word.split("=", 1) for word in step.words)

    def _workdir(self, step: Step, layer: Layer) -> None:
        layer.where = step.text
        layer.path(".").mkdir(parents=True, exist_ok=True)

    def _copy(self, step: Step, layer: Layer) -> None:
        *sources, target = step.words
        into = layer.path(target)
        for source in sources:
            if "from" in step.flags:
                _copy_into(self.layers[step.flags["from"]].path(source), into, lambda _: True)
            else:
                ignore = Ignore((self.context / ".dockerignore").read_text("utf-8"))
                _copy_into(self.context / source, into, self._sends(ignore))

    def _sends(self, ignore: "Ignore") -> Sends:
        return lambda path: not ignore.leaves_out(path.relative_to(self.context).as_posix())

    def _run(self, step: Step, layer: Layer) -> None:
        subprocess.run(
            ["sh", "-c", layer.here(step.text)],
            cwd=layer.path("."),
            env=layer.environment(self.python),
            check=True,
        )


def _needed(stage: Stage, by_name: Mapping[str, Stage]) -> list[Stage]:
    copied = [step.flags["from"] for step in stage.all("COPY") if "from" in step.flags]
    below = [by_name[name] for name in (stage.base, *copied) if name in by_name]
    return [stage, *(more for found in below for more in _needed(found, by_name))]


def _copy_into(source: Path, target: Path, sends: Sends) -> None:
    """As COPY does: of a folder what is in it."""
    if source.is_file():
        is_folder = target.is_dir()
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target / source.name if is_folder else target)
        return

    def left_out(folder: str, names: list[str]) -> Iterable[str]:
        return [name for name in names if not sends(Path(folder) / name)]

    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=left_out)


class Ignore:
    """.dockerignore: the last pattern that matches a path or a folder above it decides."""

    def __init__(self, text: str) -> None:
        self._rules = [
            (line.startswith("!"), _pattern(line.removeprefix("!")))
            for line in text.splitlines()
            if line and not line.startswith("#")
        ]

    def leaves_out(self, path: str) -> bool:
        out = False
        for keeps, pattern in self._rules:
            if pattern.fullmatch(path):
                out = not keeps
        return out


def _pattern(text: str) -> re.Pattern[str]:
    parts = {"**/": "(?:.*/)?", "*": "[^/]*"}
    pieces = re.split(r"(\*\*/|\*)", text)
    return re.compile("".join(parts.get(piece, re.escape(piece)) for piece in pieces) + "(?:/.*)?")
