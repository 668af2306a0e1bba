"""Claims about meta-training: gradients, masks, schedules, resuming, and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import interrupted
from inrcodec.cli.failures import run_command
from inrcodec.cli.main import inrcodec as command
from inrcodec.formats.files import write_signal
from inrcodec.formats.prior_file import unpack_prior

from inrcodec import api
from inrcodec.errors import FormatError
from inrcodec.fields import adapted
from inrcodec.fields.cellfit import Cells
from inrcodec.fields.layers import MlpShape, flatten, initial
from inrcodec.priors import meta
from inrcodec.priors.checkpoint import fingerprint, pack_state, unpack_state
from inrcodec.priors.prior import biases, survivors

SHAPE = MlpShape(2, 5, 1, 1, "siren", omega=6.0)
SETTINGS = meta.MetaSettings(
    outer_steps=60, steps_per_round=20, schedule=(30, 20), inner_rate=0.05, outer_rate=1e-3, batch=2, device="cpu"
)


def signals(n: int = 3, size: int = 7) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [np.cumsum(rng.normal(0, 0.1, (size, size + k, 1)), 0).astype(np.float32) for k in range(n)]


@pytest.fixture(scope="module")
def tasks() -> meta.Tasks:
    return meta.Tasks.of(signals(), (6, 6))


@pytest.fixture(scope="module")
def states(tasks: meta.Tasks) -> list[meta.MetaState]:
    return list(meta.train(SHAPE, tasks, SETTINGS))


def double_start(clones: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A start [1, P] and, for two signals of so many clones, values and coords, all in float64."""
    start = flatten(initial(SHAPE, 1, generator=torch.Generator().manual_seed(3), bias="same as weights"))
    g = torch.Generator().manual_seed(4)
    values = torch.rand((2 * clones, 1, 9), generator=g, dtype=torch.float64)
    coords = torch.rand((2 * clones, 2, 9), generator=g, dtype=torch.float64) * 2 - 1
    return torch.from_numpy(start), values, coords


def test_the_second_order_gradient_is_that_of_the_adapted_loss() -> None:
    start, values, coords = double_start(1)

    def adapted(flat: torch.Tensor, *, graph: bool) -> torch.Tensor:
        return meta.adapt(SHAPE, flat, values=values, coords=coords, rates=[0.1, 0.1], create_graph=graph)[1].sum()

    leaf = start.clone().requires_grad_()
    adapted(leaf, graph=True).backward()
    first_order = start.clone().requires_grad_()
    adapted(first_order, graph=False).backward()
    assert leaf.grad is not None
    assert first_order.grad is not None
    for at in (0, 4, 11, 30, 44, start.shape[1] - 1):
        h = torch.zeros_like(start)
        h[0, at] = 1e-6
        difference = float((adapted(start + h, graph=False) - adapted(start - h, graph=False)).detach()) / 2e-6
        assert float(leaf.grad[0, at]) == pytest.approx(difference, rel=1e-5, abs=1e-8)  # error of order h²
    assert not torch.allclose(leaf.grad, first_order.grad, rtol=0.05)


def test_the_gradient_of_a_shared_start_is_the_sum_of_its_clones() -> None:
    start, values, coords = double_start(4)
    rates = [torch.full_like(start, 0.05)] * 2
    shared = start.clone().requires_grad_()
    apart = start.repeat(8, 1).requires_grad_()
    for leaf in (shared, apart):
        _, losses = meta.adapt(
            SHAPE, leaf, values=values, coords=coords, rates=rates, clones=4, create_graph=True
        )  # fmt: skip
        losses.sum().backward()
    assert shared.grad is not None
    assert apart.grad is not None
    assert torch.allclose(shared.grad[0], apart.grad.sum(0), rtol=1e-10)


