"""`inrcodec info`: says what .inr files hold, from their headers alone."""

from __future__ import annotations

import functools
import json
from typing import Any

import click
from inrcodec.cli.failures import run_jobs
from inrcodec.cli.options import find_inputs, human_bytes, human_flops, input_args, open_inr, version_option


@click.command("info")
@input_args("files", "FILE...")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per file and line, with stable keys.")
@click.option("--partial", is_flag=True, help="Accept a file that was cut off.")
@click.option("-r", "--recursive", is_flag=True, help="Take folders, with the .inr files in them.")
@version_option
def info(*, files: tuple[str, ...], as_json: bool, partial: bool, recursive: bool) -> None:
    """Say what .inr files hold. Reads headers only.

    \b
      inrcodec info photo.inr
      inrcodec info *.inr --json | jq .bits_per_position
    """
    inputs = [source for source, _ in find_inputs(files, recursive, lambda p: p.suffix.lower() == ".inr")]
    run_jobs(functools.partial(_info_one, as_json, partial), inputs)


def _info_one(as_json: bool, partial: bool, source: str) -> None:
    with open_inr(source, partial=partial) as file:
        facts = {"file": source, **file.info()}
    click.echo(json.dumps(facts) if as_json else _text(facts))


def _text(facts: dict[str, Any]) -> str:
    rows = [("", facts["file"]), ("signal", _signal(facts)), ("size", _size(facts))]
    if facts["quality_db"]:
        measured = f"{facts['quality_metric']} {facts['quality_db']:.2f} dB, measured by the encoder"
        rows.append(("quality", "exact" if facts["quality_db"] >= 1000 else measured))
    cells = " × ".join(map(str, facts["grid"][::-1]))
    largest = " × ".join(map(str, facts["cell_samples"][::-1]))
    halved = f", halved up to {facts['splits']} times where the sound changes fast" if facts["splits"] else ""
    grid = ("grid", f"{cells} cells of up to {largest} samples{halved}")
    if facts["segments"]:
        grid = ("segments", f"{facts['segments']:,}, by a label map in the file")
    rows += [
        ("field", f"{facts['arch']}, {facts['body']} body" + _connected(facts)),
        grid,
        ("weights", f"{facts['parameters']:,}, {facts['macs_per_sample']:,.0f} MAC per sample at 1×"),
        ("cost", f"{human_flops(facts['flops'])}FLOP for all of it at 1×, as {_counted(facts)}"),
        ("entropy", _entropy(facts)),
    ]
    if facts["synthesis"] or facts["detail"]:
        fitted = ", fitted to it" if facts["deltas"] else ""
        said = [f"network {facts['synthesis']} corrects the picture{fitted}"] if facts["synthesis"] else []
        said += [f"network {facts['detail']} adds detail above 1×"] if facts["detail"] else []
        rows.append(("synthesis", ", ".join(said)))
    if facts["prior"]:
        kept = f"{facts['kept']:,} weights and biases of each cell kept"
        rows.append(("prior", f"{facts['prior']}, {kept if facts['arch'] == 'ensemble' else 'contexts of the codes'}"))
    if facts["metadata"]:
        rows.append(("metadata", ", ".join(facts["metadata"])))
    sections: dict[str, int] = {}
    for s in facts["sections"]:
        sections[s["type"]] = sections.get(s["type"], 0) + s["bytes"]
    rows.append(("bytes", ", ".join(f"{kind} {n:,}" for kind, n in sections.items())))
    rows.append(("checksum", f"{facts['digest'] or 'cut off'}, written by inrcodec {facts['encoder']}"))
    return "\n".join(f"{name:>10}  {text}" if name else text for name, text in rows)


def _entropy(facts: dict[str, Any]) -> str:
    of_set = f", table set {facts['table_set']}" if facts["table_set"] else ""
    return f"{facts['entropy']}{of_set}, {facts['levels']} level{'s' * (facts['levels'] > 1)}"


def _connected(facts: dict[str, Any]) -> str:
    return f", heads on {facts['connections']} of its units each" if facts["connections"] else ""


def _counted(facts: dict[str, Any]) -> str:
    """Whose formula the FLOPs are counted by."""
    if facts["body"] == "cosine":
        return "two a MAC"
    return "ENRP counts them" if facts["arch"] == "ensemble" else "MH-ReLU counts them"


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
