"""Bots: one process that plays as a thousand clients, over UDP, with everything a client does.

    hitreg bots --count 200

Connections, inputs, prediction, snapshots and thinking are columns over all bots; a frame is one call of each part.
What a bot sees is what its client was told, it aims from where its client predicts it to be, and it dies of lag as
people do.
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from net.client import InputSet
from net.messages import MessageCodec
from net.party import Party
from net.replica import OUTCOMES, ReplicaGroup
from net.simulator import NetworkProfile, profile_named
from net.zone_replica import ZoneReplica
from server.game import load_game
from server.kernels import MOVING, prepare
from server.maps import load_geometry, load_map
from server.maps.walkways import load_navigation
from server.tickets import ServerCard, explain_mismatch, part_digests, protocol_id, protocol_parts, read_card
from server.wire import field_table, owner_layout
from server.zone_state import zone_layout
from sim.arrays import I64, U8, AnyArray
from sim.jit import compile_declared, seal, set_threads
from sim.motion import Motion
from sim.motion_kernels import InputColumns, StateColumns
from sim.movers import MoverSet
from tools.bot_brain import Brain, Events, Seen, bot_names
from tools.bot_movers import ToldMovers
from tools.errors import ToolsError

__all__ = ["BOTS_MAX", "BotSwarm", "MotionPredictor", "run_bots"]

NS = 1_000_000_000
BOTS_MAX = 10_000
ZONE_BOTS = 1000  # bots that know the whole zone's names and scores: 50 kB each, so further ones go without
CONNECTS_PER_FRAME = 16  # so that a server with a thousand handshakes at once is not what is measured
CATCH_UP_TICKS = 4  # a frame later than that gives up the schedule, counted
GREETING = "good luck, have fun"
CLIENT_BASE = 1 << 40  # ids of bots; those of people are random


class MotionPredictor:
    """`net.client.Predictor` by the server's own motion: the same kernel, the same order of columns."""

    def __init__(self, motion: Motion, *, tick_hz: int, bots: int, movers: ToldMovers | None = None) -> None:
        """Predict by a motion.

        Args:
            motion: Of the map.
            tick_hz: The server's tick rate.
            bots: How many rows.
            movers: Of the same motion; None where the map has none.
        """
        self._motion = motion
        self._movers = movers if movers is not None and movers.count else None
        self._dt = 1.0 / tick_hz
        self._moving = np.zeros(bots, np.bool_)

    def predict(self, state: Mapping[str, AnyArray], inputs: InputSet, active: U8, ticks: I64) -> None:
        """Advance the active rows by one tick, bit for bit as `sim.systems.motion_system` does."""
        chosen = active != 0
        # The server takes over a dead player's view, too, but moves only who lives.
        np.copyto(state["yaw"], inputs.yaw, where=chosen)
        np.copyto(state["pitch"], inputs.pitch, where=chosen)
        np.logical_and(chosen, state["alive"] != 0, out=self._moving)
        columns: StateColumns = (
            state["position"], state["velocity"], state["ground_normal"], state["yaw"], state["pitch"], state["flags"],
        )  # fmt: skip
        keys: InputColumns = (
            inputs.buttons, inputs.move_forward, inputs.move_right, state["yaw"], state["pitch"],
        )  # fmt: skip
        if self._movers is None:
            self._motion.move(columns, keys, active=self._moving, dt=self._dt)
            return
        self._movers.learn()
        for tick in np.unique(ticks[self._moving]).tolist():
            # Rows may make different ticks at once, and find every mover elsewhere.
            rows = self._moving & (ticks == tick)
            self._movers.move(tick, columns, rows, self._dt)
            self._motion.move(columns, keys, active=rows, dt=self._dt)


