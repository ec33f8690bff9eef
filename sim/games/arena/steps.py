"""What is heard of players who move."""

from collections.abc import Callable

from sim.components import Motion, Stance, Vitals
from sim.games.arena.components import Gait
from sim.games.arena.steps_kernels import take_steps
from sim.pipeline import Access, Step, System
from sim.systems import Intent
from sim.table import Used

__all__ = ["step_system"]


def step_system() -> System:
    """Emits `jumped`, `step` and `landed`, with the position of the feet, after everybody has moved."""

    def bind(access: Access) -> Callable[[Step], None]:
        players = access.slots("player")
        vitals, stance = access.read("player", Vitals), access.read("player", Stance)
        motion, intent = access.read("player", Motion), access.read("player", Intent)
        walked_m = access.write("player", Gait).walked_m
        kinds = (access.event("jumped"), access.event("step"), access.event("landed"))
        columns = Used(
            players,
            lambda rows: (
                players.ids[:rows], vitals.alive[:rows], stance.flags[:rows], intent.buttons[:rows],
                motion.position[:rows], motion.velocity[:rows],
            ),
        )  # fmt: skip

        def run(step: Step) -> None:
            take_steps(columns(), step.dt, kinds, walked_m, step.events.arrays)

        return run

    return System(
        "steps",
        bind,
        reads=(Vitals, Stance, Motion, Intent),
        writes=(Gait,),
        emits=("jumped", "step", "landed"),
    )
