"""Experiments: multihead."""

from __future__ import annotations

from experiment import Experiment

EXPERIMENTS: tuple[Experiment, ...] = ()
