import base64
import json
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from server.edge.__main__ import main
from server.errors import ServerError
from server.livefeed import LiveFeedWriter
from server.livemesh import live_mesh
from server.livereader import LiveFeedReader
from server.maps import load_map
from tests.server.edge_process import ROOT, Edge, command, running_edge
from tests.server.live_match import SyntheticMatch

WAIT_S = 120.0
RUN = 1_700_000_000_000_000_001


def issue(address: str) -> bytes:
    """A token issuer for the edge to import."""
    if address != "127.0.0.1":
        raise ServerError("only here")
    return b"token for " + address.encode()


def refuse(address: str) -> bytes:
    """A token issuer that has none to give."""
    raise ServerError(f"no slots for {address}; try again later")


@pytest.fixture(scope="module")
def match() -> SyntheticMatch:
    return SyntheticMatch(load_map("arena"), 20)


@pytest.fixture(scope="module")
def feed(match: SyntheticMatch) -> Iterator[tuple[str, LiveFeedWriter]]:
    name = f"test-{secrets.token_hex(8)}"
    with LiveFeedWriter(name, match.info(), now_ns=RUN, picture_png=b"png", mesh=live_mesh(match.world)) as writer:
        writer.set_names(match.names)
        yield name, writer


@pytest.fixture(scope="module")
def running(feed: tuple[str, LiveFeedWriter]) -> Iterator[Edge]:
    arguments = ("--viewers-max", "2", "--gone-after-s", "3600", "--token-issuer", f"{__name__}:issue")
    with running_edge(feed[0], *arguments) as started:
        yield started


@pytest.fixture
def edge(running: Edge) -> Edge:
    """The edge, once it knows that the viewers of the test before have gone."""
    until_nobody_watches(running)
    return running


