"""Recipes: a network, its images and the settings of its training in one TOML file, to be copied and changed.

    extends = "vgg-paper-a"          # another recipe, by name or path beside this one; what stands here goes before it
    description = "..."
    epochs = 74                      # every field of minicnn.settings.Settings; false where Python has None
    clip_norm = false

    [model]                          # name: of minicnn.models; beside it options of its constructor
    [data]                           # source: a folder or a name; beside it keywords of minicnn.data.open
    [augment]                        # fields of minicnn.data.Augment
    [multipliers]                    # "*.bias" = { lr = 2.0, decay = 0.0 }, by patterns of parameters' names
    [start]                          # from: a run or a checkpoint; layers: which of its layers are copied (minicnn.start)

The shipped ones lie beside this file. Later goes before earlier: the defaults of Settings, what a recipe extends, the
recipe, --set key=value, and the options of the command or the arguments of train(). Unknown keys are refused.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from minicnn import data, models
from minicnn.names import check_known
from minicnn.settings import Settings

FOLDER = Path(__file__).parent
NAMES = tuple(sorted(file.stem for file in FOLDER.glob("*.toml")))
OWN_TABLES = ("model", "data", "start")  # the others, augment and multipliers, are settings
START_KEYS = ("from", "layers")


@dataclass(frozen=True)
class Recipe:
    """What a run is made of, as far as it has been said; whatever is left out has its default.

    name  of the run folder, unless that is named
    """

    name: str = ""
    description: str = ""
    model: dict = field(default_factory=dict)
    data: dict = field(default_factory=dict)
    start: dict = field(default_factory=dict)
    settings: dict = field(default_factory=dict)

    def __post_init__(self):
        about = f" of recipe {self.name}" if self.name else ""
        check_known(self.settings, Settings.__dataclass_fields__, f"key{about}")
        sources = ["source", *list(inspect.signature(data.open).parameters)[1:]]
        check_known(self.data, sources, f"key of data{about}")
        check_known(self.start, START_KEYS, f"key of start{about}")
        if "name" in self.model:
            options = inspect.signature(models.find(self.model["name"])).parameters
            check_known(self.model, ("name", *options), f"key of model{about}")

    def changed(self, changes: Mapping) -> Recipe:
        """With other values: {"lr": 0.1, "model.dropout": 0.3} or {"lr": 0.1, "model": {"dropout": 0.3}}."""
        return _of(self.name, _merged(self.as_dict(), _nested(changes)))

    def as_dict(self) -> dict:
        """As in a TOML file: settings outside of tables."""
        tables = {name: getattr(self, name) for name in OWN_TABLES if getattr(self, name)}
        described = {"description": self.description} if self.description else {}
        return described | self.settings | tables

    def toml(self) -> str:
        """A file that `load` makes the same recipe of."""
        entries = self.as_dict()
        tables = {key: value for key, value in entries.items() if isinstance(value, dict)}
        lines = [f"{key} = {_toml(value)}" for key, value in entries.items() if key not in tables]
        for name, table in tables.items():
            if table:
                lines += ["", f"[{name}]", *(f"{_key(key)} = {_toml(value)}" for key, value in table.items())]
        return "\n".join(lines) + "\n"


def load(recipe: str | Path) -> Recipe:
    """The recipe of a TOML file, or the shipped one of that name. Raises ValueError for a name or a key that is unknown."""
    path = _find(recipe, Path())
    return _of(path.stem, _read(path, ()))


def assigned(assignments: list[str]) -> dict:
    """["lr=0.1", "model.name=vgg_a"] as changes: values as in TOML, and words without quotes."""
    changes = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not (equals and key.strip()):
            raise ValueError(f"--set takes key=value, got {assignment!r}")
        try:
            changes[key.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            changes[key.strip()] = text.strip()
    return changes


def _find(recipe: str | Path, beside: Path) -> Path:
    if str(recipe) in NAMES:
        return FOLDER / f"{recipe}.toml"
    path = beside / recipe
    if path.suffix != ".toml":
        check_known([str(recipe)], NAMES, "recipe")
    if not path.is_file():
        raise ValueError(f"there is no recipe {path}; those that ship are {', '.join(NAMES)}")
    return path


def _read(path: Path, extending: tuple[Path, ...]) -> dict:
    """The entries of the file, over those of what it extends."""
    if path.resolve() in extending:
        raise ValueError(f"recipe {path} extends itself")
    try:
        entries = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"recipe {path} is no TOML: {error}") from error
    base = entries.pop("extends", None)
    if base is None:
        return entries
    return _merged(_read(_find(base, path.parent), (*extending, path.resolve())), entries)


def _of(name: str, entries: dict) -> Recipe:
    tables = {key: entries[key] for key in OWN_TABLES if key in entries}
    for key, table in tables.items():
        if not isinstance(table, dict):
            raise ValueError(f"{key} must be a table, got {table!r}")
    rest = {key: value for key, value in entries.items() if key not in (*OWN_TABLES, "description")}
    return Recipe(name, entries.get("description", ""), settings=rest, **tables)


def _merged(base: dict, over: dict) -> dict:
    """`over` before `base`, key by key also in tables."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merged(base[key], value) if both else value
    return merged


def _nested(changes: Mapping) -> dict:
    """{"model.dropout": 0.3} -> {"model": {"dropout": 0.3}}; what follows a table's name may hold more dots."""
    nested: dict = {}
    for key, value in changes.items():
        table, dot, rest = key.partition(".")
        nested = _merged(nested, {table: {rest: value}} if dot else {key: value})
    return nested


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else json.dumps(key)


def _toml(value) -> str:
    if value is None:
        return "false"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_toml(v)}" for key, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, (bool, int, float)):
        return str(value).lower()
    return json.dumps(str(value), ensure_ascii=False)
