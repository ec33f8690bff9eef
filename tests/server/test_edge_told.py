"""What a client is told, on the page: a real server with clients, the real edge and a real browser."""

import secrets
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Page, sync_playwright

from server.app import Server
from tests.server.edge_process import running_edge
from tests.server.played import TICK_NS, Clients, HandClock, joined, play, playing
from tests.server.test_edge_page import ARGUMENTS, WAIT_MS, until

pytestmark = pytest.mark.slow

CLIENTS = 6
FRAME_S = 0.012


@dataclass
class Running:
    """A server and its clients on a thread, that can be stopped to be compared with the page."""

    server: Server
    clients: Clients
    late_ticks: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def start(self) -> None:
        self.stopped.clear()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while not self.stopped.wait(FRAME_S):
            self.clients.wishes = {"move_forward": 127, "yaw": self.server.world.tick // 90 * 9000 % 65536}
            play(self.server, self.clients, 1)
            for _ in range(self.late_ticks):  # the clients are not heard of for so long
                clock = self.server.clock
                assert isinstance(clock, HandClock)
                clock.now += TICK_NS
                self.server.frame.run(clock.now)
                self.stopped.wait(FRAME_S)

    def stop(self) -> None:
        self.stopped.set()
        if self.thread is not None:
            self.thread.join()


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with playing(CLIENTS, feed=f"test-{secrets.token_hex(8)}", feed_hz=20) as (server, clients):
        joined(server, clients)
        made = Running(server, clients)
        made.start()
        yield made
        made.stop()


@pytest.fixture(scope="module")
def page(running: Running) -> Iterator[Page]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path is not None, "Chromium is missing: apt-get install chromium"
    with running_edge(running.server.config.feed) as edge, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        opened = browser.new_page(viewport={"width": 1200, "height": 760})
        opened.set_default_timeout(WAIT_MS)
        problems: list[str] = []
        opened.on("pageerror", lambda error: problems.append(str(error)))
        opened.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        opened.goto(edge.url)
        until(opened, f"hitreg.players === {CLIENTS} && hitreg.mesh")
        yield opened
        browser.close()
        assert problems == []


@pytest.fixture
def entity(page: Page, running: Running) -> int:
    """A player that is chosen on the page."""
    page.get_by_role("button", name="Player 2", exact=True).click()
    until(page, "hitreg.told.latest !== null && hitreg.told.inStep && hitreg.told.parts !== null")
    return int(running.server.sessions.entity[2])


def text(page: Page, name: str) -> str:
    return page.get_by_test_id(name).inner_text()


def says(page: Page, name: str, wanted: str) -> None:
    """Wait until a place of the page shows a text."""
    until(page, f"document.querySelector('[data-testid={name}]').innerText === {wanted!r}")


def test_figures_of_the_chosen_client_are_those_of_the_server(page: Page, running: Running, entity: int) -> None:
    assert page.evaluate("String(hitreg.told.entity)") == str(entity)
    running.stop()
    server = running.server
    try:
        tick = server.world.tick // 3 * 3  # of the last frame that was published
        until(page, f"hitreg.told.latest.tick === {tick}")
        relevant = [str(number) for number in server.replication.relevant(2).tolist()]
        script = "[...hitreg.told.latest.slots].filter(([, slot]) => slot.state === 1).map(([id]) => String(id))"
        assert sorted(page.evaluate(script), key=int) == relevant
        says(page, "told-told", str(len(relevant)))
        says(page, "told-hidden", str(len(server.replication.hidden(2))))
        says(page, "told-hz", f"{server.config.snapshot_hz} Hz")
        says(page, "told-note", "It sees for itself.")
        until(page, "document.querySelector('[data-testid=told-parts]').innerText.includes('header 12')")
        milliseconds = server.transport.endpoint.rtt_ns[2] * 1e-6
        assert abs(float(text(page, "told-rtt").split()[0]) - milliseconds) < 3.0
    finally:
        running.start()


def test_snapshots_are_decoded_in_the_browser_and_agree_with_the_truth(page: Page, entity: int) -> None:
    until(page, "hitreg.told.decoded > 60 && hitreg.told.error() !== null")
    assert page.evaluate("hitreg.told.lost") == 0
    error = page.evaluate("hitreg.told.error()")
    assert error["count"] > CLIENTS
    assert 0.0 < error["mean"] < 0.2  # some centimetres of quantisation and dead reckoning
    assert page.evaluate("hitreg.told.known(hitreg.scene.tick).some((known) => known.id === hitreg.told.entity)")


def test_as_told_draws_what_the_client_knows_and_nothing_else(page: Page, entity: int) -> None:
    page.get_by_test_id("told-mode").click()
    until(page, "hitreg.asTold && hitreg.scene.truth !== undefined")
    shown = page.evaluate("hitreg.scene.players.map((player) => String(player.id))")
    known = page.evaluate("hitreg.told.known(hitreg.scene.tick).map((known) => String(known.id))")
    assert set(shown) <= {*known, str(entity)}
    assert len(shown) > CLIENTS // 2
    assert page.get_by_test_id("told-mode").get_attribute("aria-pressed") == "true"
    until(page, "/cm mean/.test(document.querySelector('#told-error').textContent)")
    page.keyboard.press("k")
    until(page, "!hitreg.asTold && hitreg.scene.truth === undefined")


def test_a_missed_message_is_made_up_for_by_the_next_key(page: Page, entity: int) -> None:
    page.evaluate("void (hitreg.told.latest.number -= 5)")
    until(page, "hitreg.told.lost === 1 && hitreg.told.inStep")
    decoded = page.evaluate("hitreg.told.decoded")
    until(page, f"hitreg.told.decoded > {decoded} + 30")
    assert page.evaluate("hitreg.told.lost") == 1


def test_a_key_holds_what_is_under_way_too(page: Page, running: Running, entity: int) -> None:
    running.late_ticks = 9
    try:
        until(page, "hitreg.told.inStep")
        lost = page.evaluate("hitreg.told.lost")
        for again in range(1, 4):
            page.evaluate("void (hitreg.told.latest.number -= 5)")
            until(page, f"hitreg.told.lost === {lost + again} && hitreg.told.inStep")
            decoded = page.evaluate("hitreg.told.decoded")
            until(page, f"hitreg.told.decoded > {decoded} + 12")
            assert page.evaluate("hitreg.told.lost") == lost + again
    finally:
        running.late_ticks = 0


def test_another_player_is_asked_for_and_none_when_following_ends(page: Page, running: Running, entity: int) -> None:
    other = int(running.server.sessions.entity[4])
    page.get_by_role("button", name="Player 4", exact=True).click()
    until(page, f"hitreg.told.latest !== null && hitreg.told.latest.entity === {other}n")
    page.keyboard.press("Escape")
    until(page, "document.querySelector('#told').hidden")
    until(page, "hitreg.told.entity === null")
    page.wait_for_timeout(300)
    assert page.evaluate("hitreg.told.latest") is None


def test_figures_of_all_clients_are_shown(page: Page) -> None:
    until(page, "Number(document.querySelector('#telling dd').textContent) > 0")
    assert "30 Hz" in text(page, "telling")
    assert "at rest" in text(page, "telling-parts")
