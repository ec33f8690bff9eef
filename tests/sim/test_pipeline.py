"""Order, declared access and timing of systems."""

from collections.abc import Callable

import pytest

from sim.errors import DeclarationError, PipelineError
from sim.pipeline import Access, Step, System, chain, order_systems
from sim.plugin import Registration
from tests.sim.toy import DRIFT, ENTER, SPEND, Drift, Purse, commands_for, declare, toy_world


def idle(access: Access) -> Callable[[Step], None]:
    def run(step: Step) -> None:
        assert step.tick > 0

    return run


def names(systems: tuple[System, ...]) -> list[str]:
    return [system.name for system in systems]


def test_independent_systems_keep_the_order_of_registration() -> None:
    systems = [System("b", idle, reads=(Drift,)), System("a", idle, reads=(Drift,)), System("c", idle)]
    assert names(order_systems(systems)) == ["b", "a", "c"]


def test_after_and_before_place_a_system() -> None:
    systems = [*chain(System("x", idle, writes=(Drift,)), System("z", idle, writes=(Drift,)))]
    systems.append(System("y", idle, writes=(Drift,), after=("x",), before=("z",)))
    assert names(order_systems(systems)) == ["x", "y", "z"]


def test_an_ambiguous_order_is_refused_with_both_names_and_the_data() -> None:
    systems = [System("x", idle, writes=(Drift,)), System("y", idle, reads=(Drift,))]
    with pytest.raises(PipelineError, match="'x' and 'y' is ambiguous, both touch drift"):
        order_systems(systems)


def test_two_emitters_must_be_ordered() -> None:
    systems = [System("x", idle, emits=("joined",)), System("y", idle, emits=("left",))]
    with pytest.raises(PipelineError, match="both touch events"):
        order_systems(systems)


def test_unknown_names_and_circles_are_refused() -> None:
    with pytest.raises(PipelineError, match="'nowhere'"):
        order_systems([System("x", idle, after=("nowhere",))])
    with pytest.raises(PipelineError, match="x, y wait for each other"):
        order_systems([System("x", idle, after=("y",)), System("y", idle, after=("x",))])


@pytest.mark.parametrize(
    ("reach", "message"),
    [
        (lambda access: access.read("player", Purse), "component 'purse'"),
        (lambda access: access.write("player", Drift), "component 'drift' for writing"),
        (lambda access: access.spawner("spark"), "spawning in table 'spark'"),
        (lambda access: access.event("left"), "event 'left'"),
    ],
)
def test_undeclared_access_is_refused_at_start(reach: Callable[[Access], object], message: str) -> None:
    def bind(access: Access) -> Callable[[Step], None]:
        reach(access)
        return idle(access)

    def game(registration: Registration) -> None:
        declare(registration)
        registration.system(System("thief", bind, reads=(Drift,), after=("spend",)))

    with pytest.raises(PipelineError, match=f"'thief' reaches for {message}"):
        toy_world(declare_game=game)


def test_audit_names_the_system_that_writes_what_it_only_reads() -> None:
    def bind(access: Access) -> Callable[[Step], None]:
        purse = access.read("player", Purse)

        def run(step: Step) -> None:
            purse.coins[0] = step.tick

        return run

    def game(registration: Registration) -> None:
        declare(registration)
        registration.system(System("thief", bind, reads=(Purse,), after=("spend",)))

    world = toy_world(declare_game=game)
    with pytest.raises(PipelineError, match="'thief' changed component 'purse' of table 'player'"):
        world.audit(commands_for(world))


def test_audit_passes_an_honest_game() -> None:
    world = toy_world()
    world.audit(commands_for(world))
    assert world.tick == 1


def test_the_probe_is_told_each_stage_in_order() -> None:
    world = toy_world()
    seen: list[int] = []
    world.step(commands_for(world), seen.append)
    assert [world.pipeline.stages[number] for number in seen] == [ENTER.name, DRIFT.name, SPEND.name]


def test_registration_refuses_doubles_and_a_game_without_players() -> None:
    registration = Registration("toy")
    with pytest.raises(DeclarationError, match="exactly one kind with controlled=True, it has none"):
        registration.freeze()
    registration.kind("player", Drift, capacity=1, controlled=True)
    with pytest.raises(DeclarationError, match="kind 'player' twice"):
        registration.kind("player", Drift, capacity=1)
    registration.system(System("x", idle))
    with pytest.raises(DeclarationError, match="'x' is declared twice"):
        registration.system(System("x", idle))
    registration.event("boom")
    with pytest.raises(DeclarationError, match="event 'boom' twice"):
        registration.event("boom")
    with pytest.raises(DeclarationError, match="each component once"):
        registration.kind("double", Drift, Drift, capacity=1)
