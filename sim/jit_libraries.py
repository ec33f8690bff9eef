"""One optimisation and one translation to machine code per entry point, none per helper; quick loading from the cache.

numba gives every function a library of its own: the function, a wrapper for Python, and the libraries of what it calls.
It optimises each in full and translates it to machine code, although most are only ever linked into their callers,
where all is optimised again.

Here a library is linked when it is finished, and optimised and translated when somebody asks for an address in it.
Nobody asks for that of a helper without a wrapper. On disk a helper is bitcode; an entry point is machine code with its
bitcode, which is read only where another kernel calls it.

    helper       (name, "linked", bitcode)
    entry point  (name, "object", (machine code, bitcode, names of the symbols that numba looks up))
"""

from collections.abc import Callable
from typing import Any

import llvmlite.binding
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import require_global_compiler_lock
from numba.core.environment import lookup_environment
from numba.core.registry import cpu_target

__all__ = ["install_libraries", "load_quickly"]

WRAPPER = "_ZN7cpython"  # how numba names what Python calls
ENVIRONMENT = "_ZN08NumbaEnv"  # and where a function finds its constant Python objects

_refreshed: list[bool] = []


class _Library(JITCodeLibrary):  # type: ignore[misc]  # numba has no types
    """A library that is machine code only once an address in it is asked for."""

    def __init__(self, codegen: Any, name: str) -> None:
        super().__init__(codegen, name)
        self._made = False
        self._bitcode: bytes | None = None
        self._shared_module: Any = None

    def finalize(self) -> None:
        """Link what is called. Nothing can be added any more."""
        require_global_compiler_lock()
        self._raise_if_finalized()
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalize_dynamic_globals()
        self._finalized = True

    def _make(self) -> None:
        """Optimise, translate and give every function in it its constant objects."""
        self._made = True
        self._dynamic_globals.clear()  # found again by what follows
        self._optimize_final_module()
        self._final_module.verify()
        self._finalize_final_module()
        for variable in self._final_module.global_variables:
            environment = lookup_environment(variable.name) if variable.name.startswith(ENVIRONMENT) else None
            if environment is not None:
                self._codegen.set_env(variable.name, environment)

    def _defines(self, name: str) -> bool:
        try:
            return not self._final_module.get_function(name).is_declaration
        except NameError:
            return False

    def get_pointer_to_function(self, name: str) -> int:
        """The address of a function, made where need be; 0 where the library has none of that name."""
        self._ensure_finalized()
        if not self._made:
            if name.startswith(WRAPPER) and not self._defines(name):
                return 0
            self._make()
        engine = self._codegen._engine
        return int(engine.get_function_address(name)) if engine.is_symbol_defined(name) else 0

    def _get_module_for_linking(self) -> Any:
        if self._shared_module is None and self._bitcode is not None:
            self._shared_module = llvmlite.binding.parse_bitcode(self._bitcode)
        return super()._get_module_for_linking()

    def serialize_using_object_code(self) -> tuple[str, str, Any]:
        """What the cache keeps of the library."""
        self._ensure_finalized()
        if not self._made:
            return self.name, "linked", self._final_module.as_bitcode()
        module = self._get_module_for_linking()
        symbols = [*module.functions, *module.global_variables]
        names = [item.name for item in symbols if not item.is_declaration]
        kept = [name for name in names if name.startswith((WRAPPER, ENVIRONMENT))]
        return self.name, "object", (self._get_compiled_object(), module.as_bitcode(), kept)

    @classmethod
    def _unserialize(cls, codegen: Any, state: tuple[str, str, Any]) -> Any:
        name, kind, data = state
        library = codegen.create_library(name)
        library.enable_object_caching()
        if kind == "linked":
            library._final_module = llvmlite.binding.parse_bitcode(data)
            library._finalized = True
            return library
        machine_code, library._bitcode, names = data
        library._set_compiled_object(machine_code)
        library._made = True
        library._finalize_final_module()
        codegen._engine._defined_symbols.update(names)
        return library


def _when_defined(codegen: Any) -> Callable[[str, Any], None]:
    """Tell a function of its environment, where it has been translated."""
    tell: Callable[[str, Any], None] = codegen.set_env

    def set_env(name: str, environment: Any) -> None:
        if codegen._engine.is_symbol_defined(name):
            tell(name, environment)

    return set_env


def load_quickly(dispatcher: Any) -> None:
    """Look for new declarations once, not for each kernel that is loaded: what compiles looks by itself, in 5 ms."""
    cache, context = dispatcher._cache, cpu_target.target_context

    def load_overload(signature: Any, _context: Any) -> Any:
        if not _refreshed:
            context.refresh()
            _refreshed.append(True)
        return cache._load_overload(signature, context)

    cache.load_overload = load_overload


def install_libraries() -> None:
    """From here on numba makes libraries of this kind."""
    context: Any = cpu_target.target_context
    codegen = context.codegen()
    codegen._library_class = _Library
    codegen.set_env = _when_defined(codegen)
