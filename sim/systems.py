"""The core's own systems, from which a game makes its list: inputs, motion, contacts, poses to rewind to.

Each function returns a `System` for the controlled table `player`; a game puts them in order with `sim.pipeline.chain`
among its own.
"""

from collections.abc import Callable, Mapping

import numpy as np

from sim.arrays import F64, U16, Bool
from sim.components import Look, Motion, Stance, Vitals
from sim.contacts import Contacts
from sim.motion import Motion as MotionKernel
from sim.motion import MotionParameters
from sim.motion_kernels import InputColumns, StateColumns
from sim.movers import Crush, Movers, Turn, mover_service
from sim.occlusion import mover_history
from sim.pipeline import Access, Step, System
from sim.rewind import PoseHistory
from sim.schema import Component, column
from sim.separation import Separation
from sim.systems_kernels import fill_heights, take_inputs
from sim.table import Used

__all__ = [
    "BodyHeights",
    "Intent",
    "body_height_service",
    "body_heights",
    "contact_systems",
    "input_system",
    "motion_service",
    "motion_system",
    "mover_system",
    "pose_history",
    "pose_system",
]

STANDARD = MotionParameters()  # made once: checking them leaves garbage behind, which a tick must not


class Before:
    """Where players were before they moved: what parting them, and bounding their ways, starts from."""

    def __init__(self, capacity: int) -> None:
        self.position: F64 = np.zeros((capacity, 3))


class BodyHeights:
    """Heights of the players' bodies [m], shape (players,): `pose_system` finds them, later systems read them."""

    def __init__(self, capacity: int) -> None:
        self.height: F64 = np.zeros(capacity)


def body_height_service(access: Access) -> BodyHeights:
    """The heights that `pose_system` finds in each tick."""
    return access.service(BodyHeights, lambda: BodyHeights(access.world.players.capacity))


class Intent(Component, name="intent"):
    """What a player wants this tick; kept while no input comes."""

    buttons = column(np.uint16)
    move_forward = column(np.int8)
    move_right = column(np.int8)
    weapon = column(np.uint8)
    rewind = column(np.uint16, unit="tick/256")


def body_heights(flags: U16, out_height: F64, parameters: MotionParameters | None = None) -> None:
    """Fill in the height of each player's body [m] from its stance flags."""
    figures = parameters or STANDARD
    fill_heights(flags, (figures.height_standing, figures.height_crouched), out_height)


def _state(motion: Motion, stance: Stance, look: Look, rows: int) -> StateColumns:
    """What motion changes of the first rows, as kernels take it."""
    return (
        motion.position[:rows], motion.velocity[:rows], stance.ground_normal[:rows], look.yaw[:rows],
        look.pitch[:rows], stance.flags[:rows],
    )  # fmt: skip


def input_system() -> System:
    """Takes over the inputs of this tick. Without one, the last wish stands: late inputs are never waited for."""

    def bind(access: Access) -> Callable[[Step], None]:
        intent = access.write("player", Intent)
        look = access.write("player", Look)
        columns = Used(
            access.slots("player"),
            lambda rows: (
                intent.buttons[:rows], look.yaw[:rows], look.pitch[:rows], intent.rewind[:rows],
                intent.move_forward[:rows], intent.move_right[:rows], intent.weapon[:rows],
            ),
        )  # fmt: skip

        def run(step: Step) -> None:
            take_inputs(step.commands.wide, step.commands.narrow, columns())

        return run

    return System("input", bind, writes=(Intent, Look))


def motion_service(access: Access, parameters: MotionParameters | None = None) -> MotionKernel:
    """The one motion of a world, with its movers; whichever system asks first gives the parameters."""
    world = access.world
    movers = mover_service(access)
    return access.service(
        MotionKernel, lambda: MotionKernel(world.geometry, world.map.triggers, parameters, movers=movers)
    )


def mover_system(parameters: MotionParameters | None = None) -> System:
    """Moves doors and lifts, and players with them; goes between `input_system` and `motion_system`.

    The game needs a kind `mover` of `sim.movers.Turn`, with a capacity of `MOVING_MAX`. Who was in a mover's way stands
    in `sim.movers.Crush`, for the game to hurt.
    """

    def bind(access: Access) -> Callable[[Step], None]:
        world = access.world
        table, turn = access.spawner("mover"), access.write("mover", Turn)
        motion, look = access.write("player", Motion), access.write("player", Look)
        stance, vitals = access.write("player", Stance), access.read("player", Vitals)
        players = Used(access.slots("player"), lambda rows: (_state(motion, stance, look, rows), vitals.alive[:rows]))
        turns = (turn.opens, turn.since, turn.until)
        movers, kernel = mover_service(access), motion_service(access, parameters)
        live = access.service(Movers, lambda: Movers(movers, kernel, players=world.players.capacity))
        crush = access.service(Crush, lambda: Crush(world.players.capacity))
        history = mover_history(access)

        def run(step: Step) -> None:
            if movers.count == 0:
                return
            if step.tick == 1:
                table.allocate_many(movers.count)
                movers.begin(turns)
            crush.amount[:] = 0.0
            state, alive = players()
            live.step(turns, step.tick, state, active=alive, dt=step.dt, out_crush=crush.amount)
            history.record(step.tick, live.offsets)

        return run

    return System("movers", bind, reads=(Vitals,), writes=("mover", Turn, Motion, Look, Stance))


