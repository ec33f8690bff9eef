"""The composition root: from a configuration to a running server, or one clear error and nothing half-started.

Order of starting, so that whatever can fail cheaply fails first: game, map, geometry, world (checks the game), kernels,
socket, host, feed, card, edge process; the loop begins last. Stopping goes backwards.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from net.address import parse_address
from net.block_limits import BlockLimits
from net.blocks import Blocks
from net.compression import Compressor
from net.congestion import CongestionLimits
from net.dictionaries import shipped_dictionaries
from net.endpoint import Endpoint
from net.host import Host
from net.inputs import InputQueues
from net.messages import MessageCodec
from net.udp import ServerSocket
from server.config import ServerConfig
from server.errors import GameError, ServerError
from server.frame import Frame, FrameParts
from server.game import load_game
from server.kernels import CLIENTS_ONLY, MOVING, SIGHT, prepare
from server.loop import Clock, SystemClock, TickLoop
from server.maps import load_geometry, load_map
from server.recorder import Recorder, open_recorder
from server.replication import Replication, ReplicationLimits
from server.sessions import Sessions
from server.sight import open_sight
from server.tickets import (
    CARD_VARIABLE,
    ServerCard,
    card_path,
    fresh_key,
    part_digests,
    protocol_id,
    protocol_parts,
    write_card,
)
from server.transport import Transport
from server.watch import Watch, WatchParts
from server.wire import field_table
from sim.arrays import I64
from sim.errors import SimError
from sim.geometry import Geometry
from sim.jit import seal, set_threads
from sim.plugin import GameSpec
from sim.world import World
from sim.worldmap import WorldMap

__all__ = ["Server", "build_world"]

DATAGRAMS_PER_CLIENT = 4  # received per batch
EDGE_START_S = 30.0
Progress = Callable[[int, int, str], None]


def build_world(config: ServerConfig, game: GameSpec, world_map: WorldMap, geometry: Geometry) -> World:
    """The world of a configuration.

    Raises:
        GameError: The game does not fit together with the core.
    """
    try:
        return World(
            game, world_map, geometry, tick_hz=config.tick_hz, seed=config.seed, zone=config.zone,
            max_rewind_ms=config.max_rewind_ms,
        )  # fmt: skip
    except SimError as error:
        raise GameError(f"game {config.game!r}: {error}") from error
    except Exception as error:
        text = " ".join(str(error).split())
        raise GameError(
            f"game {config.game!r}: raised {type(error).__name__} at start: {text}; mend the game package"
        ) from error


class Server:
    """One zone server. Use as a context manager; `run` blocks until `stop`.

    Attributes:
        world: The simulated world.
        card: What clients need to join; also in the file at `card_file`.
        edge_address: Of the page, once `start_edge` has been called.
        frame: The tick, stage by stage.
        loop: The schedule.
        recorder: What records matches, or None.
        sight: What hides players behind walls, or None.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        clock: Clock | None = None,
        progress: Progress | None = None,
        sealed: bool = True,
    ) -> None:
        """Build everything but the edge process.

        Args:
            config: All settings.
            clock: The machine's clocks unless given.
            progress: Told of kernels that are compiled or loaded: (done, total, name).
            sealed: Whether kernels may not be compiled from then on; off for bots in the same process.

        Raises:
            ServerError: Something cannot be had; one line with the remedy.
            NetError: The address cannot be bound.
        """
        self.config = config
        self.clock = clock or SystemClock()
        self.edge_address = ""
        self._edge: subprocess.Popen[str] | None = None
        self._watch: Watch | None = None
        self.card_file: Path | None = None
        game = load_game(config.game)
        world_map = load_map(config.map)
        source = Path(config.map)
        geometry = load_geometry(world_map, beside=source if source.is_file() else None)
        self.world = build_world(config, game, world_map, geometry)
        # Before the kernels are sealed: baking a map takes some that no tick asks.
        beside = source if source.is_file() else None
        interval = max(1, round(config.tick_hz / config.snapshot_hz))
        self.sight = open_sight(
            config.visibility, self.world, clients=config.clients_max, interval_ticks=interval, beside=beside
        )  # fmt: skip
        self._set_threads(config.threads)
        unused = CLIENTS_ONLY | (frozenset() if self.sight else SIGHT) | (frozenset() if world_map.moving else MOVING)
        self.kernels_compiled = prepare(progress, without=unused)
        if sealed:
            seal()
        self._open()

    def _set_threads(self, count: int) -> None:
        try:
            set_threads(count)
        except ValueError as error:
            raise ServerError(f"threads = {count}: {error}; choose 1 to {os.cpu_count()}") from error

    def _open(self) -> None:
        """Socket, host, replication, frame, feed and card."""
        config, world = self.config, self.world
        bind = f"[{config.host}]:{config.port}" if ":" in config.host else f"{config.host}:{config.port}"
        self._stack = contextlib.ExitStack()
        try:
            # The system's stamps make sense only beside the machine's own clock.
            stamped = isinstance(self.clock, SystemClock)
            opened = ServerSocket(bind, buffer_bytes=config.socket_buffer_bytes, stamped=stamped)
            self.socket = self._stack.enter_context(opened)
            self.card = self._make_card()
            self.host = Host(
                protocol_id=self.card.protocol_id,
                private_key=bytes.fromhex(self.card.private_key),
                addresses=[parse_address(self.card.address)],
                clients_max=config.clients_max,
                now_ns=self.clock.now_ns(),
                unix_ns=self.clock.unix_ns(),
                batch=max(256, DATAGRAMS_PER_CLIENT * config.clients_max),
                handshakes_max=max(1, round(config.connects_per_s / config.tick_hz)),
                token_lifetime_s=config.token_seconds,
                takeover=True,
                address_connections_max=config.address_connections_max,
                address_connects_per_s=config.address_connects_per_s,
                exempt=config.exempt_networks(),
            )
            self._assemble()
            if config.feed_hz:
                self._watch = self._stack.enter_context(contextlib.closing(self._make_watch()))
            self.card_file = card_path(config.feed)
            write_card(self.card_file, self.card)
            self._stack.callback(self.card_file.unlink, missing_ok=True)
        except BaseException:
            self._stack.close()
            raise
        assert world.tick == 0

    def _make_card(self) -> ServerCard:
        config, world = self.config, self.world
        map_hash = world.map.content_hash()
        return ServerCard(
            address=config.public_address or str(self.socket.address),
            protocol_id=protocol_id(world.game, tick_hz=config.tick_hz, map_hash=map_hash),
            private_key=fresh_key(config.private_key_file).hex(),
            game=config.game,
            map=config.map,
            map_hash=map_hash,
            tick_hz=config.tick_hz,
            snapshot_hz=config.snapshot_hz,
            token_seconds=config.token_seconds,
            client_timeout_s=config.client_timeout_s,
            protocol_digests=part_digests(protocol_parts(world.game, tick_hz=config.tick_hz, map_hash=map_hash)),
        )

    def _assemble(self) -> None:
        config, world = self.config, self.world
        clients = config.clients_max
        batch = max(256, DATAGRAMS_PER_CLIENT * clients)
        self.inputs = InputQueues(
            clients, tick_hz=config.tick_hz, batch_max=batch, max_rewind_ms=config.max_rewind_ms
        )  # fmt: skip
        limits = ReplicationLimits(
            relevant=config.relevant_max,
            interval_ticks=max(1, round(config.tick_hz / config.snapshot_hz)),
            budget_bytes=config.snapshot_bytes_max,
        )
        table = field_table(world.game, tick_hz=config.tick_hz)
        self.replication = Replication(
            table, clients=clients, entities=world.slot_count, events=world.game.event_specs, limits=limits
        )
        self.sessions = Sessions(
            clients=clients, players=world.players.capacity, resume_ticks=round(config.resume_s * config.tick_hz)
        )
        self.transport = Transport(
            self.socket,
            self.host,
            self._make_endpoint(batch),
            to_client=MessageCodec.to_client(world.game.actions, world.game.messages),
            batch=batch,
            compressor=Compressor(dictionaries=shipped_dictionaries()),
        )
        self.recorder = self._make_recorder()
        parts = FrameParts(
            world=world,
            transport=self.transport,
            inputs=self.inputs,
            replication=self.replication,
            sessions=self.sessions,
            publish=self._publish,
            clock_ns=self.clock.now_ns,
            killcam_s=config.killcam_s,
            sight=self.sight,
            recorder=self.recorder,
            turn_max_deg_per_s=config.turn_max_deg_per_s,
        )
        self.frame = Frame(parts)
        self._last_stage_ns: I64 = np.zeros(len(self.frame.stages), np.int64)
        self.loop = TickLoop(
            self._tick, tick_hz=config.tick_hz, catch_up_max=config.overrun_catch_up_max, clock=self.clock
        )

    def _make_recorder(self) -> Recorder | None:
        """What records matches; None where that is switched off, or cannot be, which is told once."""
        if not self.config.record_dir:
            return None
        try:
            return self._stack.enter_context(
                contextlib.closing(open_recorder(self.config, self.world, unix_ns=self.clock.unix_ns))
            )
        except ServerError as error:
            sys.stderr.write(f"warning: {error}; nothing is recorded\n")
            return None

    def _make_endpoint(self, batch: int) -> Endpoint:
        config = self.config
        most = config.client_kbps_max * 125.0
        plain = CongestionLimits()
        rates = CongestionLimits(
            rate_min=min(plain.rate_min, most),
            rate_start=min(plain.rate_start, most),
            rate_max=most,
            total=config.total_kbps_max * 125.0,
        )
        # Nothing in the server takes blocks of clients.
        blocks = Blocks(config.clients_max, limits=BlockLimits(receive_bytes=0, receive_total_bytes=0))
        return Endpoint(config.clients_max, batch=batch, congestion=rates, blocks=blocks)

    def _make_watch(self) -> Watch:
        parts = WatchParts(
            world=self.world,
            transport=self.transport,
            replication=self.replication,
            sessions=self.sessions,
            views=self.frame.views,
            clock=self.clock,
            sight=self.sight,
            refusals=self.frame.refusals,
            aim=self.frame.aim,
        )
        return Watch(self.config.feed, parts, self.frame.stages, feed_hz=self.config.feed_hz)

    def _tick(self, now_ns: int) -> None:
        self.frame.run(now_ns)
        self._last_stage_ns[:] = self.frame.stage_ns

    def _publish(self, tick: int, _now_ns: int) -> None:
        if self._watch is not None:
            self._watch.tick(tick, self._last_stage_ns, self.loop.stats)

    def start_edge(self) -> str:
        """Start the separate process that serves the page; returns the page's address.

        Raises:
            ServerError: It could not start; its own line says why.
        """
        config = self.config
        command = [
            sys.executable, "-m", "server.edge", "--feed", config.feed, "--host", config.edge_host,
            "--port", str(config.edge_port), "--parent-pid", str(os.getpid()),
            "--token-issuer", "server.tickets:edge_token_issuer",
        ]  # fmt: skip
        if self.recorder is not None:
            command += ["--record-dir", str(Path(config.record_dir).expanduser())]
        environment = {**os.environ, CARD_VARIABLE: str(self.card_file)}
        self._edge = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        self._stack.callback(self._stop_edge)
        assert self._edge.stdout is not None
        assert self._edge.stderr is not None
        line = self._edge.stdout.readline().strip()
        if not line.startswith("edge: "):
            self._edge.wait(EDGE_START_S)
            reason = self._edge.stderr.read().strip().splitlines() or ["it ended without a word"]
            raise ServerError(f"edge: {reason[-1].removeprefix('edge: ')}")
        # Nobody reads its warnings from here on. With this end closed, writing them fails at once, and the edge goes
        # on; a full pipe would stop it after some thousand malformed requests.
        self._edge.stderr.close()
        self.edge_address = line.removeprefix("edge: ")
        return self.edge_address

    def _stop_edge(self) -> None:
        if self._edge is None:
            return
        self._edge.terminate()
        try:
            self._edge.wait(5.0)
        except subprocess.TimeoutExpired:
            self._edge.kill()
            self._edge.wait()
        for pipe in (self._edge.stdout, self._edge.stderr):
            if pipe is not None:
                pipe.close()

    def run(self, *, ticks: int | None = None) -> None:
        """Make ticks until `stop`, or until `ticks` have been made."""
        self.loop.run(ticks=ticks)

    def stop(self) -> None:
        """End `run` after the present tick; may be called from a signal handler."""
        self.loop.stop()

    def close(self) -> None:
        """Tell all clients, then release everything; again is harmless."""
        self.transport.close(self.clock.now_ns())
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
