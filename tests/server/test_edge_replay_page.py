"""The replay page in a real browser: the real edge, real workers, a recorded match."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from server.edge.replays import Recordings
from server.replay import Replay
from server.shots import explain
from tests.server.browser import chromium, colours, expect, expect_text, new_page, until
from tests.server.edge_process import Edge, running_edge
from tests.server.recorded_hunt import Recorded, name_of, record_match

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
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def opened(browser: Browser, edge: Edge, recorded: Recorded) -> Iterator[tuple[Page, list[str]]]:
    """The page, come to through the list."""
    problems: list[str] = []
    page = new_page(browser, problems, height=800)
    page.goto(edge.url + "replays")
    until(page, "document.querySelectorAll('[data-testid=recording]').length === 2")
    page.get_by_role("link").filter(has_text=recorded.path.name).click()
    until(page, "hitreg.mesh && hitreg.index && hitreg.drawn > 0 && hitreg.state === 'paused'")
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
    drawn = page.evaluate(f"(hitreg.go({tick}), hitreg.drawn)")
    until(page, f"hitreg.drawn > {drawn} && hitreg.tick === {tick} && hitreg.state === 'paused'")


def drawn_again(page: Page) -> None:
    """Wait until what the page knows now is drawn."""
    drawn = page.evaluate("hitreg.drawn")
    until(page, f"hitreg.drawn > {drawn} + 1")


def expect_tip(page: Page, wanted: str) -> None:
    tip = page.locator("#tip")
    expect(lambda: tip.inner_text(timeout=2000), lambda text: wanted in text, wanted, page=page)


def entity(recorded: Recorded, number: int = 0) -> int:
    return sorted(recorded.positions[100])[number]


def test_the_list_says_what_there_is(browser: Browser, edge: Edge, recorded: Recorded) -> None:
    problems: list[str] = []
    page = new_page(browser, problems, height=800)
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
    colours(page, "overlay", more_than=30)


def test_it_plays_pauses_and_changes_speed(page: Page) -> None:
    # Slowly, so that a busy machine does not look when it is over.
    page.get_by_test_id("speed-0").click()
    until(page, "hitreg.speed === 1 / 8")
    page.keyboard.press(" ")
    pressed = "document.querySelector('#play').getAttribute('aria-pressed')"
    assert until(page, f"hitreg.position > 103 && hitreg.state === 'playing' && {pressed}") == "true"
    page.get_by_test_id("speed-6").click()
    until(page, "hitreg.speed === 8")
    until(page, f"hitreg.position === {TICKS} && !hitreg.playing")
    page.get_by_test_id("speed-0").click()
    page.get_by_test_id("play").click()  # from the end it begins anew
    until(page, "hitreg.playing && hitreg.position > 0 && hitreg.position < 300")
    page.get_by_test_id("play").click()
    until(page, "hitreg.state === 'paused' && Number.isInteger(hitreg.tick) && hitreg.tick === hitreg.position")
    page.get_by_test_id("speed-3").click()
    until(page, "hitreg.speed === 1")


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
    until(page, "document.querySelector('#goto').getAttribute('aria-invalid') === 'true'")
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
    colours(page, "timeline", more_than=6)
    before = page.evaluate("hitreg.timeline.high - hitreg.timeline.low")
    page.mouse.wheel(0, -600)
    span = "hitreg.timeline.high - hitreg.timeline.low"
    low, high = until(page, f"{span} < {before} / 2 && [hitreg.timeline.low, hitreg.timeline.high]")
    assert low < 300 < high
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
    expect_tip(page, f"{killer} killed {victim}")
    page.mouse.down()
    page.mouse.up()
    until(page, f"hitreg.tick === {tick}")
    at(page, 0)
    page.keyboard.press("k")
    until(page, f"hitreg.tick === {recorded.kills[0][0]}")
    page.mouse.move(box["x"] + page.evaluate("hitreg.timeline.x(100)"), box["y"] + page.evaluate(
        "hitreg.timeline.tops.refused[0] + 7"
    ))  # fmt: skip
    expect_tip(page, "Ann <b>: turn, wanted 400, allowed 90.5")
    assert page.locator("#tip b").count() == 0  # names stay text


def test_a_player_is_followed_with_its_connection_and_through_its_eyes(page: Page, recorded: Recorded) -> None:
    page.keyboard.press("n")
    until(page, "hitreg.selected !== null && hitreg.timeline.network !== null")
    slot = int(page.evaluate("hitreg.selected")) & 0xFFFFFF
    until(page, f"document.querySelector('#network-key').textContent.includes('round trip {30 + slot} ms')")
    until(page, f"document.querySelector('#card-ping').textContent === '{30 + slot} ms'")
    until(page, "document.querySelector('#network-key').textContent.includes('shown late by 91.7 ms')")
    mine = sum(actor == int(page.evaluate("hitreg.selected")) for _, actor in recorded.shots)
    until(page, f"document.querySelector('#shots-whose').textContent === 'Its shots: {mine}'")
    page.get_by_test_id("mode-first").click()
    eye = "(() => { const p = hitreg.scene.byId.get(BigInt(hitreg.selected)).p; "
    eye += "return Math.hypot(...hitreg.camera.eye.map((v, n) => v - p[n])); })()"
    until(page, f"hitreg.mode === 'first' && {eye} < 2")
    colours(page, "world", more_than=30)


def test_a_shot_is_explained_as_the_command_does(page: Page, recorded: Recorded) -> None:
    with Replay.open(recorded.path) as replay:
        page.keyboard.press("x")
        number = next(n for n, (tick, _) in enumerate(recorded.shots, start=1) if tick > 100)
        for _ in range(3):
            shot = explain(replay, number)
            until(page, f"hitreg.tick === {shot.tick} && hitreg.shots.explained && hitreg.shots.chosen === {number}")
            expect_text(page, "shot-text", "\n".join(shot.lines()))
            expect_text(page, "shot-verdict", shot.verdict())
            drawn_again(page)
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
    page = new_page(browser, problems, height=800)
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
    page = new_page(browser, problems, height=800)
    page.goto(f"{edge.url}replays?file=cut.hitrec&tick=9999")
    until(page, "hitreg.index !== null && hitreg.state === 'paused' && hitreg.tick === hitreg.last")
    assert page.evaluate("hitreg.last") < TICKS
    line = expect_text(page, "banner", lambda text: text.startswith(("was not closed", "the last chunk")))
    assert "\n" not in line
    page.goto(f"{edge.url}replays?file=../cut.hitrec")
    banner = "document.querySelector('#banner')"
    # The reason is there as soon as the state is: both are looked at at once.
    (reason,) = until(page, f"hitreg.state === 'failed' && [{banner}.hidden ? '' : {banner}.innerText]")
    assert reason == "There is no recording of that name. Choose one from the list."
    expect_text(page, "state", "failed")
    page.close()
    assert problems == []


def test_it_fits_a_small_screen(page: Page) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    until(page, "innerWidth === 400 && document.documentElement.scrollWidth <= 400")
    page.get_by_test_id("overlay").wait_for(state="visible")
    page.get_by_test_id("timeline").wait_for(state="visible")
    page.set_viewport_size({"width": 1200, "height": 800})


def test_the_edge_lists_what_the_page_shows(edge: Edge, recorded: Recorded) -> None:
    answer: dict[str, Any] = json.loads(edge.ask("api/replays").body)
    assert answer == Recordings(Path(recorded.path.parent)).look()