def test_the_loss_of_clones_is_the_mean_over_the_whole_signal(tasks: meta.Tasks) -> None:
    regions = np.arange(36).reshape(2, 3, 2, 3).transpose(0, 2, 1, 3).reshape(4, 9)
    parted = replace(tasks, regions=regions)
    batch = tasks.draw(np.random.default_rng(0), 2)
    start = torch.from_numpy(meta.first_state(SHAPE, SETTINGS).values[:1])
    whole, parts = (
        meta.adapt(SHAPE, start, values=values, coords=coords, rates=[], clones=len(t.regions))
        for t in (tasks, parted)
        for values, coords in [map(torch.from_numpy, t.networks(batch))]
    )
    assert torch.allclose(parts[1].reshape(2, 4).sum(1), whole[1], rtol=1e-5)  # float32 sums in another order


def test_training_lowers_the_adapted_loss(tasks: meta.Tasks) -> None:
    settings = replace(SETTINGS, outer_steps=200, schedule=())
    batch = tasks.draw(np.random.default_rng(99), 8)
    values, coords = (torch.from_numpy(a) for a in tasks.networks(batch))
    ends = [s for s in meta.train(SHAPE, tasks, settings) if s.step in (0, 200)]
    rates = [0.05, 0.05]
    starts = (torch.from_numpy(s.values[:1]) for s in ends)
    before, after = (
        float(meta.adapt(SHAPE, s, values=values, coords=coords, rates=rates)[1].sum().detach()) for s in starts
    )
    assert after < before / 2


def test_rounds_leave_exactly_as_many_weights_as_the_schedule(states: list[meta.MetaState]) -> None:
    bias = biases(SHAPE.sizes)
    counts = {s.step: int((s.mask & ~bias).sum()) for s in states}
    assert counts[60] == meta.n_weights(SHAPE)
    assert counts[80] == 30
    assert counts[100] == 20
    assert all(s.mask[bias].all() for s in states)


def test_pruned_weights_never_come_back(states: list[meta.MetaState]) -> None:
    for before, after in pairwise(states):
        assert not (after.mask & ~before.mask).any()


def test_magnitude_pruning_takes_the_smallest_of_all_layers(tasks: meta.Tasks, states: list[meta.MetaState]) -> None:
    dense = next(s for s in states if s.step == 60)
    first = next(meta.train(SHAPE, tasks, SETTINGS, state=dense))
    weights = np.abs(dense.start)
    alive = ~biases(SHAPE.sizes)
    assert weights[alive & ~first.mask].max() <= weights[alive & first.mask].min()


def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(
    tasks: meta.Tasks, states: list[meta.MetaState]
) -> None:
    mark = fingerprint(SHAPE, tasks, SETTINGS)
    for stopped in states[1:-1]:
        read = unpack_state(pack_state(stopped, mark), mark, states[0])
        *_, last = meta.train(SHAPE, tasks, SETTINGS, state=read)
        assert np.array_equal(last.values, states[-1].values)
        assert np.array_equal(last.mask, states[-1].mask)


def test_a_checkpoint_of_other_settings_or_a_damaged_one_is_refused(
    tasks: meta.Tasks, states: list[meta.MetaState]
) -> None:
    mark = fingerprint(SHAPE, tasks, SETTINGS)
    data = pack_state(states[1], mark)
    other = fingerprint(SHAPE, tasks, replace(SETTINGS, seed=1))
    with pytest.raises(ValueError, match="other signals or settings"):
        unpack_state(data, other, states[0])
    assert fingerprint(SHAPE, tasks, replace(SETTINGS, device="cuda")) == mark
    for bad in (b"", data[:100], b"x" + data[1:]):
        with pytest.raises(FormatError):
            unpack_state(bad, mark, states[0])


def test_learned_rates_change_and_are_one_per_parameter_and_step(tasks: meta.Tasks) -> None:
    settings = replace(SETTINGS, learn_rates=True, outer_steps=10, schedule=(), inner_rate=1e-3)
    *_, last = meta.train(SHAPE, tasks, settings)
    assert last.values.shape == (3, SHAPE.n_parameters)
    assert len(np.unique(last.values[1:])) > SHAPE.n_parameters


