"""The effort ladder: more of it never costs quality for the bytes, and its results can be told beforehand."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Cli, ok, sample
from PIL import Image

import inrcodec
from inrcodec import api, codec
from inrcodec import effort as effort_module
from inrcodec.effort import BIT, FINISHING
from inrcodec.entropy.dependent import HALF_STEP
from inrcodec.errors import TargetError
from inrcodec.fields import make_field, sizes
from inrcodec.fields.base import Progress
from inrcodec.fields.cosine import CosineField
from inrcodec.fields.tuning import TUNINGS
from inrcodec.grid import Grid
from inrcodec.settings import EncodeSettings
from inrcodec.stages import STAGES, TIMES_LOOKS
from inrcodec.stream import STEP_UNIT

SAMPLES = Path(__file__).parent.parent / "samples"
NUMBER = TUNINGS["psnr"].synthesis
COFFEE = np.asarray(Image.open(SAMPLES / "coffee.png").convert("RGB"))[130:194, 200:280]


@cache
def encoded(effort: int, tune: str = "psnr") -> bytes:
    return inrcodec.encode(COFFEE, quality=60, tune=tune, effort=effort)


def cost(data: bytes, original: np.ndarray = COFFEE / 255) -> float:
    """What stages minimise, from the file alone; under psnr a local step is the step, and weights are orthonormal."""
    file = api.open(data)
    (step,) = file.header.quantiser.steps
    decoded = file.decode().astype(float) / (255 if file.header.signal.kind == "image" else 1)
    error = decoded - original
    return float(np.square(error / (step * STEP_UNIT)).sum()) + BIT * 8 * len(data)


def test_every_rung_is_worth_its_time() -> None:
    plain, quick, default, more, everything = (cost(encoded(e)) for e in (1, 2, 5, 7, 9))
    assert plain > quick > default
    assert default >= more
    assert default >= everything


@pytest.mark.parametrize(("effort", "tune"), [(1, "psnr"), (2, "psnr"), (5, "psnr"), (9, "psnr"), (7, "perceptual")])
def test_the_same_effort_writes_the_same_bytes(effort: int, tune: str) -> None:
    assert inrcodec.encode(COFFEE, quality=60, tune=tune, effort=effort) == encoded(effort, tune)


def test_the_first_file_says_how_far_it_is_and_how_good() -> None:
    told: list[Progress] = []
    made = api.encode_signal(api.as_signal(COFFEE), EncodeSettings(quality=60, tune="psnr"), told.append)
    codes = [p for p in told if p.stage == "codes"]
    assert [p.step for p in codes] == [0, 2, 3, 4, 5, 6]
    assert {p.n_steps for p in codes} == {7}
    assert codes[0].psnr_db is None
    assert codes[-1].psnr_db is not None
    assert abs(codes[-1].psnr_db - made.quality_db) < 0.3


def test_effort_1_leaves_the_synthesis_network_out_and_2_has_it() -> None:
    assert [api.open(encoded(e)).header.field.synthesis for e in (1, 2)] == [0, NUMBER]


def test_efforts_3_to_6_are_one_rung() -> None:
    assert encoded(3) == encoded(5) == encoded(6) == inrcodec.encode(COFFEE, quality=60, tune="psnr")


@pytest.mark.parametrize("effort", [1, 7])
def test_targets_are_met_at_every_effort(effort: int) -> None:
    n = len(inrcodec.encode(COFFEE, target_bytes=2500, effort=effort))
    assert 0.97 * 2500 <= n <= 2500
    found = api.encode_signal(api.as_signal(COFFEE), EncodeSettings(psnr_db=33, effort=effort)).quality_db
    assert 33 <= found <= 33.1


def test_a_limit_that_nothing_keeps_gives_the_quickest_file() -> None:
    assert inrcodec.encode(COFFEE, quality=60, tune="psnr", effort=9, time_limit_s=0.01) == encoded(1)


@pytest.mark.parametrize(("seconds_of_first", "expected"), [(0.9, 2), (0.1, 5)])
def test_the_best_effort_that_there_is_time_for(
    monkeypatch: pytest.MonkeyPatch, seconds_of_first: float, expected: int
) -> None:
    """A clock on which a file of effort 1 takes so long, of a limit of 3 seconds; and nothing else any time."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    at_effort = codec._at_effort

    def slowly(signal, settings, *rest):  # type: ignore[no-untyped-def]
        now[0] += seconds_of_first if settings.effort == 1 else 0
        return at_effort(signal, settings, *rest)

    monkeypatch.setattr(codec, "_at_effort", slowly)
    assert inrcodec.encode(COFFEE, quality=60, tune="psnr", effort=5, time_limit_s=3) == encoded(expected)


