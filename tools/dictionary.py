"""`hitreg dictionary`: record traffic, train dictionaries of compression on it, and look at them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
import zstandard

from net.compression import POLICIES, Compressor
from net.dictionaries import DICTIONARY_BYTES_MAX, Dictionary, PayloadClass, read_dictionary
from net.errors import NetError
from server.errors import ServerError
from sim.errors import SimError
from tools.capture import Payload, read_capture, write_capture
from tools.errors import ToolsError

__all__ = ["app", "train"]

SIZE_DEFAULT = 8192
SIZE_MIN = 512
TEST_SHARE = 4  # the last quarter of each recording is kept to test on
TRAIN_COUNT_MAX = 16_384
TRAIN_BYTES_MAX = 16 << 20
TEST_COUNT_MAX = 4096
PAYLOADS_MIN = 32
CLASSES = {kind.name.lower(): kind for kind in PayloadClass}

app = typer.Typer(help="Record traffic, and train dictionaries of compression on it.", no_args_is_help=True)


def _or_exit(work: Callable[[], None]) -> None:
    """Run a command; what is wrong with its input becomes one line on stderr and exit code 2."""
    try:
        work()
    except (NetError, ServerError, SimError, ToolsError) as error:
        typer.echo(f"hitreg dictionary: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(2) from error


def _thinned(contents: Sequence[bytes], count_max: int) -> list[bytes]:
    """At most so many, evenly from all."""
    return list(contents[:: max(1, -(-len(contents) // count_max))])


def train(
    recordings: Sequence[Sequence[Payload]], kind: PayloadClass, *, size: int = SIZE_DEFAULT, revision: int = 1
) -> Dictionary:
    """A dictionary of one class, and what it saves on traffic that it was not trained on.

    Trained with the fast cover algorithm of Zstandard on the beginning of each recording; the last quarter of each is
    compressed with it for the figures.

    Args:
        recordings: As `read_capture` gives them; payloads of other classes are left aside.
        kind: The class.
        size: Most bytes of content.
        revision: Of two dictionaries of a class, the one with the greater is used.

    Raises:
        ToolsError: There is too little to train on, or a number is out of range.
    """
    if not SIZE_MIN <= size <= DICTIONARY_BYTES_MAX or not 0 <= revision < 1 << 32:
        raise ToolsError(
            f"--size {size}, --revision {revision}: give {SIZE_MIN} to {DICTIONARY_BYTES_MAX:,} bytes and a revision"
            " from 0 to 4,294,967,295"
        )
    training: list[bytes] = []
    testing: list[bytes] = []
    for recording in recordings:
        contents = [payload.content for payload in recording if payload.kind is kind]
        cut = len(contents) - len(contents) // TEST_SHARE
        training += contents[:cut]
        testing += contents[cut:]
    if len(training) + len(testing) < PAYLOADS_MIN:
        raise ToolsError(
            f"--class {kind.name.lower()}: {len(training) + len(testing)} payloads of it were recorded, at least"
            f" {PAYLOADS_MIN} are needed; record for longer"
        )
    training = _thinned(training, TRAIN_COUNT_MAX)
    training = _thinned(training, max(1, len(training) * TRAIN_BYTES_MAX // max(sum(map(len, training)), 1)))
    try:
        content = zstandard.train_dictionary(size, [*training], level=POLICIES[kind].level).as_bytes()
    except zstandard.ZstdError as error:
        raise ToolsError(
            f"--class {kind.name.lower()}: {error}; record for longer, or train a smaller one (--size {size})"
        ) from error
    return _tested(Dictionary(kind, content, revision, len(training), sum(map(len, training))), testing)


def _tested(dictionary: Dictionary, testing: Sequence[bytes]) -> Dictionary:
    """The dictionary with the figures of what it makes of other payloads."""
    compressor = Compressor(dictionaries=[dictionary])
    chosen = _thinned(testing, TEST_COUNT_MAX)
    after = sum(len(compressor.compress(content, dictionary.kind, agreed=compressor.ids)) for content in chosen)
    return replace(dictionary, tested_count=len(chosen), tested_bytes=sum(map(len, chosen)), tested_compressed=after)


def _describe(dictionary: Dictionary) -> str:
    """What is known of a dictionary, a line each."""
    tested = dictionary.tested_bytes / max(dictionary.tested_compressed, 1)
    return "\n".join(
        (
            f"id:       {dictionary.id:016x}, {dictionary.short:#06x} in payloads",
            f"class:    {dictionary.kind.name.lower()}, revision {dictionary.revision}",
            f"content:  {len(dictionary.content):,} bytes",
            f"trained:  on {dictionary.trained_count:,} payloads of {dictionary.trained_bytes:,} bytes",
            f"tested:   on {dictionary.tested_count:,} others, {dictionary.tested_bytes:,} bytes to"
            f" {dictionary.tested_compressed:,} ({tested:.2f} times smaller)",
        )
    )


@app.command("capture")
def capture_command(
    out: Annotated[Path, typer.Option(help="The file to write.")],
    players: Annotated[int, typer.Option(min=1, help="How many play.")] = 32,
    seconds: Annotated[float, typer.Option(min=0.1, max=3600.0, help="Of the match.")] = 20.0,
    map_source: Annotated[str, typer.Option("--map", help="arena, openarena:NAME, or a map file.")] = "arena",
    seed: Annotated[int, typer.Option(min=0, help="Of the match; another one plays differently.")] = 1,
) -> None:
    """Play a scripted match and record every payload that its clients would be sent."""

    def record() -> None:
        from tools.match import ScriptedMatch

        match = ScriptedMatch(players, map_source=map_source, seed=seed)
        count = write_capture(out, match.payloads(seconds))
        typer.echo(f"{out}: {count:,} payloads, {out.stat().st_size:,} bytes")

    _or_exit(record)


@app.command("train")
def train_command(
    recordings: Annotated[list[Path], typer.Option("--from", help="A recording; give the option again for more.")],
    out: Annotated[Path, typer.Option(help="The dictionary to write, NAME.hrdict.")],
    class_name: Annotated[str, typer.Option("--class", help=f"One of {', '.join(CLASSES)}.")] = "snapshot",
    size: Annotated[int, typer.Option(help="Most bytes of the dictionary.")] = SIZE_DEFAULT,
    revision: Annotated[int, typer.Option(help="Of two dictionaries of a class, the greater is used.")] = 1,
) -> None:
    """Train a dictionary on recorded traffic, and say what it saves on traffic it has not seen."""

    def make() -> None:
        kind = CLASSES.get(class_name)
        if kind is None:
            raise ToolsError(f"--class {class_name}: not known; choose one of {', '.join(CLASSES)}")
        dictionary = train([read_capture(path) for path in recordings], kind, size=size, revision=revision)
        try:
            out.write_bytes(dictionary.to_bytes())
        except OSError as error:
            raise ToolsError(f"--out {out}: {error.strerror}; give a file in a directory you may write") from error
        typer.echo(_describe(dictionary))

    _or_exit(make)


@app.command("info")
def info_command(file: Annotated[Path, typer.Argument(help="A dictionary.")]) -> None:
    """Check a dictionary and print what is known of it."""
    _or_exit(lambda: typer.echo(_describe(read_dictionary(file))))
