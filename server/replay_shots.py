"""One shot explained, as the replay page shows and draws it: the lines of `server.shots`, and what stands where."""

from typing import Any

from server.shots import Shot
from server.shots_rays import HITBOXES

__all__ = ["shot_message"]


def _boxes(height: float, struck: frozenset[str]) -> list[dict[str, Any]]:
    """Hitboxes of a body: capsules from `low` to `high` above its feet [m]."""
    return [
        {"low": box.low * height, "high": box.high * height, "radius": box.radius * height, "hit": box.name in struck}
        for box in HITBOXES
    ]


def shot_message(shot: Shot) -> dict[str, Any]:
    """The text message `shot`; layout in `server.replay_wire`."""
    rays = [
        {"from": pellet.origin, "to": pellet.end, "hit": bool(pellet.strikes), "decides": number == shot.decider}
        for number, pellet in enumerate(shot.pellets)
    ]
    bodies = []
    for target in shot.targets:
        struck = frozenset(
            strike.part for pellet in shot.pellets for strike in pellet.strikes if strike.entity == target.entity
        )
        bodies.append(
            {
                "entity": str(target.entity),
                "name": target.name,
                "feet": target.feet,
                "boxes": _boxes(target.height, struck),
                "feet_now": target.feet_now,
                "boxes_now": _boxes(target.height_now, frozenset()),
            }
        )
    movers = [
        {
            "name": place.name,
            "low": [a + b for a, b in zip(place.low, place.offset, strict=True)],
            "high": [a + b for a, b in zip(place.high, place.offset, strict=True)],
            "stops": place == shot.ray.mover,
        }
        for place in shot.movers
        if place == shot.ray.mover or place.moved
    ]
    return {
        "number": shot.number,
        "tick": shot.tick,
        "entity": str(shot.entity),
        "verdict": shot.verdict(),
        "text": "\n".join(shot.lines()),
        "drawing": {"rays": rays, "bodies": bodies, "movers": movers},
    }
