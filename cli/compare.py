"""`inrcodec compare`: measures one picture, sound or array against another."""

from __future__ import annotations

import json
import math

import click
from inrcodec.cli.options import human_bytes, prior_option, version_option


@click.command("compare")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--json", "as_json", is_flag=True, help="A JSON object with stable keys.")
@prior_option
@version_option
def compare(*, a: str, b: str, prior: str | None, as_json: bool) -> None:
    """Measure B against the original A; either may be an .inr file.

    Pictures: PSNR, SSIM and, where inrcodec[bench] is installed, SSIMULACRA2 (from 128 samples a side on, without
    alpha). Sounds: SNR. Arrays: PSNR over the range of A.

    \b
      inrcodec compare photo.png photo.inr
      inrcodec compare talk.wav talk.mp3 --json
    """
    from inrcodec import api

    facts = api.compare(a, b, prior=prior)
    if as_json:
        click.echo(json.dumps({k: None if v == math.inf else v for k, v in facts.items()}))
        return
    for side in ("a", "b"):
        click.echo(f"{facts[side]}: {human_bytes(facts[f'{side}_bytes'])}")
    for key, unit in (("psnr_db", " dB"), ("snr_db", " dB"), ("ssim", ""), ("ssimulacra2", "")):
        if facts.get(key) is not None:
            value = "identical" if facts[key] == math.inf else f"{facts[key]:.4f}"[: 6 if unit else 7] + unit
            click.echo(f"{key.split('_')[0].upper():>11}  {value}")
