"""Who may ask, and how often: nothing but health answers without a key."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from luminanet.errors import ConfigError
from serving import keys, page
from serving.api.access import PROBES, Access, Bucket
from serving.app import create_app
from serving.keys import Keys
from serving.models.load import Models
from serving.settings import Settings
from tests.serving.helpers import Running, running

KEY, OTHER = "first key", "second key"
ORIGIN = "https://pages.example"


def line(key: str) -> str:
    return f"{sha256(key.encode()).hexdigest()}  somebody\n"


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys.txt"
    path.write_text(f"# who may ask\n\n{line(KEY)}{line(OTHER)}")
    return path


@pytest.fixture(scope="module")
def guarded(models: Models, key_file: Path) -> Iterator[Running]:
    with running(models, api_keys_file=key_file, cors_origins=ORIGIN) as server:
        yield server


def paths(routes: Any) -> Iterator[str]:
    """Of routes, and of the routers and mounts among them."""
    for route in routes:
        inner = getattr(route, "original_router", route)
        if path := getattr(route, "path", None):
            yield path
        if inner_routes := getattr(inner, "routes", None):
            yield from paths(inner_routes)


def test_every_route_needs_a_key_but_probes_and_the_page(guarded: Running, models: Models) -> None:
    found = set(paths(create_app(Settings(), models).routes))
    assert {"/generate", "/classify", "/models", "/metrics", "/docs", "/openapi.json"} < found
    opened = PROBES | page.public()
    assert found > opened > {"/", "/page/main.js"}
    assert "/page/topologies.json" in found - opened, "it tells of the models"
    for path in found | {"/nothing", "/health", "/health/live/", "//health/live"}:
        for method in "GET", "HEAD", "POST", "OPTIONS":
            response = guarded.client.request(method, path)
            assert (response.status_code == 401) == (path not in opened), (method, path)
    for path in opened:
        assert guarded.client.get(path).status_code == 200


def test_a_401_says_which_scheme_and_has_the_form_of_all_errors(guarded: Running) -> None:
    response = guarded.client.get("/models")
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert response.json()["error"]["type"] == "unauthorized"
    assert response.headers["x-request-id"]


@pytest.mark.parametrize("given", [f"Bearer {KEY}", f"bearer {OTHER}", f"BEARER  {KEY}"])
def test_a_known_key_is_let_in(guarded: Running, given: str) -> None:
    headers = {"authorization": given}
    assert guarded.client.get("/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"Bearer",
        KEY.encode(),
        b"Basic " + KEY.encode(),
        b"Bearer " + KEY[:-1].encode(),
        b"Bearer " + KEY.encode() + b"x",
        b"Bearer " + sha256(KEY.encode()).hexdigest().encode(),
        b"Bearer \xff\xfe",
    ],
)
def test_whatever_is_no_known_key_is_refused(guarded: Running, given: bytes) -> None:
    response = guarded.client.get("/models", headers={b"authorization": given})
    assert response.status_code == 401
    assert KEY not in response.text


def test_two_keys_in_one_request_are_none(guarded: Running) -> None:
    headers = [("authorization", f"Bearer {KEY}"), ("authorization", f"Bearer {OTHER}")]
    assert guarded.client.get("/models", headers=headers).status_code == 401


def test_every_hash_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return a == b

    monkeypatch.setattr("hmac.compare_digest", compare)
    hashes = [sha256(key.encode()).digest() for key in (KEY, OTHER)]
    assert Keys(hashes).find(KEY.encode()) == 0
    assert compared == [(known, hashes[0]) for known in hashes]


def test_a_key_that_the_command_makes_is_accepted(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "serving.keys", "Ada\nLovelace"]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    key = made.stderr.split(": ")[1].strip()
    (tmp_path / "keys.txt").write_text(made.stdout)
    assert made.stdout.endswith(" Ada Lovelace\n")
    assert key not in made.stdout
    assert keys.read(tmp_path / "keys.txt").find(key.encode()) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        (b"", "has no key"),
        (b"# nobody\n", "has no key"),
        (b"secret\n", "line 1"),
        (line(KEY).encode() + b"00 x\n", "line 2"),
        (line(KEY).upper().encode(), "line 1"),
        (b"\xff\n", "it is no text"),
    ],
)
def test_a_file_without_good_keys_is_refused(
    tmp_path: Path, text: bytes | None, words: str
) -> None:
    path = tmp_path / "keys.txt"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(ConfigError, match=words) as caught:
        keys.read(path)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------- how often


def test_a_bucket_gives_what_has_come_since_and_no_more_than_its_size() -> None:
    now_s = 100.0
    bucket = Bucket(2, lambda: now_s)
    assert [bucket.wait_s() for _ in range(3)] == [0, 0, 0.5]
    now_s += 0.25
    assert bucket.wait_s() == 0.25
    now_s += 0.25
    assert [bucket.wait_s() for _ in range(2)] == [0, 0.5]
    now_s += 1000
    assert [bucket.wait_s() for _ in range(3)] == [0, 0, 0.5]


def test_a_slow_rate_still_lets_one_in_at_once() -> None:
    bucket = Bucket(0.1, lambda: 0.0)
    assert [bucket.wait_s() for _ in range(2)] == [0, 10]


def test_a_key_that_asks_too_often_waits_and_others_do_not(models: Models, key_file: Path) -> None:
    with running(models, api_keys_file=key_file, rate_limit=0.01) as server:
        first, second = ({"authorization": f"Bearer {key}"} for key in (KEY, OTHER))
        assert server.client.get("/models", headers=first).status_code == 200
        refused = server.client.get("/models", headers=first)
        assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limited")
        assert 1 <= int(refused.headers["retry-after"]) <= 100
        assert server.client.get("/models", headers=second).status_code == 200
        assert server.client.get("/health/live", headers=first).status_code == 200


def test_what_is_no_request_passes(key_file: Path) -> None:
    seen: list[str] = []

    async def app(scope: Scope, _: Receive, __: Send) -> None:
        seen.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        raise NotImplementedError

    asyncio.run(Access(app, keys.read(key_file), 0)({"type": "lifespan"}, nothing, nothing))
    assert seen == ["lifespan"]


# ---------------------------------------------------------------------- pages of other origins

PREFLIGHT = {
    "origin": ORIGIN,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type",
}


def test_a_preflight_needs_no_key_and_its_answer_is_counted(guarded: Running) -> None:
    before = guarded.metric("requests_total", route="/generate", code="200")
    response = guarded.client.options("/generate", headers=PREFLIGHT)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert "authorization" in response.headers["access-control-allow-headers"].lower()
    assert response.headers["x-request-id"]
    assert guarded.metric("requests_total", route="/generate", code="200") == before + 1


def test_a_page_of_the_origin_can_read_answers_and_errors(guarded: Running) -> None:
    for key, code in (KEY, 200), ("unknown", 401):
        headers = {"origin": ORIGIN, "authorization": f"Bearer {key}"}
        response = guarded.client.get("/models", headers=headers)
        assert (response.status_code, response.headers["vary"]) == (code, "Origin")
        assert response.headers["access-control-allow-origin"] == ORIGIN
        assert "X-Request-ID" in response.headers["access-control-expose-headers"]


def test_a_page_of_another_origin_cannot(guarded: Running) -> None:
    other = {**PREFLIGHT, "origin": "https://elsewhere.example"}
    response = guarded.client.options("/generate", headers=other)
    assert response.status_code == 400
    assert "access-control-allow-origin" not in response.headers


def test_without_the_setting_no_page_can(server: Running) -> None:
    response = server.client.options("/generate", headers=PREFLIGHT)
    assert response.status_code == 405
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"cors_origins": "example.org"}, "no origin"),
        ({"cors_origins": "https://a.example/"}, "no origin"),
        ({"root_path": "luminanet"}, "no prefix"),
        ({"root_path": "/luminanet/"}, "no prefix"),
        ({"rate_limit": 1}, "set api_keys_file"),
    ],
)
def test_settings_of_access_that_make_no_sense_are_refused(
    settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        Settings(**settings)


def test_several_origins_are_separated_by_commas() -> None:
    assert Settings(cors_origins=" https://a.example, http://b:80 ,").origins == [
        "https://a.example",
        "http://b:80",
    ]
    assert Settings().origins == []