def test_cells_of_a_file_begin_with_the_steps_that_clones_learned() -> None:
    one, tasks = meta.Tasks.of(signals(), (3, 2)), meta.Tasks.of(signals(), (3, 2), 2)
    assert (tasks.patch, tasks.cell) == ((6, 4), (3, 2))
    assert sorted(tasks.regions.ravel()) == list(range(24))
    block = np.arange(24).reshape(6, 4)[3:, :2]
    np.testing.assert_array_equal(tasks.regions[2], block.ravel())
    for region in tasks.regions:
        np.testing.assert_array_equal(tasks.coords[:, region], one.coords)
    learned = replace(SETTINGS, outer_steps=5, steps_per_round=1, learn_rates=True)
    *_, state = meta.train(SHAPE, tasks, learned)
    prior = meta.make_prior(SHAPE, tasks, learned, state, kind="image")
    values, coords = tasks.networks(tasks.draw(np.random.default_rng(0), 2))
    start, *rates = (torch.from_numpy(v) for v in state.values)
    in_training, _ = meta.adapt(
        SHAPE, start[None], values=torch.from_numpy(values), coords=torch.from_numpy(coords), rates=rates, clones=4,
        mask=meta.mask_factors(SHAPE, state.mask, torch.device("cpu")),
    )  # fmt: skip
    in_files = adapted.first_steps(prior, SHAPE, Cells(values, coords, None), "cpu")
    np.testing.assert_allclose(in_files, in_training.detach().numpy() * state.mask, atol=1e-6)  # float32
    inside = np.ones((len(values), 6), bool)
    inside[:, 4:] = False  # cells at a border have fewer samples
    padded = adapted.first_steps(prior, SHAPE, Cells(values, coords, inside), "cpu")
    alone = adapted.first_steps(prior, SHAPE, Cells(values[:, :, :4], coords[:, :, :4], None), "cpu")
    np.testing.assert_allclose(padded, alone, atol=1e-6)


def test_cells_that_learned_steps_lead_away_from_begin_at_the_start(tasks: meta.Tasks) -> None:
    learned = replace(SETTINGS, outer_steps=2, steps_per_round=1, learn_rates=True, schedule=())
    *_, state = meta.train(SHAPE, tasks, learned)
    prior = meta.make_prior(SHAPE, tasks, learned, state, kind="image")
    values, coords = tasks.networks(tasks.draw(np.random.default_rng(0), 2))
    for rate in (1e6, 3e38, -1e38):
        hot = replace(prior, rates=np.full_like(prior.rates, rate))
        found = adapted.first_steps(hot, SHAPE, Cells(values, coords, None), "cpu")
        np.testing.assert_array_equal(found, np.broadcast_to(prior.start, found.shape))


def test_schedules_reach_the_sparsity_asked_for() -> None:
    assert meta.schedule_for(12608, sparsity=0.9)[-1] == 1261
    assert meta.schedule_for(12608, sparsity=0.9)[-2] > 1261
    assert meta.schedule_for(12608, sparsity=0.9)[:2] == (10087, 8070)  # 20 % a round, rounded down
    assert meta.schedule_for(1000, sparsity=0.999)[-2:] == (4, 1)  # a fifth of four is none
    n, kept = 197_888, survivors(197_888, 20)  # the paper's network and rounds: its own numbers, to the end
    assert meta.schedule_for(n, sparsity=1 - kept / n) == tuple(survivors(n, k) for k in range(1, 21))
    assert len(meta.schedule_for(1000, sparsity=0.9, rounds=3)) == 3
    assert meta.schedule_for(1000, sparsity=0.9, rounds=3)[-1] == 100
    assert meta.schedule_for(1000, sparsity=0.0) == ()
    with pytest.raises(ValueError, match="sparsity"):
        meta.schedule_for(10, sparsity=1.0)


def test_narrow_networks_have_about_as_many_weights() -> None:
    dense = MlpShape(2, 64, 3, 3, "siren")
    assert [meta.narrow_width(dense, n) for n in (5165, 2116, 1355, 868)] == [41, 26, 20, 16]


def test_a_signal_smaller_than_the_patch_is_refused() -> None:
    with pytest.raises(ValueError, match="smaller than the patch"):
        meta.Tasks.of(signals(), (8, 8))


