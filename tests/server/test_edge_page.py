"""The page in a real browser, against the real edge, fed by a synthetic match."""

import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from server.livefeed import LiveFeedWriter
from server.maps import load_map
from tests.server.edge_process import running_edge
from tests.server.live_match import STAGES, SyntheticMatch

pytestmark = pytest.mark.slow

PLAYERS = 16
FRAME_S = 0.05
WAIT_MS = 60_000  # software rendering on a busy machine
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",  # WebGL without a graphics card
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Show:
    """A match that runs on a thread, and can be stopped and started again like a server."""

    feed: str
    match: SyntheticMatch
    writer: LiveFeedWriter | None = None
    stopped: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def start(self) -> None:
        self.writer = self.match.writer(self.feed, now_ns=time.time_ns())
        self.stopped.clear()
        self.thread = threading.Thread(target=self._run, args=(self.writer,))
        self.thread.start()

    def _run(self, writer: LiveFeedWriter) -> None:
        while not self.stopped.wait(FRAME_S):
            self.match.publish(writer, seconds=FRAME_S, wall_ns=time.time_ns())

    def stop(self) -> None:
        self.stopped.set()
        if self.thread is not None:
            self.thread.join()
        if self.writer is not None:
            self.writer.close()


@pytest.fixture(scope="module")
def show() -> Iterator[Show]:
    made = Show(f"test-{secrets.token_hex(8)}", SyntheticMatch(load_map("arena"), PLAYERS))
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def url(show: Show) -> Iterator[str]:
    with running_edge(show.feed) as edge:
        yield edge.url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path is not None, "Chromium is missing: apt-get install chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def shared_page(browser: Browser, url: str) -> Iterator[tuple[Page, list[str]]]:
    page = browser.new_page(viewport={"width": 1200, "height": 760})
    page.set_default_timeout(WAIT_MS)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(url)
    until(page, "hitreg.frames > 3 && hitreg.players > 0 && hitreg.mesh")
    yield page, problems
    page.close()


@pytest.fixture
def page(shared_page: tuple[Page, list[str]]) -> Iterator[Page]:
    """The page in its first state; afterwards it must have had no error."""
    page, problems = shared_page
    page.keyboard.press("Escape")
    page.keyboard.press("1")
    page.keyboard.press("0")
    yield page
    assert problems == []


def until(page: Page, condition: str) -> None:
    """Wait until a JavaScript condition holds.

    Not `wait_for_function`: that evaluates strings inside the page, which the page's own policy refuses.
    """
    deadline = time.monotonic() + WAIT_MS / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(50)


def pixels(page: Page, canvas: str) -> Any:
    """How many different colours a canvas shows, and a sum that changes with the picture."""
    script = """(canvas) => new Promise((done) => requestAnimationFrame(() => {
      const copy = new OffscreenCanvas(160, 90);
      const context = copy.getContext("2d");
      context.drawImage(canvas, 0, 0, 160, 90);
      const data = context.getImageData(0, 0, 160, 90).data;
      const colours = new Set();
      let sum = 0;
      for (let at = 0; at < data.length; at += 4) {
        colours.add((data[at] << 16) | (data[at + 1] << 8) | data[at + 2]);
        sum = (sum * 31 + data[at] * 3 + data[at + 1] * 5 + data[at + 2] * 7) % 1000000007;
      }
      done({ colours: colours.size, sum });
    }))"""
    return page.get_by_test_id(canvas).evaluate(script)


def test_the_match_moves_on_the_map(page: Page) -> None:
    assert page.get_by_test_id("state").inner_text() == "live"
    assert page.get_by_test_id("map-name").inner_text() == "arena"
    until(page, f"document.querySelector('#fact-players').textContent === '{PLAYERS}'")
    before = page.evaluate("hitreg.frames")
    first = pixels(page, "overlay")
    assert first["colours"] > 30  # a plan with shading, not an empty canvas
    until(page, f"hitreg.frames > {before} + 5")
    assert pixels(page, "overlay")["sum"] != first["sum"]


def test_players_are_drawn_where_they_are(page: Page) -> None:
    """What is interpolated on the page lies on the way that the player has really gone."""
    positions = page.evaluate(
        "[...hitreg.scene.players].map((player) => [player.p, hitreg.screen(String(player.id)), player.p[0]])"
    )
    low, high = load_map("arena").bounds
    box = page.get_by_test_id("overlay").bounding_box()
    assert box is not None
    for position, screen, _ in positions:
        assert all(low[axis] <= position[axis] <= high[axis] for axis in range(3))
        assert 0 <= screen[0] <= box["width"]
        assert 0 <= screen[1] <= box["height"]


def test_the_scoreboard_shows_the_players_in_order(page: Page, show: Show) -> None:
    script = "(rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent))"
    texts = page.get_by_test_id("player-row").evaluate_all(script)  # at once: the board changes under our eyes
    assert len(texts) == PLAYERS
    assert sorted(text[1] for text in texts) == sorted(show.match.names)
    scores = [int(text[2]) for text in texts]
    assert scores == sorted(scores, reverse=True)
    assert [text[0] for text in texts] == [str(number + 1) for number in range(PLAYERS)]
    assert page.get_by_test_id("team").count() == 2


def test_the_scoreboard_sorts_and_filters(page: Page, show: Show) -> None:
    board = page.get_by_test_id("scoreboard")
    board.get_by_role("button", name="player", exact=True).click()
    shown = board.locator("tbody button.name")
    assert shown.all_inner_texts() == sorted(show.match.names)
    board.get_by_role("button", name="player", exact=True).click()
    assert shown.all_inner_texts() == sorted(show.match.names, reverse=True)
    page.get_by_test_id("filter").fill("bot 03")
    until(page, "document.querySelectorAll('#board tr:not([hidden])').length === 1")
    page.get_by_test_id("filter").fill("")
    page.get_by_test_id("filter").blur()
    board.get_by_role("button", name="score", exact=True).click()


