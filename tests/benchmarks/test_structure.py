"""The command that counts rooms and arrows, on small checkouts and on this one."""

from pathlib import Path

import pytest

from benchmarks.structure import main, shape, shapes

LAYERS = """
[[tool.importlinter.contracts]]
type = "layers"
containers = ["luminanet"]
layers = ["(top)", "middle : beside", "deep"]
"""


def checkout(root: Path, files: dict[str, str], project: str = "") -> Path:
    for name, text in files.items():
        path = root / "luminanet" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        (path.parent / "__init__.py").touch()
    (root / "luminanet" / "__init__.py").touch()
    (root / "pyproject.toml").write_text(project)
    return root


def test_rooms_and_the_arrows_between_them_are_counted(tmp_path: Path) -> None:
    files = {
        "top.py": "import luminanet.middle\nfrom luminanet.deep import one, two",
        "middle.py": "from luminanet.deep.one import ONE\nimport os",
        "deep/one.py": "ONE = 1",
        "deep/two.py": "from luminanet.deep import one",
    }
    found = shape(checkout(tmp_path, files), "luminanet")
    assert found.rooms == ("luminanet.deep", "luminanet.middle", "luminanet.top")
    assert found.arrows == {
        ("luminanet.top", "luminanet.middle"),
        ("luminanet.top", "luminanet.deep"),
        ("luminanet.middle", "luminanet.deep"),
    }
    assert (found.modules, found.longest, found.circles) == (6, 3, ())


@pytest.mark.parametrize(
    "back",
    [
        "import luminanet.one",
        "from luminanet import one",
        "from . import one",
        "from .one import name",
        "def later():\n    from luminanet.one import name",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import luminanet.one",
    ],
)
def test_a_circle_is_found_however_it_is_imported(tmp_path: Path, back: str) -> None:
    files = {"one.py": "import luminanet.two", "two.py": back, "three.py": "import luminanet.two"}
    assert shape(checkout(tmp_path, files), "luminanet").circles == (
        ("luminanet.one", "luminanet.two"),
    )


def test_a_circle_inside_a_folder_is_found(tmp_path: Path) -> None:
    files = {"a/one.py": "from . import two", "a/two.py": "from luminanet.a.one import name"}
    assert shape(checkout(tmp_path, files), "luminanet").circles == (
        ("luminanet.a.one", "luminanet.a.two"),
    )


def test_an_arrow_against_the_layers_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        "top.py": "import luminanet.deep",
        "middle.py": "import luminanet.beside",
        "beside.py": "",
        "deep.py": "import luminanet.middle",
    }
    root = checkout(tmp_path, files, LAYERS)
    assert shapes(root)[0].upward == (("luminanet.deep", "luminanet.middle"),)
    assert main([str(root)]) == 1
    out = capsys.readouterr().out
    assert "| `luminanet` | 5 | 4 | 3 | 4 | 1 | 0 |" in out
    assert "upward: luminanet.deep -> luminanet.middle" in out


def test_without_layers_nothing_is_called_upward(tmp_path: Path) -> None:
    root = checkout(tmp_path, {"one.py": ""})
    assert shapes(root)[0].row()[-2:] == ("no layers", "0")


def test_this_checkout_has_no_circle_and_no_upward_arrow() -> None:
    found = shapes(Path(__file__).parents[2])
    assert [shape.name for shape in found][:4] == ["luminanet", "training", "export", "serving"]
    assert not [fault for shape in found for fault in shape.faults()]
    assert all(shape.upward == () for shape in found[:4])
