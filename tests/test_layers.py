"""Claims about the layout: who imports whom, what is installed, and that the examples in docstrings are true."""

from __future__ import annotations

import ast
import doctest
import importlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import inrcodec

ROOT = Path(__file__).parent.parent
FOLDERS = {"inrcodec": ROOT / "inrcodec", "inrcodec.formats": ROOT / "formats", "inrcodec.cli": ROOT / "cli"}
FACES = {
    f"inrcodec.{name}"
    for name in ("api", "pillow_plugin", "prior_files", "reader", "sound", "bench", "peers", "__main__")
}
# of the core, what formats may know: the nouns
NOUNS = {
    f"inrcodec.{name}" for name in ("errors", "signals", "stream", "settings", "grid", "cost", "frames", "priors.prior")
}


def modules() -> dict[str, Path]:
    """Dotted name -> file, of everything that is installed."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join((package, *parts))
            found[name.removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(name: str, *, lazy: bool = True) -> set[str]:
    """Modules that a module imports, anywhere in it; with lazy=False only as it is itself imported. What stands
    under TYPE_CHECKING is not counted: it is never run."""
    tree = ast.parse(MODULES[name].read_text())
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in _statements(tree, lazy):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            names = {f"{base}.{alias.name}" for alias in node.names}
            found |= {n if n in MODULES else base for n in names}
    return found


def _statements(tree: ast.AST, lazy: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if not lazy and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield node
        yield from _statements(node, lazy)


def layer(name: str) -> str:
    if name in FACES or name == "inrcodec.cli" or name.startswith("inrcodec.cli."):
        return "face"
    if name == "inrcodec.formats" or name.startswith("inrcodec.formats."):
        return "formats"
    return "core"


def test_the_parser_sees_imports_of_every_spelling() -> None:
    assert "inrcodec.codec" in imports("inrcodec.api")
    assert "inrcodec.codec" not in imports("inrcodec.api", lazy=False)
    assert {"inrcodec.errors", "numpy"} <= imports("inrcodec.decoder")


@pytest.mark.parametrize("name", [n for n in MODULES if layer(n) == "core" and n != "inrcodec"])
def test_the_core_knows_neither_formats_nor_faces(name: str) -> None:
    for other in imports(name):
        if other == "inrcodec":  # for __version__
            continue
        assert not other.startswith("inrcodec") or layer(other) == "core", f"{name} imports {other}"


@pytest.mark.parametrize("name", [n for n in MODULES if layer(n) == "formats"])
def test_formats_know_only_the_nouns_of_the_core(name: str) -> None:
    for other in imports(name):
        if other.startswith("inrcodec") and layer(other) != "formats":
            assert other in NOUNS, f"{name} imports {other}"


@pytest.mark.parametrize("name", sorted(NOUNS))
def test_the_nouns_know_only_each_other(name: str) -> None:
    for other in imports(name):
        assert not other.startswith("inrcodec") or other in NOUNS, f"{name} imports {other}"


def test_formats_and_entropy_never_import_torch() -> None:
    for name in MODULES:
        if name.startswith(("inrcodec.formats", "inrcodec.entropy", "inrcodec.priors.prior", "inrcodec.priors.tables")):
            assert not any(other.split(".")[0] == "torch" for other in imports(name)), name


def test_only_faces_and_formats_touch_files() -> None:
    for name, path in MODULES.items():
        if layer(name) == "core" and not name.startswith("inrcodec.priors"):
            tree = ast.parse(path.read_text())
            calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
            assert not calls & {"open", "Path", "os.remove", "os.rename"}, name


def test_only_the_command_line_prints() -> None:
    for name, path in MODULES.items():
        if not name.startswith("inrcodec.cli"):
            tree = ast.parse(path.read_text())
            calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
            assert not calls & {"print", "click.echo", "sys.stdout.write"}, name


def test_no_module_makes_a_second_copy_of_formats_or_cli() -> None:
    for name in MODULES:
        assert not {other.split(".")[0] for other in imports(name)} & {"formats", "cli"}, name


def test_the_list_of_packages_is_what_is_on_disk() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    listed = set(config["packages"])
    assert listed == {name for name, path in MODULES.items() if path.name == "__init__.py"}
    assert {name: ROOT / folder for name, folder in config["package-dir"].items()} == FOLDERS
    for package, patterns in config["package-data"].items():
        folder = ROOT / package.replace("inrcodec.formats", "formats").replace(".", "/")
        for pattern in patterns:
            assert list(folder.glob(pattern)), f"{package} has no {pattern}"


def test_dependencies_are_those_that_are_imported() -> None:
    """Everything third-party that installed code imports is declared; only what the extras bring may be missing."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {line.replace(">", "=").replace("<", "=").split("=")[0].split(";")[0] for line in config["dependencies"]}
    distribution = {"PIL": "pillow", "skimage": "scikit-image"}
    optional = {"ssimulacra2", "imagecodecs", "matplotlib"}
    used = {other.split(".")[0] for name in MODULES for other in imports(name)}
    third = {distribution.get(m, m) for m in used - set(sys.stdlib_module_names) - {"inrcodec"} - optional}
    assert third == declared


def test_importing_the_package_costs_nothing() -> None:
    script = "import inrcodec, sys; print([m for m in ('numpy', 'torch', 'PIL', 'click') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_public_name_can_be_had() -> None:
    for name in inrcodec.__all__:
        assert getattr(inrcodec, name) is not None
    with pytest.raises(AttributeError):
        _ = inrcodec.nothing_of_this_name


@pytest.mark.parametrize("name", [n for n in MODULES if not n.endswith("__main__") and ">>>" in MODULES[n].read_text()])
def test_the_examples_in_docstrings_are_true(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted and not result.failed
