"""The page at / as it is served: whole, from here alone, and not twice."""

import json
import re
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from luminanet.artifact.directory import Artifact, write
from luminanet.artifact.manifest import TOPOLOGY, Family
from luminanet.topology import Topology
from serving import page
from serving.models.load import MAX_TOPOLOGY_BYTES, load
from tests.documents import ROOT
from tests.nets import write_tiny_artifacts
from tests.serving.helpers import Running

PARTS = [
    part
    for part in files("serving.page").iterdir()
    if part.name.endswith(("html", "css", "js", "svg"))
]
NAMES = sorted(part.name for part in PARTS)
PATHS = ["/" if name == page.INDEX else f"/page/{name}" for name in NAMES]
KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
NAMESPACE = "http://www.w3.org/2000/svg"


@pytest.mark.parametrize("name", NAMES)
def test_every_file_is_served_with_its_media_type(server: Running, name: str) -> None:
    answer = server.client.get("/" if name == page.INDEX else f"/page/{name}")
    assert answer.status_code == 200
    assert answer.content == (files("serving.page") / name).read_bytes()
    assert answer.headers["content-type"].split(";")[0] == KINDS[name.rpartition(".")[2]]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", [*PATHS, "/page/topologies.json"])
def test_nothing_may_run_or_be_asked_but_what_comes_from_here(server: Running, path: str) -> None:
    policy = server.client.get(path).headers["content-security-policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "unsafe" not in policy


@pytest.mark.parametrize("path", PATHS)
def test_a_browser_that_has_it_does_not_get_it_again(server: Running, path: str) -> None:
    first = server.client.get(path)
    etag = first.headers["etag"]
    for known in (etag, f'"other", W/{etag}'):
        again = server.client.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
        assert again.headers["content-security-policy"]
    assert server.client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_its_head_is_that_of_its_body(server: Running) -> None:
    head, whole = server.client.head("/"), server.client.get("/")
    assert head.content == b""
    assert head.headers["content-length"] == str(len(whole.content))


def test_a_page_takes_no_other_method_and_no_other_name(server: Running) -> None:
    assert server.client.post("/").status_code == 405
    for name in ("__init__.py", "none.js", "../app.py", "%2e%2e/app.py", ""):
        assert server.client.get(f"/page/{name}").status_code == 404


@pytest.mark.parametrize("name", NAMES)
def test_no_address_leads_elsewhere_or_breaks_behind_a_prefix(name: str) -> None:
    text = (files("serving.page") / name).read_text("utf-8").replace(NAMESPACE, "")
    assert not re.search(r"\b(https?|wss?):|[\"'(]//|[\"'(]data:", text)
    addresses = re.findall(
        r"""(?:href|src|action)=["']([^"']*)|(?:ask|fetch|from|import|url)\s*\(?\s*["']([^"']+)""",
        text,
    )
    for address in map("".join, addresses):
        assert not address.startswith("/"), address


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("html")])
def test_the_policy_forbids_nothing_that_the_page_does(name: str) -> None:
    text = (files("serving.page") / name).read_text("utf-8")
    assert not re.search(r"\sstyle=|\son\w+=|<style|<script(?![^>]* src=)|javascript:", text)


def test_what_a_file_imports_is_there() -> None:
    for part in PARTS:
        for name in re.findall(r'from "\./([^"]+)"', part.read_text("utf-8")):
            assert name in NAMES


def test_the_architectures_are_those_of_the_artifacts(server: Running) -> None:
    told = server.client.get("/page/topologies.json").json()
    cards = server.client.get("/models").json()["models"]
    assert set(told) == {card["name"] for card in cards if card["model"] == "luminanet"}
    for topology in told.values():
        assert Topology.from_json(json.dumps(topology)).clusters


BAD = {
    "no text": b"\xff",
    "no topology": b"{}",
    "deep": b"[" * 100_000,
    "large": b" " * (MAX_TOPOLOGY_BYTES + 1),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_an_architecture_that_cannot_be_read_is_not_shown_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: bytes
) -> None:
    write_tiny_artifacts(tmp_path, decode=(4,))
    where = tmp_path / "luminanet-cifar10" / "artifact"
    artifact = Artifact.open(where)
    kept = {name: artifact.read(name) for name in artifact.manifest.files or {}}
    write(where, artifact.manifest, {**kept, TOPOLOGY: bad})
    models = load(tmp_path, threads=1)
    assert models.image
    assert models.image.topology is None
    assert models.text[Family.LUMINANET].topology is not None
    (said,) = [
        record.getMessage() for record in caplog.records if record.name == "luminanet.models"
    ]
    assert said.startswith(f"the page cannot show {where / TOPOLOGY}: ")


def test_the_page_is_in_the_wheel(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as packed:
        assert {f"serving/page/{name}" for name in NAMES} <= set(packed.namelist())
