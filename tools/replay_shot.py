"""`hitreg replay shot`: one shot of a recording explained, as text, as JSON and as a picture."""

import io
from pathlib import Path

from server.errors import ReplayError
from server.replay import Replay
from server.replay_words import parse_moment, player_names
from server.shots import Shot, explain, explain_at
from server.shots_plate import shot_plate
from tools.errors import ToolsError

__all__ = ["explained_shots", "write_plate"]

NAMES_SHOWN = 8


def explained_shots(replay: Replay, *, number: int | None, at: str | None, player: str) -> list[Shot]:
    """The shots that are meant: the n-th of the recording, or all of a tick, of everyone or of one player.

    Args:
        replay: It is moved about.
        number: From 1, in the order of the recording's `shot` events.
        at: A tick or time, in place of a number.
        player: Name, part of a name, or entity id; empty for everyone. Only with `at`.

    Raises:
        ToolsError: Neither or both are given, or no or more than one player is meant.
        ReplayError: There is no such shot.
    """
    if (number is None) == (at is None):
        raise ToolsError("shot: give the number of a shot, or --tick and the tick or time of one")
    if number is not None:
        if player:
            raise ToolsError(f"shot {number} --player {player}: a number names one shot; give --player with --tick")
        return [explain(replay, number)]
    tick = parse_moment(str(at), replay.header.tick_hz)
    if not player:
        return explain_at(replay, tick)
    replay.seek(tick)
    return explain_at(replay, tick, _entity(player_names(replay), player))


def _entity(names: dict[int, str], text: str) -> int:
    """The one player who is meant.

    Raises:
        ToolsError: Nobody is, or several are.
    """
    try:
        if int(text, 0) in names:
            return int(text, 0)
    except ValueError:
        pass
    exact = [entity for entity, name in names.items() if name.casefold() == text.casefold()]
    found = exact or [entity for entity, name in names.items() if text.casefold() in name.casefold()]
    if len(found) == 1:
        return found[0]
    shown = ", ".join(sorted(names[entity] for entity in (found or names))[:NAMES_SHOWN])
    what = "is more than one" if found else "is nobody"
    raise ToolsError(f"--player {text}: {what}; there are {shown or 'no players'}")


def write_plate(shots: list[Shot], replay: Replay, path: Path) -> None:
    """Write the pictures of shots below each other as one PNG.

    Raises:
        ToolsError: The file cannot be written.
        ReplayError: There are too many to draw.
    """
    from PIL import Image

    if len(shots) > NAMES_SHOWN:
        raise ReplayError(f"--picture: {len(shots)} shots in one tick; give --player, or the number of one")
    plates = [Image.open(io.BytesIO(shot_plate(shot, replay.world.map))) for shot in shots]
    whole = Image.new("RGB", (plates[0].width, sum(plate.height for plate in plates)))
    top = 0
    for plate in plates:
        whole.paste(plate, (0, top))
        top += plate.height
    try:
        whole.save(path, "PNG")
    except OSError as error:
        raise ToolsError(f"--picture {path}: cannot be written: {error.strerror or error}") from error
