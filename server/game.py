"""Finding a game package and making its declarations a checked `GameSpec`."""

import importlib
import traceback
from importlib.metadata import entry_points

from server.errors import GameError
from sim.errors import SimError
from sim.plugin import Game, GameSpec, Registration

__all__ = ["ENTRY_POINTS", "game_names", "load_game"]

ENTRY_POINTS = "hitreg.games"


def game_names() -> list[str]:
    """Names of the installed games, sorted."""
    return sorted({entry.name for entry in entry_points(group=ENTRY_POINTS)})


def _find(name: str) -> Game:
    """The function that declares a game."""
    try:
        if ":" in name:
            module, _, attribute = name.partition(":")
            found: object = importlib.import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        else:
            matches = [entry for entry in entry_points(group=ENTRY_POINTS) if entry.name == name]
            if not matches:
                raise GameError(
                    f"game {name!r}: not installed; installed are {', '.join(game_names()) or 'none'}, or give "
                    "package.module:function"
                )
            found = matches[0].load()
    except GameError:
        raise
    except (ImportError, AttributeError, ValueError) as error:
        raise GameError(
            f"game {name!r}: cannot be loaded: {error}; give an installed game or module:function"
        ) from error
    except Exception as error:
        raise GameError(_raised(name, error)) from error
    if not callable(found):
        raise GameError(f"game {name!r}: {found!r} is no function; name a function that takes a Registration")
    return found


def _raised(name: str, error: Exception) -> str:
    """One line that says what a game package raised, and where."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    text = " ".join(str(error).split())
    return f"game {name!r}: raised {type(error).__name__}: {text}{where}; mend the game package"


def load_game(name: str) -> GameSpec:
    """The game of that name, declared and checked.

    Args:
        name: Name of an installed game, or `package.module:function`.

    Raises:
        GameError: There is no such game, it raises, or what it declares does not hold together.
    """
    declare = _find(name)
    registration = Registration(name.replace(":", ".").rpartition(".")[2])
    try:
        declare(registration)
        return registration.freeze()
    except SimError as error:
        raise GameError(f"game {name!r}: {error}") from error
    except Exception as error:
        raise GameError(_raised(name, error)) from error