def test_the_camera_follows_the_player_chosen(page: Page, show: Show) -> None:
    target = str(int(show.match.players["id"][5]))
    page.get_by_role("button", name="Bot 05", exact=True).click()
    assert page.evaluate("hitreg.selected") == target
    until(page, "document.querySelector('#card-name').textContent === 'Bot 05'")
    near = f"""(() => {{
      const player = hitreg.scene.byId.get({target}n);
      return Math.hypot(player.p[0] - hitreg.centre[0], player.p[1] - hitreg.centre[1]) < 6;
    }})()"""
    until(page, near)
    page.get_by_test_id("card-close").click()
    assert page.evaluate("hitreg.selected") is None
    until(page, "document.querySelector('#card').hidden")


def test_a_click_on_the_map_follows_a_player(page: Page, show: Show) -> None:
    box = page.get_by_test_id("overlay").bounding_box()
    assert box is not None
    clear = """() => hitreg.scene.players.map((player) => hitreg.screen(String(player.id)))
      .filter(([x, y]) => x > 90 && y > 10 && x < innerWidth - 700 && y < 400)"""
    until(page, f"({clear})().length > 0")
    x, y = page.evaluate(clear)[0]
    page.mouse.click(box["x"] + x, box["y"] + y)
    until(page, "hitreg.selected !== null")


@pytest.mark.parametrize("mode", ["third", "first", "free"])
def test_the_match_is_seen_in_three_dimensions(page: Page, mode: str) -> None:
    assert page.evaluate("hitreg.webgl")
    page.get_by_test_id(f"mode-{mode}").click()
    assert page.evaluate("hitreg.mode") == mode
    page.wait_for_timeout(300)
    camera = page.evaluate("hitreg.camera.eye")
    assert pixels(page, "world")["colours"] > 30
    if mode == "free":
        page.keyboard.down("w")
        until(page, f"Math.hypot(...hitreg.camera.eye.map((v, n) => v - {camera}[n])) > 1")
        page.keyboard.up("w")
        return
    eye = "(() => { const p = hitreg.scene.byId.get(BigInt(hitreg.selected)).p; return Math.hypot("
    eye += "...hitreg.camera.eye.map((v, n) => v - p[n])); })()"
    until(page, f"{eye} < {8 if mode == 'third' else 2}")


def test_stages_and_tick_times_are_shown(page: Page) -> None:
    stages = page.get_by_test_id("stage")
    assert stages.count() == len(STAGES)
    assert [text.split("\n")[0] for text in stages.all_inner_texts()] == list(STAGES)
    widths = stages.locator(".p50").evaluate_all("(bars) => bars.map((bar) => bar.getBoundingClientRect().width)")
    assert max(widths) == widths[STAGES.index("motion")]
    assert min(widths) > 0
    assert page.get_by_test_id("tick-p99").inner_text() == "4.60 ms"
    assert page.get_by_test_id("tick-load").inner_text() == "28 % of budget"
    assert pixels(page, "timeline")["colours"] > 8


def test_what_was_refused_is_counted_by_its_name(page: Page, show: Show) -> None:
    assert show.writer is not None
    assert page.get_by_test_id("refused").inner_text() == "nothing"
    show.writer.refused[:3] = (12_000, 0, 3)
    show.writer.flagged[1] = 1
    until(page, "document.getElementById('refused').textContent === '12 k fire rate, 3 flood'")
    until(page, "document.getElementById('flagged').textContent === '1 follows'")


def test_kills_are_told(page: Page, show: Show) -> None:
    item = page.get_by_test_id("killfeed").locator("li").first
    item.wait_for(timeout=WAIT_MS)
    assert item.locator("b").count() >= 1
    assert item.locator("b").first.inner_text() in show.match.names


def test_names_from_players_stay_text(page: Page, show: Show) -> None:
    hostile = "<img src=x onerror=1>"
    assert show.writer is not None
    show.writer.set_names([hostile, *show.match.names[1:]])
    until(page, "[...document.querySelectorAll('#board .name')].some((b) => b.textContent.startsWith('<img'))")
    assert page.locator("#board img").count() == 0
    show.writer.set_names(show.match.names)
    until(page, "![...document.querySelectorAll('#board .name')].some((b) => b.textContent.startsWith('<'))")


def test_help_opens_and_closes_by_keyboard(page: Page) -> None:
    page.keyboard.press("?")
    assert page.get_by_test_id("help").is_visible()
    page.keyboard.press("Escape")
    assert not page.get_by_test_id("help").is_visible()


def test_it_fits_a_small_screen(page: Page) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.get_by_test_id("overlay").is_visible()
    page.set_viewport_size({"width": 1200, "height": 760})


def test_it_says_so_when_the_server_goes_and_comes_back_by_itself(page: Page, show: Show) -> None:
    run = page.evaluate("hitreg.run")
    show.stop()
    until(page, "hitreg.state === 'gone'")
    assert page.get_by_test_id("banner").is_visible()
    assert "gone" in page.get_by_test_id("banner").inner_text()
    show.start()
    until(page, f"hitreg.state === 'live' && hitreg.run !== '{run}' && hitreg.players === {PLAYERS}")
    assert not page.get_by_test_id("banner").is_visible()
    assert page.evaluate("hitreg.connections") == 1  # the edge stayed; only the server came back
