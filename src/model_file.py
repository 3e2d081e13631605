"""A model's file, read without running it: where it is, its settings, and the hash of its code. Imports no torch."""

import ast
import dataclasses
import hashlib
import shutil
import sys
import threading
import typing
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from src import files, schema
from src.errors import UserError

MODELS = Path(__file__).with_name("models")
ROOT = MODELS.parent.parent
SETTINGS = "Settings"
TRIES = 5  # to parse a file while another thread does
PARSING = threading.Lock()  # Python 3.11 may raise SystemError where two threads parse (gh-106905)
# What the class Settings may use, beside constants of its own file: it is executed alone.
READABLE = ("dataclasses", "enum", "math", "typing", "src.schema")


def find(name: str) -> Path:
    """The file that model.name means: NAME.py in src/models, or a path. Raises UserError."""
    if "/" not in name and not name.endswith(".py") and not name.startswith("~"):
        known = {file.stem: file for file in MODELS.glob("[!_]*.py") if _builds(file)}
        if name in known:
            return known[name]
        names = ", ".join(sorted(known))
        raise UserError(f"model.name={name}: no such model", fix=f"write one of {names}, or the path of a .py file")
    path = Path(files.expanded(name, "model.name"))
    if path.suffix != ".py" or not path.is_file():
        raise UserError(f"model.name={name}: no such file", fix="write the path of a .py file")
    return path


def _builds(file: Path) -> bool:
    """Whether the file is a model: others in its folder hold the contract."""
    return any(isinstance(node, ast.FunctionDef) and node.name == "build" for node in tree_of(file).body)


def _parsed(source: bytes) -> ast.Module:
    """The syntax tree. Python 3.11 counts the depth of all threads together, and another one's parsing is an error."""
    for _ in range(TRIES):
        with suppress(SystemError):
            return ast.parse(source)
    return ast.parse(source)


def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a file. Raises UserError naming the line that Python cannot read."""
    try:
        with PARSING:
            return _parsed(path.read_bytes())
    except OSError as error:
        raise UserError(f"model.name: {path} cannot be read ({error.strerror})") from None
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise UserError(f"model.name: {path}{f', line {line}' if line else ''}: {error.args[0]}") from None


def settings_of(path: Path) -> dict[str, "dataclasses.Field[Any]"]:
    """The fields of the file's class Settings, by name, each with its type resolved; {} if it has none.

    Only the class is executed, with the imports of READABLE modules and the file's constants, so that a launcher
    reads it on a login node without torch. Raises UserError for a class that needs more.
    """
    tree = tree_of(path)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == SETTINGS]
    if not classes:
        return {}
    module = ModuleType(f"settings of {path}")
    names = vars(module)
    sys.modules[module.__name__] = module  # dataclasses look there where annotations are text (`from __future__`)
    code = ast.Module([*filter(_is_readable, tree.body), classes[0]], [])
    try:
        exec(compile(code, str(path), "exec"), names)
        settings_class = names[SETTINGS]
        if not dataclasses.is_dataclass(settings_class):
            settings_class = dataclasses.dataclass(settings_class)
        hints = typing.get_type_hints(settings_class, names)
        fields = {field.name: field for field in dataclasses.fields(typing.cast(Any, settings_class))}
    except Exception as error:
        raise UserError(
            f"{path}: class {SETTINGS}: {type(error).__name__}: {error}",
            fix="it is read alone: give each field a default, use dataclasses, typing, src.schema and plain constants",
        ) from None
    finally:
        del sys.modules[module.__name__]
    for name, field in fields.items():
        field.type = hints[name]
        _check_field(path, name, field)
    return fields


def default_of(field: "dataclasses.Field[Any]") -> Any:
    """A field's default."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _check_field(path: Path, name: str, field: "dataclasses.Field[Any]") -> None:
    if name == "name":
        raise UserError(f"{path}: {SETTINGS}.name: is taken by model.name", fix="give it another name")
    if field.type not in schema.TYPES:
        allowed = ", ".join(schema.TYPE_NAMES[kind] for kind in schema.TYPES)
        raise UserError(f"{path}: {SETTINGS}.{name}: {field.type} is no type of a setting", fix=f"use {allowed}")
    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
        raise UserError(f"{path}: {SETTINGS}.{name}: has no default", fix="every setting needs one")


def _is_readable(node: ast.stmt) -> bool:
    """Whether a statement may be executed to read Settings: an import of READABLE, or a constant."""
    if isinstance(node, ast.ImportFrom):
        return node.level == 0 and node.module in (*READABLE, "__future__")
    if isinstance(node, ast.Import):
        return all(alias.name in READABLE for alias in node.names)
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        try:
            ast.literal_eval(node.value)
        except (ValueError, TypeError):
            return False
        return isinstance(node, ast.Assign)
    return False


def sources(path: Path) -> dict[str, Path]:
    """The file and the local modules that it imports, theirs too, by the name they are imported under.

    Local are modules beside the file, in folders beside it, and in src/models.
    """
    modules = {"": path}
    waiting = [path]
    while waiting:
        for name, file in _local_imports(waiting.pop(), path.parent):
            if name not in modules and file.resolve() != path.resolve():
                modules[name] = file
                waiting.append(file)
    return modules


def _local_imports(file: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.ImportFrom) and node.level == 1:
            package = ".".join(file.parent.relative_to(folder).parts) if file.is_relative_to(folder) else ""
            base = ".".join(filter(None, [package, node.module or ""]))
            names = [base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names)]
        else:
            continue
        for name in filter(None, names):
            root = ROOT if name.startswith("src.models.") else folder
            parts = name.split(".")
            for end in range(1, len(parts) + 1):  # importing a.b runs a/__init__.py too
                place = root.joinpath(*parts[:end])
                for module in (place.with_suffix(".py"), place / "__init__.py"):
                    if module.is_file() and module.parent != MODELS.parent and module != MODELS / "__init__.py":
                        yield ".".join(parts[:end]), module


def imports(path: Path) -> set[str]:
    """The top-level names of all modules that the file and its local modules import."""
    found = set()
    for file in sources(path).values():
        for node in ast.walk(tree_of(file)):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.partition(".")[0])
    return found


def code_sha256(path: Path) -> str:
    """SHA-256 over the code of the file and its local modules: comments, blank lines and layout do not count."""
    digest = hashlib.sha256()
    for name, file in sorted(sources(path).items()):
        digest.update(f"{name}\0{ast.unparse(tree_of(file))}\0".encode())
    return digest.hexdigest()


def copy(path: Path, folder: Path) -> None:
    """Copy the file and its local modules into a folder, where `code_sha256` is the same. Raises OSError.

    A process that is killed leaves each copy whole, the old one or the new: the next start reads the settings by it.
    """
    for name, file in sources(path).items():
        target = folder / path.name if not name else folder / file.relative_to(_root_of(file, path.parent))
        target.parent.mkdir(parents=True, exist_ok=True)
        with files.whole(target) as temporary:
            shutil.copyfile(file, temporary)


def _root_of(file: Path, folder: Path) -> Path:
    return folder if file.is_relative_to(folder) else ROOT
