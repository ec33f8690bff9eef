"""Atheris over the harnesses: `python -m tests.fuzz.run all -runs=20000 -seed=1`, or the name of one of them.

What follows the name goes to libFuzzer. The Python code of `net` and the naive twins are instrumented, so that coverage
leads the search; kernels are compiled and are not.
"""

import inspect
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import atheris

import net.messages
import net.packets
import net.schema
import net.tokens
import sim.schema
import tests.reference.endpoint
import tests.reference.inputs
from tests.fuzz.harnesses import HARNESSES

CORPUS = Path(__file__).parent / "corpus"
INSTRUMENTED = (
    net.tokens, net.packets, net.messages, net.schema, sim.schema, tests.reference.inputs, tests.reference.endpoint,
)  # fmt: skip


def instrument(module: ModuleType) -> None:
    """Count the branches of a module's functions and methods, in place.

    Not by atheris.instrument_imports: it changes every module imported below it, and the compiler of kernels does not
    understand changed ones.
    """
    for owner in (module, *(kind for kind in vars(module).values() if inspect.isclass(kind))):
        for entry in vars(owner).values():
            if inspect.isfunction(entry) and entry.__module__ == module.__name__:
                atheris.instrument_func(entry)


def main() -> None:
    """Fuzz until the runs that were asked for are done; a broken promise ends with a traceback and an input file."""
    name, options = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("all", [])
    chosen = [*HARNESSES] if name == "all" else [name]
    for module in INSTRUMENTED:
        instrument(module)

    def one(data: bytes) -> None:
        if data:
            HARNESSES[chosen[data[0] % len(chosen)]](data[1:])

    # Not removed at the end: libFuzzer leaves the process without returning here.
    scratch = Path(tempfile.mkdtemp(prefix="hitreg-fuzz-"))
    for number, known in enumerate(chosen):
        for file in sorted((CORPUS / known).glob("*")):
            (scratch / f"{known}-{file.name}").write_bytes(bytes([number]) + file.read_bytes())
    atheris.Setup([sys.argv[0], *options, "-max_len=2300", str(scratch)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