class BotSwarm:
    """`count` bots on one server. Call `frame` at the server's tick rate; use as a context manager.

    Attributes:
        party: Their game clients: connections, endpoints, clocks, inputs, prediction.
        replicas: What was told of others.
        brain: What they want.
        names: What they are called.
        welcomed: Sessions begun or resumed.
        resumed: Of these, resumed.
        frames: Frames made.
    """

    def __init__(
        self,
        card: ServerCard,
        count: int,
        *,
        seed: int = 1,
        skill: float = 0.6,
        first: int = 0,
        armed: bool = True,
        network: NetworkProfile | None = None,
    ) -> None:
        """Loads the map and makes room; nothing is sent before the first frame.

        Args:
            card: Of the server.
            count: How many bots, 1 … BOTS_MAX.
            seed: All that bots do at random follows from it.
            skill: 0 … 1.
            first: Number of the first bot, where several processes play on one server.
            armed: Whether they shoot.
            network: A bad network that everything goes through, both ways; None: none.

        Raises:
            ToolsError: A number is out of range, or the server runs another version, game or map.
            ServerError: The game or map cannot be loaded.
        """
        if not 1 <= count <= BOTS_MAX or first < 0:
            raise ToolsError(f"bots: count is {count}, first {first}; give 1 … {BOTS_MAX} bots and first ≥ 0")
        self.card, self.count, self._first = card, count, first
        game = load_game(card.game)
        world_map = load_map(card.map)
        if world_map.content_hash() != card.map_hash:
            raise ToolsError(f"map {card.map}: not the server's; start bots where the server's map file is")
        if protocol_id(game, tick_hz=card.tick_hz, map_hash=card.map_hash) != card.protocol_id:
            own = part_digests(protocol_parts(game, tick_hz=card.tick_hz, map_hash=card.map_hash))
            reason = explain_mismatch(card, own) or "another version of hitreg; run the same on both sides"
            raise ToolsError(f"server at {card.address}: {reason}")
        source = Path(card.map)
        beside = source if source.is_file() else None
        geometry = load_geometry(world_map, beside=beside)
        table = field_table(game, tick_hz=card.tick_hz)
        movers = MoverSet(world_map, geometry, tick_hz=card.tick_hz)
        motion = Motion(geometry, world_map.triggers, movers=movers)
        zone = ZoneReplica(min(count, ZONE_BOTS), zone_layout(game))
        told = ToldMovers(movers, motion, zone, clients=count)
        for name in sorted(MOVING) if movers.count else ():
            compile_declared(name)
        self.replicas = ReplicaGroup(count, table)
        self.party = Party(
            count, protocol_id=card.protocol_id, layout=owner_layout(), tick_hz=card.tick_hz, token=self._token,
            to_server=MessageCodec.to_server(game.actions, game.messages),
            to_client=MessageCodec.to_client(game.actions, game.messages),
            predictor=MotionPredictor(motion, tick_hz=card.tick_hz, bots=count, movers=told), replicas=self.replicas,
            zone=zone,
            network=network, seed=seed,
        )  # fmt: skip
        self.brain = Brain(
            count, game=game, world_map=world_map, geometry=geometry,
            navigation=load_navigation(world_map, geometry, beside=beside), table=table, tick_hz=card.tick_hz,
            seed=seed, skill=skill,
            armed=armed,
        )  # fmt: skip
        self.names = bot_names(count, seed)
        self.frames = self.welcomed = self.resumed = 0
        self._asked = 0
        self._talks = any(spec.name == "say" for spec in game.messages)
        replicas = self.replicas
        self._seen = Seen(replicas.entity_id, replicas.state_tick, replicas.fields)
        self._events = Events(
            replicas.event_count, replicas.event_kind, replicas.event_actor, replicas.event_target
        )  # fmt: skip

    def frame(self, now_ns: int) -> None:
        """Receive, think, send: once per tick.

        Args:
            now_ns: Monotonic time [ns].
        """
        party = self.party
        for bot in range(self._asked, min(self.count, self._asked + CONNECTS_PER_FRAME)):
            party.join(bot, now_ns)
            self._asked = bot + 1
        party.receive(now_ns)
        for bot, message in party.take_messages():
            if message.name == "welcome":
                _, resumed, entity, *_ = message.values
                assert isinstance(entity, int)
                self.brain.meet(bot, entity)
                if bot == 0 and not self.welcomed and self._talks:
                    party.tell(bot, "say", GREETING)
                self.welcomed += 1
                self.resumed += int(resumed == 1)
        self.brain.hear(self._events)
        while party.clients.advance(now_ns):
            self._press()
        party.send(now_ns)
        self.frames += 1

    def _token(self, bot: int) -> bytes:
        """A fresh token for a bot, always of the same client id."""
        return self.card.token(CLIENT_BASE + self._first + bot, name=self.names[bot], team=int(self.brain.team[bot]))

    def _press(self) -> None:
        clients, hands = self.party.clients, self.brain.hands
        self.brain.think(clients.due, clients.state, clients.tick + 1, clients.playback.moment, self._seen)
        clients.set_inputs(
            buttons=hands.buttons, move_forward=hands.move_forward, move_right=hands.move_right, yaw=hands.yaw,
            pitch=hands.pitch, weapon=hands.weapon,
        )  # fmt: skip

    @property
    def connected(self) -> int:
        """How many are connected."""
        return self.party.connected

    def statistics(self) -> dict[str, float]:
        """Totals since the start, and means over the bots of what is measured."""
        outcomes = {f"snapshots_{name}": int(self.replicas.counters[key]) for key, name in OUTCOMES.items()}
        return {
            "bots": self.count,
            "alive": int(np.count_nonzero(self.party.clients.state["alive"])),
            "kills": int(self.brain.kills.sum()),
            "deaths": int(self.brain.deaths.sum()),
            "events_lost": self.brain.events_lost,
            "welcomed": self.welcomed,
            "resumed": self.resumed,
            **self.party.statistics(),
            **outcomes,
        }

    def close(self, now_ns: int) -> None:
        """Say goodbye and close the sockets; again is harmless."""
        self.party.close(now_ns)
        self._asked = self.count

    def __enter__(self) -> "BotSwarm":
        return self

    def __exit__(self, *_: object) -> None:
        self.close(time.monotonic_ns())


