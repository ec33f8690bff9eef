"""The only door to numba: one set of flags, one cache, one warm-up list.

Flags. `nogil` on, `fastmath` off (results must be the same on every IEEE machine), `error_model="numpy"`, on-disk
cache on. `HITREG_BOUNDSCHECK=1` compiles every kernel with bounds checks (into a cache of its own);
`NUMBA_DISABLE_JIT=1` runs kernels as plain Python, for coverage and debugging.

Cache. numba's own on-disk cache notices an edit of the file a kernel stands in, but not of a helper kernel in another
file. So each module's kernels live in a directory named by a digest of that module's source and of all first-party
modules it imports, directly or not, and of this file.

Warm-up. A kernel is declared with the signature of its arguments. `compile_declared` compiles one (or loads it from the
cache), `server.kernels` all of them before the first tick; `seal` then refuses further specialisations, so that a
mistyped call is an error at once and never a compile of seconds in the middle of a match.
"""

import ctypes
import hashlib
import importlib
import importlib.util
import operator
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, overload

import llvmlite.binding
import llvmlite.ir
import numba
import numpy as np
from numba import prange
from numba.core import cgutils, sigutils, types
from numba.core.types import containers
from numba.core.types.misc import unliteral
from numba.core.typing import ctypes_utils
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model
from numba.np.arrayobj import make_array, populate_array

from sim.jit_libraries import install_libraries, load_quickly

__all__ = [
    "BOUNDS_CHECKED",
    "LANES",
    "Lanes",
    "cache_root",
    "compile_declared",
    "declared_kernels",
    "external",
    "kernel",
    "keys8",
    "less_equal8",
    "llvm_function",
    "load8",
    "local_i64",
    "lowest_bit",
    "max8",
    "min8",
    "multiply_add8",
    "prange",
    "seal",
    "set_threads",
    "source_digest",
    "splat8",
    "store8",
]

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

BOUNDS_CHECKED = os.environ.get("HITREG_BOUNDSCHECK", "0") == "1"
PACKAGES = ("sim", "net", "persistence", "server", "tools")
CACHE_DIRECTORIES_MAX = 256  # oldest are removed beyond this

if not numba.config.DISABLE_JIT:
    install_libraries()

_declared: dict[str, tuple[Any, str]] = {}
_all: list[Any] = []
_digests: dict[str, str] = {}
_parsed: dict[str, tuple[bytes, set[str]] | None] = {}


def cache_root() -> Path:
    """The directory under which compiled kernels are kept: `$HITREG_CACHE_DIR` or `~/.cache/hitreg`."""
    root = os.environ.get("HITREG_CACHE_DIR")
    return (Path(root) if root else Path.home() / ".cache" / "hitreg") / "kernels"


# `import a, b` or `from a import b, (c, …)` at any indentation; reading lines is thirty times as fast as parsing.
IMPORT = re.compile(
    r"^[ \t]*(?:import[ \t]+([\w., \t]+)|from[ \t]+([.\w]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n#]*))", re.M
)


def _imported(source: bytes, module: str) -> set[str]:
    """First-party modules that a module's source imports; in doubt too many, which only compiles more often."""
    package = module.rpartition(".")[0]
    names: set[str] = set()
    for plain, origin, members in IMPORT.findall(source.decode()):
        if plain:
            names.update(part.split()[0] for part in plain.split(",") if part.strip())
            continue
        base = origin.lstrip(".")
        if level := len(origin) - len(base):
            base = ".".join(filter(None, [package.rsplit(".", level - 1)[0], base]))
        names.add(base)
        names.update(f"{base}.{member}" for member in re.findall(r"\w+", members))
    return {name for name in names if name.split(".")[0] in PACKAGES}


def _read(module: str) -> tuple[bytes, set[str]] | None:
    """The source of a first-party module and what it imports, or None where the name is not a module."""
    if module not in _parsed:
        _parsed[module] = None
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            spec = None
        if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
            source = Path(spec.origin).read_bytes()
            _parsed[module] = source, _imported(source, module)
    return _parsed[module]


