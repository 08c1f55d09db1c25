"""The page at / in a real Chromium: what people see, do, hear and reach by keyboard."""

import base64
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from benchmarks.browser import MISSING, browser, installed
from benchmarks.screenshots import ship
from luminanet.artifact.manifest import Family
from serving import errors
from serving.errors import OverloadedError
from serving.models.load import Models
from tests.serving.helpers import Running, all_cancelled, gated, running, wait_until

pytestmark = [
    pytest.mark.skipif(installed() is None, reason=MISSING),
    # playwright's own loop and sockets, closed when it is collected
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
PATIENCE_MS = 20_000
GRAVE = ("serious", "critical")
PHONE, DESK = 390, 1400
NUMBER = re.compile(r"^[\d.,]+$")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    with browser() as launched:
        yield launched


@pytest.fixture
def page(chromium: Browser, server: Running) -> Iterator[Page]:
    with opened(chromium, server) as page:
        yield page


@contextmanager
def opened(chromium: Browser, server: Running, path: str = "/", **options: Any) -> Iterator[Page]:
    """A page that breaks no rule of its policy and throws no error, to its end."""
    page = chromium.new_page(**options)
    page.set_default_timeout(PATIENCE_MS)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda line: wrong.append(line.text) if "Policy" in line.text else None)
    page.goto(f"{str(server.client.base_url).rstrip('/')}{path}")
    yield page
    page.close()
    assert not wrong


def write(page: Page, tokens: int = 12) -> None:
    page.get_by_label("How does the story begin?").fill("once upon")
    page.get_by_label("Most tokens").fill(str(tokens))
    page.get_by_label("Seed").fill("7")
    page.get_by_role("button", name="Write").click()


def choose(page: Page, content: bytes, kind: str = "image/png") -> None:
    file: Any = {"name": "ship", "mimeType": kind, "buffer": content}
    listening(page)
    page.get_by_label("Choose a file", exact=True).set_input_files(file)


def listening(page: Page) -> None:
    """Waits until the page hears of pictures, as people do who wait until they see where."""
    expect(page.locator("#easel")).to_be_visible()


def test_both_models_write_side_by_side(page: Page, server: Running) -> None:
    write(page)
    for model in ("luminanet", "gpt2"):
        expect(page.locator(f"#end-{model}")).to_contain_text("seed 7")
        asked = {"prompt": "once upon", "max_tokens": 12, "seed": 7, "model": model}
        whole = server.post("/generate", **asked).json()
        assert page.locator(f"#text-{model}").text_content() == "once upon" + whole["text"]
        expect(page.locator(f"#rate-{model}")).to_have_text(NUMBER)
        expect(page.locator(f"#state-{model}")).to_have_text(re.compile("bytes|KiB"))
    expect(page.locator("#told")).to_have_text(
        re.compile(r"LuminaNet wrote \d+ tokens\. GPT-2 wrote \d+ tokens\.")
    )