class _Rates:
    """Turns totals into rates between two looks."""

    def __init__(self, swarm: BotSwarm) -> None:
        self._swarm = swarm
        self._last: dict[str, float] = {}
        self._last_ns = 0

    def look(self, now_ns: int) -> dict[str, float]:
        """The statistics, with rates since the last look."""
        values = self._swarm.statistics()
        seconds = max(1e-9, (now_ns - self._last_ns) / NS) if self._last_ns else 0.0
        players = max(1, int(values["connected"]))

        def rate(name: str) -> float:
            return (values.get(name, 0) - self._last.get(name, 0)) / seconds if seconds else 0.0

        def share(name: str, of: str) -> float:
            """Of what has happened since the last look."""
            part, whole = (values.get(key, 0) - self._last.get(key, 0) for key in (name, of))
            return part / whole if whole > 0 else 0.0

        told = {
            "confirmed_share": share("confirmed", "compared"),
            "extrapolated_share": share("frames_extrapolated", "frames_shown"),
            "snapped_per_minute": 60.0 * rate("snapped") / players,
            "snapshots_per_s": rate("snapshots") / players,
            "mispredictions_per_minute": 60.0 * rate("mispredicted") / players,
            "late_inputs_per_minute": 60.0 * rate("late_inputs") / players,
            "kills_per_minute": 60.0 * rate("kills"),
            "deaths_per_minute": 60.0 * rate("deaths"),
            "bytes_in_per_s": rate("socket_received_bytes"),
            "bytes_out_per_s": rate("socket_sent_bytes"),
        }
        self._last, self._last_ns = values, now_ns
        return values | told