def source_digest(*modules: str) -> str:
    """Digest of the sources of `modules` and of every first-party module they rest on.

    Args:
        modules: Dotted names of importable modules.

    Returns:
        32 hexadecimal digits; equal if and only if the sources are the same.
    """
    key = " ".join(sorted(modules))
    if key in _digests:
        return _digests[key]
    sources: dict[str, bytes] = {}
    pending = {*modules, __name__}
    while pending:
        name = pending.pop()
        found = _read(name)
        if name in sources or found is None:
            continue
        sources[name] = found[0]
        pending |= found[1] - set(sources)
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(sources):
        digest.update(f"{name}\0{len(sources[name])}\0".encode() + sources[name])
    _digests[key] = digest.hexdigest()
    return _digests[key]


def _prune(root: Path) -> None:
    """Bounds the cache: the directories least recently written go first."""
    entries = sorted((path for path in root.glob("*") if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in entries[: max(0, len(entries) - CACHE_DIRECTORIES_MAX)]:
        shutil.rmtree(path, ignore_errors=True)


def _cache_directory(module: str) -> Path:
    """The cache directory of one module's kernels, made on first use."""
    mode = "checked-" if BOUNDS_CHECKED else ""
    directory = cache_root() / f"{mode}{module}-{source_digest(module)[:16]}"
    if not directory.exists():
        directory.mkdir(parents=True, exist_ok=True)
        _prune(directory.parent)
    return directory


def _by_type(template: Callable[..., Any]) -> Callable[..., Any]:
    """Keeps numba from compiling a helper anew for each constant it is called with: types alone decide."""

    def call_template(arguments: Any, keywords: Any) -> Any:
        plain = tuple(unliteral(argument) for argument in arguments)
        return template(plain, {name: unliteral(argument) for name, argument in keywords.items()})

    return call_template


def _spare_wrapper(helper: Any, wrapped: Callable[[], Any]) -> None:
    """Keep a helper for kernels only. Python, as in tests, gets a twin of it that has the wrapper."""
    twins: list[Any] = []

    def twin(*_arguments: Any) -> Any:
        if not twins:
            twins.append(wrapped())
        return twins[0]

    def add_overload(result: Any) -> None:  # numba's own would also offer it to calls from Python
        helper.overloads[tuple(result.signature.args)] = result

    helper._compile_for_args = twin
    helper.add_overload = add_overload


def _compile(
    function: FunctionT, signature: str | None, *, parallel: bool, inline: bool, counted: bool, merge: bool
) -> FunctionT:
    cached = not numba.config.DISABLE_JIT
    options = {
        "nogil": True,
        "cache": cached,
        "fastmath": False,
        "error_model": "numpy",
        "boundscheck": BOUNDS_CHECKED,
        "parallel": parallel,
        "inline": "always" if inline else "never",
        "_nrt": counted,
        "forceinline": merge,
        "no_cfunc_wrapper": True,
    }

    def compiler(kind: str = "", **more: bool) -> Any:
        if cached:
            numba.config.CACHE_DIR = str(_cache_directory(function.__module__) / kind)
        return numba.njit(**options, **more)(function)

    dispatcher = compiler(no_cpython_wrapper=signature is None)
    if cached:
        load_quickly(dispatcher)
        dispatcher.get_call_template = _by_type(dispatcher.get_call_template)
        if signature is None:
            _spare_wrapper(dispatcher, lambda: compiler("called"))
    _all.append(dispatcher)
    if signature is not None:
        _declared[f"{function.__module__}.{function.__name__}"] = dispatcher, signature
    return dispatcher  # type: ignore[no-any-return]


@overload
def kernel(declaration: FunctionT, /) -> FunctionT: ...
@overload
def kernel(
    declaration: str | None = None,
    /,
    *,
    parallel: bool = False,
    inline: bool = False,
    counted: bool = True,
    merge: bool = False,
) -> Callable[[FunctionT], FunctionT]: ...
def kernel(
    declaration: FunctionT | str | None = None,
    /,
    *,
    parallel: bool = False,
    inline: bool = False,
    counted: bool = True,
    merge: bool = False,
) -> FunctionT | Callable[[FunctionT], FunctionT]:
    """Compile a function over arrays and scalars, without the interpreter lock.

    `@kernel` alone marks a helper that only other kernels call. `@kernel("(f8[:,::1], i8)")` declares the argument
    types of an entry point, in numba's notation, and puts it on the warm-up list.

    Args:
        declaration: Argument types as a tuple in numba's notation (`f8[:,::1]` is a C-contiguous 2-D float64 array).
        parallel: Whether `prange` loops run on several threads (`set_threads`). Element-wise work only.
        inline: Whether numba inlines the function into its callers before type inference.
        counted: Whether references to arrays are counted inside the kernel. One that makes no array and returns none
            does without: two atomic operations less wherever it takes an array out of a tuple.
        merge: Whether LLVM must make a helper part of each caller. For small helpers of hot loops: a call that passes
            a tuple of arrays copies some fifty words.

    Returns:
        The compiled function, callable as the original.
    """
    if callable(declaration):
        return _compile(declaration, None, parallel=parallel, inline=inline, counted=counted, merge=merge)
    signature = declaration

    def decorate(function: FunctionT) -> FunctionT:
        return _compile(function, signature, parallel=parallel, inline=inline, counted=counted, merge=merge)

    return decorate


def external(symbol: str, signature: str, *, address: int | None = None) -> Any:
    """A C function that kernels can call, and that does not spoil their on-disk cache.

    Args:
        symbol: Name of the C function; libc's are found by name.
        signature: Return and argument types in numba's notation, such as `"i4(i4, u8, u4)"`; pointers as `u8`
            (an integer address) or `voidptr`.
        address: Where the function is, for libraries that are not in the process's global symbol table.
    """
    if address is not None:
        llvmlite.binding.add_symbol(symbol, address)
    if numba.config.DISABLE_JIT:
        return _plain_external(symbol, signature, address)
    arguments, result = sigutils.normalize_signature(signature)
    return types.ExternalFunction(symbol, numba.core.typing.signature(result, *arguments))


def _plain_external(symbol: str, signature: str, address: int | None) -> Any:
    """The same function through ctypes, for runs with the compiler switched off."""
    arguments, result = sigutils.normalize_signature(signature)
    as_ctypes = ctypes_utils.to_ctypes
    prototype = ctypes.CFUNCTYPE(as_ctypes(result), *(as_ctypes(argument) for argument in arguments), use_errno=True)
    if address is None:
        return prototype((symbol, ctypes.CDLL(None, use_errno=True)))
    return prototype(address)


def _intrinsic(*, prefer_literal: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """numba's `intrinsic`, with a type."""
    decorate: Callable[[Callable[..., Any]], Any] = intrinsic(prefer_literal=prefer_literal)
    return decorate


def _plain_local_i64(count: int) -> Any:
    return np.zeros(count, np.int64)


@_intrinsic(prefer_literal=True)
def _compiled_local_i64(_typing: Any, count: Any) -> Any:
    if not isinstance(count, types.IntegerLiteral):
        return None
    length = count.literal_value
    array_type = types.Array(types.int64, 1, "C")

    def generate(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        block = llvmlite.ir.ArrayType(llvmlite.ir.IntType(64), length)
        with builder.goto_entry_block():  # numba's own alloca_once fills with zeros, 100 ns for 3 KB
            pointer = builder.alloca(block, name="local")
        pointer.align = 64
        array = make_array(array_type)(context, builder)
        data = builder.bitcast(pointer, llvmlite.ir.IntType(64).as_pointer())
        size = context.get_constant(types.intp, 8)
        shape = [context.get_constant(types.intp, length)]
        populate_array(array, data=data, shape=shape, strides=[size], itemsize=size, meminfo=None)
        return array._getvalue()

    return array_type(count), generate


# `local_i64(N)` in a kernel: an int64 array of N (a constant) elements on the machine stack, so that a traversal has
# scratch of its own in every thread without an allocation. Its content starts undefined; it must not leave the kernel.
local_i64: Any = _plain_local_i64 if numba.config.DISABLE_JIT else _compiled_local_i64


def llvm_function(name: str, source: str, plain: FunctionT, *, returns: str) -> FunctionT:
    """A function given as LLVM assembly, for the few inner loops that need vectors spelled out.

    It is linked into each kernel that calls it, inlined there, and kept in that kernel's on-disk cache. The source
    should use LLVM's own vector operations, not those of one processor: LLVM lowers them for the machine it runs on.

    Args:
        name: Name of the function in `source`, unique in the process.
        source: A module in LLVM assembly, without target lines, that defines the function with linkage `weak_odr`
            (linkonce would be dropped before it is needed) and the attribute `alwaysinline`. Arrays arrive as `ptr`
            to their first element (pass contiguous ones), integers as `i64`, other numbers as they are.
        plain: The same function in Python: its specification, its types, and what runs with the compiler off.
        returns: Return type in numba's notation.

    Returns:
        The function, callable from kernels only (from anywhere, where the compiler is off).
    """
    if numba.config.DISABLE_JIT:
        return plain
    result = sigutils.normalize_signature(f"{returns}()")[1]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values = []
        for kind, value in zip(signature.args[0], cgutils.unpack_tuple(builder, arguments[0]), strict=True):
            if isinstance(kind, types.Array):
                values.append(make_array(kind)(context, builder, value).data)
            elif isinstance(kind, types.Integer):
                values.append(context.cast(builder, value, kind, types.int64))
            else:
                values.append(value)
        shape = llvmlite.ir.FunctionType(context.get_value_type(result), [value.type for value in values])
        function = cgutils.get_or_insert_function(builder.module, shape, name)
        context.active_code_library.add_llvm_module(llvmlite.binding.parse_assembly(source))
        return builder.call(function, values)

    @_intrinsic()
    def typed(_context: Any, *arguments: Any) -> Any:
        return numba.core.typing.signature(result, containers.StarArgTuple(arguments)), generate

    return typed  # type: ignore[no-any-return]


def declared_kernels() -> list[str]:
    """Dotted names of the kernels on the warm-up list, in the order of declaration."""
    return list(_declared)


def compile_declared(name: str) -> bool:
    """Compile, or load from the cache, one kernel of the warm-up list, importing its module where need be.

    Args:
        name: Dotted, as `declared_kernels` gives it.

    Returns:
        Whether it had to be compiled because the cache did not have it.

    Raises:
        KeyError: No kernel of that name is declared.
    """
    if numba.config.DISABLE_JIT:
        return False
    importlib.import_module(name.rpartition(".")[0])
    dispatcher, signature = _declared[name]
    arguments, _ = sigutils.normalize_signature(signature)
    dispatcher.compile(arguments)
    return bool(sum(dispatcher.stats.cache_misses.values()) > 0)


def seal() -> None:
    """Refuse further specialisations of all kernels that are ready: a call with other types raises TypeError."""
    if not numba.config.DISABLE_JIT:
        for dispatcher, _ in _declared.values():
            if dispatcher.signatures:
                dispatcher.disable_compile()


def set_threads(count: int) -> None:
    """Set how many threads `prange` loops use; results never depend on it.

    Args:
        count: From 1 to the number of cores numba started with.

    Raises:
        ValueError: `count` is out of range.
    """
    numba.set_num_threads(count)


# Lanes: eight numbers that a kernel computes with at once, in one or two vector registers on any machine.
#
# LLVM does not find such loops by itself, so the vectors are explicit. `+ - *` between lanes of one type are rounded as
# the scalar operations are, so results are the same with and without them. Without the compiler the same kernels run on
# numpy arrays of eight. Loads and stores are not bounds-checked in compiled kernels.

LANES = 8
Lanes: TypeAlias = Any


class _LanesType(types.Type):
    """Numba's type of eight numbers of one dtype."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"lanes({dtype})")


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    """Eight numbers are one LLVM vector."""

    def __init__(self, manager: Any, lanes: Any) -> None:
        element = manager.lookup(lanes.dtype).get_value_type()
        super().__init__(manager, lanes, llvmlite.ir.VectorType(element, LANES))


_f4, _f8, _i8 = _LanesType(types.float32), _LanesType(types.float64), _LanesType(types.int64)


def _arithmetic(function: Any, method: str) -> None:
    class Template(AbstractTemplate):  # type: ignore[misc]  # numba has no types
        def generic(self, arguments: Any, keywords: Any) -> Any:
            if not keywords and arguments in ((_f4, _f4), (_f8, _f8)):
                return numba.core.typing.signature(arguments[0], *arguments)
            return None

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return getattr(builder, method)(*arguments)

    infer_global(function)(Template)
    lower_builtin(function, _LanesType, _LanesType)(generate)


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")


def _lane_pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = make_array(array_type)(context, builder, array).data
    element = context.get_data_type(array_type.dtype)
    return builder.bitcast(builder.gep(data, [index]), llvmlite.ir.VectorType(element, LANES).as_pointer())


@_intrinsic()
def _load8(_typing: Any, array: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        index = context.cast(builder, arguments[1], signature.args[1], types.int64)
        pointer = _lane_pointer(context, builder, signature.args[0], arguments[0], index)
        return builder.load(pointer, align=array.dtype.bitwidth // 8)

    return _LanesType(array.dtype)(array, index), generate


@_intrinsic()
def _store8(_typing: Any, array: Any, index: Any, lanes: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        index = context.cast(builder, arguments[1], signature.args[1], types.int64)
        pointer = _lane_pointer(context, builder, signature.args[0], arguments[0], index)
        builder.store(arguments[2], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, index, lanes), generate


@_intrinsic()
def _splat8(_typing: Any, value: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        index = llvmlite.ir.IntType(32)
        vector = llvmlite.ir.VectorType(arguments[0].type, LANES)
        first = builder.insert_element(llvmlite.ir.Constant(vector, llvmlite.ir.Undefined), arguments[0], index(0))
        mask = llvmlite.ir.Constant(llvmlite.ir.VectorType(index, LANES), [0] * LANES)
        return builder.shuffle_vector(first, llvmlite.ir.Constant(vector, llvmlite.ir.Undefined), mask)

    return _LanesType(value)(value), generate


def _choice(comparison: str) -> Any:
    @_intrinsic()
    def choose(_typing: Any, first: Any, second: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.select(builder.fcmp_ordered(comparison, *arguments), *arguments)

        return first(first, second), generate

    return choose


@_intrinsic()
def _less_equal8(_typing: Any, first: Any, second: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(builder.fcmp_ordered("<=", *arguments), llvmlite.ir.IntType(LANES))
        return builder.zext(bits, llvmlite.ir.IntType(64))

    return types.int64(first, second), generate


@_intrinsic()
def _multiply_add8(_typing: Any, first: Any, second: Any, third: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        vector = arguments[0].type
        name = f"llvm.fmuladd.v{LANES}f{first.dtype.bitwidth}"
        function = cgutils.get_or_insert_function(builder.module, llvmlite.ir.FunctionType(vector, [vector] * 3), name)
        return builder.call(function, arguments)

    return first(first, second, third), generate


@_intrinsic()
def _keys8(_typing: Any, high: Any, low: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        half = llvmlite.ir.VectorType(llvmlite.ir.IntType(32), LANES)
        whole = llvmlite.ir.VectorType(llvmlite.ir.IntType(64), LANES)
        shift = llvmlite.ir.Constant(whole, [32] * LANES)
        upper = builder.shl(builder.zext(builder.bitcast(arguments[0], half), whole), shift)
        return builder.or_(upper, builder.zext(builder.bitcast(arguments[1], half), whole))

    return _i8(high, low), generate


@_intrinsic()
def _lowest_bit(_typing: Any, bits: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], llvmlite.ir.IntType(1)(1))

    return bits(bits), generate


def _plain_store8(array: Any, index: int, lanes: Any) -> None:
    array[index : index + LANES] = lanes


def _plain_less_equal8(first: Any, second: Any) -> int:
    return int(sum(1 << lane for lane in range(LANES) if first[lane] <= second[lane]))


def _plain_keys8(high: Any, low: Any) -> Any:
    return (high.view(np.int32).astype(np.int64) << 32) | low.view(np.uint32).astype(np.int64)


_plain = bool(numba.config.DISABLE_JIT)
# The eight elements of a 1-D array from `index` on.
load8: Any = (lambda array, index: array[index : index + LANES].copy()) if _plain else _load8
# Write eight elements of a 1-D array from `index` on.
store8: Any = _plain_store8 if _plain else _store8
# Eight times the same number.
splat8: Any = (lambda value: np.full(LANES, value)) if _plain else _splat8
# Lane by lane the lesser, the greater; the second where either is NaN.
min8: Any = (lambda a, b: np.where(a < b, a, b)) if _plain else _choice("<")
max8: Any = (lambda a, b: np.where(a > b, a, b)) if _plain else _choice(">")
# Bit i of the result is first[i] <= second[i].
less_equal8: Any = _plain_less_equal8 if _plain else _less_equal8
# a·b + c, rounded once or twice, as the machine does it faster: only for what need not be the same everywhere.
multiply_add8: Any = (lambda a, b, c: a * b + c) if _plain else _multiply_add8
# int64 sort keys: the bits of float32 lanes, not negative, above the bits of other 32-bit lanes.
keys8: Any = _plain_keys8 if _plain else _keys8
# The number of the lowest set bit of an int64 that is not zero.
lowest_bit: Any = (lambda bits: (int(bits) & -int(bits)).bit_length() - 1) if _plain else _lowest_bit
