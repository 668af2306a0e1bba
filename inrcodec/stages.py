"""What --effort tries, by body: alternatives to the best candidate so far, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from .fields import make_field
from .fields.cosine import CosineField
from .grid import Grid
from .render import widen_alpha
from .settings import EncodeSettings
from .signals import Signal
from .trial import Candidate, Trial

__all__ = ["STAGES", "Rival", "Stage", "suited"]

# Sizes of all cells relative to the default ones (16 × 16 in pictures): from effort 7, and more of them from 8 on
FACTORS = {"image": (0.75, 0.875, 1.25, 1.5), "sound": (2.0,), "array": (0.5, 2.0)}
MORE_FACTORS = {"image": (0.8125, 1.125, 1.375, 1.75, 2.0), "sound": (0.5, 4.0), "array": (0.75, 1.5)}
SHAPES = (0.8, 1.25)  # sizes on one axis relative to the best so far
MORE_LOOKS, TIMES_LOOKS = 6, 2.5  # of Fitted.looks; measured 2 to 2.4


@dataclass(frozen=True)
class Rival:
    """An alternative to the best candidate so far, made only when its turn comes; None where a quick look at it says
    that it is not worth a trial; quick: such a look, for which there is always time. name: the same for rivals that are
    the same under one network; grid: on which they are, where that is not their name and matters; times: as long as
    another trial it takes."""

    name: str
    make: Callable[[], Candidate | None]
    grid: str = ""
    quick: bool = False
    times: float = 1.0


@dataclass(frozen=True)
class Stage:
    """Alternatives that are tried from an effort on, against the best candidate so far (see effort.py)."""

    name: str
    from_effort: int
    rivals: Callable[[Trial, EncodeSettings], Sequence[Rival]]


def _network(best: Trial, settings: EncodeSettings) -> Sequence[Rival]:
    """Without the synthesis network; below effort 7 only where the very codes are better without it."""
    if not best.field.spec.synthesis:
        return ()

    def without() -> Candidate | None:
        field = make_field(
            replace(best.field.spec, synthesis=0, deltas=False), best.field.signal, best.field.grid, settings.prior
        )
        plain = Candidate(field, best.candidate.fitted)
        heads_alone = replace(best, candidate=plain, codes=(best.codes[0], best.codes[-1]))
        if settings.effort < 7 and heads_alone.quality_db < best.quality_db:
            return None
        return plain

    return (Rival("chosen", without, quick=settings.effort < 7),)


def _cells(best: Trial, settings: EncodeSettings) -> Sequence[Rival]:
    """Cells of other sizes, where none was asked for."""
    meta = best.field.signal
    usual = CosineField.default_cells(meta, settings)
    factors = FACTORS[meta.kind] + (MORE_FACTORS[meta.kind] if settings.effort >= 8 else ())
    return _grids(best, settings, (tuple(m / f for m in usual) for f in (1.0, *sorted(factors))))


def _shape(best: Trial, settings: EncodeSettings) -> Sequence[Rival]:
    """Cells longer or shorter on one axis, where none was asked for; a single axis has had them all."""
    cells = best.field.grid.cells
    if len(cells) == 1:
        return ()
    wanted = (
        tuple(m / f if d == axis else float(m) for d, m in enumerate(cells))
        for axis in range(len(cells))
        for f in SHAPES
    )
    return _grids(best, settings, wanted)


def _grids(best: Trial, settings: EncodeSettings, wanted: Iterable[tuple[float, ...]]) -> Sequence[Rival]:
    """The best so far on grids of about so many cells, each grid once."""
    if settings.grid != "auto":
        return ()
    meta = best.field.signal
    grids = dict.fromkeys(
        tuple(min(max(1, round(m)), n) for m, n in zip(cells, meta.shape, strict=True)) for cells in wanted
    )

    def on(cells: tuple[int, ...]) -> Callable[[], Candidate]:
        return lambda: _on_grid(best.candidate, best.signal, settings, cells)

    return [Rival(Grid.uniform(meta.shape, cells).name, on(cells)) for cells in grids if cells != best.field.grid.cells]


def _on_grid(base: Candidate, signal: Signal, settings: EncodeSettings, cells: tuple[int, ...]) -> Candidate:
    """The candidate with other cells."""
    spec, fitted, meta = base.field.spec, base.fitted, signal.meta
    grid = Grid.uniform(meta.shape, cells)
    # without samples: the colour axes are those found already
    planned = base.field.plan_spec(meta, grid, settings)
    # a single cell has no smooth level to go with networks
    synthesis, detail = (spec.synthesis, spec.detail) if planned.pitch else (0, 0)
    planned = replace(planned, synthesis=synthesis, detail=detail, deltas=spec.deltas and synthesis > 0)
    field = make_field(replace(planned, rotation=spec.rotation), meta, grid, settings.prior)
    fresh = field.fit(widen_alpha(signal.samples, meta), settings, lambda _: None)
    return Candidate(field, replace(fresh, samples=fitted.samples, tuning=fitted.tuning, looks=fitted.looks))


def suited(base: Candidate, signal: Signal, settings: EncodeSettings, step: float) -> Candidate:
    """The candidate with cells of the size that suits the signal at a step, where no grid was asked for; itself where
    its own do."""
    field = base.field
    if settings.grid != "auto" or not isinstance(field, CosineField):
        return base
    cells = field.suited_cells(base.fitted, field.quantiser(base.fitted, step))
    return base if cells == field.grid.cells else _on_grid(base, signal, settings, cells)


def _looks(best: Trial, settings: EncodeSettings) -> Sequence[Rival]:
    """Codes and network that have gone on longer to agree, and all that comes after with them."""
    fitted = best.candidate.fitted
    if not (best.field.spec.dependent and best.field.spec.synthesis) or fitted.looks >= MORE_LOOKS:
        return ()
    longer = replace(best.candidate, fitted=replace(fitted, looks=MORE_LOOKS))
    return (Rival(f"{MORE_LOOKS} of them", lambda: longer, best.field.grid.name, times=TIMES_LOOKS),)


# In the order of what they are expected to gain for their time. Adding one: a function that makes rivals of the best
# trial so far, and one line here; its family has `distortion`.
STAGES = {
    "cosine": (
        Stage("without the network", 2, _network),
        Stage("cells", 7, _cells),
        Stage("shape", 9, _shape),
        Stage("looks", 7, _looks),
    )
}
