"""Experiments: Meta-SparseINR (PAPERS 3; rows 12 to 14), and learning to learn with a partition (4.5; row 21)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from drawn import crops, photo_split
from experiment import Check, Experiment, Options, Outcome, markdown
from metatables import METHODS, Line, dense, lines, pruned
from metatrain import (
    LEVELS,
    Suite,
    face_suite,
    falls,
    level,
    make_state_prior,
    measures,
    per_layer,
    photo_suite,
    shape_suite,
    states,
)

import inrcodec
from inrcodec.fields.layers import MlpShape
from inrcodec.priors import meta
from inrcodec.priors.prior import survivors

PAPER_LEFT = (197888, 158311, 126649, 101320, 81056, 64845, 51876, 41501, 33201, 26561, 21249, 17000, 13600, 10880,
              8704, 6964, 5572, 4458, 3567, 2854, 2284)  # fmt: skip
STAND_IN = {  # PAPERS 3.6: 100 Adam steps [2 SGD steps], another drawing of faces
    4: ("33.56 [24.0]", "30.47 [20.4]", "33.97 [22.0]", "35.18", "34.10", "31.10"),
    8: ("30.20 [24.9]", "17.94 [15.4]", "28.41 [18.0]", "28.70", "27.86", "23.39"),
    10: ("29.05 [25.0]", "17.02 [15.0]", "21.70 [16.0]", "26.43", "25.82", "19.98"),
    12: ("28.60 [24.2]", "15.43 [13.9]", "18.19 [15.9]", "22.81", "24.00", "17.73"),
}
CONVENTION = "PSNR: ordinary, of signals in [0, 1], outputs not clamped, mean over the test signals (Meta-SparseINR's)."
MARKS = (0, 200, 400, 600, 800, 1000)
OTHER_LEVELS = (8, 10)
COARSE = ("Meta-SparseINR", "Random", "Dense-Narrow")


def deviations(options: Options) -> str:
    steps = "400 dense outer steps and 60 a round" if options.quick else "1200 dense outer steps and 200 a round"
    return (
        f"Stand-in (the paper's run is 750,000 outer steps on 178×178 CelebA, months on two cores): {steps} (paper: "
        "150,000 and 30,000), batch 3, 300 drawn 32×32 RGB faces to learn from and 20 others to test on, width 64, "
        "depth "
        "3, ω 30 in all sine layers (paper: width 256, ω 200), hence inner SGD .1, outer Adam 6.7e-5, evaluation Adam "
        "6.7e-4 (PAPERS 3.6). Positions are the codec's, centres of samples; the paper's run from −1 to 1. One seed."
    )


def meta_training(options: Options) -> Outcome:
    suite = face_suite(options)
    end = suite.settings.outer_steps
    marks = tuple(m for m in MARKS if m < end)
    second = dense(suite, marks)
    first = dense(suite.with_(first_order=True), marks)
    rows, curves = [], {}
    for name, found in (("second order", second), ("first order", first)):
        curves[name] = [measures(suite, found[m]) for m in (*marks, end)]
    for i, m in enumerate((*marks, end)):
        (a, b), (c, d) = curves["second order"][i], curves["first order"][i]
        rows.append((m, f"{b:.2f}", f"{a:.2f}", f"{d:.2f}", f"{c:.2f}"))
    sparse = {m: pruned(suite, m, LEVELS) for m in ("maml", "maml-random")}
    best, other = (measures(suite, sparse[m][10])[0] for m in ("maml", "maml-random"))
    left = [level(suite, k) for k in LEVELS]
    shares = per_layer(suite, sparse["maml"][12].mask)
    bias = suite.shape.n_parameters - suite.n_weights
    counted = [int(sparse["maml"][k].mask.sum()) - bias for k in LEVELS]
    two = [b for _, b in curves["second order"]]
    adapted = [b for _, b in curves["first order"]]
    longer = [a for a, _ in curves["second order"]]
    body = "\n".join(
        [
            f"{CONVENTION} {deviations(options)}",
            "",
            "Adapted PSNR over the dense outer steps; PAPERS 3.6's run of its own faces had 22.7 dB after 1000 and "
            "24.0 after "
            "1200 outer steps and two SGD steps, 39.77 dB after 100 Adam steps:",
            "",
            markdown(
                (
                    "outer steps",
                    "2 SGD steps, 2nd order",
                    "100 Adam steps, 2nd order",
                    "2 SGD, first order",
                    "100 Adam, first order",
                ),
                rows,
            ),
            f"Weights left at the four levels: {', '.join(map(str, counted))} (PAPERS 3.6: 5165, 2116, 1355, 868); "
            "of each "
            f"matrix at 6.9 %: {' / '.join(f'{s:.2f}' for s in shares)} (PAPERS 3.6: .98 / .05 / .06 / .06 / .40).",
            "",
            f"At 10.7 % of the weights, 100 Adam steps: magnitude {best:.2f} dB, random {other:.2f} dB (PAPERS 3.6: "
            "29.05 "
            "and 17.02). The faces here are a drawing of our own.",
        ]
    )
    return Outcome(
        f"{two[-1]:.1f} dB after 2 SGD steps (first order {adapted[-1]:.1f}); at 10.7 %: {best:.1f} against "
        f"{other:.1f} dB",
        body,
        (
            Check("survivors of 197,888 weights, all 20 rounds, exact", "2,284 after 20 rounds",
                  tuple(survivors(197888, k) for k in range(21)) == PAPER_LEFT),
            Check("survivors of this network exact", str(counted), counted == left == [5165, 2116, 1355, 868]),
            Check("PSNR after two SGD steps rises with outer steps", f"{two[0]:.2f} to {two[-1]:.2f} dB",
                  falls(two[::-1])),
            Check("PSNR after 100 Adam steps rises with outer steps", f"{longer[0]:.2f} to {longer[-1]:.2f} dB",
                  falls(longer[::-1])),
            Check("first order: PSNR after two SGD steps falls", f"{adapted[0]:.2f} to {adapted[-1]:.2f} dB",
                  adapted[-1] < adapted[0]),
            Check("at 10.7 % magnitude beats random by more than 8 dB", f"{best - other:.2f} dB", best > other + 8),
        ),
    )  # fmt: skip


def line_table(found: list[Line], suite: Suite, methods: tuple[str, ...] = METHODS) -> str:
    rows = []
    for line in found:
        share = 100 * line.weights / suite.n_weights
        ours = [_cell(m, *line.psnr_db[m]) for m in methods]
        rows.append((f"{line.weights:,} ({share:.1f} %), width {line.width}", *ours))
        if suite.name == "faces":
            rows.append(("PAPERS 3.6", *STAND_IN[line.rounds]))
    return markdown(("weights left", *methods), rows)


def _cell(method: str, long: float, two: float) -> str:
    return f"{long:.2f}" if method in ("OneShot", "IMP", "Scratch") else f"{long:.2f} [{two:.2f}]"


def meta_baselines(options: Options) -> Outcome:
    suite = face_suite(options)
    found = lines(suite)
    at = {line.rounds: {m: v[0] for m, v in line.psnr_db.items()} for line in found}
    others = ""
    for other, what in _others(options):
        others += f"\n{what}\n\n" + line_table(lines(other, OTHER_LEVELS, COARSE), other, COARSE)
    sparse = [k for k in LEVELS if k >= 8]
    first = {k: max(at[k], key=at[k].__getitem__) for k in sparse}
    gain = {k: at[k]["Meta-SparseINR"] - at[k]["Dense-Narrow"] for k in sparse}
    order = ("Meta-SparseINR", "OneShot", "IMP", "Dense-Narrow", "Scratch")
    body = (
        f"{CONVENTION} In brackets after two SGD steps of .1, otherwise after 100 Adam steps. {deviations(options)}\n\n"
        f"{line_table(found, suite)}\n"
        "Dense-Narrow and Scratch have the width whose number of weights is nearest. OneShot and IMP start from the "
        "dense "
        "network and prune each test signal's own. The paper (CelebA, 178×178): Meta-SparseINR 27.71 dB with 8,704 "
        "weights, "
        "Dense-Narrow 27.68 with 17,708, Random 26.25 with 17,000.\n" + others
    )
    return Outcome(
        f"10.7 %: MSINR {at[10]['Meta-SparseINR']:.1f}, OneShot {at[10]['OneShot']:.1f}, IMP {at[10]['IMP']:.1f}, "
        f"DN {at[10]['Dense-Narrow']:.1f}, random {at[10]['Random']:.1f} dB",
        body,
        (
            Check("at 17 % and less Meta-SparseINR is first",
                  ", ".join(f"{level(suite, k)}: {m}" for k, m in first.items()),
                  set(first.values()) == {"Meta-SparseINR"}),
            Check("and above Dense-Narrow by 1 dB and more", ", ".join(f"{g:+.2f} dB" for g in gain.values()),
                  min(gain.values()) >= 1),
            Check(f"at 10.7 % {' > '.join(order)}", ", ".join(f"{at[10][m]:.2f}" for m in order),
                  falls([at[10][m] for m in order])),
        ),
    )  # fmt: skip


def _others(options: Options) -> list[tuple[Suite, str]]:
    """Shapes and photos, trained half as long as the faces."""
    photos, _, name = photo_suite(options)
    made = []
    for suite, what in (
        (shape_suite(options), "Generated shapes instead of the paper's signed distance fields: unions of circles, "
         "boxes and triangles, distance clipped to [0, 1]; trained half as long as the faces:"),
        (photos, f"32×32 patches of {name} (short side 160 pixels, split by photo) instead of CelebA and Imagenette; "
         "trained half as long as the faces:"),
    ):  # fmt: skip
        s = suite.settings
        made.append((suite.with_(outer_steps=s.outer_steps // 2, steps_per_round=s.steps_per_round // 2), what))
    return made


def meta_two_step(options: Options) -> Outcome:
    suite = face_suite(options)
    found = lines(suite, methods=COARSE)
    rows = [
        (
            f"{x.weights:,}",
            *(f"{x.psnr_db[m][1]:.2f}" for m in COARSE),
            *(p.split("[")[1][:-1] for p in STAND_IN[x.rounds][:3]),
        )
        for x in found
    ]
    at = {m: next(x for x in found if x.rounds == 10).psnr_db[m][1] for m in COARSE}
    dense_db = measures(suite, dense(suite)[suite.settings.outer_steps])[1]
    spread = [x.psnr_db["Meta-SparseINR"][1] for x in found]
    return Outcome(
        f"10.7 %: MSINR {at['Meta-SparseINR']:.1f}, DN {at['Dense-Narrow']:.1f}, random {at['Random']:.1f} dB",
        f"{CONVENTION} After two full SGD steps of .1. {deviations(options)}\n\n"
        + markdown(("weights left", *COARSE, *(f"PAPERS 3.6: {m}" for m in ("MSINR", "Random", "DN"))), rows)
        + f"\nDense: {dense_db:.2f} dB (PAPERS 3.6: 24.00). Two-step PSNR of Meta-SparseINR varies by "
        f"{max(spread) - min(spread):.2f} dB from 41 % to 6.9 % of the weights.",
        (
            Check("at 10.7 % Meta-SparseINR is ahead of Dense-Narrow and Random",
                  ", ".join(f"{v:.2f} dB" for v in at.values()),
                  at["Meta-SparseINR"] > max(at["Dense-Narrow"], at["Random"])),
        ),
    )  # fmt: skip


def partition_suite(options: Options) -> tuple[Suite, str]:
    """PAPERS 4.5 at 32×32, width 32: three SGD steps of learned rates."""
    learn, held, name = photo_split(options, 96)
    size, steps = 32, 300 if options.quick else 1000
    grid = (np.mgrid[0:size, 0:size].reshape(2, -1) / size - 0.5).astype(np.float32)  # the repository's coordinates
    tasks = replace(meta.Tasks.of(learn, (size, size)), coords=grid)
    tests = np.stack([t.reshape(-1, 3).T for t in crops(held, 20, size, options.seed)])
    settings = meta.MetaSettings(
        outer_steps=steps, inner_steps=3, inner_rate=1e-5, outer_rate=1e-4, batch=4, learn_rates=True,
        seed=options.seed, device=options.device,
    )  # fmt: skip
    return Suite("crops", tasks, tests, MlpShape(2, 32, 3, 3, "siren", omega=30.0), settings, options), name


def after_three(suite: Suite, state: meta.MetaState) -> tuple[float, float]:
    """PSNR after the learned steps on the test crops: mean and standard deviation."""
    import torch

    own, coords = (torch.from_numpy(a) for a in suite.tasks.networks(suite.tests))
    start, rates = torch.from_numpy(state.values[:1].copy()), torch.from_numpy(state.values[1:].copy())
    clones = len(suite.tasks.regions)
    _, losses = meta.adapt(suite.shape, start, values=own, coords=coords, rates=list(rates), clones=clones)
    error = losses.detach().numpy().reshape(len(suite.tests), clones).sum(1)
    psnr = -10 * np.log10(error)
    return float(psnr.mean()), float(psnr.std())


def meta_partition(options: Options) -> Outcome:
    whole, name = partition_suite(options)
    regions = np.arange(1024).reshape(2, 16, 2, 16).transpose(0, 2, 1, 3).reshape(4, 256)
    parted = replace(whole, tasks=replace(whole.tasks, regions=regions))
    end = whole.settings.outer_steps
    marks = tuple(range(0, end, 200))
    alone, both = (states(s, marks=marks) for s in (whole, parted))
    rows, curve = [], {"none": [], "test": [], "both": []}
    for m in (*marks, end):
        three = (after_three(whole, alone[m]), after_three(parted, alone[m]), after_three(parted, both[m]))
        for key, (mean, _) in zip(curve, three, strict=True):
            curve[key].append(mean)
        rows.append((m, *(f"{mean:.2f} ± {spread:.2f}" for mean, spread in three)))
    none, test, trained = (curve[k][-1] for k in ("none", "test", "both"))
    return Outcome(
        f"after 3 steps: none {none:.2f}, partition at test {test:.2f}, in both {trained:.2f} dB",
        "PSNR: ordinary, of signals in [0, 1], not clamped; mean and standard deviation over 20 crops. 32×32 crops "
        f"of {name} "
        "(short side 96, split by photo), width 32, depth 3, ω 30, 2×2 equal regions, three steps of learned rates "
        "(start "
        f"1e-5), outer Adam 1e-4, batch 4, {end} outer steps. The paper: width 128, 256×256 crops of LSUN churches, "
        "31,500 "
        "outer steps; its figures are not recoverable. The loss is taken per image, not over the batch as in the "
        "repository "
        "(PAPERS 4.5), and each clone evaluates its own region only.\n\n"
        + markdown(("outer steps", "no partition", "partition at test only", "partition in training and test"), rows),
        (
            Check("PSNR after 3 steps rises during training, no partition", " ".join(f"{v:.2f}" for v in curve["none"]),
                  falls(curve["none"][::-1])),
            Check("and with the partition in training", " ".join(f"{v:.2f}" for v in curve["both"]),
                  falls(curve["both"][::-1])),
            Check("partition at test is at least as good as none (the paper's claim)", f"{test - none:+.2f} dB",
                  test >= none),
        ),
    )  # fmt: skip


def meta_files(options: Options) -> Outcome:
    """Real photos as files: with a prior, without, and by the default field, at equal bytes."""
    suite, held, name = photo_suite(options)
    s = suite.settings
    suite = suite.with_(outer_steps=s.outer_steps // 2, steps_per_round=s.steps_per_round // 2)
    prior = make_state_prior(suite, pruned(suite, "maml", OTHER_LEVELS)[OTHER_LEVELS[0]], "maml")
    rows, gains, apart = [], [], []
    for i, picture in enumerate(held[: 1 if options.quick else 3]):
        pixels = np.rint(picture[:160, :160] * 255).astype(np.uint8)
        for quality in (30, 60):
            data = inrcodec.encode(pixels, arch="ensemble", prior=prior, quality=quality, device=options.device)
            target = len(data)
            plain = inrcodec.encode(pixels, arch="ensemble", target_bytes=target, device=options.device)
            default = inrcodec.encode(pixels, target_bytes=target, tune="psnr")
            values = [_psnr8(d, pixels, prior) for d in (data, plain, default)]
            gains.append(values[0] - values[1])
            apart.append(values[0] - values[2])
            rows.append((f"photo {i + 1}, quality {quality}", f"{target:,}", *(f"{v:.2f}" for v in values)))
    better = sum(g > 0 for g in gains)
    return Outcome(
        f"with a prior {np.mean(gains):+.2f} dB beside ensembles of equal bytes",
        "PSNR: ordinary, of the decoded 8-bit picture. 160×160 pixels of photos that were not learned from, 25 cells "
        "of 32×32, "
        f"one prior ({prior.kept:,} of {prior.n_parameters:,} weights kept, learned from {name}); bytes are those of "
        "the .inr "
        "file, the prior's own are not counted: all files share it. Ensemble: SIREN cells sized by the codec for as "
        "many bytes.\n\n"
        + markdown(("", "bytes", "with the prior", "ensemble without", "default field"), rows)
        + f"\nThe prior helps an ensemble on {better} of {len(gains)}, by {np.mean(gains):+.2f} dB on average; "
        f"beside the default field it is {np.mean(apart):+.2f} dB. A cell's fit is 100 steps of Adam.",
        (),
    )


def _psnr8(data: bytes, pixels: np.ndarray, prior: object) -> float:
    from inrcodec import api

    decoded = api.open(data, prior=prior).decode().astype(float)  # type: ignore[arg-type]
    return float(-10 * np.log10(max(np.mean((decoded - pixels) ** 2), 1e-9) / 255**2))


EXPERIMENTS: tuple[Experiment, ...] = (
    Experiment((12,), "meta-training", "Meta-SparseINR: meta-training and pruning",
               "survivors exact; 27.71 dB with 8,704 weights (CelebA)", meta_training),
    Experiment((13,), "meta-baselines", "Meta-SparseINR and its baselines",
               "10.7 % (CelebA): MSINR 31.9, DN 28.7, Random 28.4, OneShot 26.3, IMP 25.1, Scratch 16.4 "
               "dB", meta_baselines),
    Experiment((14,), "meta-two-step", "Meta-SparseINR after two SGD steps", "MSINR ahead (figures not recoverable)",
               meta_two_step),
    Experiment((21,), "meta-partition", "Partitioned learning to learn", "not recoverable; partition at test ≥ none",
               meta_partition),
    Experiment((0,), "meta-files", "Files with and without a prior", "–", meta_files),
)  # fmt: skip
