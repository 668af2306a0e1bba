"""The inrcodec command: finds the subcommand and loads only that."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click
from inrcodec.cli.failures import run_command
from inrcodec.cli.options import version_option

__all__ = ["main"]

# name -> (module, one line for --help); modules are imported when their command runs, so that `info` stays instant
COMMANDS = {
    "encode": ("encode", "Turn pictures, sounds and arrays into .inr files."),
    "decode": ("decode", "Turn .inr files back, at any scale, or only a region."),
    "info": ("info", "Say what an .inr file holds."),
    "verify": ("verify", "Check every byte and every weight of .inr files."),
    "compare": ("compare", "Measure one picture or sound against another."),
    "search": ("search", "Find the width and depth that suit an ensemble's networks."),
    "prior": ("prior", "Train what ensembles start from, or contexts of pictures; look at one."),
    "bench": ("bench", "Measure pictures beside other codecs."),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f".{COMMANDS[name][0]}", __package__), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@version_option
def inrcodec() -> None:
    """Store pictures and sounds as functions fitted to them, and decode them at any resolution.

    \b
      inrcodec encode photo.png -o photo.inr --grid 16
      inrcodec decode photo.inr --scale 2
      inrcodec info photo.inr

    Exit codes: 0 ok, 1 some of several files failed, 2 usage or bad file, 3 a limit was hit, 4 newer or
    unsupported format, 5 input/output failed or target not reached, 130 interrupted.
    """


def main(args: Sequence[str] | None = None) -> None:
    """The console script. Exits with the documented code."""
    if "_INRCODEC_COMPLETE" in os.environ:  # click's shell completion
        inrcodec.main(prog_name="inrcodec")
    raise SystemExit(run_command(inrcodec, sys.argv[1:] if args is None else args))
