"""The page draws doors and lifts where they are."""

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from playwright.sync_api import Page

from server.livefeed import MOVER, PLAYER, FeedInfo, LiveFeedWriter, LiveFlag
from server.livemesh import live_mesh, mover_runs
from server.maps.bsp import import_bsp
from sim.arrays import AnyArray
from tests.server.browser import chromium, expect, new_page, picture, places, until
from tests.server.bsp_writer import lift_hall
from tests.server.edge_process import running_edge

FRAME_S = 0.05


PLAN_PIXEL = """([x, y]) => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {
  const canvas = document.getElementById("overlay");
  const [wide, high] = [canvas.clientWidth, canvas.clientHeight];
  const at = [wide / 2 + (x - hitreg.centre[0]) * hitreg.scale, high / 2 - (y - hitreg.centre[1]) * hitreg.scale];
  const [px, py] = at.map((value) => Math.round(value * canvas.width / wide));
  const [red, green, blue] = canvas.getContext("2d").getImageData(px, py, 1, 1).data;
  done(red > blue + 12 ? "mover" : "floor");
})))"""


@contextmanager
def hall_page() -> Iterator[tuple[Page, AnyArray]]:
    """The page of a match in a hall with a lift and a door, and where the movers are: write it."""
    world = import_bsp(lift_hall().data(), name="hall", source="hall.bsp")
    low, high = world.bounds
    info = FeedInfo(
        "arena", "hall", 60, (low[0], low[1], low[2]), (high[0], high[1], high[2]), movers=mover_runs(world),
        floors=(0.0,),
    )  # fmt: skip
    players: AnyArray = np.zeros(1, PLAYER)
    players["id"], players["position"] = 5, (-4.0, 0.0, 0.0)
    players["flags"], players["health"] = LiveFlag.ALIVE | LiveFlag.ON_GROUND, 100
    offsets: AnyArray = np.zeros(3, MOVER)
    name, stopped = f"test-{secrets.token_hex(8)}", threading.Event()
    writer = LiveFeedWriter(name, info, now_ns=time.time_ns(), mesh=live_mesh(world))

    def publish() -> None:
        tick = 0
        while not stopped.wait(FRAME_S):
            tick += 3
            writer.publish(tick=tick, wall_ns=time.time_ns(), players=players, movers=offsets)

    thread = threading.Thread(target=publish)
    thread.start()
    problems: list[str] = []
    try:
        with running_edge(name, "--gone-after-s", "3600") as edge, chromium() as browser:
            page = new_page(browser, problems, height=640)
            page.goto(edge.url)
            until(page, "hitreg.frames > 3 && hitreg.players > 0 && hitreg.mesh && hitreg.scene.movers.length === 3")
            yield page, offsets
    finally:
        stopped.set()
        thread.join()
        writer.close()
    assert problems == []


def test_a_lift_is_drawn_raised_when_it_is() -> None:
    with hall_page() as (page, offsets):
        page.get_by_test_id("mode-third").click()
        until(page, "hitreg.selected")
        places(page, "hitreg.camera.eye.map((metres) => Math.round(metres * 1000))")  # it eases to its place
        rest = expect(lambda: picture(page, "world")["brown"], bool, "something brown", page=page)
        offsets["offset"][0] = (0.0, 0.0, 2.5)
        until(page, "hitreg.scene.movers[0][2] === 2.5")
        expect(lambda: picture(page, "world")["brown"], lambda raised: rest < 0.7 * raised, f"> {rest}", page=page)


def test_the_map_from_above_shows_a_door_where_it_is_and_not_where_it_rests() -> None:
    with hall_page() as (page, offsets):
        within, beyond = [6.4, -0.8], [6.4, -2.2]

        def seen() -> list[str]:
            return [page.evaluate(PLAN_PIXEL, place) for place in (within, beyond)]

        expect(seen, lambda found: found == ["mover", "floor"], "a closed door", page=page)
        offsets["offset"][1:] = (0.0, -1.4, 0.0), (0.0, 1.4, 0.0)
        expect(seen, lambda found: found == ["floor", "mover"], "an open door", page=page)