def test_a_server_with_keys_asks_for_one_and_keeps_it_for_the_tab(
    chromium: Browser, models: Models, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text(f"{sha256(b'mine').hexdigest()}  Ada\n", "utf-8")
    with running(models, api_keys_file=keys) as server, opened(chromium, server) as page:
        field, alert = page.get_by_label("API key"), page.locator("#problem")
        expect(alert).to_contain_text("This server needs a key")
        field.fill("of somebody else")
        field.press("Enter")
        expect(alert).to_contain_text("not known here")
        field.fill("mine")
        field.press("Enter")
        expect(page.get_by_role("heading", name="Write")).to_be_visible()
        expect(field).to_be_hidden()
        write(page)
        for model in ("luminanet", "gpt2"):
            expect(page.locator(f"#end-{model}")).to_contain_text("seed 7")
        page.reload()
        expect(page.get_by_role("heading", name="Write")).to_be_visible()
        page.get_by_role("link", name="Evolved networks").click()
        expect(page.locator("svg").first).to_be_visible()


def test_stop_ends_both_here_and_on_the_server(chromium: Browser, models: Models) -> None:
    slow, backend = gated(models)
    with running(slow) as server, opened(chromium, server) as page:
        backend.gate.clear()
        write(page, tokens=30)
        wait_until(lambda: bool(server.service.text("luminanet")[1]._running))
        page.keyboard.press("Escape")
        expect(page.locator("#end-luminanet")).to_contain_text("stopped")
        wait_until(lambda: all_cancelled(server))
        backend.gate.set()
        expect(page.get_by_role("button", name="Write")).to_be_focused()


def test_one_after_the_other_begins_the_second_when_the_first_has_ended(page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda r: asked.append(f"{r.post_data}") if "generate" in r.url else None)
    page.get_by_label("One after the other").check()
    write(page)
    expect(page.locator("#told")).to_contain_text("GPT-2 wrote")
    assert [re.findall('"model":"([^"]*)"', body) for body in asked] == [["luminanet"], ["gpt2"]]


def test_a_full_queue_is_said_in_words(page: Page) -> None:
    error = OverloadedError("full")

    def refuse(route: Route) -> None:
        route.fulfill(status=429, json=errors.body(error), headers=errors.headers(error))

    page.route("**/generate", refuse)
    write(page)
    for alert in page.locator(".writer [role=alert]").all():
        expect(alert).to_have_text("The server is busy (429): its queue is full. Try again in 1 s.")


def test_a_field_that_is_refused_is_said_in_words(page: Page) -> None:
    write(page, tokens=9999)
    expect(page.locator(".writer [role=alert]").first).to_contain_text("max_tokens")
    expect(page.locator(".writer [role=alert]").first).to_contain_text("(422)")


def test_a_server_that_is_gone_is_said_in_words(page: Page) -> None:
    page.route("**/generate", lambda route: route.abort())
    write(page)
    expect(page.locator(".writer [role=alert]").first).to_contain_text("cannot be reached")


def test_a_server_of_one_text_model_shows_what_it_has(chromium: Browser, models: Models) -> None:
    ours = {Family.LUMINANET: models.text[Family.LUMINANET]}
    fewer = replace(models, text=ours, image=None)
    with running(fewer) as server, opened(chromium, server) as page:
        expect(page.locator("#end-gpt2")).to_contain_text("GPT-2 is not loaded on this server")
        expect(page.locator("#picture")).to_be_hidden()
        write(page)
        expect(page.locator("#end-luminanet")).to_contain_text("seed 7")
        expect(page.locator("#told")).to_contain_text("LuminaNet wrote")


def test_a_server_without_text_models_shows_pictures(chromium: Browser, models: Models) -> None:
    with (
        running(replace(models, text={})) as server,
        opened(chromium, server) as page,
    ):
        choose(page, ship())
        expect(page.locator("#verdict")).to_contain_text("Most likely")
        expect(page.locator("#text")).to_be_hidden()


def test_a_chosen_picture_gets_the_bars_of_its_classes(page: Page, server: Running) -> None:
    choose(page, ship())
    files = {"file": ("ship.png", ship(), "image/png")}
    answer = server.client.post("/classify", files=files).json()
    expect(page.locator("#verdict")).to_contain_text(f"Most likely: {answer['label']}")
    shown = page.locator("#bars tbody th").all_text_contents()
    probabilities = answer["probabilities"]
    assert shown == sorted(probabilities, key=lambda label: -probabilities[label])
    first = page.locator("#bars tbody td").nth(1)
    assert first.text_content() == f"{100 * max(probabilities.values()):.1f} %"


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_a_picture_can_be_pasted_and_dropped(page: Page, way: str) -> None:
    listening(page)
    page.evaluate(
        """([way, text]) => {
            const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
            const held = new DataTransfer();
            held.items.add(new File([bytes], "ship.png", {type: "image/png"}));
            const options = {bubbles: true, cancelable: true};
            document.getElementById("easel").dispatchEvent(way === "drop"
                ? new DragEvent("drop", {...options, dataTransfer: held})
                : new ClipboardEvent("paste", {...options, clipboardData: held}));
        }""",
        [way, base64.b64encode(ship()).decode()],
    )
    expect(page.locator("#verdict")).to_contain_text("Most likely")


def test_a_picture_can_be_drawn(page: Page) -> None:
    page.get_by_label("blue", exact=True).check()
    canvas = page.locator("#canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 160, box["y"] + 160)
    page.mouse.up()
    expect(page.locator("#verdict")).to_contain_text("Most likely")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#bars")).to_be_hidden()


def test_a_picture_that_the_server_does_not_read_or_that_is_large_is_made_smaller(
    page: Page,
) -> None:
    """The server of these tests takes 250,000 pixels at most, and no GIF."""
    stream = io.BytesIO()
    Image.new("P", (900, 700), 3).save(stream, "GIF")
    choose(page, stream.getvalue(), "image/gif")
    expect(page.locator("#verdict")).to_contain_text("Most likely")


def test_a_file_that_is_no_picture_is_said_in_words(page: Page) -> None:
    choose(page, b"not a picture")
    expect(page.locator("#picture-problem")).to_contain_text("choose a PNG, JPEG or WebP")


def test_the_figures_are_those_of_the_server(page: Page, server: Running) -> None:
    write(page)
    expect(page.locator("#told")).to_contain_text("GPT-2 wrote")
    page.reload()
    row = page.locator("#by-model tr", has_text="GPT-2, text")
    expect(row.locator("td").nth(3)).to_have_text(re.compile(r"^[\d.,]+ m?s$"))
    expect(page.locator("#no-advantage")).to_be_visible()
    sizes = {"backend": "ort_cpu", "model": "gpt2", "task": "text-generation"}
    state = server.metric("sequence_state_bytes", **sizes)
    assert state >= 1024
    kib = f"{state / 1024:.1f}".removesuffix(".0")
    expect(row.locator("td").last).to_contain_text(kib)


def test_an_advantage_that_was_measured_is_shown_with_its_interval(
    page: Page, server: Running
) -> None:
    told = server.client.get("/metrics").text
    for end, value in ("", 2.5), ("_low", 2.25), ("_high", 2.75):
        told += f"luminanet_throughput_ratio{end} {value}\n"
        told += (
            f'luminanet_advantage_ratio{end}{{quantile="0.5",quantity="request_duration"}} NaN\n'
        )
    told += "luminanet_throughput_samples 30.0\n"
    page.route("**/metrics", lambda route: route.fulfill(body=told, content_type="text/plain"))
    page.reload()
    expect(page.locator("#advantage .tile")).to_have_text(["Tokens per second2.5 ×(2.25 to 2.75)"])
    expect(page.locator("#pairs")).to_contain_text("Of 30 requests")
    expect(page.locator("#no-advantage")).to_be_hidden()


def test_figures_with_a_port_of_their_own_are_not_shown(chromium: Browser, models: Models) -> None:
    with running(models, metrics_port=0) as server, opened(chromium, server) as page:
        write(page)
        expect(page.locator("#told")).to_contain_text("GPT-2 wrote")
        expect(page.locator("#figures")).to_be_hidden()
        expect(page.get_by_role("link", name="Metrics")).to_be_hidden()


def test_the_evolved_networks_are_one_click_away(page: Page, server: Running) -> None:
    page.get_by_role("link", name="Evolved networks").click()
    topologies = server.client.get("/page/topologies.json").json()
    for name, topology in topologies.items():
        drawing = page.get_by_label(f"Drawing of {name}")
        expect(drawing.locator(".cluster")).to_have_count(len(topology["clusters"]))
        expect(drawing.locator("path.link")).to_have_count(len(topology["connections"]))
    page.locator(".cluster").first.focus()
    expect(page.locator("[role=status]").first).to_contain_text("Cluster 0: level 0")
    page.get_by_role("link", name="Playground").click()
    expect(page.get_by_role("heading", name="LuminaNet playground")).to_be_visible()


def test_the_page_works_behind_a_path_prefix(chromium: Browser, server: Running) -> None:
    page = chromium.new_page()
    page.set_default_timeout(PATIENCE_MS)
    asked: list[str] = []

    def inner(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(response=route.fetch(url=route.request.url.replace("/a/b/", "/")))

    page.route("**/a/b/**", inner)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{str(server.client.base_url).rstrip('/')}/a/b/")
    write(page)
    expect(page.locator("#told")).to_contain_text("GPT-2 wrote")
    choose(page, ship())
    expect(page.locator("#verdict")).to_contain_text("Most likely")
    page.get_by_role("link", name="Evolved networks").click()
    expect(page.locator("svg.network").first).to_be_visible()
    assert not [url for url in asked if "/a/b/" not in url and not url.startswith("blob:")]
    page.close()


def test_all_is_reached_by_keyboard(page: Page) -> None:
    expect(page.locator("#text")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the playground")).to_be_focused()
    missing = {"prompt", "write", "file", "classify", "clear"}
    for _ in range(40):
        page.keyboard.press("Tab")
        missing -= {page.evaluate("document.activeElement.id")}
    assert not missing
    page.locator("#prompt").focus()
    page.keyboard.press("Control+Enter")
    expect(page.locator("#told")).to_contain_text("GPT-2 wrote")


@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_fault_of_accessibility_is_found(
    chromium: Browser, server: Running, scheme: str, width: int
) -> None:
    options: dict[str, Any] = {
        "viewport": {"width": width, "height": 844},
        "color_scheme": scheme,
        "reduced_motion": "reduce",
    }
    with opened(chromium, server, **options) as page:
        write(page)
        expect(page.locator("#told")).to_contain_text("GPT-2 wrote")
        choose(page, ship())
        expect(page.locator("#bars")).to_be_visible()
        _sound(page, width)
    with opened(chromium, server, "/page/topology.html", **options) as page:
        expect(page.locator("svg.network").first).to_be_visible()
        page.locator("summary").first.click()
        _sound(page, width)


def _sound(page: Page, width: int) -> None:
    found = Axe().run(page)
    grave = [v for v in found.response["violations"] if v["impact"] in GRAVE]
    assert not grave, found.generate_report()
    assert found.response["passes"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
