"""`inrcodec info`: says what .inr files hold, from their headers alone."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from inrcodec.cli.options import Failures, guarded, human_bytes, input_args


@click.command("info")
@input_args("files", "FILE...")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per file, with stable keys.")
@click.option("--partial", is_flag=True, help="Accept a file that was cut off.")
@guarded
def info(*, files: tuple[str, ...], as_json: bool, partial: bool) -> None:
    """Say what .inr files hold. Reads headers only.

    \b
      inrcodec info photo.inr
      inrcodec info *.inr --json
    """
    from inrcodec import api

    failures = Failures(len(files))
    for source in files:

        def work(source: str = source) -> None:
            try:
                with api.open(sys.stdin.buffer.read() if source == "-" else source, partial=partial) as file:
                    facts = {"file": source, **file.info()}
            except api.InrError as error:
                raise type(error)(f"{source}: {error}") from None
            click.echo(json.dumps(facts) if as_json else _text(facts))

        failures.run(work)
    failures.finish()


def _text(facts: dict[str, Any]) -> str:
    rows = [("", facts["file"]), ("signal", _signal(facts)), ("size", _size(facts))]
    if facts["quality_db"]:
        exact = facts["quality_db"] >= 1000
        rows.append(("quality", "exact" if exact else f"{facts['quality_metric']} {facts['quality_db']:.2f} dB, measured by the encoder"))
    cells = " × ".join(map(str, facts["grid"][::-1]))
    largest = " × ".join(map(str, facts["cell_samples"][::-1]))
    rows += [
        ("field", f"{facts['arch']}, {facts['body']} body"),
        ("grid", f"{cells} cells of up to {largest} samples"),
        ("weights", f"{facts['parameters']:,}, {facts['macs_per_sample']:,.0f} MAC per sample at 1×"),
        ("entropy", f"{facts['entropy']}, {facts['levels']} level{'s' * (facts['levels'] > 1)}"),
    ]
    if facts["metadata"]:
        rows.append(("metadata", ", ".join(facts["metadata"])))
    sections: dict[str, int] = {}
    for s in facts["sections"]:
        sections[s["type"]] = sections.get(s["type"], 0) + s["bytes"]
    rows.append(("bytes", ", ".join(f"{kind} {n:,}" for kind, n in sections.items())))
    rows.append(("checksum", f"{facts['digest'] or 'cut off'}, written by inrcodec {facts['encoder']}"))
    return "\n".join(f"{name:>10}  {text}" if name else text for name, text in rows)


def _signal(facts: dict[str, Any]) -> str:
    extent = " × ".join(map(str, facts["shape"][::-1]))
    if facts["kind"] == "image":
        return f"picture {extent}, {facts['colour']}, {facts['bits_per_sample']} bit"
    channels = f"{facts['channels']} channel{'s' * (facts['channels'] > 1)}"
    if facts["kind"] == "sound":
        return f"sound {facts['duration_s']:.3f} s, {facts['sample_rate_hz']} Hz, {channels}, {facts['sample_type']}"
    return f"array {extent}, {channels}, {facts['sample_type']}"


def _size(facts: dict[str, Any]) -> str:
    n = facts["bytes"]
    if facts["kind"] == "sound":
        return f"{n:,} bytes ({human_bytes(n)}), {facts['kbit_per_s']:.1f} kbit/s"
    unit = "bits per pixel" if facts["kind"] == "image" else "bits per position"
    return f"{n:,} bytes ({human_bytes(n)}), {facts['bits_per_position']:.3f} {unit}"
