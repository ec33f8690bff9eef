"""`hitreg map import|info|view|bake`: bring maps in, look at what they hold, draw them, and see what sees what."""

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.errors import MapError
from server.maps import load_geometry, load_map
from server.maps.limits import COORDINATE_M_MAX
from sim.worldmap import TriggerKind, WorldMap
from tools.errors import ToolsError
from tools.openarena import fetch_maps, map_names, map_path

if TYPE_CHECKING:
    from sim.visibility import VisibilityMap  # late, so that no command but `bake` declares its kernels

__all__ = ["OPENARENA", "app", "open_map"]

app = typer.Typer(help="Import maps, look at what they hold, and draw them.", no_args_is_help=True)

OPENARENA = "openarena:"
EYE_M = 1.2  # above the feet
SOURCE_HELP = "A .bsp, .pk3#MAP, .glb, .gltf, .obj, .png or .npz file, arena, arena:SIZE, or openarena:MAP."
Source = Annotated[str, typer.Argument(help=SOURCE_HELP)]


def open_map(source: str) -> WorldMap:
    """The map that `source` names; `openarena:NAME` is one of the OpenArena package, fetched when first asked for.

    Raises:
        MapError: There is no such map, or it cannot be used.
        ToolsError: The OpenArena package cannot be had, or has no such map.
    """
    if source.startswith(OPENARENA):
        return load_map(map_path(source.removeprefix(OPENARENA)))
    return load_map(source)


def _or_exit(work: Callable[[], None]) -> None:
    """Run a command; what is wrong with its input becomes one line on stderr and exit code 2."""
    try:
        work()
    except (MapError, ToolsError) as error:
        typer.echo(f"hitreg map: {error}", err=True)
        raise typer.Exit(2) from error


def _facts(world: WorldMap) -> dict[str, Any]:
    """What a map holds, as plain numbers."""
    low, high = world.bounds
    return {
        "name": world.name,
        "hash": world.content_hash(),
        "low_m": [round(float(value), 3) for value in low],
        "high_m": [round(float(value), 3) for value in high],
        "size_m": [round(float(value), 3) for value in high - low],
        "vertices": len(world.vertices),
        "triangles": len(world.triangles),
        "spawns": {str(team): count for team, count in sorted(Counter(spawn.team for spawn in world.spawns).items())},
        "items": dict(sorted(Counter(item.kind for item in world.items).items())),
        "triggers": dict(sorted(Counter(TriggerKind(t.kind).name.lower() for t in world.triggers).items())),
        "movers": dict(sorted(Counter(mover.classname for mover in world.movers).items())),
        "entities": len(world.entities),
    }


def _line(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} × {count}" for key, count in value.items()) or "none"
    if isinstance(value, list):
        return "  ".join(f"{entry:g}" for entry in value)
    return str(value)


@app.command("import")
def import_map(
    source: Source,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The .npz file to write.")] = None,
) -> None:
    """Import a map into one .npz file, which every command that takes a map reads."""

    def work() -> None:
        from server.maps.store import write_map

        world = open_map(source)
        target = output or Path(f"{world.name}.npz")
        if target.suffix != ".npz":
            raise ToolsError(f"--output = {target}: must end in .npz")
        write_map(target, world)
        typer.echo(f"{target}: {len(world.triangles):,} triangles, {len(world.spawns)} spawn points")

    _or_exit(work)


