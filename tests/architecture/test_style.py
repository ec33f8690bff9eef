"""Sizes, exports and traces that must not be in the source."""

import ast
import re

from tests.architecture.sources import functions, lines_without_docstring, python_files, texts, tracked

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 600
KERNEL_ARGUMENTS_MAX = 12
KERNELS_ELSEWHERE = {"sim/jit.py", "sim/hashing.py", "sim/rng.py"}
UNTYPED = ("sim/jit.py", "sim/jit_libraries.py")  # the border to numba, which has no types
DIRECTORIES = {".ci", "docs", "net", "persistence", "server", "sim", "tests", "tools"}
# Written so that these lines do not match themselves.
MACHINE_PATH = re.compile(r"(?<![\w.~$}])/(?:work|tmp|root|home|Users)/[\w.]")
REGISTRY = re.compile(r"p[y]pi\.|pythonhoste[d]|--(?:extra-)?index-ur[l]|--trusted-hos[t]|find-link[s]")
UNFINISHED = re.compile(r"\b(?:TOD[O]|FIXM[E]|XX[X])\b|raise NotImplementedErro[r]|pytest\.mark\.ski[p]\b")
EXCUSE = re.compile(
    r"#\s*(?:noq[a]|type:\s*ignor[e])(?P<codes>(?:\[[\w, -]+\]|:\s*[A-Z]\d+(?:,\s*[A-Z]\d+)*)?)(?P<rest>.*)$"
)


def test_every_public_module_says_what_it_exports() -> None:
    lacking = []
    for path, text in python_files(tests=False):
        body = ast.parse(text).body
        only_docstring = len(body) <= 1
        exports = any(
            isinstance(target, ast.Name) and target.id == "__all__"
            for node in body
            if isinstance(node, ast.Assign)
            for target in node.targets
        )
        if not exports and not only_docstring:
            lacking.append(str(path))
    assert not lacking


def test_exported_names_exist_and_are_sorted_into_one_place() -> None:
    wrong = []
    for path, text in python_files(tests=False):
        tree = ast.parse(text)
        for node in tree.body:
            if not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)):
                continue
            if node.targets[0].id == "__all__":
                names = ast.literal_eval(node.value)
                wrong += [
                    f"{path}: {name}" for name in names if not re.search(rf"\b{name}\b", text.replace(f'"{name}"', ""))
                ]
                wrong += [f"{path}: {name} twice" for name in set(names) if names.count(name) > 1]
    assert not wrong


def test_no_function_is_longer_than_a_look() -> None:
    long = [
        f"{path}:{function.lineno} {function.name}: {lines_without_docstring(function)} lines"
        for path, text in python_files()
        for function in functions(text)
        if lines_without_docstring(function) > FUNCTION_LINES_MAX
    ]
    assert not long


def test_no_file_is_longer_than_six_hundred_lines() -> None:
    counts = {str(path): text.count("\n") for path, text in python_files()}
    assert not {path: lines for path, lines in counts.items() if lines > FILE_LINES_MAX}


def test_no_flag_is_passed_by_position() -> None:
    flags = [
        f"{path}:{function.lineno} {function.name}({argument.arg})"
        for path, text in python_files(tests=False)
        if not path.name.endswith("_kernels.py") and path.name != "cli.py"
        for function in functions(text)
        for argument in function.args.args
        if isinstance(argument.annotation, ast.Name) and argument.annotation.id == "bool"
    ]
    assert not flags


def test_kernels_take_at_most_twelve_arguments() -> None:
    wide = [
        f"{path}:{function.lineno} {function.name}: {len(function.args.args)}"
        for path, text in python_files(tests=False)
        if path.name.endswith("_kernels.py")
        for function in functions(text)
        if len(function.args.args) > KERNEL_ARGUMENTS_MAX
        and any("(" in ast.unparse(decorator) for decorator in function.decorator_list)
    ]
    assert not wide


def test_every_exception_from_the_checkers_carries_its_reason() -> None:
    bare = []
    for path, text in python_files():
        for number, line in enumerate(text.splitlines(), 1):
            found = None if str(path) in UNTYPED else EXCUSE.search(line)
            if found and (not found["codes"] or not re.match(r"\s+#\s*\S", found["rest"])):
                bare.append(f"{path}:{number}: {line.strip()}")
    assert not bare


def test_nothing_is_left_for_later() -> None:
    assert not [
        f"{path}:{number}"
        for path, text in texts()
        if path.name != "LICENSE"
        for number, line in enumerate(text.splitlines(), 1)
        if UNFINISHED.search(line)
    ]


def test_no_file_names_a_machine_or_a_registry() -> None:
    assert not [
        f"{path}:{number}: {line.strip()[:100]}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if MACHINE_PATH.search(line) or REGISTRY.search(line)
    ]


def test_the_layout_is_the_one_agreed_upon() -> None:
    assert {path.parts[0] for path in tracked() if len(path.parts) > 1} <= DIRECTORIES


def test_kernels_live_in_files_that_say_so() -> None:
    """A decorated kernel outside `*_kernels.py` would miss the rules for kernels; two small ones are their own face."""
    strays = [
        f"{path}:{function.lineno} {function.name}"
        for path, text in python_files(tests=False)
        if not path.name.endswith("_kernels.py") and str(path) not in KERNELS_ELSEWHERE
        for function in functions(text)
        if any(re.match(r"kernel\b", ast.unparse(decorator)) for decorator in function.decorator_list)
    ]
    assert not strays


def test_one_module_of_a_package_holds_its_base_error() -> None:
    named = {path.parts[0] for path in tracked() if path.name == "errors.py" and len(path.parts) == 2}
    assert named >= {"sim", "net", "server", "tools"}
