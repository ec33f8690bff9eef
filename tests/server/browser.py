"""A real browser for tests, and ways to read a page that changes by itself.

A page draws some of itself every frame, some a few times a second, and what it shows comes from other processes. So a
test never reads a figure once after waiting for another: it waits until the page shows what is wanted, and where that
never comes, the failure says what the page showed last.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Error, Locator, Page, sync_playwright

__all__ = [
    "WAIT_MS",
    "chromium",
    "click_until",
    "colours",
    "expect",
    "expect_text",
    "new_page",
    "picture",
    "places",
    "until",
]

WAIT_MS = 120_000  # software rendering on a busy machine
POLL_MS = 30
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
PICTURE = """(canvas) => new Promise((done) => requestAnimationFrame(() => {
  const copy = new OffscreenCanvas(160, 90);
  const context = copy.getContext("2d");
  context.drawImage(canvas, 0, 0, 160, 90);
  const data = context.getImageData(0, 0, 160, 90).data;
  const colours = new Set();
  let [sum, brown] = [0, 0];
  for (let at = 0; at < data.length; at += 4) {
    colours.add((data[at] << 16) | (data[at + 1] << 8) | data[at + 2]);
    sum = (sum * 31 + data[at] * 3 + data[at + 1] * 5 + data[at + 2] * 7) % 1000000007;
    brown += data[at] > data[at + 2] + 12;
  }
  done({ colours: colours.size, sum, brown });
}))"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium, without a window."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path is not None, "Chromium is missing: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS, timeout=WAIT_MS)
        yield browser
        browser.close()


def new_page(browser: Browser, problems: list[str], *, height: int = 760) -> Page:
    """A page whose errors are added to `problems`."""
    page = browser.new_page(viewport={"width": 1200, "height": height})
    page.set_default_timeout(WAIT_MS)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    return page


def expect(read: Callable[[], Any], accept: Callable[[Any], object], wanted: object, *, page: Page) -> Any:
    """Read again and again until what is read is accepted.

    Args:
        read: Looks at the page; what it raises because something is not there yet counts as not accepted.
        accept: Whether this is it.
        wanted: What a failure says was wanted.
        page: Left to run between two looks.

    Returns:
        What was accepted: a test that looks at it closer looks at that, not at the page once more.
    """
    deadline = time.monotonic() + WAIT_MS / 1000
    while True:
        try:
            last = read()
            if accept(last):
                return last
        except Error as error:
            last = error
        assert time.monotonic() < deadline, f"wanted {wanted}, the last seen was {last!r}"
        page.wait_for_timeout(POLL_MS)


def until(page: Page, condition: str) -> Any:
    """Wait until a JavaScript expression holds; returns its value then.

    Not `wait_for_function`: that evaluates strings inside the page, which the page's own policy refuses.
    """
    return expect(lambda: page.evaluate(condition), bool, condition, page=page)


def expect_text(page: Page, name: str, wanted: str | Callable[[str], object]) -> str:
    """Wait until the element of a test id shows a text, or one that is accepted; returns it."""

    def accept(text: str) -> object:
        return text == wanted if isinstance(wanted, str) else wanted(text)

    return str(
        expect(lambda: page.get_by_test_id(name).inner_text(timeout=2000), accept, f"{name}: {wanted}", page=page)
    )


def picture(page: Page, canvas: str) -> dict[str, int]:
    """What a canvas shows: how many colours, a sum that changes with the picture, how much has the colour of movers."""
    found: dict[str, int] = page.get_by_test_id(canvas).evaluate(PICTURE)
    return found


def colours(page: Page, canvas: str, *, more_than: int) -> None:
    """Wait until a canvas shows many colours: a drawing, not an empty area."""
    expect(lambda: picture(page, canvas)["colours"], lambda count: count > more_than, f"> {more_than}", page=page)


def places(page: Page, script: str) -> list[float]:
    """Where something is on the page, once it is the same two drawn pictures later."""
    seen: list[Any] = [None]
    look = f"new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done({script}))))"

    def steady(place: Any) -> bool:
        seen.append(place)
        return place is not None and place == seen[-2]

    found: list[float] = expect(lambda: page.evaluate(look), steady, f"a steady {script}", page=page)
    return found


def click_until(page: Page, target: Locator, condition: str) -> None:
    """Click, again where the click went astray, until a condition holds: rows and players move under the pointer."""

    def clicked() -> Any:
        held = page.evaluate(condition)
        if held:
            return held
        target.click(timeout=5000)
        return page.evaluate(condition)

    expect(clicked, bool, condition, page=page)