@app.command("info")
def info(source: Source, *, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Print what a map holds."""

    def work() -> None:
        facts = _facts(open_map(source))
        if as_json:
            typer.echo(json.dumps(facts, indent=1))
            return
        from rich.console import Console
        from rich.table import Table

        table = Table(title=facts["name"], show_header=False, title_justify="left")
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for key, value in facts.items():
            table.add_row(key, _line(value))
        Console().print(table)

    _or_exit(work)


@app.command("view")
def view(
    source: Source,
    output: Annotated[Path, typer.Option("--output", "-o", help="The directory to write to.")] = Path(),
    width: Annotated[int, typer.Option(min=256, max=4096, help="Width of the pictures in pixels.")] = 1600,
) -> None:
    """Draw a map from above and at a slant, as two PNG pictures."""

    def work() -> None:
        from PIL import Image

        from server.maps.plates import perspective_plate, topdown_plate

        world = open_map(source)
        # Pictures show movers in their resting place, which no other geometry does.
        geometry = load_geometry(replace(world, movers=()) if world.moving else world)
        for kind, plate in (
            ("topdown", topdown_plate(world, width_px=width)),
            ("perspective", perspective_plate(world, geometry, size_px=(width, width * 5 // 8))),
        ):
            target = output / f"{world.name}-{kind}.png"
            try:
                output.mkdir(parents=True, exist_ok=True)
                Image.fromarray(plate).save(target)
            except OSError as error:
                raise ToolsError(f"--output = {target}: {error.strerror or error}; choose another place") from error
            typer.echo(str(target))

    _or_exit(work)


def _eye(text: str | None, world: WorldMap) -> tuple[float, float, float]:
    """The point `X,Y,Z` [m], or the eye of who stands at the first spawn point."""
    if text is None:
        x, y, z = world.spawns[0].position
        return x, y, z + EYE_M
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError:
        raise ToolsError(f"--from = {text}: must be three numbers of metres, X,Y,Z") from None
    if not all(abs(value) <= COORDINATE_M_MAX for value in (x, y, z)):
        raise ToolsError(f"--from = {text}: must be within {COORDINATE_M_MAX:g} m of the origin")
    return x, y, z


def _baked_facts(known: "VisibilityMap") -> dict[str, Any]:
    """What a map's visibility holds, as plain numbers."""
    seen, grown = float(known.seen().mean()), float(known.grown().mean())
    return {
        "cells": len(known),
        "voxels": len(known.voxels()[0]),
        "voxel_m": known.pitch_m,
        "memory_bytes": known.nbytes,
        "pairs_seen": round(seen, 4),
        "pairs_left_to_rays": round(grown - seen, 4),
        "pairs_hidden": round(1.0 - grown, 4),
    }


@app.command("bake")
def bake(
    source: Source,
    *,
    picture: Annotated[Path | None, typer.Option(help="Draw what sees what into this PNG file.")] = None,
    eye: Annotated[str | None, typer.Option("--from", help="X,Y,Z [m]: draw what is seen from here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Work out which parts of a map see each other, keep it in the cache, and print how much is hidden."""

    def work() -> None:
        from server.maps.visibility import load_visibility

        if picture is not None and picture.suffix.lower() != ".png":
            raise ToolsError(f"--picture = {picture}: must end in .png")
        world = open_map(source)
        point = _eye(eye, world)
        begun = time.perf_counter()
        known, _ = load_visibility(world)
        facts = {"name": world.name, **_baked_facts(known), "seconds": round(time.perf_counter() - begun, 2)}
        typer.echo(json.dumps(facts, indent=1) if as_json else "\n".join(f"{k:18} {v}" for k, v in facts.items()))
        if picture is not None:
            _draw_visibility(known, point, picture)

    _or_exit(work)


def _draw_visibility(known: "VisibilityMap", eye: tuple[float, float, float], target: Path) -> None:
    import numpy as np
    from PIL import Image

    from server.maps.visibility_plate import visibility_plate

    try:
        Image.fromarray(visibility_plate(known, np.array(eye))).save(target)
    except OSError as error:
        raise ToolsError(f"--picture = {target}: {error.strerror or error}; choose another place") from error


@app.command("openarena")
def openarena() -> None:
    """Fetch the OpenArena maps and list them; they are used as openarena:NAME."""

    def work() -> None:
        typer.echo(f"{fetch_maps()}: {' '.join(map_names())}")

    _or_exit(work)
