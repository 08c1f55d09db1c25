"""The rooms and their doors: who may import whom, and what serving never loads."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60
    )


def test_the_import_contracts_are_kept() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stdout


def test_serving_does_not_load_torch() -> None:
    done = python(
        "import sys; sys.modules['torch'] = None\n"
        "import serving.app, serving.models, serving.server\n"
        "print('torch' in sys.modules and sys.modules['torch'] is not None)"
    )
    assert done.stdout.strip() == "False", done.stderr


def test_the_graph_builder_does_not_load_torch() -> None:
    done = python("import sys, export.unroll, export.baseline; print('torch' in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr


def test_no_module_is_so_long_that_one_has_to_scroll_to_remember_where_one_is() -> None:
    packages = ("luminanet", "training", "export", "serving", "benchmarks")
    modules = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    long = {str(p): n for p in modules if (n := len(p.read_text().splitlines())) > 350}
    assert len(modules) > 30
    assert not long
