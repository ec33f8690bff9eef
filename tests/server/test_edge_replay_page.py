"""The replay page in a real browser: the real edge, real workers, a recorded match."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from server.edge.replays import Recordings
from server.replay import Replay
from server.shots import explain
from tests.server.edge_process import Edge, running_edge
from tests.server.recorded_hunt import Recorded, name_of, record_match
from tests.server.test_edge_page import ARGUMENTS, WAIT_MS, pixels, until

pytestmark = pytest.mark.slow

PLAYERS = 10
TICKS = 420


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    made = record_match(tmp_path_factory.mktemp("recordings"), players=PLAYERS, ticks=TICKS)
    whole = made.path.read_bytes()
    (made.path.parent / "cut.hitrec").write_bytes(whole[: len(whole) * 2 // 3])
    return made


@pytest.fixture(scope="module")
def edge(recorded: Recorded) -> Iterator[Edge]:
    with running_edge("no-feed", "--record-dir", str(recorded.path.parent)) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path is not None, "Chromium is missing: apt-get install chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield started
        started.close()


def new_page(browser: Browser, problems: list[str]) -> Page:
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.set_default_timeout(WAIT_MS)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    return page


@pytest.fixture(scope="module")
def opened(browser: Browser, edge: Edge, recorded: Recorded) -> Iterator[tuple[Page, list[str]]]:
    """The page, come to through the list."""
    problems: list[str] = []
    page = new_page(browser, problems)
    page.goto(edge.url + "replays")
    until(page, "document.querySelectorAll('[data-testid=recording]').length === 2")
    page.get_by_role("link").filter(has_text=recorded.path.name).click()
    until(page, "hitreg.mesh && hitreg.index && hitreg.players >= 0 && hitreg.state === 'paused'")
    yield page, problems
    page.close()


@pytest.fixture
def page(opened: tuple[Page, list[str]]) -> Iterator[Page]:
    """The page at a moment, paused, nobody followed; afterwards it must have had no error."""
    page, problems = opened
    page.keyboard.press("Escape")
    page.keyboard.press("1")
    page.keyboard.press("0")
    if page.evaluate("hitreg.playing"):
        page.keyboard.press(" ")
    at(page, 100)
    yield page
    assert problems == []


def at(page: Page, tick: int) -> None:
    """Go to a tick and wait until it is drawn."""
    page.evaluate(f"hitreg.go({tick})")
    until(page, f"hitreg.tick === {tick} && hitreg.state === 'paused'")


def text(page: Page, name: str) -> str:
    return page.get_by_test_id(name).inner_text()


def entity(recorded: Recorded, number: int = 0) -> int:
    return sorted(recorded.positions[100])[number]


def test_the_list_says_what_there_is(browser: Browser, edge: Edge, recorded: Recorded) -> None:
    problems: list[str] = []
    page = new_page(browser, problems)
    page.goto(edge.url + "replays")
    until(page, "document.querySelectorAll('[data-testid=recording]').length === 2")
    lines = page.get_by_test_id("recording").all_inner_texts()
    (whole,) = [line for line in lines if recorded.path.name in line]
    (cut,) = [line for line in lines if "cut.hitrec" in line]
    assert "complete" in whole
    assert "0:07" in whole
    assert "arena" in whole
    assert "cut or damaged" in cut
    page.get_by_test_id("library-filter").fill("cut")
    until(page, "document.querySelectorAll('[data-testid=recording]').length === 1")
    page.close()
    assert problems == []


def test_players_stand_where_they_stood_in_the_match(page: Page, recorded: Recorded) -> None:
    for tick in (100, 333, 20):
        at(page, tick)
        shown = page.evaluate("hitreg.scene.players.map((player) => [String(player.id), player.p])")
        assert {int(identity) for identity, _ in shown} == set(recorded.positions[tick])
        for identity, position in shown:
            assert position == pytest.approx(recorded.positions[tick][int(identity)], abs=1e-4)
    assert pixels(page, "overlay")["colours"] > 30


def test_it_plays_pauses_and_changes_speed(page: Page) -> None:
    page.keyboard.press(" ")
    until(page, "hitreg.position > 130 && hitreg.state === 'playing'")
    assert page.get_by_test_id("play").get_attribute("aria-pressed") == "true"
    page.get_by_test_id("speed-6").click()
    assert page.evaluate("hitreg.speed") == 8
    until(page, f"hitreg.position === {TICKS} && !hitreg.playing")
    page.get_by_test_id("speed-3").click()
    page.get_by_test_id("play").click()  # from the end it begins anew
    until(page, "hitreg.playing && hitreg.position > 0 && hitreg.position < 100")
    page.get_by_test_id("play").click()
    until(page, "hitreg.state === 'paused' && Number.isInteger(hitreg.tick) && hitreg.tick === hitreg.position")


def test_it_steps_tick_by_tick_and_jumps(page: Page) -> None:
    for key, tick in (
        (".", 101),
        (".", 102),
        (",", 101),
        (",", 100),
        (",", 99),
        ("ArrowRight", 159),
        ("ArrowLeft", 99),
    ):
        page.keyboard.press(key)
        until(page, f"hitreg.tick === {tick} && hitreg.state === 'paused'")
    page.keyboard.press("End")
    until(page, f"hitreg.tick === {TICKS}")
    page.keyboard.press("Home")
    until(page, "hitreg.tick === 0")
    page.get_by_test_id("goto").fill("77")
    page.get_by_test_id("goto").press("Enter")
    until(page, "hitreg.tick === 77")
    page.get_by_test_id("goto").fill("soon")
    page.get_by_test_id("goto").press("Enter")
    assert page.get_by_test_id("goto").get_attribute("aria-invalid") == "true"
    page.get_by_test_id("goto").press("Escape")


def test_the_time_line_is_dragged_and_zoomed(page: Page) -> None:
    box = page.get_by_test_id("timeline").bounding_box()
    assert box is not None
    y = box["y"] + box["height"] - 20
    where = f"((tick) => hitreg.timeline.x(tick) + {box['x']})"
    page.mouse.move(page.evaluate(f"{where}(100)"), y)
    page.mouse.down()
    for tick in (150, 220, 300):
        page.mouse.move(page.evaluate(f"{where}({tick})"), y)
    until(page, "Math.abs(hitreg.tick - 300) <= 1")
    page.mouse.up()
    until(page, "Math.abs(hitreg.tick - 300) <= 1 && hitreg.state === 'paused'")
    assert pixels(page, "timeline")["colours"] > 6
    before = page.evaluate("hitreg.timeline.high - hitreg.timeline.low")
    page.mouse.wheel(0, -600)
    until(page, f"hitreg.timeline.high - hitreg.timeline.low < {before} / 2")
    assert page.evaluate("hitreg.timeline.low") < 300 < page.evaluate("hitreg.timeline.high")
    page.get_by_test_id("timeline").dblclick(position={"x": 200, "y": 8})
    until(page, f"hitreg.timeline.high - hitreg.timeline.low === {before}")


def test_marks_are_told_and_gone_to(page: Page, recorded: Recorded) -> None:
    tick, actor, target = recorded.kills[len(recorded.kills) // 2]
    box = page.get_by_test_id("timeline").bounding_box()
    assert box is not None
    spot = page.evaluate(
        f"[hitreg.timeline.x({tick}), hitreg.timeline.tops.kills[0] + hitreg.timeline.tops.kills[1] / 2]"
    )
    page.mouse.move(box["x"] + spot[0], box["y"] + spot[1])
    killer, victim = (name_of(entity & 0xFFFFFF) for entity in (actor, target))
    assert f"{killer} killed {victim}" in page.locator("#tip").inner_text()
    page.mouse.down()
    page.mouse.up()
    until(page, f"hitreg.tick === {tick}")
    at(page, 0)
    page.keyboard.press("k")
    until(page, f"hitreg.tick === {recorded.kills[0][0]}")
    page.mouse.move(box["x"] + page.evaluate("hitreg.timeline.x(100)"), box["y"] + page.evaluate(
        "hitreg.timeline.tops.refused[0] + 7"
    ))  # fmt: skip
    assert "Ann <b>: turn, wanted 400, allowed 90.5" in page.locator("#tip").inner_text()
    assert page.locator("#tip b").count() == 0  # names stay text


def test_a_player_is_followed_with_its_connection_and_through_its_eyes(page: Page, recorded: Recorded) -> None:
    page.keyboard.press("n")
    until(page, "hitreg.selected !== null && hitreg.timeline.network !== null")
    slot = int(page.evaluate("hitreg.selected")) & 0xFFFFFF
    until(page, f"document.querySelector('#network-key').textContent.includes('round trip {30 + slot} ms')")
    until(page, f"document.querySelector('#card-ping').textContent === '{30 + slot} ms'")
    assert "shown late by 91.7 ms" in page.locator("#network-key").inner_text()
    mine = sum(actor == int(page.evaluate("hitreg.selected")) for _, actor in recorded.shots)
    until(page, f"document.querySelector('#shots-whose').textContent === 'Its shots: {mine}'")
    page.get_by_test_id("mode-first").click()
    eye = "(() => { const p = hitreg.scene.byId.get(BigInt(hitreg.selected)).p; "
    eye += "return Math.hypot(...hitreg.camera.eye.map((v, n) => v - p[n])); })()"
    until(page, f"hitreg.mode === 'first' && {eye} < 2")
    assert pixels(page, "world")["colours"] > 30


def test_a_shot_is_explained_as_the_command_does(page: Page, recorded: Recorded) -> None:
    with Replay.open(recorded.path) as replay:
        page.keyboard.press("x")
        number = next(n for n, (tick, _) in enumerate(recorded.shots, start=1) if tick > 100)
        for _ in range(3):
            shot = explain(replay, number)
            until(page, f"hitreg.tick === {shot.tick} && hitreg.shots.explained && hitreg.shots.chosen === {number}")
            assert text(page, "shot-text") == "\n".join(shot.lines())
            assert text(page, "shot-verdict") == shot.verdict()
            until(page, "hitreg.scene.lines !== undefined")
            lines = page.evaluate("hitreg.scene.lines.slice(0, 1)[0]")
            assert lines["from"] == pytest.approx(shot.pellets[0].origin)
            assert lines["to"] == pytest.approx(shot.pellets[0].end)
            # Boxes of every body near: where they were judged, and where they are.
            bodies = page.evaluate("hitreg.shots.explained.drawing.bodies")
            assert [body["feet"] for body in bodies] == [pytest.approx(target.feet) for target in shot.targets]
            assert [body["feet_now"] for body in bodies] == [pytest.approx(target.feet_now) for target in shot.targets]
            count = page.evaluate("hitreg.scene.lines.length")
            assert count >= len(shot.pellets) + 100 * len(bodies)
            page.keyboard.press("x")
            number += 1
    page.get_by_test_id("shot-close").click()
    until(page, "hitreg.scene.lines === undefined")


def test_an_address_names_file_moment_and_player(browser: Browser, edge: Edge, recorded: Recorded) -> None:
    problems: list[str] = []
    page = new_page(browser, problems)
    followed = entity(recorded, 3)
    page.goto(f"{edge.url}replays?file={recorded.path.name}&tick=123&follow={followed}&view=third")
    until(page, f"hitreg.tick === 123 && hitreg.selected === '{followed}' && hitreg.mode === 'third'")
    until(page, "hitreg.index !== null")
    page.keyboard.press(".")
    until(page, "hitreg.tick === 124 && new URLSearchParams(location.search).get('tick') === '124'")
    assert page.evaluate("new URLSearchParams(location.search).get('follow')") == str(followed)
    page.get_by_test_id("to-list").click()
    until(page, "hitreg.state === 'choosing' && location.search === ''")
    page.close()
    assert problems == []


def test_a_cut_recording_is_shown_with_one_line(browser: Browser, edge: Edge) -> None:
    problems: list[str] = []
    page = new_page(browser, problems)
    page.goto(f"{edge.url}replays?file=cut.hitrec&tick=9999")
    until(page, "hitreg.index !== null && hitreg.state === 'paused'")
    assert page.evaluate("hitreg.tick") == page.evaluate("hitreg.last") < TICKS
    until(page, "!document.querySelector('#banner').hidden")
    assert "\n" not in text(page, "banner")
    assert text(page, "banner").startswith(("was not closed", "the last chunk"))
    page.goto(f"{edge.url}replays?file=../cut.hitrec")
    until(page, "hitreg.state === 'failed'")
    assert text(page, "banner") == "There is no recording of that name. Choose one from the list."
    page.close()
    assert problems == []


def test_it_fits_a_small_screen(page: Page) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.get_by_test_id("overlay").is_visible()
    assert page.get_by_test_id("timeline").is_visible()
    page.set_viewport_size({"width": 1200, "height": 800})


def test_the_edge_lists_what_the_page_shows(edge: Edge, recorded: Recorded) -> None:
    answer: dict[str, Any] = json.loads(edge.ask("api/replays").body)
    assert answer == Recordings(Path(recorded.path.parent)).look()
