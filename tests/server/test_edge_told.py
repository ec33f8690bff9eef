"""What a client is told, on the page: a real server with clients, the real edge and a real browser."""

import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Page

from server.app import Server
from tests.server.browser import chromium, click_until, expect, expect_text, new_page, until
from tests.server.edge_process import running_edge
from tests.server.played import TICK_NS, Clients, joined, play, playing
from tools.hand_clock import HandClock

pytestmark = pytest.mark.slow

CLIENTS = 6
FRAME_S = 0.012
FEED_TICKS = 3  # from frame to frame


@dataclass
class Running:
    """A server and its clients on a thread, that can be stopped to be compared with the page.

    Attributes:
        frame_s: From tick to tick; longer where page and edge cannot keep up, since what they miss costs them a key.
    """

    server: Server
    clients: Clients
    frame_s: float = FRAME_S
    late_ticks: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def start(self) -> None:
        self.stopped.clear()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        # Stopped right after a frame was published, what the server says is what the page was sent last.
        while not self.stopped.wait(self.frame_s) or self.server.world.tick % FEED_TICKS:
            self.clients.wishes = {"move_forward": 127, "yaw": self.server.world.tick // 90 * 9000 % 65536}
            play(self.server, self.clients, 1)
            for _ in range(self.late_ticks):  # the clients are not heard of for so long
                clock = self.server.clock
                assert isinstance(clock, HandClock)
                clock.now += TICK_NS
                self.server.frame.run(clock.now)
                self.stopped.wait(self.frame_s)

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
    problems: list[str] = []
    with running_edge(running.server.config.feed, "--gone-after-s", "3600") as edge, chromium() as browser:
        opened = new_page(browser, problems)
        opened.goto(edge.url)
        until(opened, f"hitreg.players === {CLIENTS} && hitreg.mesh")
        yield opened
    assert problems == []


@pytest.fixture
def entity(page: Page, running: Running) -> int:
    """A player that is chosen on the page."""
    entity = int(running.server.sessions.entity[2])
    choose(page, "Player 2", entity)
    until(page, "hitreg.told.latest !== null && hitreg.told.inStep && hitreg.told.parts !== null")
    return entity


def choose(page: Page, name: str, entity: int) -> None:
    click_until(page, page.get_by_role("button", name=name, exact=True), f"hitreg.selected === '{entity}'")


def decode_in_a_row(page: Page, running: Running, count: int) -> None:
    """Wait until so many snapshots have been decoded without a miss between; none may ever be undecodable.

    Where page or edge miss messages, as they may on a busy machine, the server goes more slowly.
    """
    since: list[int] = []

    def look() -> int:
        missed, undecodable, late, decoded = page.evaluate(
            "(({ missed, undecodable, late }, decoded) => [missed, undecodable, late, decoded])"
            "(hitreg.told.losses, hitreg.told.decoded)"
        )
        assert undecodable == 0
        if since and since[0] != missed + late:
            running.frame_s *= 1.5
        if not since or since[0] != missed + late:
            since[:] = missed + late, decoded
        return int(decoded) - since[1]

    expect(look, lambda decoded: decoded > count, f"more than {count} in a row", page=page)


def test_figures_of_the_chosen_client_are_those_of_the_server(page: Page, running: Running, entity: int) -> None:
    assert page.evaluate("String(hitreg.told.entity)") == str(entity)
    running.stop()
    server = running.server
    try:
        until(page, f"hitreg.told.latest.tick === {server.world.tick}")
        relevant = [str(number) for number in server.replication.relevant(2).tolist()]
        script = "[...hitreg.told.latest.slots].filter(([, slot]) => slot.state === 1).map(([id]) => String(id))"
        assert sorted(page.evaluate(script), key=int) == relevant
        expect_text(page, "told-told", str(len(relevant)))
        expect_text(page, "told-hidden", str(len(server.replication.hidden(2))))
        expect_text(page, "told-hz", f"{server.config.snapshot_hz} Hz")
        expect_text(page, "told-note", "It sees for itself.")
        expect_text(page, "told-parts", lambda text: "header 12" in text)
        milliseconds = server.transport.endpoint.rtt_ns[2] * 1e-6
        expect_text(page, "told-rtt", lambda text: abs(float(text.split()[0]) - milliseconds) < 3.0)
    finally:
        running.start()


def test_snapshots_are_decoded_in_the_browser_and_agree_with_the_truth(
    page: Page, running: Running, entity: int
) -> None:
    decode_in_a_row(page, running, 60)
    error = until(page, f"hitreg.told.error() !== null && hitreg.told.error().count > {CLIENTS} && hitreg.told.error()")
    assert 0.0 < error["mean"] < 0.2  # some centimetres of quantisation and dead reckoning
    until(page, "hitreg.told.known(hitreg.scene.tick).some((known) => known.id === hitreg.told.entity)")


def test_as_told_draws_what_the_client_knows_and_nothing_else(page: Page, entity: int) -> None:
    page.get_by_test_id("told-mode").click()
    # Both at once, out of one picture that was drawn while in step.
    script = f"""hitreg.asTold && hitreg.told.inStep && hitreg.scene.truth !== undefined
      && hitreg.scene.players.length > {CLIENTS // 2}
      && [hitreg.scene.players, hitreg.told.known(hitreg.scene.tick)]
        .map((list) => list.map(({{ id }}) => String(id)))"""
    shown, known = until(page, script)
    assert set(shown) <= {*known, str(entity)}
    expect(lambda: page.get_by_test_id("told-mode").get_attribute("aria-pressed"), "true".__eq__, "pressed", page=page)
    until(page, "/cm mean/.test(document.querySelector('#told-error').textContent)")
    page.keyboard.press("k")
    until(page, "!hitreg.asTold && hitreg.scene.truth === undefined")


def test_a_missed_message_is_made_up_for_by_the_next_key(page: Page, running: Running, entity: int) -> None:
    miss_one(page)
    decode_in_a_row(page, running, 30)


def miss_one(page: Page) -> None:
    """Let the page believe that messages are missing, and wait for the key that makes up for them."""
    missed = page.evaluate("(hitreg.told.latest.number -= 5, hitreg.told.losses.missed)")
    until(page, f"hitreg.told.losses.missed > {missed} && hitreg.told.inStep")


def test_a_key_holds_what_is_under_way_too(page: Page, running: Running, entity: int) -> None:
    running.late_ticks = 9
    try:
        until(page, "hitreg.told.inStep")
        for _ in range(3):
            miss_one(page)
            decode_in_a_row(page, running, 12)
    finally:
        running.late_ticks = 0


def test_another_player_is_asked_for_and_none_when_following_ends(page: Page, running: Running, entity: int) -> None:
    other = int(running.server.sessions.entity[4])
    choose(page, "Player 4", other)
    until(page, f"hitreg.told.latest !== null && hitreg.told.latest.entity === {other}n")
    page.keyboard.press("Escape")
    until(page, "document.querySelector('#told').hidden")
    frames = until(page, "hitreg.told.entity === null && hitreg.frames")
    until(page, f"hitreg.frames > {frames} + 6")  # what was under way has come by then
    assert page.evaluate("hitreg.told.latest") is None


def test_figures_of_all_clients_are_shown(page: Page) -> None:
    until(page, "Number(document.querySelector('#telling dd').textContent) > 0")
    expect_text(page, "telling", lambda text: "30 Hz" in text)
    expect_text(page, "telling-parts", lambda text: "at rest" in text)