def test_an_interrupted_training_says_what_is_kept_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    grey = np.arange(20 * 24, dtype=np.uint8).reshape(20, 24)
    write_signal("a.png", grey[..., None], api.as_signal(grey).meta, {}, overwrite=False)
    options = ["prior", "train", "a.png", "--width", "4", "--depth", "0", "--patch", "8", "--outer-steps", "2",
               "--steps-per-round", "1", "--sparsity", "0.2", "--device", "cpu"]  # fmt: skip
    with interrupted(monkeypatch, meta, "train", after=2):
        assert run_command(command, [*options, "-o", "p.inp", "-f"]) == 130
    said = capsys.readouterr().err
    assert "p.inp.part keeps 2 of 3 steps; the same command, without -f, goes on from there" in said
    assert run_command(command, [*options, "-o", "p.inp"]) == 0
    said = capsys.readouterr().err
    assert "goes on at step 2 of 3" in said
    assert "10 of 12 weights and all 5 biases kept" in said  # as the papers count: .2 of 2·4 + 4·1 are gone
    assert run_command(command, [*options, "-o", "q.inp"]) == 0
    assert unpack_prior(Path("p.inp").read_bytes()).id == unpack_prior(Path("q.inp").read_bytes()).id


def test_the_command_trains_resumes_and_describes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    picture = (np.cumsum(rng.normal(0, 4, (20, 24, 3)), 1) + 128).clip(0, 255).astype(np.uint8)
    write_signal("a.png", picture, api.as_signal(picture).meta, {}, overwrite=False)
    options = ["prior", "train", "a.png", "--width", "6", "--depth", "1", "--patch", "8", "--outer-steps", "4",
               "--steps-per-round", "2", "--sparsity", "0.5", "--device", "cpu", "--quiet"]  # fmt: skip
    assert run_command(command, [*options, "-o", "p.inp"]) == 0
    assert not Path("p.inp.part").exists()
    assert run_command(command, [*options, "-o", "p.inp"]) == 2
    assert "exists" in capsys.readouterr().err
    Path("q.inp.part").write_bytes(b"no checkpoint")
    assert run_command(command, [*options, "-o", "q.inp"]) == 2
    assert "-f starts anew" in capsys.readouterr().err
    assert run_command(command, [*options, "-o", "q.inp", "-f"]) == 0
    assert unpack_prior(Path("p.inp").read_bytes()).id == unpack_prior(Path("q.inp").read_bytes()).id
    assert run_command(command, [*options, "-o", "parts.inp", "--partition", "2"]) == 0
    parts = unpack_prior(Path("parts.inp").read_bytes())
    assert (parts.patch, parts.rates.shape) == ((8, 8), (3, parts.n_parameters))
    assert run_command(command, ["encode", "a.png", "-o", "parts.inr", "--prior", "parts.inp", "--quiet"]) == 0
    assert run_command(command, ["verify", "parts.inr", "--prior", "parts.inp", "--quiet"]) == 0
    assert run_command(command, ["prior", "info", "parts.inp"]) == 0
    assert "3 steps of SGD, learned rates, then 100 steps of Adam" in capsys.readouterr().out
    for method in ("maml-random", "dense-narrow", "maml-one-shot", "maml-imp", "scratch"):
        assert run_command(command, [*options, "-o", f"{method}.inp", "--method", method]) == 0
        assert (
            run_command(command, ["encode", "a.png", "-o", f"{method}.inr", "--prior", f"{method}.inp", "--quiet"]) == 0
        )
        assert run_command(command, ["verify", f"{method}.inr", "--prior", f"{method}.inp", "--quiet"]) == 0
    assert run_command(command, ["prior", "info", "p.inp", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["kept"], facts["method"]) == (unpack_prior(Path("p.inp").read_bytes()).kept, "maml")
    assert (facts["weights_kept"], facts["weights"], facts["biases"]) == (33, 2 * 6 + 6 * 6 + 6 * 3, 6 + 6 + 3)
    assert run_command(command, ["prior", "info", "p.inp"]) == 0
    assert "33 of 66 weights, all 15 biases" in capsys.readouterr().out
    assert run_command(command, ["prior", "train", "a.png", "-o", "x.inp", "--sparsity", "2"]) == 2
