"""Game packages that are wrong in one way each."""

from sim.components import Motion
from sim.pipeline import Access, System
from sim.plugin import Registration

NOT_A_FUNCTION = 5


def raises(registration: Registration) -> None:
    raise RuntimeError(f"no licence\nfor {registration.name}")


def without_players(registration: Registration) -> None:
    registration.event("boom")


def raises_at_start(registration: Registration) -> None:
    def bind(access: Access) -> object:
        raise ZeroDivisionError(str(access.world.tick))

    registration.kind("player", Motion, capacity=4, controlled=True)
    registration.system(System("late", bind))  # type: ignore[arg-type]  # bind is wrong on purpose


def reaches_too_far(registration: Registration) -> None:
    def bind(access: Access) -> object:
        return access.write("player", Motion)

    registration.kind("player", Motion, capacity=4, controlled=True)
    registration.system(System("thief", bind))  # type: ignore[arg-type]  # bind is wrong on purpose
