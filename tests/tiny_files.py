"""The tiny .inr files of benchmarks/fuzz.py, one of every kind, and what makes mutants of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

__all__ = ["FILES", "fuzz"]


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz", Path(__file__).parent.parent / "benchmarks" / "fuzz.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fuzz = _load()
FILES: dict[str, bytes] = fuzz.tiny_files()