def test_it_is_said_that_there_was_no_time(cli: Cli) -> None:
    sample("tiny.png")
    limited, enough = (ok(cli(f"encode tiny.png -f --time-limit {s}")).err for s in ("0.01", "1000"))
    assert "no time for more than -e 1" in limited
    assert "no time" not in enough


def clock_of_trials(monkeypatch: pytest.MonkeyPatch, *, effort: int) -> list[float]:
    """[now] of a clock on which every trial takes a second, and nothing else any time; this effort goes first."""
    now = [0.0]
    trial = effort_module.Search._trial

    def slowly(self: effort_module.Search, candidate: Any, step: float) -> Any:
        now[0] += 1
        return trial(self, candidate, step)

    monkeypatch.setattr(effort_module.Search, "_trial", slowly)
    monkeypatch.setattr(codec, "rungs", lambda *_: [(effort, 0.0)])
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_it_is_said_where_the_time_was_up(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a limit of 5 trials there is time for some."""
    clock_of_trials(monkeypatch, effort=7)
    sample("tiny.png")
    *told, summary = ok(cli("encode tiny.png -e 7 -v --time-limit 5 --tune psnr")).err.splitlines()[:-1]
    assert summary.endswith("no time for all of -e 7")
    cells, looks = (next(line for line in told if line.startswith(f"tiny.png: {s}: ")) for s in ("cells", "looks"))
    assert ", no time for more: " in cells
    assert looks == "tiny.png: looks: no time"


def test_nothing_is_said_of_time_that_nothing_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of just the trials that there are: rivals that were tried before need no time."""
    now = clock_of_trials(monkeypatch, effort=9)
    settings = EncodeSettings(quality=60, effort=9)
    signal = api.as_signal(COFFEE[:32, :40])
    enough = api.encode_signal(signal, replace(settings, time_limit_s=1e6))
    n_trials, now[0] = now[0], 0.0
    just = api.encode_signal(signal, replace(settings, time_limit_s=n_trials - 1 + TIMES_LOOKS + FINISHING))
    assert (just.data, just.whole, enough.whole) == (enough.data, True, True)
    now[0] = 0.0
    assert not api.encode_signal(signal, replace(settings, time_limit_s=n_trials - 1)).whole


def test_longer_looks_take_the_time_that_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial before looks would end within the limit, one with them would not."""
    now = clock_of_trials(monkeypatch, effort=7)
    settings = EncodeSettings(quality=60, tune="psnr", effort=7, grid="5x4")  # no other cells
    signal = api.as_signal(COFFEE)
    enough = api.encode_signal(signal, replace(settings, time_limit_s=1e6))
    before, now[0] = now[0] - 1, 0.0
    some = api.encode_signal(signal, replace(settings, time_limit_s=before + 1 + FINISHING))
    now[0] = 0.0
    all_of_it = api.encode_signal(signal, replace(settings, time_limit_s=before + TIMES_LOOKS + FINISHING))
    assert (enough.whole, some.whole, all_of_it.whole) == (True, False, True)


def test_there_is_time_to_look_whether_the_network_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock_of_trials(monkeypatch, effort=5)
    made = api.encode_signal(api.as_signal(COFFEE), EncodeSettings(quality=60, tune="psnr", time_limit_s=1.1))
    assert (made.data, made.whole) == (encoded(5), True)


def test_it_is_said_that_there_was_no_time_for_all_iterations(cli: Cli) -> None:
    sample("tiny.png")
    options = "encode tiny.png -f --arch ensemble --width 8"
    limited = ok(cli(f"{options} --iterations 1000000 --time-limit 0.3")).err
    assert limited.rstrip().endswith(", no time for all iterations")
    assert "no time" not in ok(cli(f"{options} --iterations 5 --time-limit 100")).err


@pytest.mark.parametrize("options", ["-q 60", "--psnr 30", "--target-size 900"])
def test_the_first_file_and_its_looks_are_told_with_and_without_a_target(cli: Cli, options: str) -> None:
    Image.fromarray(COFFEE).save("a.png")
    said = ok(cli(f"encode a.png -v --tune psnr {options}")).err.splitlines()
    (told,) = [line for line in said if line.startswith("a.png: codes: ")]
    found = re.fullmatch(
        r"a\.png: codes: ([\d,]+) bytes, ([\d.]+(?: → [\d.]+)+) dB by looks at the network's answer, which is worth "
        r"(\d+)%, in [\d.]+ s(?: and (\d+) trials)?",
        told,
    )
    assert found is not None, told
    assert found[1].replace(",", "") == str(Path("a.inr").stat().st_size), "the very bytes of the file"
    way = [float(db) for db in found[2].split(" → ")]
    assert way[0] < way[-1]
    assert 0 < int(found[3]) < 50
    assert (found[4] is None) == options.startswith("-q")
    assert any(line.startswith("a.png: without the network: nothing better: ") for line in said)


def test_a_search_for_a_target_tells_how_far_it_is() -> None:
    told: list[Progress] = []
    api.encode_signal(api.as_signal(COFFEE), EncodeSettings(target_bytes=2500, effort=1), told.append)
    found = [(p.step, p.n_steps) for p in told if p.stage == "search"]
    assert found
    assert all(0 < step < n for step, n in found)


def test_a_target_that_only_the_quick_file_meets_is_met_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    at_effort = codec._at_effort

    def refusing(signal, settings, *rest):  # type: ignore[no-untyped-def]
        if settings.effort > 2:
            raise TargetError("not at this effort")
        return at_effort(signal, settings, *rest)

    monkeypatch.setattr(codec, "_at_effort", refusing)
    limited = inrcodec.encode(COFFEE, quality=60, tune="psnr", time_limit_s=1e6)
    assert limited in (encoded(1), encoded(2))


def test_a_target_that_quick_files_miss_is_met_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    at_effort = codec._at_effort

    def refusing(signal, settings, *rest):  # type: ignore[no-untyped-def]
        if settings.effort < 5:
            raise TargetError("not at this effort")
        return at_effort(signal, settings, *rest)

    monkeypatch.setattr(codec, "_at_effort", refusing)
    assert inrcodec.encode(COFFEE, quality=60, tune="psnr", time_limit_s=0.01) == encoded(5)


def test_without_time_for_another_trial_a_sounds_first_file_is_written() -> None:
    tone = 0.1 * np.sin(np.arange(9000) ** 1.3)
    first, limited = (
        inrcodec.encode(tone, sample_rate_hz=8000, **more) for more in ({}, {"effort": 9, "time_limit_s": 0.01})
    )
    assert first == limited


def test_with_time_for_all_a_limit_changes_nothing() -> None:
    assert inrcodec.encode(COFFEE, quality=60, tune="psnr", effort=7, time_limit_s=1e6) == encoded(7)


def test_cells_asked_for_are_kept() -> None:
    assert api.open(inrcodec.encode(COFFEE, grid="5x9", effort=7)).header.cells == (9, 5)


def test_coarse_pictures_have_larger_cells_where_these_cost_less() -> None:
    picture = np.asarray(Image.open(SAMPLES / "coffee.png").convert("RGB"))[:192, :192]
    fine = api.open(inrcodec.encode(picture, quality=95, tune="psnr", effort=2))
    assert fine.header.cells == (12, 12)
    data = inrcodec.encode(picture, quality=10, tune="psnr", effort=2)
    assert max(api.open(data).header.cells) < 12
    usual = inrcodec.encode(picture, quality=10, tune="psnr", effort=2, grid="12")
    assert cost(data, picture / 255) < cost(usual, picture / 255)


def test_cells_suit_the_step_that_a_target_asks_for() -> None:
    picture = np.asarray(Image.open(SAMPLES / "coffee.png").convert("RGB"))[:192, :192]
    data = inrcodec.encode(picture, bits_per_sample=0.25, effort=1)
    assert max(api.open(data).header.cells) < 12
    assert 0.9 * 0.25 < 8 * len(data) / 192**2 <= 0.25


def test_without_time_to_meet_a_target_twice_the_usual_cells_are_kept() -> None:
    picture = np.asarray(Image.open(SAMPLES / "coffee.png").convert("RGB"))[:192, :192]
    data = inrcodec.encode(picture, bits_per_sample=0.25, effort=1, time_limit_s=0.01)
    assert api.open(data).header.cells == (12, 12)
    assert 0.9 * 0.25 < 8 * len(data) / 192**2 <= 0.25


def test_with_a_target_the_better_of_two_files_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.asarray(Image.open(SAMPLES / "coffee.png").convert("RGB"))[100:228, 150:278]
    found = inrcodec.encode(picture, psnr_db=28, tune="psnr", effort=2)
    monkeypatch.setattr(effort_module, "suited", lambda base, *_: base)
    assert len(found) <= len(inrcodec.encode(picture, psnr_db=28, tune="psnr", effort=2))


@pytest.mark.parametrize("shape", [(4000, 6000), (6000, 4000), (96, 100_000), (100_000, 33), (1080, 1920), (40, 17)])
def test_pieces_of_a_picture_lie_all_over_it_and_are_bounded(shape: tuple[int, int]) -> None:
    grid = Grid.fitting(shape)
    pieces = list(sizes._pieces(grid))
    edges = [[(b[first], b[stop]) for b, (first, stop) in zip(grid.borders, piece, strict=True)] for piece in pieces]
    looked_at = sum((b - a) * (d - c) for (a, b), (c, d) in edges)
    assert min(shape[0] * shape[1], sizes.MOST_SAMPLES) * 0.2 < looked_at < 1.5 * sizes.MOST_SAMPLES
    for axis, n in enumerate(shape):
        spans = [e[axis] for e in edges]
        assert all(0 <= a < b <= n for a, b in spans)
        for at in (0.15, 0.5, 0.85) if n > 3 * sizes.PIECE else ():
            assert min(abs((a + b) / 2 / n - at) for a, b in spans) < 0.2


def test_sounds_choose_their_cells_too() -> None:
    t = np.arange(65536) / 44100
    tone = (0.3 * np.sin(2 * np.pi * 440 * t) + 0.2 * np.sin(2 * np.pi * 991 * t)).astype(np.float32)
    costs, cells = [], []
    for effort in (5, 7):
        file = api.open(data := inrcodec.encode(tone, sample_rate_hz=44100, tune="psnr", effort=effort))
        costs.append(cost(data, tone))
        cells.append(file.header.cells)
    assert cells[0] != cells[1]
    assert costs[1] < costs[0]


@pytest.mark.parametrize("tune", ["psnr", "perceptual"])
def test_distortion_is_the_squared_error_of_heads_in_their_steps(tune: str) -> None:
    signal = api.as_signal(COFFEE)
    settings = EncodeSettings(tune=tune, synthesis="off")
    grid = Grid.fitting(signal.meta.shape)
    field = make_field(CosineField.plan_spec(signal.meta, grid, settings, signal.samples), signal.meta, grid)
    assert isinstance(field, CosineField)
    fitted = field.fit(signal.samples, settings, lambda _: None)
    quantiser = field.quantiser(fitted, 0.07)
    codes = [np.zeros(layout.shape, np.int32) for layout in field.layouts]
    codes[0][-1:] = fitted.masking if fitted.masking is not None else 0
    rng = np.random.default_rng(4)
    codes[-1][...] = rng.integers(-3, 4, codes[-1].shape) * (rng.random(codes[-1].shape) < 0.05)
    weights = field.dequantize(codes, quantiser)
    axes = [np.arange(n) + 0.5 for n in signal.meta.shape]
    error = field.render(weights, axes, (1.0, 1.0)) - np.float32(0.5)  # the centre of pictures
    shrunk = [m - s / 64 for m, s in zip((1, 2, 3), (quantiser.shrink[0], *[quantiser.shrink[1]] * 2), strict=True)]
    wanted = sum(np.count_nonzero(np.abs(codes[-1]) == m) * s**2 for m, s in zip((1, 2, 3), shrunk, strict=True))
    assert field.layouts[-1].dependent
    wanted *= HALF_STEP**2
    assert field.distortion(fitted, quantiser, error.astype(np.float32)) == pytest.approx(wanted, rel=1e-4)


def test_effort_is_for_cosines() -> None:
    with pytest.raises(ValueError, match="--effort belongs to the cosine body"):
        EncodeSettings(body="siren", effort=7)
    with pytest.raises(ValueError, match="wanted 1 to 9"):
        EncodeSettings(effort=10)


def test_stages_say_what_they_gained(cli: Cli) -> None:
    sample("tiny.png")
    said = ok(cli("encode tiny.png -e 7 -v --progress")).err.splitlines()
    for stage in (s for s in STAGES["cosine"] if s.from_effort <= 7):
        (over,) = [line for line in said if line.startswith(f"tiny.png: {stage.name}: ")]
        assert "bytes, " in over and " dB in " in over
    assert any("bpp, " in line and " s left" in line for line in said)
    assert not any("dB in" in line and "bytes" in line for line in ok(cli("encode tiny.png -e 7 -f")).err.splitlines())


@pytest.mark.parametrize("side", [17, 24, 33, 40])
def test_small_pictures_may_try_a_single_cell(side: int) -> None:
    """A grid of one cell has no smooth level, and so no synthesis network either."""
    picture = COFFEE[:side, : side + 3]
    for effort in (7, 9):
        data = inrcodec.encode(picture, effort=effort, quality=60)
        assert inrcodec.open(data).decode().shape == picture.shape


def test_no_rival_is_tried_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    from inrcodec.effort import Search

    seen = []
    trial = Search._trial

    def noted(self: Search, candidate: Any, step: float) -> Any:
        seen.append((candidate.field.grid.cells, candidate.field.spec.synthesis, step, candidate.fitted.looks))
        return trial(self, candidate, step)

    monkeypatch.setattr(Search, "_trial", noted)
    inrcodec.encode(COFFEE[:64, :64], effort=9, quality=60)
    assert len(seen) > 5
    assert len(set(seen)) == len(seen)
    assert {looks for *_, looks in seen} == {2, 6}, "the best goes on for longer, once"
