"""The grid knows every step's bar, and its operations agree with bars that are walked one by one."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.bars import BarGrid, bar_of_meter

EVEN = BarGrid.four_four(32, 4)
CUT = BarGrid.four_four(41, 4)
UNEVEN = BarGrid(((4, 4, 4), (6, 6), (4, 4, 4, 4), (4, 4), (4,)), 50)
GRIDS = pytest.mark.parametrize("grid", [EVEN, CUT, UNEVEN], ids=["even", "cut", "uneven"])


def rolls(grid, kind):
    x = torch.randn(2, grid.n_steps, 3, generator=torch.Generator().manual_seed(0))
    return x.numpy() if kind == "numpy" else x


def test_every_step_knows_its_bar_its_place_and_its_beat():
    grid = BarGrid(((4, 4, 4), (6, 6), (4, 4)), 31)  # 3/4, 6/8, and 2/4 that is one step short
    assert grid.n_bars == 3 and grid.lengths == (12, 12, 8) and grid.starts == (0, 12, 24)
    assert grid.missing == 1 and grid.whole().n_steps == 32 and grid.longest == 12
    bar, place, length, beat, place_in_beat, beat_length = grid.index
    assert bar.tolist() == [0] * 12 + [1] * 12 + [2] * 7
    assert place.tolist() == [*range(12), *range(12), *range(7)]
    assert length.tolist() == [12] * 24 + [8] * 7
    assert beat.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [0] * 6 + [1] * 6 + [0] * 4 + [1] * 3
    assert np.flatnonzero(place_in_beat == 0).tolist() == [0, 4, 8, 12, 18, 24, 28]
    assert beat_length.tolist() == [4] * 12 + [6] * 12 + [4] * 7
    for array, tensor in zip(grid.index, grid.on("cpu")):
        assert tensor.tolist() == array.tolist()


def test_four_four_is_as_many_bars_as_the_steps_begin():
    assert CUT.lengths == (16, 16, 16) and CUT.missing == 7
    assert BarGrid.four_four_bars(3, 4) == CUT.whole() == BarGrid.four_four(48, 4)
    assert BarGrid.four_four(0, 4).n_bars == 0
    assert BarGrid.four_four(30, 6).lengths == (24, 24)


@pytest.mark.parametrize("n_steps", [16, 33])
def test_the_last_bar_ends_the_grid(n_steps):
    with pytest.raises(ValueError, match=f"n_steps: {n_steps}.*17 to 32"):
        BarGrid(((4, 4, 4, 4), (4, 4, 4, 4)), n_steps)


@GRIDS
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_operations_agree_with_a_walk_over_the_bars(grid, kind):
    x = rolls(grid, kind)
    padded, starts = grid.by_bar(x), grid.at_starts(x)
    sums, before = grid.sums(x), grid.sums_before(x)
    spread = grid.spread(sums)
    assert padded.shape == (2, grid.n_bars, grid.longest, 3)
    for bar, here in enumerate(grid.bars()):
        mine, n = x[:, here], here.stop - here.start
        assert here == grid.steps_of(bar)
        np.testing.assert_array_equal(padded[:, bar, :n], mine)
        assert (padded[:, bar, n:] == 0).all()
        np.testing.assert_array_equal(starts[:, bar], mine[:, 0])
        np.testing.assert_allclose(sums[:, bar], mine.sum(1), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(before[:, here], mine.cumsum(1) - mine, rtol=1e-4, atol=1e-5)
        assert (spread[:, here] == sums[:, bar, None]).all()
    np.testing.assert_array_equal(grid.by_step(padded), x)
    np.testing.assert_array_equal(grid.whole().by_step(padded)[:, : grid.n_steps], x)
    last = grid.by_bar(x.swapaxes(1, 2), -1)  # steps as the last dimension
    np.testing.assert_array_equal(last, padded.swapaxes(2, 3).swapaxes(1, 2))


@GRIDS
def test_means_are_of_the_valid_steps_that_are_set(grid):
    curve, mask = rolls(grid, "torch")[0], torch.arange(grid.n_steps) % 3 > 0
    curve[::5, 1] = torch.nan
    curve[grid.steps_of(1), 2] = torch.nan
    means = grid.means(curve, mask)
    for here in grid.bars():
        for column in range(3):
            mine = curve[here, column][mask[here]]
            expected = mine[~mine.isnan()].mean()
            torch.testing.assert_close(means[here, column], expected.expand(len(means[here])), equal_nan=True)


@GRIDS
def test_a_part_of_the_bars_is_a_grid_of_its_own(grid):
    part = grid.cut(1, grid.n_bars)
    here = grid.steps_of(1, grid.n_bars)
    assert part.n_steps == here.stop - here.start and part.lengths == grid.lengths[1:]
    for mine, whole in zip(part.index[1:], grid.index[1:]):
        assert mine.tolist() == whole[here].tolist()


def test_every_bar_of_a_stream_is_the_same_grid():
    assert EVEN.cut(0, 1) is EVEN.cut(1, 2) is BarGrid.four_four(16, 4)


def test_bar_lines_and_whole_bars():
    assert UNEVEN.lines == (0, 12, 24, 40, 48, 52)
    assert UNEVEN.line(np.array([0, 2, 9])).tolist() == [0, 24, 52]
    assert UNEVEN.bars_within(np.array([0, 11, 12, 40, 50, 52])).tolist() == [0, 0, 1, 3, 4, 5]


def test_an_index_made_while_playing_serves_in_training():
    grid = BarGrid(((4, 4), (4,)), 12)
    with torch.inference_mode():
        grid.by_bar(torch.zeros(1, 12))
    x = torch.ones(1, 12, requires_grad=True)
    grid.by_bar(x).sum().backward()
    assert (x.grad == 1).all()


METERS = {
    "2/4": (4, 4),
    "3/4": (4, 4, 4),
    "4/4": (4, 4, 4, 4),
    "5/4": (4,) * 5,
    "6/4": (4,) * 6,
    "2/2": (8, 8),
    "3/8": (6,),
    "5/8": (4, 6),
    "6/8": (6, 6),
    "7/8": (4, 4, 6),
    "9/8": (6, 6, 6),
    "12/8": (6, 6, 6, 6),
    "7/16": (2, 2, 3),
    "5/32": (1, 2),  # 2.5 steps
}


@pytest.mark.parametrize("meter", METERS)
def test_the_beats_of_a_bar_are_those_of_its_meter(meter):
    assert bar_of_meter(meter) == bar_of_meter(tuple(map(int, meter.split("/")))) == METERS[meter]


@pytest.mark.parametrize("meter", ["9/4", "1/16", "1/32", 1, 33, "3", "3/5", "0/4", "x/4", (3, 4, 4)])
def test_what_is_no_meter_of_2_to_32_steps_is_refused_by_name(meter):
    with pytest.raises(ValueError, match="meter: "):
        BarGrid.of(meter)


@given(
    st.lists(st.one_of(st.sampled_from(list(METERS)), st.integers(2, 32)), min_size=1), st.integers(0, 200)
)
def test_a_grid_of_meters_has_their_bars_and_goes_on_with_the_last(meters, n_steps):
    grid, bars = BarGrid.of(meters), [bar_of_meter(meter) for meter in meters]
    assert grid.beats == tuple(bars) and grid.missing == 0
    assert [sum(bar) for bar, meter in zip(bars, meters) if isinstance(meter, int)] == [
        meter for meter in meters if isinstance(meter, int)
    ]
    longer = BarGrid.of(meters, n_steps)
    assert longer.n_steps == n_steps
    for number, bar in enumerate(longer.beats):
        assert bar == bars[min(number, len(bars) - 1)]


def test_four_four_is_one_meter_of_many():
    assert BarGrid.of("4/4", 41) is CUT
