"""The arena with matches that last, for the benchmark of the replay page; a game by itself, so that a worker that plays
one of its recordings imports no more than for any other game.
"""

from sim.games.arena import declare
from sim.games.arena.rules import ArenaRules
from sim.plugin import Registration

__all__ = ["MINUTES", "thirty_minutes"]

MINUTES = 30


def thirty_minutes(registration: Registration) -> None:
    """The arena with matches that are long enough, for recordings end with their match."""
    declare(registration, ArenaRules(match_s=MINUTES * 60.0 + 60.0))