def until_nobody_watches(edge: Edge) -> None:
    deadline = time.monotonic() + WAIT_S
    while edge.ask("api/status").json["viewers"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def live(edge: Edge, **options: str) -> ClientConnection:
    return connect(f"ws://{edge.host}/live", proxy=None, additional_headers=options, max_size=1 << 20)


def until_ready(edge: Edge) -> None:
    """Wait until the edge has seen a frame; it looks for feeds four times a second."""
    deadline = time.monotonic() + WAIT_S
    while edge.ask("readyz").status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_browser_gets_what_the_server_published(
    edge: Edge, feed: tuple[str, LiveFeedWriter], match: SyntheticMatch
) -> None:
    name, writer = feed
    match.publish(writer, seconds=0.05, wall_ns=1)
    until_ready(edge)
    with live(edge) as browser:
        info, names, state = (json.loads(browser.recv(timeout=WAIT_S)) for _ in range(3))
        assert (info["type"], info["run"], info["picture"], info["mesh"]) == ("info", str(RUN), True, True)
        assert names["names"] == match.names
        assert state["state"] == "live"
        reader = LiveFeedReader(name)
        while browser.recv(timeout=WAIT_S) != reader.read(reader.newest):
            pass  # a frame that another test has published
        match.publish(writer, seconds=0.05, wall_ns=2)
        assert browser.recv(timeout=WAIT_S) == reader.read(reader.newest)
    status = edge.ask("api/status").json
    assert (status["players"], status["map_name"], status["state"]) == (20, "arena", "live")


def test_map_data_is_served_as_written(edge: Edge, feed: tuple[str, LiveFeedWriter], match: SyntheticMatch) -> None:
    match.publish(feed[1], seconds=0.05, wall_ns=1)
    until_ready(edge)
    mesh = live_mesh(match.world)
    assert mesh is not None
    assert edge.ask("api/map.bin").body == mesh.to_bytes()
    picture = edge.ask("api/map.png")
    assert (picture.body, picture.headers["content-type"]) == (b"png", "image/png")


def test_the_page_is_whole_and_asks_nobody_else(edge: Edge) -> None:
    page = edge.ask("")
    assert page.status == 200
    text = page.body.decode()
    for name in ("main.js", "style.css"):
        assert f"/static/{name}" in text
    static = ROOT / "server" / "edge" / "static"
    for path in static.iterdir():
        content = path.read_text()
        assert not [word for word in ("http://", "https://") if word in content], path.name
        address = {"index.html": "", "replay.html": "replays"}.get(path.name, f"static/{path.name}")
        assert edge.ask(address).body.decode() == content


@pytest.mark.parametrize("path", ["", "static/main.js", "api/status", "healthz", "nothing/here"])
def test_every_answer_carries_the_security_headers(edge: Edge, path: str) -> None:
    headers = edge.ask(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert "server" not in headers


@pytest.mark.parametrize("path", ["static/..%2fapp.py", "static/../app.py", "static/nothing.js", "static/", "x"])
def test_only_known_files_are_served(edge: Edge, path: str) -> None:
    assert edge.ask(path).status == 404


def test_a_foreign_host_name_is_refused(edge: Edge) -> None:
    assert edge.ask("api/status", headers={"Host": "evil.example"}).status == 421
    assert edge.ask("api/status", headers={"Host": f"localhost:{edge.host.split(':')[1]}"}).status == 200


def test_a_foreign_page_can_neither_watch_nor_take_tokens(edge: Edge) -> None:
    with pytest.raises(InvalidStatus) as refused, live(edge, Origin="http://evil.example"):
        pass
    assert refused.value.response.status_code == 403
    foreign = {"Origin": "http://evil.example"}
    assert edge.ask("api/token", method="POST", headers=foreign).status == 403
    assert edge.ask("api/token", method="POST", headers={"Origin": f"http://{edge.host}"}).status == 200


def test_tokens_come_from_the_issuer(edge: Edge) -> None:
    answer = edge.ask("api/token", method="POST")
    assert base64.b64decode(answer.json["token"]) == b"token for 127.0.0.1"
    assert edge.ask("api/token").status == 405


def test_too_many_viewers_are_refused_and_room_comes_back(edge: Edge) -> None:
    with live(edge), live(edge):
        with pytest.raises(InvalidStatus) as refused, live(edge):
            pass
        assert refused.value.response.status_code == 503
    until_nobody_watches(edge)
    with live(edge):
        pass


@pytest.mark.parametrize("messages", [["hello"], [b"{}"], ['{"watch": "1"}'] * 30])
def test_a_viewer_that_talks_nonsense_or_too_much_is_shown_out(edge: Edge, messages: list[str | bytes]) -> None:
    with live(edge) as browser, pytest.raises(ConnectionClosed) as closed:
        for message in messages:
            browser.send(message)
        while True:
            browser.recv(timeout=WAIT_S)
    # Where more was under way than the edge has read, the system may end the connection before its reason is read.
    assert closed.value.rcvd is not None or len(messages) > 1
    assert closed.value.rcvd is None or closed.value.rcvd.code == 1008


def test_without_a_server_it_is_healthy_but_not_ready() -> None:
    with running_edge(f"test-{secrets.token_hex(8)}", "--token-issuer", f"{__name__}:refuse") as edge:
        assert edge.ask("healthz").status == 200
        assert edge.ask("readyz").status == 503
        assert edge.ask("api/map.bin").status == 404
        refusal = edge.ask("api/token", method="POST")
        assert (refusal.status, refusal.json) == (503, {"error": "no slots for 127.0.0.1; try again later"})


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(command("--port", port), cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    message = done.stderr
    assert message.count("\n") == 1
    assert f"--port {port}" in message
    assert "in use" in message
    assert "--port 0" in message


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--port", "99999"), "--port 99999"),
        (("--feed", "../etc"), "'../etc'"),
        (("--host", "no.such.host.invalid"), "--host no.such.host.invalid"),
        (("--token-issuer", "nothing.like:this"), "module:function"),
    ],
)
def test_bad_options_are_one_clear_line(
    arguments: tuple[str, ...], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert part in message


def test_it_ends_with_its_parent() -> None:
    with running_edge("nobody", "--parent-pid", "1") as edge:  # never our parent: as if it had gone
        assert edge.process.wait(WAIT_S) == 0
