"""Hitboxes, rays, projectiles, blasts and rates of fire."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.arrays import F64, I32, Bool
from sim.crowd import Crowd
from sim.errors import DeclarationError
from sim.flight_kernels import blast_batch, projectiles_fly
from sim.geometry import Geometry
from sim.hitbox_kernels import PART_HEAD, PART_LEGS, PART_NONE, PART_TORSO, body_hit
from sim.hitscan import Judgement
from sim.hitscan_kernels import hitscan_batch
from sim.occlusion import static_occluders
from sim.rewind import PoseHistory
from sim.trig import SINE_TABLE, view_direction
from sim.weapons import Armoury, NoShot, WeaponSpec
from sim.weapons_kernels import triggers
from sim.worldmap import SpawnPoint, WorldMap
from tests.reference.weapons import damage_falloff, march

HEIGHT = 1.4


def quad(*corners: tuple[float, float, float]) -> tuple[F64, I32]:
    return np.array(corners, np.float64), np.array([[0, 1, 2], [0, 2, 3]], np.int32)


def geometry_of(*quads: tuple[F64, I32]) -> Geometry:
    vertices = np.concatenate([part[0] for part in quads])
    triangles = np.concatenate([part[1] + 4 * number for number, part in enumerate(quads)]).astype(np.int32)
    contents = np.ones(len(triangles), np.uint16)
    return Geometry.build(WorldMap("test", vertices, triangles, contents, (SpawnPoint((0, 0, 0), 0),)))


FLOOR = quad((-500, -500, 0), (500, -500, 0), (500, 500, 0), (-500, 500, 0))
WALL_AT_5 = quad((5, -20, 0), (5, 20, 0), (5, 20, 10), (5, -20, 10))
OPEN = geometry_of(FLOOR)
WALLED = geometry_of(FLOOR, WALL_AT_5)


def standing(tick: int, feet: F64, targets: Bool) -> PoseHistory:
    """A history of one tick: players who stand, of whom some can be hit."""
    count = len(feet)
    history = PoseHistory(count, tick_hz=60, kept_ticks=13)
    looks = (np.zeros(count, np.uint16), np.zeros(count, np.int16), np.zeros(count, np.uint16))
    ids = np.arange(1, count + 1, dtype=np.uint64)
    history.record(tick, ids, targets, np.zeros(count, np.int64), (feet, np.full(count, HEIGHT), *looks))
    return history


@settings(max_examples=300)
@given(
    st.tuples(st.floats(-4, 4), st.floats(-4, 4), st.floats(-1, 3)),
    st.tuples(st.floats(-0.6, 0.6), st.floats(-0.6, 0.6), st.floats(0.0, 1.4)),
    st.sampled_from([1.4, 1.0]),
)
def test_hitboxes_agree_with_marching_along_the_ray(
    origin: tuple[float, float, float], aim: tuple[float, float, float], height: float
) -> None:
    way = tuple(a - o for a, o in zip(aim, origin, strict=True))
    length = math.sqrt(sum(w * w for w in way))
    if length < 0.1:
        return
    ray = (way[0] / length, way[1] / length, way[2] / length)
    t, part = body_hit(origin, ray, (0.0, 0.0, 0.0), height, 0.0)
    expected_t, expected = march(origin, ray, height, reach=length + 2.0, step=0.004)
    if expected == PART_NONE or t == math.inf:
        # Marching steps over a graze shorter than its step, and a tangent is a matter of rounding.
        if t != math.inf:
            assert march(origin, ray, height, reach=t + 0.02, step=0.0002, grow=1e-5)[1] != PART_NONE
        assert march(origin, ray, height, reach=length + 2.0, step=0.004, grow=-1e-5)[1] == PART_NONE or t != math.inf
        return
    assert abs(t - expected_t) <= 0.0041
    if part != expected:  # the boxes overlap: at the border of two either may come first within a step
        assert march(origin, ray, height, reach=expected_t + 0.01, step=0.0002)[1] == part


@pytest.mark.parametrize(("z", "part"), [(1.25, PART_HEAD), (0.8, PART_TORSO), (0.3, PART_LEGS)])
def test_level_shots_hit_head_torso_and_legs(z: float, part: int) -> None:
    t, hit = body_hit((-10.0, 0.0, z), (1.0, 0.0, 0.0), (0.0, 0.0, 0.0), HEIGHT, 0.0)
    assert hit == part
    assert 9.7 < t < 10.0


class Range:
    """Player 0 at the origin looks along +X; player 1 stands where a test wants it."""

    def __init__(self, spec: WeaponSpec, *, geometry: Geometry = OPEN, distance: float = 4.0) -> None:
        self.armoury = Armoury([spec])
        self.geometry = geometry
        self.feet = np.array([[0.0, 0, 0], [distance, 0, 0]])
        self.height = np.full(2, HEIGHT)
        self.yaw, self.pitch = np.zeros(2, np.uint16), np.zeros(2, np.int16)
        self.targets = np.ones(2, np.bool_)
        self.weapon = np.ones(2, np.uint8)
        self.judged = Judgement(512)

    def fire(self, *, tick: int = 1, shots: int = 1) -> int:
        fired = np.array([[0, shots]], np.int32)
        poses = (self.feet, self.height, self.yaw, self.pitch)
        history, crowd = standing(tick, self.feet, self.targets), Crowd(len(self.feet))
        crowd.gather(history, grow=0.25)
        scene = (static_occluders(self.geometry), history.arrays, crowd.arrays)
        return hitscan_batch(
            scene, self.armoury.table, SINE_TABLE, fired, 1, (self.weapon, np.zeros(len(self.feet), np.uint16)), poses,
            (1, tick, 0), self.judged.arrays,
        )  # fmt: skip

    def line_up(self, feet: F64) -> None:
        """Put other players there, the shooter first."""
        count = len(feet)
        self.feet, self.height, self.targets = feet, np.full(count, HEIGHT), np.ones(count, np.bool_)
        self.yaw, self.pitch = np.zeros(count, np.uint16), np.zeros(count, np.int16)
        self.weapon = np.ones(count, np.uint8)

    @property
    def victims(self) -> list[int]:
        return [int(row) for row in self.judged.strikes[:, 1]]


def test_a_wall_stops_a_ray_and_an_open_line_does_not() -> None:
    spec = WeaponSpec("rail", 100, 1.5)
    assert Range(spec, distance=8.0).fire() == 1
    open_range, walled = Range(spec, distance=8.0), Range(spec, distance=8.0, geometry=WALLED)
    open_range.fire()
    walled.fire()
    assert open_range.victims == [1]
    assert walled.victims == []
    assert walled.judged.ways[0, 6:].tolist() == pytest.approx([5.0, 5.0])


def test_the_dead_and_oneself_are_not_hit() -> None:
    spot = Range(WeaponSpec("rail", 100, 1.5))
    spot.targets[1] = False
    spot.fire()
    assert spot.victims == []
    assert spot.judged.ways[0, 7] == 200.0


@pytest.mark.parametrize("distance", [2.0, 10.0, 17.5, 25.0, 60.0])
def test_damage_falls_off_with_distance_and_counts_the_part(distance: float) -> None:
    spec = WeaponSpec("gun", 10, 0.1, falloff_from_m=10, falloff_to_m=25, falloff_least=0.4, head=3.0)
    spot = Range(spec, distance=distance)
    spot.fire()
    assert spot.judged.strikes[0, 2] == PART_HEAD  # eye level is the head's
    gone, damage = spot.judged.blows[0]
    assert damage == pytest.approx(10 * 3.0 * damage_falloff(gone, 10, 25, 0.4))


def test_pellets_fill_the_cone_evenly_and_differ_by_tick() -> None:
    spot = Range(WeaponSpec("shot", 5, 1.0, pellets=32, spread=0.1), distance=400.0)
    points = []
    for tick in range(60):
        assert spot.fire(tick=tick) == 32
        way = spot.judged.ways[:, 3:6]
        points.append(way[:, 1:] / way[:, :1])
    radius = np.linalg.norm(np.concatenate(points), axis=1)
    assert radius.max() <= 0.1 + 1e-9
    assert abs((radius < 0.1 / math.sqrt(2)).mean() - 0.5) < 0.04  # half of an even disc
    assert len({tuple(part[0]) for part in points}) == 60


def pull(spec: WeaponSpec, *, tick_hz: int, seconds: float, reserve: int = 500, held: float = 1e9) -> list[float]:
    """Times of the shots of a held trigger."""
    armoury = Armoury([spec])
    loaded, rounds = np.zeros((1, 16), np.int16), np.full((1, 16), reserve, np.int16)
    loaded[0, 1] = spec.magazine
    arms = (np.zeros(1), np.zeros(1), np.zeros(1, np.bool_), loaded, rounds)
    shots, out, refused = [], np.zeros((1, 2), np.int32), np.zeros((1, 2), np.int32)
    for tick in range(round(seconds * tick_hz)):
        buttons = np.array([8 if tick / tick_hz < held else 0], np.uint16)
        count, _ = triggers(
            armoury.table, np.ones(1, np.bool_), buttons, np.ones(1, np.uint8), 1.0 / tick_hz,
            arms, out, refused,
        )  # fmt: skip
        shots += [tick / tick_hz] * int(out[0, 1] if count else 0)
    return shots


@pytest.mark.parametrize("interval", [0.05, 0.1, 0.13, 0.8])
@pytest.mark.parametrize("magazine", [0, 7])
def test_rate_of_fire_and_reload_do_not_depend_on_the_tick_rate(interval: float, magazine: int) -> None:
    spec = WeaponSpec("gun", 1, interval, magazine=magazine, reload_s=1.1)
    series = {hz: pull(spec, tick_hz=hz, seconds=6.0) for hz in (20, 60, 128)}
    counts = {hz: len(shots) for hz, shots in series.items()}
    assert max(counts.values()) - min(counts.values()) <= 1
    for hz, shots in series.items():
        rounds = min(map(len, series.values()))
        late = max(abs(a - b) for a, b in zip(shots[:rounds], series[128][:rounds], strict=True))
        assert late <= 1.0 / hz + 1.0 / 128 + 1e-9


def test_a_weapon_without_rounds_is_silent_and_reloads_only_what_there_is() -> None:
    assert pull(WeaponSpec("gun", 1, 0.1), tick_hz=60, seconds=3.0, reserve=4) == pytest.approx(
        [0, 0.1, 0.2, 0.3], abs=0.017
    )
    assert len(pull(WeaponSpec("gun", 1, 0.1, magazine=5, reload_s=0.5), tick_hz=60, seconds=9.0, reserve=3)) == 8
    assert len(pull(WeaponSpec("gun", 1, 0.1, rounds_max=-1), tick_hz=60, seconds=1.0, reserve=0)) == 10


def test_tapping_cannot_beat_the_rate_of_fire() -> None:
    held = pull(WeaponSpec("gun", 1, 0.5), tick_hz=60, seconds=5.0)
    released = pull(WeaponSpec("gun", 1, 0.5), tick_hz=60, seconds=5.0, held=0.3)
    assert len(held) == 10
    assert len(released) == 1


class Flight:
    """One projectile among two players."""

    def __init__(self, spec: WeaponSpec, velocity: tuple[float, float, float], *, geometry: Geometry = OPEN) -> None:
        self.table, self.geometry = Armoury([spec]).table, geometry
        self.position, self.velocity = np.array([[0.0, 0, 1.0]]), np.array([velocity], np.float64)
        self.left, self.behind = np.array([spec.life_s]), np.zeros(1, np.uint16)
        self.feet = np.array([[0.0, 0, 0], [100.0, 0, 0]])
        self.ends = np.zeros((1, 3), np.int32)

    def fly(self, dt: float) -> int:
        history, crowd = standing(1, self.feet, np.ones(2, np.bool_)), Crowd(2)
        crowd.gather(history)
        scene = (static_occluders(self.geometry), history.arrays, crowd.arrays)
        return projectiles_fly(
            scene, self.table, np.zeros(1, np.int32), np.ones(1, np.uint8), np.zeros(1, np.int32),
            self.position, self.velocity, self.left, self.behind, dt, 1, self.ends,
        )  # fmt: skip


@pytest.mark.parametrize("tick_hz", [20, 60, 128])
def test_a_rocket_meets_the_wall_at_the_same_time_at_any_rate(tick_hz: int) -> None:
    flight = Flight(WeaponSpec("rocket", 100, 0.8, speed=22.5, blast_m=3), (22.5, 0, 0), geometry=WALLED)
    ticks = next(tick for tick in range(1, 999) if flight.fly(1.0 / tick_hz))
    assert abs(ticks / tick_hz - 5.0 / 22.5) <= 1.0 / tick_hz
    assert flight.ends[0].tolist() == [0, -1, PART_NONE]
    assert 4.9 < flight.position[0, 0] < 5.0  # in front of the wall, so that the blast is too


@pytest.mark.parametrize("tick_hz", [20, 60, 128])
def test_a_grenade_bounces_to_the_same_place_and_bursts_on_time(tick_hz: int) -> None:
    spec = WeaponSpec("grenade", 100, 0.8, speed=12, gravity=20, bounce=0.6, life_s=2.5, blast_m=3)
    flight = Flight(spec, (9.0, 0, 5.0))
    ticks = next(tick for tick in range(1, 999) if flight.fly(1.0 / tick_hz))
    assert abs(ticks / tick_hz - 2.5) <= 1.0 / tick_hz
    assert flight.ends[0, 1] == -2
    assert flight.position[0, 2] > 0.0
    assert flight.position[0, 0] == pytest.approx(10.0, abs=0.1)


def test_a_fast_projectile_does_not_pass_through_a_player() -> None:
    flight = Flight(WeaponSpec("bolt", 50, 0.5, speed=900), (900.0, 0, 0))
    flight.feet[1] = (7.0, 0, 0)
    assert flight.fly(1 / 20) == 1
    assert flight.ends[0, 1] == 1


def blast(geometry: Geometry, centre: tuple[float, float, float], feet: F64) -> dict[int, F64]:
    hits, amounts = np.zeros((16, 2), np.int32), np.zeros((16, 4))
    poses = (feet, np.full(len(feet), HEIGHT), np.ones(len(feet), np.bool_))
    walls = static_occluders(geometry)
    count = blast_batch(walls, np.array([centre]), np.array([[3.0, 100.0]]), 1, poses, 1, hits, amounts)
    return {int(hits[n, 1]): amounts[n].copy() for n in range(count)}


def test_a_blast_weakens_with_distance_pushes_away_and_ends_at_its_radius() -> None:
    feet = np.array([[1.0, 0, 0], [2.0, 0, 0], [5.0, 0, 0]])
    hit = blast(OPEN, (0.0, 0.0, 0.5), feet)
    assert sorted(hit) == [0, 1]
    assert 100.0 > hit[0][0] > hit[1][0] > 0.0
    assert hit[0][1] > 0.9


def test_a_wall_shields_from_a_blast() -> None:
    feet = np.array([[6.0, 0, 0], [4.0, 0, 0]])
    assert sorted(blast(WALLED, (4.9, 0.0, 0.5), feet)) == [1]


@pytest.mark.parametrize(
    "change",
    [
        {"interval_s": 0.0},
        {"pellets": 99},
        {"bounce": 1.5},
        {"falloff_from_m": 2e9},
        {"bodies": 5},
        {"speed": 9.0, "sweep_m": 0.2},
    ],
)
def test_impossible_weapons_are_refused_by_name(change: dict[str, float]) -> None:
    with pytest.raises(DeclarationError, match="'odd'"):
        Armoury([WeaponSpec(**({"name": "odd", "damage": 1, "interval_s": 1.0} | change))])  # type: ignore[arg-type]  # wrong


def test_aim_goes_where_the_view_points() -> None:
    assert view_direction(16384, 0) == pytest.approx((0.0, 1.0, 0.0))


def slab(x: float, thickness: float) -> list[tuple[F64, I32]]:
    """Both faces of a wall across the way along +X."""
    return [quad((at, -20, 0), (at, 20, 0), (at, 20, 10), (at, -20, 10)) for at in (x, x + thickness)]


PIERCING = WeaponSpec("gun", 100, 0.1, penetration_m=0.3, penetration_factor=0.5, head=1.0)


@pytest.mark.parametrize(
    ("walls", "passed", "damage"),
    [
        ([(3.0, 0.1)], 1, 50.0),
        ([(3.0, 0.29)], 1, 50.0),
        ([(3.0, 0.31)], 0, 0.0),
        ([(2.0, 0.1), (4.0, 0.1)], 2, 25.0),
        ([(2.0, 0.2), (4.0, 0.2)], 1, 0.0),
        ([(1.0, 0.05), (2.0, 0.05), (3.0, 0.05), (4.0, 0.05), (5.0, 0.05)], 4, 0.0),
    ],
)
def test_a_ray_goes_through_walls_as_thick_as_its_weapon_allows_and_loses_damage(
    walls: list[tuple[float, float]], passed: int, damage: float
) -> None:
    faces = [face for x, thickness in walls for face in slab(x, thickness)]
    spot = Range(PIERCING, geometry=geometry_of(FLOOR, *faces), distance=8.0)
    spot.fire()
    assert spot.judged.pellets[0, 5] == passed
    assert spot.judged.blows[:, 1].tolist() == ([pytest.approx(damage)] if damage else [])
    if not damage:
        stopped = walls[passed][0]
        assert spot.judged.ways[0, 6:].tolist() == pytest.approx([stopped, stopped])


def test_a_weapon_without_penetration_and_a_sheet_without_thickness_stop_a_ray() -> None:
    plain = Range(WeaponSpec("gun", 100, 0.1), geometry=geometry_of(FLOOR, *slab(3.0, 0.05)), distance=8.0)
    sheet = Range(PIERCING, geometry=WALLED, distance=8.0)
    for spot in (plain, sheet):
        spot.fire()
        assert spot.victims == []
        assert spot.judged.pellets[0, 5] == 0


@pytest.mark.parametrize("bodies", [1, 2, 3, 4])
def test_a_ray_strikes_as_many_players_as_its_weapon_says_nearest_first(bodies: int) -> None:
    spot = Range(WeaponSpec("rail", 100, 1.5, bodies=bodies, head=1.0))
    feet = np.array([[0.0, 0, 0], *([2.0 * n, 0, 0] for n in (3, 1, 5, 2, 4))])
    spot.line_up(feet)
    spot.fire()
    assert spot.victims == [2, 4, 1, 5, 3][:bodies]
    assert spot.judged.blows[:, 1].tolist() == [100.0] * bodies
    assert (np.diff(spot.judged.blows[:, 0]) > 1.9).all()


CLUB = WeaponSpec("club", 50, 0.4, range_m=1.3, sweep_m=0.25, head=1.0)


@pytest.mark.parametrize(
    ("feet", "struck"),
    [
        ((1.2, 0.0, 0.0), True),
        ((1.2, 0.35, 0.0), True),  # beside the ray, within the sphere's way
        ((1.2, 0.6, 0.0), False),
        ((2.0, 0.0, 0.0), False),  # out of reach
        ((-1.0, 0.0, 0.0), False),
    ],
)
def test_a_melee_strike_reaches_whom_its_sphere_touches(feet: tuple[float, float, float], struck: bool) -> None:
    spot = Range(CLUB)
    spot.feet[1] = feet
    assert spot.fire() == 1
    assert spot.victims == ([1] if struck else [])
    assert spot.judged.blows[:, 1].tolist() == ([50.0] if struck else [])


def test_a_melee_strike_hits_the_nearest_and_no_one_behind_a_wall() -> None:
    spot = Range(CLUB)
    spot.line_up(np.array([[0.0, 0, 0], [1.3, 0, 0], [0.9, 0.1, 0]]))
    spot.fire()
    assert spot.victims == [2]
    near = quad((0.8, -20, 0), (0.8, 20, 0), (0.8, 20, 10), (0.8, -20, 10))
    walled = Range(CLUB, geometry=geometry_of(FLOOR, near))
    walled.feet[1] = (1.2, 0.0, 0.0)
    walled.fire()
    assert walled.victims == []
    beside = quad((0.0, 0.1, 0), (5.0, 0.1, 0), (5.0, 0.1, 10), (0.0, 0.1, 10))
    along = Range(CLUB, geometry=geometry_of(FLOOR, beside))
    along.line_up(np.array([[0.0, 0, 0], [0.9, 0.4, 0], [1.2, -0.3, 0]]))  # the nearer one is behind the wall
    along.fire()
    assert along.victims == [2]


def test_strikes_beyond_the_room_for_them_are_counted() -> None:
    spot = Range(WeaponSpec("shot", 5, 1.0, pellets=32, spread=0.02), distance=2.0)
    spot.judged = Judgement(20)
    assert spot.fire() == 32
    assert len(spot.judged.pellets) == 20
    assert spot.judged.dropped == 12


def press(buttons: list[int], *, loaded: int, reserve: int, spec: WeaponSpec) -> list[int]:
    """What triggers say of each tick of buttons at 60 Hz: 0 nothing, a `NoShot`, or -1 for a shot."""
    rounds = np.full((1, 16), reserve, np.int16), np.full((1, 16), loaded, np.int16)
    arms = (np.zeros(1), np.zeros(1), np.zeros(1, np.bool_), rounds[1], rounds[0])
    told, shots, refused = [], np.zeros((1, 2), np.int32), np.zeros((1, 2), np.int32)
    for held in buttons:
        fired, kept = triggers(
            Armoury([spec]).table, np.ones(1, np.bool_), np.array([held], np.uint16), np.ones(1, np.uint8), 1 / 60,
            arms, shots, refused,
        )  # fmt: skip
        told.append(-1 if fired else int(refused[0, 1]) if kept else 0)
    return told


def test_a_newly_pressed_trigger_is_refused_by_reason_and_a_held_one_is_not() -> None:
    spec = WeaponSpec("gun", 1, 0.05)
    assert press([8, 8, 8, 8, 8, 8, 8], loaded=0, reserve=9, spec=spec) == [-1, 0, 0, -1, 0, 0, -1]
    assert press([8, 0, 8, 8, 0, 8], loaded=0, reserve=9, spec=spec) == [-1, 0, NoShot.RATE, -1, 0, NoShot.RATE]
    assert press([8, 0, 8, 8], loaded=0, reserve=0, spec=spec) == [NoShot.AMMO, 0, NoShot.AMMO, 0]
    slow = WeaponSpec("gun", 1, 0.05, magazine=3, reload_s=1.0)
    assert press([32, 8, 8, 0, 8], loaded=2, reserve=9, spec=slow) == [0, NoShot.RELOAD, 0, 0, NoShot.RELOAD]
    assert press([8, 8], loaded=0, reserve=9, spec=slow)[0] == NoShot.RELOAD  # it begins by itself
