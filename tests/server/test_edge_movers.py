"""The page draws doors and lifts where they are."""

import secrets
import shutil
import threading
import time

import numpy as np
from playwright.sync_api import Page, sync_playwright

from server.livefeed import MOVER, PLAYER, FeedInfo, LiveFeedWriter, LiveFlag
from server.livemesh import live_mesh, mover_runs
from server.maps.bsp import import_bsp
from sim.arrays import AnyArray
from tests.server.bsp_writer import lift_hall
from tests.server.edge_process import running_edge
from tests.server.test_edge_page import ARGUMENTS, WAIT_MS, until

FRAME_S = 0.05


def brown(page: Page) -> int:
    """How much of the picture has the colour of movers, in 1/14,400."""
    script = """(canvas) => new Promise((done) => requestAnimationFrame(() => {
      const copy = new OffscreenCanvas(160, 90);
      const context = copy.getContext("2d");
      context.drawImage(canvas, 0, 0, 160, 90);
      const data = context.getImageData(0, 0, 160, 90).data;
      let count = 0;
      for (let at = 0; at < data.length; at += 4) count += data[at] > data[at + 2] + 12;
      done(count);
    }))"""
    return int(page.get_by_test_id("world").evaluate(script))


def test_a_lift_is_drawn_raised_when_it_is() -> None:
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
    try:
        with running_edge(name) as edge, sync_playwright() as playwright:
            path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
            page = browser.new_page(viewport={"width": 1000, "height": 640})
            page.set_default_timeout(WAIT_MS)
            problems: list[str] = []
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.goto(edge.url)
            until(page, "hitreg.frames > 3 && hitreg.players > 0 && hitreg.mesh")
            page.get_by_test_id("mode-third").click()
            until(page, "hitreg.scene.movers.length === 3 && hitreg.selected")
            page.wait_for_timeout(1000)  # the camera eases to its place
            rest = brown(page)
            offsets["offset"][0] = (0.0, 0.0, 2.5)
            until(page, "hitreg.scene.movers[0][2] === 2.5")
            raised = brown(page)
            browser.close()
    finally:
        stopped.set()
        thread.join()
        writer.close()
    assert problems == []
    assert 0 < rest < 0.7 * raised
