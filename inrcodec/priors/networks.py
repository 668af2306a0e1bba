"""The shipped networks of the learned contexts, together."""

from __future__ import annotations

from ..entropy.context import Networks
from .context import context_network
from .signs import sign_network

__all__ = ["context_networks"]


def context_networks() -> Networks:
    """Raises RuntimeError when an installed file is not the released one."""
    return Networks(context_network(), sign_network())
