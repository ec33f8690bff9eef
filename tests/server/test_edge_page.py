"""The page in a real browser, against the real edge, fed by a synthetic match."""

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from server.livefeed import LiveFeedWriter
from server.maps import load_map
from tests.server.browser import chromium, click_until, colours, expect, expect_text, new_page, picture, places, until
from tests.server.edge_process import running_edge
from tests.server.live_match import STAGES, SyntheticMatch

pytestmark = pytest.mark.slow

PLAYERS = 16
FRAME_S = 0.05


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

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Frames go on, but nobody moves."""
        self.match.still = True
        try:
            yield
        finally:
            self.match.still = False

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
    # A machine so busy that frames come seconds apart is not a server that has gone.
    with running_edge(show.feed, "--gone-after-s", "3600") as edge:
        yield edge.url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def shared_page(browser: Browser, url: str) -> Iterator[tuple[Page, list[str]]]:
    problems: list[str] = []
    page = new_page(browser, problems)
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


def test_the_match_moves_on_the_map(page: Page) -> None:
    expect_text(page, "state", "live")
    expect_text(page, "map-name", "arena")
    expect_text(page, "fact-players", str(PLAYERS))
    before = page.evaluate("hitreg.frames")
    colours(page, "overlay", more_than=30)  # a plan with shading, not an empty canvas
    first = picture(page, "overlay")["sum"]
    until(page, f"hitreg.frames > {before} + 5")
    expect(lambda: picture(page, "overlay")["sum"], lambda now: now != first, "another picture", page=page)


def test_players_are_drawn_where_they_are(page: Page, show: Show) -> None:
    """Once they stand still, the page shows them where they are, and on the part of the map that it shows."""
    script = "hitreg.scene.players.map((player) => [player.p, hitreg.screen(String(player.id))])"
    with show.standing_still():
        truth = show.match.players["position"]

        def there(shown: list[tuple[list[float], list[float]]]) -> bool:
            return len(shown) == PLAYERS and np.allclose([position for position, _ in shown], truth, atol=1e-3)

        shown = expect(lambda: page.evaluate(script), there, "everybody where they are", page=page)
    box = page.get_by_test_id("overlay").bounding_box()
    assert box is not None
    for _, (x, y) in shown:
        assert 0 <= x <= box["width"]
        assert 0 <= y <= box["height"]


def test_the_scoreboard_shows_the_players_in_order(page: Page, show: Show) -> None:
    script = "(rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent))"
    names = sorted(show.match.names)
    texts = expect(
        lambda: page.get_by_test_id("player-row").evaluate_all(script),  # at once: the board changes under our eyes
        lambda rows: sorted(row[1] for row in rows) == names,
        names,
        page=page,
    )
    scores = [int(text[2]) for text in texts]
    assert scores == sorted(scores, reverse=True)
    assert [text[0] for text in texts] == [str(number + 1) for number in range(PLAYERS)]
    until(page, "document.querySelectorAll('[data-testid=team]').length === 2")


def test_the_scoreboard_sorts_and_filters(page: Page, show: Show) -> None:
    board = page.get_by_test_id("scoreboard")
    shown = board.locator("tbody button.name")
    names = sorted(show.match.names)
    for wanted in (names, names[::-1]):
        board.get_by_role("button", name="player", exact=True).click()
        expect(shown.all_inner_texts, wanted.__eq__, wanted, page=page)
    page.get_by_test_id("filter").fill("bot 03")
    until(page, "document.querySelectorAll('#board tr:not([hidden])').length === 1")
    page.get_by_test_id("filter").fill("")
    page.get_by_test_id("filter").blur()
    board.get_by_role("button", name="score", exact=True).click()


def test_the_camera_follows_the_player_chosen(page: Page, show: Show) -> None:
    target = str(int(show.match.players["id"][5]))
    click_until(page, page.get_by_role("button", name="Bot 05", exact=True), f"hitreg.selected === '{target}'")
    expect_text(page, "card-name", "Bot 05")
    near = f"""(() => {{
      const player = hitreg.scene.byId.get({target}n);
      return Math.hypot(player.p[0] - hitreg.centre[0], player.p[1] - hitreg.centre[1]) < 6;
    }})()"""
    until(page, near)
    page.get_by_test_id("card-close").click()
    until(page, "hitreg.selected === null && document.querySelector('#card').hidden")


def test_a_click_on_the_map_follows_a_player(page: Page, show: Show) -> None:
    box = page.get_by_test_id("overlay").bounding_box()
    assert box is not None
    clear = """hitreg.scene.players.map((player) => hitreg.screen(String(player.id)).map(Math.round))
      .find(([x, y]) => x > 90 && y > 10 && x < innerWidth - 700 && y < 400)"""
    until(page, clear)
    with show.standing_still():  # who walks on has gone when the pointer arrives
        x, y = places(page, clear)
        page.mouse.click(box["x"] + x, box["y"] + y)
        until(page, "hitreg.selected !== null")


@pytest.mark.parametrize("mode", ["third", "first", "free"])
def test_the_match_is_seen_in_three_dimensions(page: Page, mode: str) -> None:
    assert page.evaluate("hitreg.webgl")
    page.get_by_test_id(f"mode-{mode}").click()
    until(page, f"hitreg.mode === '{mode}'")
    colours(page, "world", more_than=30)
    if mode == "free":
        camera = places(page, "hitreg.camera.eye")
        page.keyboard.down("w")
        until(page, f"Math.hypot(...hitreg.camera.eye.map((v, n) => v - {camera}[n])) > 1")
        page.keyboard.up("w")
        return
    eye = "(() => { const p = hitreg.scene.byId.get(BigInt(hitreg.selected)).p; return Math.hypot("
    eye += "...hitreg.camera.eye.map((v, n) => v - p[n])); })()"
    until(page, f"{eye} < {8 if mode == 'third' else 2}")


def test_stages_and_tick_times_are_shown(page: Page) -> None:
    stages = page.get_by_test_id("stage")

    def names() -> list[str]:
        return [text.split("\n")[0] for text in stages.all_inner_texts()]

    expect(names, list(STAGES).__eq__, STAGES, page=page)
    script = "(bars) => bars.map((bar) => bar.getBoundingClientRect().width)"
    widths = expect(
        lambda: stages.locator(".p50").evaluate_all(script), lambda found: min(found) > 0, "bars", page=page
    )
    assert max(widths) == widths[STAGES.index("motion")]
    expect_text(page, "tick-p99", "4.60 ms")
    expect_text(page, "tick-load", "28 % of budget")
    colours(page, "timeline", more_than=8)


def test_what_was_refused_is_counted_by_its_name(page: Page, show: Show) -> None:
    assert show.writer is not None
    expect_text(page, "refused", "nothing")
    show.writer.refused[:3] = (12_000, 0, 3)
    show.writer.flagged[1] = 1
    expect_text(page, "refused", "12 k fire rate, 3 flood")
    expect_text(page, "flagged", "1 follows")


def test_kills_are_told(page: Page, show: Show) -> None:
    # All of it at once: lines leave by themselves.
    script = "(lines) => lines.map((line) => [...line.querySelectorAll('b')].map((name) => name.textContent))"
    lines = page.get_by_test_id("killfeed").locator("li")
    names = {name for told in expect(lambda: lines.evaluate_all(script), bool, "a kill", page=page) for name in told}
    assert names
    assert names <= set(show.match.names)


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
    page.get_by_test_id("help").wait_for(state="visible")
    page.keyboard.press("Escape")
    page.get_by_test_id("help").wait_for(state="hidden")


def test_it_fits_a_small_screen(page: Page) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    until(page, "innerWidth === 400 && document.documentElement.scrollWidth <= 400")
    page.get_by_test_id("overlay").wait_for(state="visible")
    page.set_viewport_size({"width": 1200, "height": 760})


def test_it_says_so_when_the_server_goes_and_comes_back_by_itself(page: Page, show: Show) -> None:
    run = page.evaluate("hitreg.run")
    show.stop()
    until(page, "hitreg.state === 'gone'")
    expect_text(page, "banner", lambda text: "gone" in text)
    show.start()
    until(page, f"hitreg.state === 'live' && hitreg.run !== '{run}' && hitreg.players === {PLAYERS}")
    page.get_by_test_id("banner").wait_for(state="hidden")
    assert page.evaluate("hitreg.connections") == 1  # the edge stayed; only the server came back
