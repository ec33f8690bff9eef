"""`python -m server.edge`: the edge process. Prints its address, exits 2 with one line when it cannot start."""

import argparse
import asyncio
import importlib
import os
import socket
import sys
from collections.abc import Sequence

import uvicorn

from server.edge.app import create_app
from server.edge.settings import EdgeError, EdgeSettings, TokenIssuer
from server.errors import ServerError
from server.livefeed import feed_path

__all__ = ["main", "serve"]

HEADER_BYTES_MAX = 16 << 10
CONNECTIONS_BESIDE_VIEWERS = 64
PARENT_CHECK_S = 0.5


def _listen(settings: EdgeSettings) -> socket.socket:
    """A listening socket, bound before anything else starts so that a port in use is told at once."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(128)
    except OSError as exc:
        listener.close()
        reason = exc.strerror or str(exc)
        raise EdgeError(
            f"--host {settings.host} --port {settings.port}: {reason}; choose another, or --port 0 for any free one"
        ) from exc
    listener.setblocking(False)
    return listener


async def _run(settings: EdgeSettings, token_issuer: TokenIssuer | None, listener: socket.socket) -> None:
    config = uvicorn.Config(
        create_app(settings, token_issuer=token_issuer),
        log_level="warning",
        access_log=False,
        server_header=False,
        http="h11",
        h11_max_incomplete_event_size=HEADER_BYTES_MAX,
        limit_concurrency=settings.viewers_max + CONNECTIONS_BESIDE_VIEWERS,
        ws="websockets-sansio",
        ws_max_size=1024,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)

    async def follow_parent() -> None:
        while os.getppid() == settings.parent_pid:
            await asyncio.sleep(PARENT_CHECK_S)
        server.should_exit = True

    parent = asyncio.create_task(follow_parent()) if settings.parent_pid else None
    await server.serve(sockets=[listener])
    if parent is not None:
        parent.cancel()


def serve(settings: EdgeSettings, *, token_issuer: TokenIssuer | None = None) -> None:
    """Serve until a signal, or the end of the parent process.

    Args:
        settings: Feed, address and limits.
        token_issuer: See `create_app`.

    Raises:
        EdgeError: The address cannot be listened on.
        FeedError: The feed's name is malformed.
    """
    feed_path(settings.feed)
    listener = _listen(settings)
    port = listener.getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    sys.stdout.write(f"edge: http://{host}:{port}/\n")
    sys.stdout.flush()
    asyncio.run(_run(settings, token_issuer, listener))


def _token_issuer(path: str) -> TokenIssuer:
    """The function that `module:name` points to."""
    module, _, name = path.partition(":")
    try:
        issuer: TokenIssuer = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as exc:
        raise EdgeError(f"--token-issuer {path}: {exc}; give it as module:function") from exc
    return issuer


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    standard = EdgeSettings()
    parser = argparse.ArgumentParser("python -m server.edge", description="Show a running match in the browser.")
    parser.add_argument("--feed", default=standard.feed, help="name of the server's live feed")
    parser.add_argument("--host", default=standard.host, help="address to listen on")
    parser.add_argument("--port", type=int, default=standard.port, help="TCP port, 0 = any free one")
    parser.add_argument("--allowed-host", action="append", default=[], help="host name requests may ask for")
    parser.add_argument("--viewers-max", type=int, default=standard.viewers_max, help="browsers at once")
    parser.add_argument("--gone-after-s", type=float, default=standard.gone_after_s, help="silence until 'gone'")
    parser.add_argument("--parent-pid", type=int, default=0, help="exit when this is no longer the parent")
    parser.add_argument("--record-dir", default=standard.record_dir, help="directory of the recordings to show")
    parser.add_argument("--replays-max", type=int, default=standard.replays_max, help="recordings played at once")
    parser.add_argument("--token-issuer", default="", help="module:function that makes connect tokens")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the edge from the command line; returns the exit code."""
    options = _arguments(argv)
    try:
        settings = EdgeSettings(
            feed=options.feed,
            host=options.host,
            port=options.port,
            allowed_hosts=tuple(options.allowed_host),
            viewers_max=options.viewers_max,
            gone_after_s=options.gone_after_s,
            parent_pid=options.parent_pid,
            record_dir=options.record_dir,
            replays_max=options.replays_max,
        )
        serve(settings, token_issuer=_token_issuer(options.token_issuer) if options.token_issuer else None)
    except ServerError as exc:
        sys.stderr.write(f"edge: {exc}\n")
        return 2
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
