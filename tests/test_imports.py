"""The picture of CONTRIBUTING.md, walked: imports go one way, in no circle, and rivals stay outside the package."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "minicnn"
TOP = ("__init__", "__main__", "cli")

# What a room may import of the package, beside itself; rooms further down stand on nothing but errors and their like.
MAY_IMPORT = {
    "threads": set(),
    "tensor": {"errors"},
    "autograd": {"tensor", "errors", "threads"},
    "host_memory": set(),
    "backend": {"choices", "cuda", "errors", "host_memory", "threads", "toolchain", "_build_info"},
    "choices": {"errors", "files", "shapes"},
    "files": set(),
    "shapes": {"errors"},
    "arena": {"backend", "tensor"},
    "creation": {"backend", "tensor", "autograd", "errors"},
    "ops": {"autograd", "axes", "backend", "errors", "philox", "random", "shapes", "tensor", "threads"},
    "functional": {"ops", "errors", "random", "shapes", "tensor"},
    "nn": {"arena", "autograd", "backend", "errors", "functional", "ops", "random", "shapes", "tensor"},
    "models": {"functional", "nn", "shapes", "errors"},
    "data": {"backend", "philox"},
    "optim": {"arena", "autograd", "errors", "ops", "tensor"},
    "checkpoint": {"files"},
    "names": set(),
}


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Names of what a file imports: "minicnn.<room>" cut to the room, others to their first part."""
    rooms = {room_of(p) for p in ROOT.rglob("*.py")} | {"_build_info"}
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= members if node.module == "minicnn" else {node.module}
    return {
        name.split(".")[1] if name.startswith("minicnn.") and name.split(".")[1] in rooms else name for name in found
    }


FILES = sorted(ROOT.rglob("*.py"))
ROOMS = {room: set() for room in map(room_of, FILES)}
for file in FILES:
    ROOMS[room_of(file)] |= imported(file) - {room_of(file)}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_lies_below_it(room):
    inside = {name for name in ROOMS[room] if name in ROOMS or name == "_build_info"}
    assert inside <= MAY_IMPORT[room]


def test_there_is_no_circle():
    done, path = set(), []

    def visit(room):
        assert room not in path, " -> ".join([*path[path.index(room) :], room])
        if room in done:
            return
        path.append(room)
        for other in sorted(ROOMS[room] & ROOMS.keys() - set(TOP)):
            visit(other)
        done.add(path.pop())

    for room in ROOMS:
        visit(room)


def test_ops_do_not_import_each_others_classes():
    for path in (ROOT / "ops").glob("*.py"):
        if path.stem != "__init__":
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("minicnn.ops"):
                    classes = [alias.name for alias in node.names if alias.name[0].isupper()]
                    assert not classes or node.module.rsplit(".", 1)[1] in (
                        "affine",
                        "segments",
                        "windows",
                        "strided_copy",
                    ), f"{path.name}: {classes}"


def test_only_the_backend_knows_cupy_and_the_compiled_modules():
    for path in FILES:
        text = path.read_text()
        if room_of(path) != "backend":
            for name in ("import_module", "minicnn._emulated", "minicnn._cuda", "import cupy"):
                assert name not in text, f"{path.name}: {name}"


def test_no_rival_is_imported_by_the_package():
    rivals = {"torch", "tensorflow", "jax", "scipy", "cudnn", "onnxruntime"}
    for path in FILES:
        assert not {name.split(".")[0] for name in imported(path)} & rivals, path.name