def motion_system(parameters: MotionParameters | None = None) -> System:
    """Moves all players that live by what they want."""

    def bind(access: Access) -> Callable[[Step], None]:
        world = access.world
        kernel = motion_service(access, parameters)
        motion, look = access.write("player", Motion), access.write("player", Look)
        stance, intent = access.write("player", Stance), access.read("player", Intent)
        vitals = access.read("player", Vitals)
        before = access.service(Before, lambda: Before(world.players.capacity))

        def views(rows: int) -> tuple[StateColumns, InputColumns, Bool, F64, F64]:
            inputs = (
                intent.buttons[:rows], intent.move_forward[:rows], intent.move_right[:rows], look.yaw[:rows],
                look.pitch[:rows],
            )  # fmt: skip
            state = _state(motion, stance, look, rows)
            return state, inputs, vitals.alive[:rows], before.position[:rows], motion.position[:rows]

        players = Used(access.slots("player"), views)

        def run(step: Step) -> None:
            state, inputs, alive, former, present = players()
            np.copyto(former, present)
            kernel.move(state, inputs, active=alive, dt=step.dt)

        return run

    return System("motion", bind, reads=(Vitals, Intent), writes=(Motion, Look, Stance))


def contact_systems(radii: Mapping[str, float], parameters: MotionParameters | None = None) -> tuple[System, System]:
    """Finds all pairs of things that touch, then parts players who overlap.

    Args:
        radii: Radius of the bounding sphere by table [m]; `player` must be among them.
        parameters: As for `motion_system`.
    """

    def bind_contacts(access: Access) -> Callable[[Step], None]:
        world = access.world
        contacts = access.service(Contacts, lambda: Contacts(world))
        before = access.service(Before, lambda: Before(world.players.capacity))
        vitals = access.read("player", Vitals)
        for name in radii:
            access.read(name, Motion)

        def run(_: Step) -> None:
            contacts.update(radii, {"player": vitals.alive}, {"player": before.position})

        return run

    def bind_separation(access: Access) -> Callable[[Step], None]:
        world = access.world
        contacts = access.service(Contacts, lambda: Contacts(world))
        kernel = motion_service(access, parameters)
        separation = access.service(Separation, lambda: Separation(kernel))
        before = access.service(Before, lambda: Before(world.players.capacity))
        motion, look = access.write("player", Motion), access.write("player", Look)
        stance, vitals = access.write("player", Stance), access.read("player", Vitals)
        state = (motion.position, motion.velocity, stance.ground_normal, look.yaw, look.pitch, stance.flags)

        def run(_: Step) -> None:
            pairs = contacts.touching("player", "player")
            separation.separate(state, before.position, active=vitals.alive, pairs=pairs, pair_count=len(pairs))

        return run

    return (
        System("contacts", bind_contacts, reads=(Motion, Vitals)),
        System("separation", bind_separation, reads=(Vitals,), writes=(Motion, Look, Stance)),
    )


def pose_history(access: Access) -> PoseHistory:
    """The history that `pose_system` writes; whoever judges shots reads it."""
    world = access.world
    return access.memory(
        PoseHistory,
        lambda: PoseHistory(world.players.capacity, tick_hz=world.tick_hz, kept_ticks=world.rewind_ticks_max + 1),
    )


def pose_system(parameters: MotionParameters | None = None) -> System:
    """Keeps where everyone is, for shots to be judged by in this tick and later; after motion, before any shot."""

    def bind(access: Access) -> Callable[[Step], None]:
        players = access.slots("player")
        history = pose_history(access)
        vitals, motion = access.read("player", Vitals), access.read("player", Motion)
        look, stance = access.read("player", Look), access.read("player", Stance)
        height = body_height_service(access).height
        used = Used(
            players,
            lambda rows: (
                players.ids[:rows], vitals.alive[:rows], vitals.born[:rows],
                (motion.position[:rows], height[:rows], look.yaw[:rows], look.pitch[:rows], stance.flags[:rows]),
            ),
        )  # fmt: skip

        def run(step: Step) -> None:
            ids, alive, born, poses = used()
            body_heights(poses[4], poses[1], parameters)
            history.record(step.tick, ids, alive, born, poses)

        return run

    return System("poses", bind, reads=(Vitals, Motion, Look, Stance))
