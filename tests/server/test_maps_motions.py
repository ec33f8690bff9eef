"""What the keys of brush models mean for how they move."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.errors import MapError
from server.maps.bsp import import_bsp
from server.maps.motions import motions
from server.maps.movers import rest_offset, travel
from server.maps.store import read_map, write_map
from sim.worldmap import MoverKind, MoverMotion
from tests.server.bsp_writer import lift_hall

LOW, HIGH = np.array([0.0, 0.0, 0.0]), np.array([80.0, 16.0, 120.0])


def motion_of(
    keys: dict[str, str], *, others: Sequence[dict[str, str]] = (), triggers: Sequence[dict[str, str]] = ()
) -> MoverMotion | None:
    way = travel(keys, LOW, HIGH)
    touched = [(entity, np.full(3, 400.0), np.full(3, 480.0)) for entity in triggers]
    return motions([(keys, LOW, HIGH, way)], touched, [keys, *others])[0]


def found(motion: MoverMotion | None) -> MoverMotion:
    assert motion is not None
    return motion


def test_a_door_opens_for_who_is_before_its_thin_side() -> None:
    door = found(motion_of({"classname": "func_door", "angle": "0", "speed": "200", "wait": "3", "dmg": "9"}))
    assert door.kind is MoverKind.SLIDE
    assert door.travel == (1.8, 0.0, 0.0)  # 80 units less the lip of 8
    assert door.seconds == pytest.approx(72.0 / 200.0)
    assert (door.wait_s, door.damage, door.crushes, door.holds) == (3.0, 9.0, False, False)
    assert door.touch == ((0.0, -3.0, 0.0, 2.0, 3.4, 3.0),)


def test_a_door_that_is_targeted_opens_by_buttons_and_triggers_only() -> None:
    keys = {"classname": "func_door", "angle": "0", "targetname": "gate", "spawnflags": "4"}
    assert motion_of(keys) is None  # nothing would ever open it
    door = found(motion_of(keys, triggers=[{"classname": "trigger_multiple", "target": "gate"}]))
    assert door.crushes
    assert door.touch == ((9.975, 9.975, 9.975, 12.025, 12.025, 12.025),)
    button = {"classname": "func_button", "angle": "90", "target": "gate"}
    models = [(entity, LOW, HIGH, travel(entity, LOW, HIGH)) for entity in (keys, button)]
    both = [found(motion) for motion in motions(models, [], [keys, button])]
    assert both[0].touch == both[1].touch == ((-0.1, -0.1, -0.1, 2.1, 0.5, 3.1),)
    assert both[1].wait_s == 1.0


def test_doors_of_a_team_share_what_opens_them() -> None:
    left = {"classname": "func_door", "angle": "180", "team": "a", "targetname": "elsewhere"}
    right = {"classname": "func_door", "angle": "0", "team": "a"}
    models = [(left, LOW, HIGH, travel(left, LOW, HIGH)), (right, LOW + 80, HIGH + 80, travel(right, LOW, HIGH))]
    pair = [found(motion) for motion in motions(models, [], [left, right])]
    assert pair[0].group == pair[1].group > 0
    assert pair[0].touch == ()
    assert len(pair[1].touch) == 1


def test_a_lift_waits_for_who_steps_onto_it() -> None:
    keys = {"classname": "func_plat", "height": "100"}
    assert rest_offset(keys, [], LOW, HIGH).tolist() == [0.0, 0.0, -100.0]
    lift = found(motion_of(keys))
    assert lift.travel == (0.0, 0.0, 2.5)
    assert lift.holds
    low_x, low_y, _, high_x, high_y, high_z = lift.touch[0]
    assert 0.0 < low_x < high_x < 2.0
    assert 0.0 < low_y < high_y < 0.4
    assert high_z == 3.2


def test_what_bobs_has_a_period_and_an_axis() -> None:
    bob = found(
        motion_of({"classname": "func_bobbing", "height": "64", "speed": "2.5", "phase": "0.25", "spawnflags": "2"})
    )
    assert (bob.kind, bob.travel, bob.seconds, bob.phase) == (MoverKind.BOB, (0.0, 1.6, 0.0), 2.5, 0.25)
    plain = found(motion_of({"classname": "func_bobbing"}))
    assert (plain.travel, plain.seconds) == ((0.0, 0.0, 0.8), 4.0)


def corner(name: str, origin: str, target: str, **keys: str) -> dict[str, str]:
    return {"classname": "path_corner", "targetname": name, "origin": origin, "target": target, **keys}


def test_a_train_goes_round_its_corners_at_their_speeds() -> None:
    corners = [
        corner("a", "100 0 0", "b"),
        corner("b", "300 0 0", "c", speed="50"),
        corner("c", "300 100 0", "a", wait="2"),
    ]
    train = {"classname": "func_train", "target": "a", "speed": "200", "origin": "10 20 30"}
    motion = found(motion_of(train, others=corners))
    assert motion.kind is MoverKind.PATH
    assert motion.path[0] == (5.0, 0.0, 0.0, 1.0, 0.0)
    assert motion.path[1] == (5.0, 2.5, 0.0, 2.0, 2.0)
    assert motion.path[2] == pytest.approx((0.0, 0.0, 0.0, np.hypot(200.0, 100.0) / 200.0, 0.0))
    assert rest_offset(train, [train, *corners], LOW, HIGH).tolist() == [90.0, -20.0, -30.0]


@pytest.mark.parametrize(
    "corners",
    [
        [],
        [corner("a", "0 0 0", "")],
        [corner("a", "0 0 0", "b"), corner("b", "9 0 0", "b")],
        [corner("a", "0 0 0", "gone")],
    ],
)
def test_a_train_whose_path_leads_nowhere_rests(corners: list[dict[str, str]]) -> None:
    assert motion_of({"classname": "func_train", "target": "a"}, others=corners) is None


@pytest.mark.parametrize(
    "kind", ["func_static", "func_rotating", "func_pendulum", "func_door_rotating", "func_breakable"]
)
def test_what_turns_or_breaks_rests(kind: str) -> None:
    assert motion_of({"classname": kind, "angle": "90", "speed": "100"}) is None


def test_unusable_numbers_mean_the_default() -> None:
    door = found(motion_of({"classname": "func_door", "angle": "0", "speed": "-5", "wait": "soon", "dmg": "-3"}))
    assert door.seconds == pytest.approx(72.0 / 400.0)
    assert (door.wait_s, door.damage) == (2.0, 0.0)


def test_a_map_file_keeps_how_movers_move(tmp_path: Path) -> None:
    world = import_bsp(lift_hall().data(), name="hall", source="hall.bsp")
    train = MoverMotion(MoverKind.PATH, path=((1.0, 2.0, 3.0, 0.5, 0.25), (0.0, 0.0, 0.0, 1.5, 0.0)), damage=3.0)
    world = replace(world, movers=(*world.movers, replace(world.movers[0], motion=train)))
    write_map(tmp_path / "hall.npz", world)
    kept = read_map(tmp_path / "hall.npz")
    assert kept.movers == world.movers
    assert kept.content_hash() == world.content_hash()


@pytest.mark.parametrize(
    "spoilt",
    [
        {"seconds": 0.0}, {"seconds": float("nan")}, {"travel": [1.0, 2.0]}, {"kind": 9}, {"touch": [[0.0] * 5]},
        {"touch": [[0.0] * 6] * 65}, {"path": [[0.0] * 5]}, {"damage": "much"}, {"group": None},
    ],
)  # fmt: skip
def test_a_map_file_with_a_spoilt_mover_is_refused(tmp_path: Path, spoilt: dict[str, Any]) -> None:
    world = import_bsp(lift_hall().data(), name="hall", source="hall.bsp")
    motion = world.movers[0].motion
    assert motion is not None
    write_map(
        tmp_path / "hall.npz", replace(world, movers=(replace(world.movers[0], motion=replace(motion, **spoilt)),))
    )
    with pytest.raises(MapError, match="damaged"):
        read_map(tmp_path / "hall.npz")
