"""`inrcodec verify`: checks .inr files down to the last weight."""

from __future__ import annotations

import functools

import click
from inrcodec.cli.failures import run_jobs
from inrcodec.cli.options import How, find_inputs, input_args, job_options, limit_option, open_inr, prior_option


@click.command("verify")
@input_args("files", "FILE...")
@prior_option
@limit_option
@job_options
def verify(*, files: tuple[str, ...], prior: str | None, max_pixels: int, how: How) -> None:
    """Check every checksum, decode every weight, and compare their hash with the encoder's.

    \b
      inrcodec verify photo.inr
      inrcodec verify -r archive/ --quiet --jobs 4
    """
    inputs = [source for source, _ in find_inputs(files, how.recursive, lambda p: p.suffix.lower() == ".inr")]
    at_once = how.of(len(inputs), one_by_one="-" in inputs)
    run_jobs(functools.partial(_verify_one, how, max_pixels, prior), inputs, *at_once)


def _verify_one(how: How, max_values: int, prior: str | None, source: str) -> None:
    with open_inr(source, prior=prior) as file:
        file.verify(max_samples=max_values)
        if how.quiet:
            return
        weights = f", {file.info()['parameters']:,} weights" if how.verbose else ""
    click.echo(f"{source}: ok{weights}")