def _line(seconds: float, values: Mapping[str, float], stats: Mapping[str, int]) -> str:
    """One line for a person."""
    return (
        f"{seconds:6.0f} s  {values['connected']:.0f}/{values['bots']:.0f} connected  "
        f"rtt {values.get('rtt_ms', 0):.1f} ms  loss {100 * values.get('loss', 0):.1f} %  "
        f"{values['snapshots_per_s']:.1f} snapshots/s  {values['mispredictions_per_minute']:.1f} mispredictions/min  "
        f"{values['late_inputs_per_minute']:.1f} late/min  kills {values['kills']:.0f}  deaths {values['deaths']:.0f}  "
        f"rejoined {values['rejoins']:.0f}  "
        f"shown {values.get('playback_delay_ms', 0):.0f} ms late, jitter {values.get('playback_jitter_ms', 0):.1f} ms, "
        f"extrapolated {100 * values['extrapolated_share']:.1f} %  "
        f"error {1e3 * values.get('error_mean_m', 0):.1f} mm, {values['snapped_per_minute']:.1f} snapped/min, "
        f"confirmed {100 * values['confirmed_share']:.0f} %  "
        f"in {values['bytes_in_per_s'] / 1e3:.0f} kB/s  out {values['bytes_out_per_s'] / 1e3:.0f} kB/s  "
        f"{stats['overruns']} overruns"
    )


def run_bots(
    card_path: Path,
    count: int,
    *,
    seconds: float = 0.0,
    seed: int = 1,
    skill: float = 0.6,
    first: int = 0,
    network: str = "",
    json_output: bool = False,
    report_s: float = 5.0,
    echo: Callable[[str], None] = print,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Play with `count` bots until `seconds` have passed, `stopped` says so, or Ctrl-C.

    Args:
        card_path: The server's card (`server.tickets.card_path`).
        count: How many bots.
        seconds: How long; 0: until stopped.
        seed: Of all that is random.
        skill: 0 … 1.
        first: Number of the first bot.
        network: Name of a bad network to play through (`net.simulator.PROFILES`); "" for none.
        json_output: Print the statistics at the end as JSON, and nothing else.
        report_s: Time between lines of statistics.
        echo: Where lines go.
        stopped: Asked once per frame.

    Returns:
        The statistics at the end.

    Raises:
        ToolsError, ServerError, NetError: One line that says what is wrong.
    """
    profile = profile_named(network) if network else None
    card = read_card(card_path)
    prepare(modules=(__name__,), without=MOVING)  # the swarm makes those ready itself, if its map needs them
    # A second thread spins while it waits, on a core that the server needs: with two, the median tick of a server with
    # 200 bots beside it was 8.1 ms instead of 6.2 ms.
    set_threads(1)
    with BotSwarm(card, count, seed=seed, skill=skill, first=first, network=profile) as swarm:
        seal()
        stats = {"overruns": 0, "skipped": 0}
        rates, whole = _Rates(swarm), _Rates(swarm)
        start = reported = time.monotonic_ns()
        rates.look(start)
        whole.look(start)
        due, tick_ns, cpu = start, NS // swarm.card.tick_hz, time.process_time()
        try:
            while not stopped() and (not seconds or due - start < seconds * NS):
                now = _wait_until(due)
                if now - due > tick_ns:
                    stats["overruns"] += 1
                    behind = (now - due) // tick_ns
                    if behind > CATCH_UP_TICKS:
                        stats["skipped"] += behind
                        due += behind * tick_ns
                swarm.frame(now)
                due += tick_ns
                if not json_output and now - reported >= report_s * NS:
                    echo(_line((now - start) / NS, rates.look(now), stats))
                    reported = now
        except KeyboardInterrupt:
            stats["interrupted"] = 1
        end = time.monotonic_ns()
        values: dict[str, Any] = {"seconds": (end - start) / NS, "frames": swarm.frames, **whole.look(end), **stats}
        values["cpu_us_per_bot_tick"] = (time.process_time() - cpu) * 1e6 / max(1, swarm.frames * count)
        echo(json.dumps(values) if json_output else _line(values["seconds"], values, stats))
        return values


def _wait_until(due_ns: int) -> int:
    """Sleep until a monotonic time; the time after."""
    left = due_ns - time.monotonic_ns()
    if left > 0:
        time.sleep(left / NS)
    return time.monotonic_ns()
