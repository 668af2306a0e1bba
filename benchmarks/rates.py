"""Sections psnr, eyes, effort and rates: bytes against quality, beside other codecs, on real files."""

from __future__ import annotations

from common import SLOW_EFFORT, Run, read_table, signed, table
from points import carried_over, points_of

from inrcodec.bench import WINDOWS, Comparison, compare, labels, mean_rows
from inrcodec.peers import Codec, available_peers, ours, peer


def psnr_section(run: Run) -> str:
    """BD-rate in PSNR with --tune psnr."""
    return _section(run, "psnr", "psnr", ("jpeg", "webp", "avif", "jxl"))


def eyes_section(run: Run) -> str:
    """BD-rate in SSIMULACRA2 with --tune perceptual, the default."""
    return _section(run, "perceptual", "ssimulacra2", ("jpeg", "webp", "avif", "jxl"))


def effort_section(run: Run) -> str:
    """BD-rates at other efforts than the default."""
    peers = _peers(("jpeg", "webp", "avif", "jxl"))
    rows, tests = [], []
    for tune, figure in (("psnr", "psnr"), ("perceptual", "ssimulacra2")):
        for effort in run.efforts:
            test = ours(tune, effort=effort)
            test = test.thinned() if run.quick or effort >= SLOW_EFFORT else test
            tests.append(test)
            against = [p.thinned() for p in peers] if run.quick else peers
            points = points_of(run, [test, *against], with_ssimulacra2=True)
            found = [signed(compare(points, test=test.name, anchor=p.name, figure=figure).mean) for p in against]
            own = "–"
            if run.table is not None and tune == "psnr":
                points += read_table(run.table, run.pictures)
                own = signed(compare(points, test=test.name, anchor=run.table.stem).mean)
            rows.append((test.label, "dB" if tune == "psnr" else "SSIMULACRA2", *found, own))
    note = f"Means of BD-rates over {len(run.pictures)} pictures; from -e {SLOW_EFFORT} on at every other quality.\n"
    head = ("codec", "at equal", *(p.label for p in peers), run.table.stem if run.table else "no table")
    return f"{note}\n{table(head, rows)}{carried_over(run, tests)}"


def rates_section(run: Run) -> str:
    """Every point: means over pictures."""
    codecs = [ours("psnr"), ours("perceptual"), *_peers(("jpeg", "webp", "avif", "jxl"))]
    codecs = [codec.thinned() for codec in codecs] if run.quick else codecs
    points = points_of(run, codecs, with_ssimulacra2=True)
    rows = []
    for codec in codecs:
        for r in mean_rows(points, codec.name):
            eyes = "–" if r.ssimulacra2 is None else f"{r.ssimulacra2:.1f}"
            ssim = "–" if r.ssim is None else f"{r.ssim:.4f}"
            mean_mse = f"{r.psnr_of_mean_mse_db:.2f}"
            rows.append((codec.label, f"{r.setting:g}", f"{r.bpp:.4f}", f"{r.psnr_db:.2f}", mean_mse, eyes, ssim))
    head = ("codec", "quality", "bpp", "mean PSNR, dB", "PSNR of mean MSE, dB", "mean SSIMULACRA2", "mean SSIM")
    note = f"Mean over {len(run.pictures)} pictures; bpp: of the whole file; quality: on each codec's own scale.\n"
    return f"{note}\n{table(head, rows)}{carried_over(run, codecs)}"


def _section(run: Run, tune: str, figure: str, peers: tuple[str, ...]) -> str:
    test = ours(tune)
    codecs = [test, *_peers(peers)]
    codecs = [codec.thinned() for codec in codecs] if run.quick else codecs
    points = points_of(run, codecs, with_ssimulacra2=figure == "ssimulacra2")
    anchors = [(c.name, c.label) for c in codecs[1:]]
    if run.table is not None and figure == "psnr":
        points += read_table(run.table, run.pictures)
        anchors.append((run.table.stem, f"{run.table.stem}, its own table"))
    results = [compare(points, test=test.name, anchor=name, figure=figure) for name, _ in anchors]
    unit = "dB" if figure == "psnr" else "SSIMULACRA2"
    low, high = WINDOWS[figure]
    rows = []
    for (_, label), c in zip(anchors, results, strict=True):
        reach = "–" if c.mean is None else f"{c.low:.1f} to {c.high:.1f}"
        files = f"{len(c.by_file)} of {len(c.by_file) + len(c.skipped)}"
        rows.append((label, signed(c.mean), signed(c.of_mean), _extremes(c), reach, files))
    head = (
        "against",
        "mean of BD-rates",
        "BD-rate of averaged curves",
        "best, worst file",
        f"{unit} compared",
        "files",
    )
    note = (
        f"`--tune {tune}` over {low:g} to {high:g} {unit} as far as both curves of a file reach (the mean ends are in "
        "the table). Negative: fewer bytes for the same quality.\n"
    )
    by_file = [
        (file, *(signed(c.by_file[file][0]) if file in c.by_file else "–" for c in results))
        for file in labels(run.pictures)
    ]
    tables = f"{table(head, rows)}\n{table(('file', *(c.anchor for c in results)), by_file)}"
    return f"{note}\n{tables}{carried_over(run, [test])}"


def _extremes(c: Comparison) -> str:
    rates = [rate for rate, _, _ in c.by_file.values()]
    return f"{signed(min(rates))}, {signed(max(rates))}" if rates else "–"


def _peers(names: tuple[str, ...]) -> list[Codec]:
    return [peer(name) for name in names if name in available_peers()]
