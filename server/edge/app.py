"""The web application: the pages, their data, the WebSockets, probes and connect tokens.

    GET  /              the live page                GET  /api/status   JSON: state, counters, newest figures
    GET  /replays       the page of recordings       GET  /api/replays  JSON: which recordings there are
    GET  /static/NAME   scripts and style            GET  /api/map.png  the map from above
    GET  /healthz       200 while the process lives  GET  /api/map.bin  the map's triangles
    GET  /readyz        200 while frames arrive      POST /api/token    {"token": base64} of a connect token
    WS   /live          messages of `server.edge.hub`
    WS   /replay?file=  messages of `server.replay_wire`

Nothing here reads a request's body or trusts a header further than to refuse: every request is bounded by
uvicorn's header limits, every answer comes from memory.
"""

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from server.edge.hub import Hub, Viewer
from server.edge.replays import Replays
from server.edge.settings import EdgeSettings, TokenIssuer
from server.errors import ServerError

__all__ = ["create_app"]

STATIC = Path(__file__).parent / "static"
MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
ICON = b"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8"
fill="#0b0f14"/><g fill="none" stroke="#6ee7c8" stroke-width="2.5" stroke-linecap="round"><circle cx="16" cy="16"
r="7.5"/><path d="M16 4v6M16 22v6M4 16h6M22 16h6"/></g><circle cx="16" cy="16" r="2" fill="#ff6b6b"/></svg>"""
SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
WEBSOCKET_POLICY_VIOLATION = 1008
ASKS_PER_SECOND = 10


class Guard:
    """Refuses requests under a foreign host name or from a foreign page, and adds the security headers.

    Args:
        app: The application behind it.
        hosts: Host names, without port, that requests may ask for; `*` allows all.
    """

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or answer 421 (foreign host) or 403 (foreign origin)."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.http.response.start"}:
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send_guarded)
        elif scope["type"] == "http":
            await refusal(scope, receive, send_guarded)
        else:
            await WebSocket(scope, receive, send_guarded).send_denial_response(refusal)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if "*" not in self._hosts and name.lower() not in self._hosts:
            return PlainTextResponse("unknown host; start the edge with --allowed-host\n", 421)
        origin = headers.get("origin")
        changes = scope["type"] == "websocket" or scope["method"] not in {"GET", "HEAD"}
        if changes and origin is not None and origin.partition("://")[2] != host:
            return PlainTextResponse("requests from other sites are refused\n", 403)
        return None


class Rate:
    """A token bucket: `per_second` on average, as many at once."""

    def __init__(self, per_second: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._left = float(per_second)
        self._at = clock()

    def take(self) -> bool:
        """Whether one more is allowed now."""
        now = self._clock()
        self._left = min(self._per_second, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Pages:
    """The handlers, over one hub and its recordings."""

    def __init__(self, hub: Hub, replays: Replays, token_issuer: TokenIssuer | None) -> None:
        self._hub = hub
        self._replays = replays
        self._issue = token_issuer
        self._rate = Rate(hub.settings.tokens_per_second)
        self._files = {
            path.name: (path.read_bytes(), MEDIA_TYPES[path.suffix])
            for path in STATIC.iterdir()
            if path.suffix in MEDIA_TYPES
        }

    def routes(self) -> list[Route | WebSocketRoute]:
        """All routes."""
        return [
            Route("/", self._index),
            Route("/replays", self._replays_page),
            Route("/static/{name}", self._static),
            Route("/favicon.svg", self._icon),
            Route("/healthz", self._health),
            Route("/readyz", self._ready),
            Route("/api/status", self._status),
            Route("/api/replays", self._recordings),
            Route("/api/map.png", self._picture),
            Route("/api/map.bin", self._mesh),
            Route("/api/token", self._token, methods=["POST"]),
            WebSocketRoute("/live", self._live),
            WebSocketRoute("/replay", self._replays.serve),
        ]

    async def _index(self, _: Request) -> Response:
        return self._file("index.html")

    async def _replays_page(self, _: Request) -> Response:
        await self._replays.warm()  # it is going to ask for a recording: its worker starts while the page is loaded
        return self._file("replay.html")

    async def _recordings(self, _: Request) -> Response:
        return JSONResponse(await self._replays.look(), headers={"cache-control": "no-store"})

    async def _static(self, request: Request) -> Response:
        return self._file(request.path_params["name"])

    def _file(self, name: str) -> Response:
        if name not in self._files:
            return PlainTextResponse("no such file\n", 404)
        content, media_type = self._files[name]
        return Response(content, media_type=media_type, headers={"cache-control": "no-cache"})

    async def _icon(self, _: Request) -> Response:
        return Response(ICON, media_type="image/svg+xml", headers={"cache-control": "max-age=86400"})

    async def _health(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _ready(self, _: Request) -> Response:
        return PlainTextResponse(f"{self._hub.state}\n", 200 if self._hub.state == "live" else 503)

    async def _status(self, _: Request) -> Response:
        return JSONResponse(self._hub.status() | self._replays.status(), headers={"cache-control": "no-store"})

    async def _picture(self, _: Request) -> Response:
        reader = self._hub.reader
        return _blob(reader.picture_png if reader else b"", "image/png")

    async def _mesh(self, _: Request) -> Response:
        reader = self._hub.reader
        return _blob(reader.mesh_bytes if reader else b"", "application/octet-stream")

    async def _token(self, request: Request) -> Response:
        if self._issue is None:
            return JSONResponse({"error": "this edge issues no tokens"}, 503)
        if not self._rate.take():
            return JSONResponse({"error": "too many requests; try again in a second"}, 429)
        try:
            token = self._issue(request.client.host if request.client else "")
        except ServerError as exc:
            return JSONResponse({"error": str(exc)}, 503)
        return JSONResponse({"token": base64.b64encode(token).decode()}, headers={"cache-control": "no-store"})

    async def _live(self, socket: WebSocket) -> None:
        viewer = self._hub.join()
        if viewer is None:
            await socket.send_denial_response(PlainTextResponse("too many viewers; try again later\n", 503))
            return
        try:
            await socket.accept()
            await _serve(socket, viewer, self._hub)
        finally:
            self._hub.leave(viewer)


def _blob(content: bytes, media_type: str) -> Response:
    if not content:
        return PlainTextResponse("the server has none\n", 404)
    return Response(content, media_type=media_type, headers={"cache-control": "no-store"})


async def _serve(socket: WebSocket, viewer: Viewer, hub: Hub) -> None:
    """Send what comes for a viewer until either side ends it."""
    sender = asyncio.create_task(_send(socket, viewer))
    listener = asyncio.create_task(_hear(socket, viewer, hub))
    _, pending = await asyncio.wait({sender, listener}, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(sender, listener, return_exceptions=True)


async def _send(socket: WebSocket, viewer: Viewer) -> None:
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            message = await viewer.get()
            if isinstance(message, str):
                await socket.send_text(message)
            else:
                await socket.send_bytes(message)


async def _hear(socket: WebSocket, viewer: Viewer, hub: Hub) -> None:
    """Take a browser's messages; one that says nonsense, or too much, is shown out."""
    rate = Rate(ASKS_PER_SECOND)
    while True:
        message = await socket.receive()
        if message["type"] != "websocket.receive":
            return
        if not rate.take() or not hub.hear(viewer, message.get("text") or ""):
            await socket.close(WEBSOCKET_POLICY_VIOLATION, "viewers say whom they watch, a few times a second")
            return


def create_app(settings: EdgeSettings, *, token_issuer: TokenIssuer | None = None) -> ASGIApp:
    """The whole application; its life span polls the feed and ends the workers.

    Args:
        settings: Feed, address and limits.
        token_issuer: Makes a connect token for the client at an address; None issues none. It is called on
            the event loop and must not block; a `ServerError` becomes an answer 503.
    """
    hub, replays = Hub(settings), Replays(settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(hub.run()), asyncio.create_task(replays.run())]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    app = Starlette(routes=Pages(hub, replays, token_issuer).routes(), lifespan=lifespan)
    hosts = frozenset(name.lower() for name in (*LOCAL_HOSTS, settings.host, *settings.allowed_hosts))
    return Guard(app, hosts=hosts)
