"""The rooms and their doors: who may import whom, and what serving never loads."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERED = ("luminanet", "training", "export", "serving")
PACKAGES = (*LAYERED, "loadtest", "benchmarks", "monitoring")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60
    )


def test_the_import_contracts_are_kept() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stdout


INJECTED = {
    "export/network/choose.py": "training.model.inputs",
    "luminanet/topology.py": "luminanet.artifact.manifest",
    "training/data/batches.py": "training.evolution.evolve",
    "export/graph/splice.py": "export.checks.verify",
    "serving/runtimes/cuda.py": "serving.api.routes",
    "serving/engines/engine.py": "export.freeze",
    "loadtest/plan.py": "serving.metrics",
}
"""A module -> what it must not import."""


def test_a_forbidden_import_breaks_its_contract(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in (*LAYERED, "loadtest"):
        shutil.copytree(ROOT / package, tmp_path / package)
    for file, module in INJECTED.items():
        path = tmp_path / file
        path.write_text(path.read_text("utf-8") + f"\nimport {module}\n", "utf-8")
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120
    )
    assert done.returncode == 1, done.stdout
    for file, module in INJECTED.items():
        importer = file.removesuffix(".py").replace("/", ".")
        assert f"{importer} -> {module}" in done.stdout


@pytest.mark.parametrize("package", [*LAYERED, "loadtest", "monitoring"])
def test_a_reading_order_names_every_module(package: str) -> None:
    for folder in {path.parent for path in (ROOT / package).rglob("*.py")}:
        text = (folder / "__init__.py").read_text("utf-8")
        rooms = [*folder.glob("*.py"), *(p.parent for p in folder.glob("*/__init__.py"))]
        names = {path.stem for path in rooms} - {"__init__"}
        missing = {name for name in names if not re.search(rf"\b{name}\b", text)}
        assert not missing, f"{folder.relative_to(ROOT)}/__init__.py leaves out {sorted(missing)}"


def test_no_folder_is_a_long_corridor() -> None:
    folders = {path.parent for package in LAYERED for path in (ROOT / package).rglob("*.py")}
    counts = {str(f.relative_to(ROOT)): len([*f.glob("*.py")]) - 1 for f in folders}
    assert not {name: count for name, count in counts.items() if count > 13}


def test_no_folder_of_code_is_ignored_by_git() -> None:
    """Such a folder lacks its new files in a clone and in a wheel, and is not linted."""
    lines = (ROOT / ".gitignore").read_text("utf-8").splitlines()
    ignored = {line.rstrip("/") for line in lines if not line.startswith("/")}
    files = {path for package in (*PACKAGES, "tests") for path in (ROOT / package).rglob("*.py")}
    folders = {folder for path in files for folder in path.relative_to(ROOT).parent.parts}
    assert len(folders) > 20
    assert not folders & ignored


def test_serving_does_not_load_torch() -> None:
    done = python(
        "import sys; sys.modules['torch'] = None\n"
        "import serving.app, serving.models.load, serving.server\n"
        "print('torch' in sys.modules and sys.modules['torch'] is not None)"
    )
    assert done.stdout.strip() == "False", done.stderr


def test_the_graph_builder_does_not_load_torch() -> None:
    done = python(
        "import sys, export.network.unroll, export.gpt2.cached; print('torch' in sys.modules)"
    )
    assert done.stdout.strip() == "False", done.stderr


def test_no_module_is_so_long_that_one_has_to_scroll_to_remember_where_one_is() -> None:
    modules = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    long = {str(p): n for p in modules if (n := len(p.read_text().splitlines())) > 350}
    assert len(modules) > 30
    assert not long
