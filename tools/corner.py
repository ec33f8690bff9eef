"""One wall, one corner, two players: who sees whom first, and for how long cover does not help.

    with open_corner(network=NetworkProfile(latency_ms=50)) as corner:
        advantage_ms = corner.peeks(8)

The holder stands still and looks at the corner; the peeker runs out from behind it. The peeker's client shows the
holder as soon as its own prediction has a line of sight. The holder's client shows the peeker later: by the way of the
peeker's inputs to the server, of a snapshot from there, and by the delay of what it shows. That is the peeker's
advantage; what is shown on either side is what its player sees. The line goes from eye to torso, on both sides.
"""

import contextlib
from collections.abc import Callable, Iterator

import numpy as np

from net.simulator import NetworkProfile
from server.app import Server
from server.maps.solids import Solids
from sim.arrays import F64, I64
from sim.components import Motion, Vitals
from sim.motion import MotionParameters
from sim.weapons_kernels import EYE
from sim.worldmap import SHOT_MASK, SpawnPoint, WorldMap
from tools.fairness import TICK_HZ, TICK_NS, TORSO, Clients, open_server
from tools.hand_clock import HandClock

__all__ = ["HIDDEN_Y", "HOLDER", "PEEKER", "Corner", "corner_map", "open_corner"]

STEPS = 4  # of a tick
HOLDER, PEEKER = np.array([10.0, 0.0, 0.01]), np.array([0.0, 4.0, 0.01])  # where they begin
HIDDEN_Y, OUT_Y = 4.0, -0.5  # between which the peeker runs
HEIGHT = MotionParameters().height_standing


def corner_map() -> WorldMap:
    """A floor, and a wall from y = 1 m on that hides whoever stands behind it."""
    solids = Solids()
    solids.box((-20.0, -20.0, -1.0), (40.0, 40.0, 0.0))
    solids.box((4.0, 1.0, 0.0), (5.0, 30.0, 6.0))
    vertices, triangles, contents = solids.mesh()
    spawns = tuple(SpawnPoint((float(x), float(y), 0.05), 0) for x, y, _ in (HOLDER, PEEKER))
    return WorldMap("corner", vertices, triangles, contents, spawns)


class Corner:
    """A server with a holder and a peeker. Make it with `open_corner`.

    Attributes:
        server: The server.
        holder, peeker: A client each.
        direction: Where the peeker runs to: −1 out, 1 back, 0 stands.
        clock: Moved by hand.
        before_send: Called for each client after its input was made, before it is sent.
        after_tick: Called with each tick that the server made.
    """

    def __init__(
        self, server: Server, *, network: NetworkProfile | None, holder_network: NetworkProfile | None, seed: int
    ) -> None:
        assert isinstance(server.clock, HandClock)
        self.server, self.clock, self.direction = server, server.clock, 0
        self.holder = Clients(server, 1, first_id=1000, team=1, network=holder_network, seed=seed)
        self.peeker = Clients(server, 1, first_id=2000, team=2, network=network, seed=seed + 10)
        self._phase = -1
        self.before_send: Callable[[Clients], None] = lambda _: None
        self.after_tick: Callable[[int], None] = lambda _: None
        for clients in (self.holder, self.peeker):
            clients.join(0, self.clock.now)
        self.play(2.0)
        self.place(HOLDER, PEEKER)

    def row(self, clients: Clients) -> int:
        """Row of a client's player in the server's table."""
        return self.server.world.players.slot_of(int(clients.entity[0]))

    def place(self, holder: F64, peeker: F64) -> None:
        """Put both somewhere, at rest."""
        motion = self.server.world.players[Motion]
        for clients, position in ((self.holder, holder), (self.peeker, peeker)):
            motion.position[self.row(clients)] = position
            motion.velocity[self.row(clients)] = 0.0

    def play(self, seconds: float) -> None:
        """Let server and clients play."""
        for _ in range(round(seconds * TICK_HZ * STEPS)):
            self.step()

    def step(self) -> None:
        """Make a step of a quarter tick: the server makes its tick in the first, clients their frames in later ones."""
        self.clock.now += TICK_NS // STEPS
        phase = self._phase = (self._phase + 1) % STEPS
        if phase == 0:
            self.server.world.players[Vitals].health[:] = 100.0
            self.server.frame.run(self.clock.now)
            self.after_tick(self.server.world.tick)
        for frame, clients in ((1, self.peeker), (2, self.holder)):
            if phase == frame:
                clients.frame(self.clock.now, self._think)
            else:
                clients.carry(self.clock.now)
                clients.receive(self.clock.now)

    def _think(self, clients: Clients, hands: dict[str, I64]) -> None:
        for keys in hands.values():
            keys[:] = 0
        if clients is self.peeker:
            hands["move_right"][:] = -127 * self.direction  # it looks along +X, so that −Y is to its right
        self.before_send(clients)

    def sees(self, clients: Clients, other: Clients) -> bool:
        """Whether a client shows another's torso in its player's line of sight, this moment."""
        feet, _, shown = clients.shown(other.entity)
        if not shown[0]:
            return False
        eye = clients.clients.shown_position() + np.array([0.0, 0.0, EYE * HEIGHT])
        torso = feet + np.array([0.0, 0.0, TORSO * HEIGHT])
        return not bool(self.server.world.geometry.any_hit(eye, torso, mask=SHOT_MASK)[0])

    def _until(self, done: Callable[[], bool], *, seconds: float = 3.0) -> bool:
        for _ in range(round(seconds * TICK_HZ * STEPS)):
            self.step()
            if done():
                return True
        return False

    def peeks(self, count: int) -> F64:
        """By how much the peeker saw the holder first, each time that it ran out [ms]."""
        found: list[float] = []
        rows = self.server.world.players[Motion].position
        for number in range(count):
            self.play(0.5 + number % 4 / TICK_HZ)  # each time from another phase of the snapshots
            seen: dict[str, int] = {}

            def look(seen: dict[str, int] = seen) -> bool:
                pairs = (("peeker", self.peeker, self.holder), ("holder", self.holder, self.peeker))
                for name, clients, other in pairs:
                    if name not in seen and self._phase == STEPS - 1 and self.sees(clients, other):
                        seen[name] = self.clock.now
                return len(seen) == len(pairs)

            self.direction = -1
            if self._until(look):
                found.append((seen["holder"] - seen["peeker"]) / 1e6)
            self._until(lambda: rows[self.row(self.peeker), 1] < OUT_Y)
            self.direction = 1
            self._until(lambda: rows[self.row(self.peeker), 1] > HIDDEN_Y)
            self.direction = 0
        return np.array(found)

    def close(self) -> None:
        """Close the clients' sockets."""
        self.holder.sockets.close()
        self.peeker.sockets.close()


@contextlib.contextmanager
def open_corner(
    *,
    network: NetworkProfile | None = None,
    holder_network: NetworkProfile | None = None,
    seed: int = 1,
    make: Callable[..., Server] = Server,
    **settings: object,
) -> Iterator[Corner]:
    """Both players in their places.

    Args:
        network: What the peeker plays through, each way; None: nothing.
        holder_network: What the holder plays through.
        seed: Of all that is random.
        make: Makes the server; tests need kernels that are not sealed.
        settings: Of the server (`server.config`).
    """
    with open_server(corner_map(), make, **settings) as server:
        corner = Corner(server, network=network, holder_network=holder_network, seed=seed)
        try:
            yield corner
        finally:
            corner.close()
