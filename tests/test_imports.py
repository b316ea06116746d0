"""Who may import whom: the picture in CONTRIBUTING.md, read from the sources."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILT = {"minicnn._build_info", "minicnn._cuda", "minicnn._emulated", "minicnn._native"}  # not in the sources

# From the ground up: a room imports from those below it, and within itself.
FLOORS = [
    ["errors", "philox", "progress", "plots", "random", "run_folder", "schedules", "toolchain"],
    ["axes", "shapes", "tensor", "cuda", "checkpoint"],
    ["autograd", "backend"],
    ["arena", "creation", "gradcheck"],
    ["ops"],
    ["functional"],
    ["nn"],
    ["data", "models", "optim"],
    ["saving", "summary"],
    ["evaluation"],
    ["training"],
    [""],  # minicnn itself: what users import
    ["bootstrap", "doctor"],
    ["cli"],
    ["__main__"],
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
PACKAGES = {"numpy", "PIL", "rich", "safetensors"}
OPTIONAL = {"minicnn.backend": {"cupy"}, "minicnn.plots": {"matplotlib"}}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {name_of(path): ast.parse(path.read_text()) for path in sorted((ROOT / "minicnn").rglob("*.py"))}


def imports(module: str) -> list[tuple[str, list[str]]]:
    """[(imported module, the names taken from it)], at the top of the module and inside of its functions."""
    found = []
    for node in ast.walk(SOURCES[module]):
        if isinstance(node, ast.Import):
            found += [(alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports go by full names"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.append((inner, []) if inner in SOURCES or inner in BUILT else (node.module, [alias.name]))
    return found


def own(module: str) -> set[str]:
    """What it imports of minicnn's sources."""
    return {name for name, _ in imports(module) if name.split(".")[0] == "minicnn" and name not in BUILT}


def room_of(module: str) -> str:
    return module.partition(".")[2].partition(".")[0]


def test_every_module_has_a_floor():
    assert {room_of(module) for module in SOURCES} == set(FLOOR_OF)


@pytest.mark.parametrize("module", SOURCES)
def test_imports_go_down(module):
    here = room_of(module)
    upward = [name for name in own(module) if room_of(name) != here and FLOOR_OF[room_of(name)] >= FLOOR_OF[here]]
    assert not upward, f"{module} may not import {', '.join(upward)}"


def test_no_import_goes_round_in_a_circle():
    open_, done = [], set()

    def visit(module):
        assert module not in open_, f"a circle: {' -> '.join([*open_[open_.index(module) :], module])}"
        if module in done:
            return
        open_.append(module)
        for name in sorted(own(module)):
            visit(name)
        done.add(open_.pop())

    for module in SOURCES:
        visit(module)


def test_tensor_knows_neither_ops_nor_devices():
    assert not own("minicnn.tensor")


def test_ops_share_functions_but_no_classes():
    for module in SOURCES:
        if room_of(module) != "ops" or module == "minicnn.ops":
            continue
        classes = [
            name for source, names in imports(module) if room_of(source) == "ops" for name in names if name[0].isupper()
        ]
        assert not classes, f"{module} imports {', '.join(classes)} of another op"


@pytest.mark.parametrize("module", SOURCES)
def test_no_package_but_those_declared(module):
    """No PyTorch, no cuDNN, and CuPy in the backend alone."""
    allowed = set(sys.stdlib_module_names) | PACKAGES | {"minicnn"} | OPTIONAL.get(module, set())
    strangers = {name.split(".")[0] for name, _ in imports(module)} - allowed
    assert not strangers, f"{module} imports {', '.join(sorted(strangers))}"


def test_only_the_backend_imports_by_name():
    """importlib.import_module is how CuPy and the compiled modules come in, and the backend is where."""
    for module, tree in SOURCES.items():
        dynamic = [
            node
            for node in ast.walk(tree)
            if (isinstance(node, ast.Attribute) and node.attr == "import_module")
            or (isinstance(node, ast.Name) and node.id in ("import_module", "__import__"))
        ]
        assert not dynamic or module == "minicnn.backend", f"{module}:{dynamic[0].lineno}"


def test_only_the_backend_imports_compiled_modules():
    for module in SOURCES:
        compiled = [name for name, _ in imports(module) if name in BUILT - {"minicnn._build_info"}]
        assert not compiled or module == "minicnn.backend", f"{module} imports {', '.join(compiled)}"


def test_the_kernels_include_no_library_of_kernels():
    """cuDNN, cuBLAS, CUTLASS and CUB have no place here."""
    library = re.compile(r"#\s*include\s*[<\"](cudnn|cublas|cutlass|cute/|cub/|thrust)")
    for path in (ROOT / "csrc").rglob("*"):
        if path.suffix in (".cu", ".cuh", ".h", ".cpp"):
            found = library.search(path.read_text())
            assert found is None, f"{path.relative_to(ROOT)}: {found.group()}"
