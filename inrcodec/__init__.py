"""inrcodec: pictures and sounds as fitted functions.

>>> import inrcodec
>>> data = inrcodec.encode("photo.png", quality=75)      # doctest: +SKIP
>>> inrcodec.open(data).decode(scale=2).shape            # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# name -> module that has it; looked up when first asked for, so that importing the package costs nothing
_LAZY = {
    "encode": "api",
    "open": "api",
    "Reader": "reader",
    "Signal": "signals",
    "EncodeSettings": "settings",
    "DecodeSettings": "settings",
    "InrError": "errors",
    "FormatError": "errors",
    "LimitError": "errors",
    "SignalError": "errors",
    "TargetError": "errors",
    "UnsupportedError": "errors",
    "register_pillow_opener": "pillow_plugin",
    "workers": "parallel",
    "read": "sound",
    "write": "sound",
    "info": "sound",
}
__all__ = ["__version__", *_LAZY]  # noqa: PLE0604 (the names are strings)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
