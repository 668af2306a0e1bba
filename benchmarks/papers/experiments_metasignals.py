"""Experiment: Meta-SparseINR and its baselines on drawn shapes and on patches of photos (rows 13 and 14)."""

from __future__ import annotations

from experiment import Check, Experiment, Options, Outcome
from experiments_metasparse import COARSE, CONVENTION, deviations, line_table, sparse_from
from metatables import lines, over_steps
from metatrain import FACES, PAPER, FaceSizes, Suite, photo_suite, shape_suite, shorter

STEPS_AT = (8, 10)  # rounds of pruning after which the course of Adam is shown: 16.8 and 10.7 % of the weights are left


def meta_signals(options: Options, sizes: FaceSizes) -> Outcome:
    """PSNR over parameters, by every method, and over steps."""
    text, at_10, gains, two_steps = "", {}, {}, {}
    least, margin = sparse_from(sizes)
    if sizes.is_papers:  # ahead at every level, as on its signals in the paper
        least = min(sizes.other_levels)
    for suite, what in _suites(options, sizes):
        found = lines(suite, sizes.other_levels, seeds=sizes.seeds)
        text += f"\n**{suite.name.capitalize()}.** {what}\n\n{line_table(found, suite, sizes)}"
        for rounds in STEPS_AT:
            text += (
                f"\nPSNR over the steps of Adam, at {100 * 0.8**rounds:.1f} % of the weights, and of the dense start:"
                "\n\n" + over_steps(suite, sizes.other_levels, rounds)
            )
        at = next(x for x in found if x.rounds == 10).psnr_db
        at_10[suite.name] = f"{suite.name} " + ", ".join(f"{m} {at[m][0]:.1f}" for m in COARSE)
        two_steps[suite.name] = [at[m][1] for m in COARSE]
        pairs = [(x.psnr_db["Meta-SparseINR"][0], x.psnr_db["Dense-Narrow"][0]) for x in found if x.rounds >= least]
        gains[suite.name] = [a - b for a, b in pairs]
    share = f"{100 * 0.8**least:.0f} %"
    return Outcome(
        f"10.7 %: {'; '.join(at_10.values())} dB",
        f"{CONVENTION} In brackets after two SGD steps, otherwise after 100 Adam steps. Network, rates and steps are "
        f"those of the faces, but for what is said below. {deviations(sizes)}\n{text}",
        (
            *(Check(f"{name}, at {share} and less: Meta-SparseINR above Dense-Narrow by {margin:g} dB and more",
                    ", ".join(f"{g:+.2f} dB" for g in gains[name]), min(gains[name]) >= margin) for name in gains),
            *(Check(f"{name}, at 10.7 %, after two SGD steps: Meta-SparseINR ahead of Random and Dense-Narrow",
                    ", ".join(f"{v:.2f}" for v in own) + " dB", own[0] > max(own[1:]))
              for name, own in two_steps.items()),
        ),
    )  # fmt: skip


def _suites(options: Options, sizes: FaceSizes) -> list[tuple[Suite, str]]:
    """In the stand-in trained half as long as the faces."""
    photos, _, name = photo_suite(options, sizes)
    length = "as long as" if sizes.others_share == 1 else f"{sizes.others_share:g} times as long as"
    pairs = (
        (
            shape_suite(options, sizes),
            "Signed distance fields, generated instead of the paper's: unions of circles, boxes and triangles, clipped "
            f"to [0, 1]; trained {length} the faces, with inner steps of {PAPER.inner_rate:g}, the paper's:",
        ),
        (
            photos,
            f"Instead of CelebA and Imagenette: {sizes.size}×{sizes.size} patches of {name} (short side "
            f"{sizes.short_side} pixels, split by photo); trained {length} the faces:",
        ),
    )
    return [(shorter(suite, sizes.others_share), what) for suite, what in pairs]


EXPERIMENTS = (
    Experiment(
        (13, 14), "meta-signals", "Meta-SparseINR on shapes and on photos",
        "ahead where few weights are left; by 16.5 dB on shapes at 10.7 %", meta_signals, FACES,
        cost="years on two cores (2 kinds of signals, 3 seeds, 17 narrow networks of 150,000 steps each)",
    ),
)  # fmt: skip
