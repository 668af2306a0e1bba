"""Experiment: learning to learn with a partition (arXiv 2310.14184; row 21)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from drawn import crops, photo_split
from experiment import Check, Experiment, Options, Outcome, markdown
from metatrain import Suite, falls, slices, states

from inrcodec.fields.layers import MlpShape
from inrcodec.fitting import resolve_device
from inrcodec.priors import meta


@dataclass(frozen=True)
class PartitionSizes:
    """Crops of size² of photos of some short side; looks every so many outer steps."""

    size: int = 32
    short_side: int = 96
    width: int = 32
    outer_steps: int = 1000
    look_every: int = 200
    n_tests: int = 20


def partition_suites(options: Options, sizes: PartitionSizes) -> tuple[Suite, Suite, str]:
    """Three SGD steps of learned rates; without a partition, and with one of 2 × 2."""
    learn, held, name = photo_split(options, sizes.short_side)
    size, steps = sizes.size, sizes.outer_steps
    grid = (np.mgrid[0:size, 0:size].reshape(2, -1) / size - 0.5).astype(np.float32)  # the repository's coordinates
    whole, parted = (replace(meta.Tasks.of(learn, (size // m, size // m), m), coords=grid) for m in (1, 2))
    tests = np.stack([t.reshape(-1, 3).T for t in crops(held, sizes.n_tests, size, options.seed)])
    inner_steps, inner, outer = meta.LEARNED
    settings = meta.MetaSettings(
        outer_steps=steps, inner_steps=inner_steps, inner_rate=inner, outer_rate=outer, batch=4, learn_rates=True,
        seed=options.seed, device=options.device,
    )  # fmt: skip
    marks = tuple(range(0, steps, sizes.look_every))
    shape = MlpShape(2, sizes.width, 3, 3, "siren", omega=30.0)
    suite = Suite("crops", whole, tests, shape, settings, options, marks)
    return suite, replace(suite, tasks=parted), name


def after_three(suite: Suite, state: meta.MetaState, *, times: float = 1.0) -> tuple[float, float]:
    """PSNR on the test crops, mean and standard deviation, after the steps of learned rates, taken so many times."""
    import torch

    device, clones = resolve_device(suite.options.device), len(suite.tasks.regions)
    start, rates = (torch.from_numpy(v.copy()).to(device) for v in (state.values[:1], state.values[1:]))

    def errors() -> Iterator[np.ndarray]:
        for some in slices(suite):
            own, at = (torch.from_numpy(a).to(device) for a in suite.tasks.networks(suite.tests[some]))
            steps = [times * rate for rate in rates]
            _, losses = meta.adapt(suite.shape, start, values=own, coords=at, rates=steps, clones=clones)
            yield losses.detach().cpu().numpy().reshape(-1, clones).sum(1)

    psnr = -10 * np.log10(np.concatenate(list(errors())))
    return float(psnr.mean()), float(psnr.std())


def clones_apart(suite: Suite, state: meta.MetaState) -> float:
    """By how much the gradient of the shared start differs from the sum of those of its clones, each with a start of
    its own: the root mean square over that of the gradient, in double precision, on the first test crops."""
    import torch

    clones, n = len(suite.tasks.regions), min(4, len(suite.tests))
    own, at = (torch.from_numpy(a).double() for a in suite.tasks.networks(suite.tests[:n]))
    start, rates = (torch.from_numpy(v.copy()).double() for v in (state.values[:1], state.values[1:]))
    found = []
    for leaf in (start, start.repeat(n * clones, 1)):
        leaf.requires_grad_()
        _, losses = meta.adapt(
            suite.shape, leaf, values=own, coords=at, rates=list(rates), clones=clones, create_graph=True
        )  # fmt: skip
        losses.sum().backward()
        assert leaf.grad is not None
        found.append(leaf.grad.sum(0))
    shared, summed = found
    return float((shared - summed).norm() / shared.norm())


def meta_partition(options: Options, sizes: PartitionSizes) -> Outcome:
    whole, parted, name = partition_suites(options, sizes)
    end, marks = whole.settings.outer_steps, whole.marks
    alone, both = (states(s) for s in (whole, parted))
    rows, curve = [], {"none": [], "test": [], "both": []}
    for m in (*marks, end):
        three = (after_three(whole, alone[m]), after_three(parted, alone[m]), after_three(parted, both[m]))
        for key, (mean, _) in zip(curve, three, strict=True):
            curve[key].append(mean)
        rows.append((m, *(f"{mean:.2f} ± {spread:.2f}" for mean, spread in three)))
    none, test, trained = (curve[k][-1] for k in ("none", "test", "both"))
    apart = clones_apart(parted, both[end])
    longer = [(f"×{times:g}", *(f"{after_three(suite, alone[end], times=times)[0]:.2f}" for suite in (whole, parted)))
              for times in (1, 1.25, 1.5, 2, 4)]  # fmt: skip
    return Outcome(
        f"after 3 steps: none {none:.2f}, partition at test {test:.2f}, in both {trained:.2f} dB",
        "PSNR: ordinary, of signals in [0, 1], not clamped; mean and standard deviation over "
        f"{sizes.n_tests} crops. {sizes.size}×{sizes.size} crops of {name} (short side {sizes.short_side}, split by "
        f"photo), width {sizes.width}, depth 3, ω 30, 2×2 equal regions, three steps of learned rates (start 1e-5), "
        f"outer Adam 1e-4, batch 4, {end} outer steps. The paper: width 128, 256×256 crops of LSUN churches, 31,500 "
        "outer steps; its figures are not recoverable. The loss is taken per image, not over the batch as in the "
        "paper's repository, and each clone evaluates its own region only.\n\n"
        + markdown(("outer steps", "no partition", "partition at test only", "partition in training and test"), rows)
        + "\nThe loss is a mean over the image, so that each of four clones takes a quarter of the step that its "
        "region alone would ask for. Steps longer than learned, of the start learned without a partition:\n\n"
        + markdown(("length of the steps", "no partition", "partition at test only"), longer),
        (
            Check("PSNR after 3 steps rises during training, no partition", " ".join(f"{v:.2f}" for v in curve["none"]),
                  falls(curve["none"][::-1])),
            Check("and with the partition in training", " ".join(f"{v:.2f}" for v in curve["both"]),
                  falls(curve["both"][::-1])),
            Check("the gradient of the shared start is the sum of its clones'", f"apart by {apart:.1e} of it",
                  apart < 1e-9),
            Check("partition at test is at least as good as none (the paper's claim)", f"{test - none:+.2f} dB",
                  test >= none),
        ),
    )  # fmt: skip


EXPERIMENTS = (
    Experiment(
        (21,), "meta-partition", "Partitioned learning to learn", "not recoverable; partition at test ≥ none",
        meta_partition,
        {"quick": PartitionSizes(outer_steps=300), "full": PartitionSizes(),
         "paper": PartitionSizes(256, 256, 128, 31_500, 4500, 100)},
        cost="8 days on two cores (two trainings of 31,500 outer steps of 11 s)",
    ),
)  # fmt: skip
