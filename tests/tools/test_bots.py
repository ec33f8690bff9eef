"""Bots play over real sockets in a time of their own: server and bots take turns, tick by tick, without waiting."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from net.client import ClientCount
from server.app import Server
from server.config import ServerConfig
from server.errors import ServerError
from server.tickets import ServerCard
from sim.components import Motion, Vitals
from sim.games.arena.components import Score
from sim.snapshot import state_hash
from tools.bot_brain import bot_names
from tools.bots import BotSwarm, run_bots
from tools.errors import ToolsError
from tools.hand_clock import HandClock

TICK_NS = 1_000_000_000 // 60
START_NS = 5_000_000_000


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Cards go to the test's directory; kernels stay open to the other tests of this process."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("server.app.prepare", lambda *_, **__: 0)
    monkeypatch.setattr("server.app.seal", lambda: None)
    monkeypatch.setattr("net.udp._stamp", lambda _: None)  # the machine's clock means nothing beside the test's
    yield


class Game:
    """A server and its bots."""

    def __init__(self, bots: int, *, seed: int = 1, armed: bool = True, skill: float = 0.9) -> None:
        self.clock = HandClock(START_NS)
        config = ServerConfig(clients_max=32, feed_hz=0, seed=seed, visibility="off", record_dir="")
        self.server = Server(config, clock=self.clock)
        self.swarm = BotSwarm(self.server.card, bots, seed=seed, armed=armed, skill=skill)
        self.travelled = np.zeros(self.server.world.players.capacity)
        self.events: Counter[str] = Counter()

    def play(self, seconds: float) -> None:
        world = self.server.world
        position = world.players[Motion].position
        for _ in range(round(seconds * 60)):
            before = position.copy()
            self.clock.now += TICK_NS
            self.server.frame.run(self.clock.now)
            self.swarm.frame(self.clock.now + TICK_NS // 2)
            step = np.linalg.norm(position - before, axis=1)
            self.travelled += np.where(step < 1.0, step, 0.0)
            self.events.update(world.game.events[kind] for kind in world.events.kind[: world.events.count])

    def __enter__(self) -> "Game":
        return self

    def __exit__(self, *_: object) -> None:
        self.swarm.close(self.clock.now)
        self.server.close()


def test_sixteen_bots_connect_travel_shoot_and_score() -> None:
    with Game(16) as game:
        game.play(20.0)
        world = game.server.world
        score = world.players[Score]
        booked = (score.kills.sum(), score.deaths.sum())
        game.play(0.25)  # until snapshots have told of these
        statistics = game.swarm.statistics()
        rows = world.players.live_slots
        assert statistics["connected"] == len(rows) == 16
        assert set(world.players[Vitals].team[rows]) == {1, 2}
        assert game.travelled[rows].min() > 20.0
        assert game.events["shot"] > 100
        assert game.events["picked_up"] > 10
        assert game.events["kill"] > 0
        assert booked[0] > 0
        # What bots believe of themselves is what happened.
        assert booked[0] <= statistics["kills"] <= score.kills.sum()
        assert booked[1] <= statistics["deaths"] <= score.deaths.sum()
        for reason in ("malformed", "messages_dropped", "late_inputs", "lost", "skipped"):
            assert statistics[reason] == 0, reason
        assert statistics["snapshots_malformed"] == statistics["snapshots_bad_baseline"] == 0
        assert statistics["events_lost"] == 0
        # Blows that one's own client cannot foresee, and nothing else, are mispredicted.
        surprises = sum(game.events[kind] for kind in ("hit", "kill", "spawned", "blast"))
        assert statistics["mispredicted"] < surprises
        assert statistics["mispredicted"] < 0.1 * statistics["compared"]


def test_a_bot_alone_is_predicted_to_the_last_bit() -> None:
    with Game(1, armed=False) as game:
        game.play(20.0)
        assert game.travelled.max() > 60.0
        counters = game.swarm.party.clients.counters[:, 0]
        assert counters[ClientCount.COMPARED] > 500
        # Its first spawn it cannot know of.
        assert counters[ClientCount.MISPREDICTED] <= 1


def test_the_same_seeds_play_the_same_match_and_others_another() -> None:
    hashes = []
    for seed in (3, 3, 4):
        with Game(6, seed=seed) as game:
            game.play(6.0)
            hashes.append(state_hash(game.server.world))
    assert hashes[0] == hashes[1]
    assert hashes[0] != hashes[2]


def test_the_dead_come_to_life_again() -> None:
    with Game(4) as game:
        game.play(2.0)
        vitals = game.server.world.players[Vitals]
        rows = game.server.world.players.live_slots.copy()
        vitals.alive[rows] = False
        vitals.health[rows] = 0.0
        vitals.respawn_s[rows] = 0.5
        game.play(1.0)
        assert vitals.alive[rows].all()


def test_names_differ_are_short_and_follow_from_the_seed() -> None:
    names = bot_names(3000, 7)
    assert len(set(names)) == 3000
    assert max(len(name.encode()) for name in names) <= 32
    assert names == bot_names(3000, 7) != bot_names(3000, 8)


def test_a_server_of_another_version_or_map_is_refused() -> None:
    with Game(1) as game:
        card = game.server.card
    fields = {name: getattr(card, name) for name in ServerCard.__dataclass_fields__}
    with pytest.raises(ToolsError, match="another version"):
        BotSwarm(ServerCard(**{**fields, "protocol_id": 1}), 1)
    with pytest.raises(ToolsError, match="not the server's"):
        BotSwarm(ServerCard(**{**fields, "map_hash": "0" * 32}), 1)
    with pytest.raises(ToolsError, match="give 1"):
        BotSwarm(card, 0)


def test_without_a_server_there_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="start a server first"):
        run_bots(tmp_path / "none.json", 4)
