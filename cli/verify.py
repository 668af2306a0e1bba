"""`inrcodec verify`: checks .inr files down to the last weight."""

from __future__ import annotations

import sys

import click

from inrcodec.cli.options import Failures, guarded, input_args


@click.command("verify")
@input_args("files", "FILE...")
@click.option("--quiet", is_flag=True, help="Only say what goes wrong.")
@guarded
def verify(*, files: tuple[str, ...], quiet: bool) -> None:
    """Check every checksum, decode every weight, and compare their hash with the encoder's.

    \b
      inrcodec verify *.inr
    """
    from inrcodec import api

    failures = Failures(len(files))
    for source in files:

        def work(source: str = source) -> None:
            try:
                with api.open(sys.stdin.buffer.read() if source == "-" else source) as file:
                    file.verify()
            except api.InrError as error:
                raise type(error)(f"{source}: {error}") from None
            if not quiet:
                click.echo(f"{source}: ok")

        failures.run(work)
    failures.finish()
