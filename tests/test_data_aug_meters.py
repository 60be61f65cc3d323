"""Batches of windows in bars of any meter."""

import numpy as np
import pytest
import torch

from data_aug import DrumBatches, Pieces
from model.bars import BarGrid
from model.batch_bars import BatchGrid
from tests.helpers.drum_windows import (
    CONFIG,
    NORMALIZE,
    S,
    T,
    assert_same,
    data_config,
    hits,
    twelve_performances,
)
from utils.config.schema import load_config
from utils.corpus.attributes import bar_attributes
from utils.corpus.cache import Cache, bars_of, grid_of, windows


@pytest.fixture(scope="module")
def cache():
    return twelve_performances()


@pytest.fixture(scope="module")
def mixed():
    """Performances in 4/4, 3/4, 6/8, 5/4 and 7/8, one with a bar of 2/4 in it, one of bars of 32 steps."""
    meters = [["4/4"] * 9, ["3/4"] * 11, ["6/8"] * 7, ["5/4"] * 6, ["7/8"] * 8]
    meters += [["4/4", "4/4", "2/4", *["4/4"] * 5], [32] * 3, ["3/4"] * 2, ["4/4"] * 2]
    rng, files, start, rolls = np.random.default_rng(2), [], 0, []
    for index, bars in enumerate(meters):
        grid = BarGrid.of(bars)
        about = {"name": f"{index}.mid", "split": "train", "style": index, "bpm": 120.0, "beat_type": "beat"}
        files.append(about | {"start": start, "n_steps": grid.n_steps, "bars": bars_of(grid)})
        start += grid.n_steps
        rolls.append(hits(rng, grid.n_steps))
    vel, offset = (np.concatenate(part) for part in zip(*rolls))
    return Cache(vel=vel, offset=offset, files=files, normalize_factor=NORMALIZE, settings={}, report={})


def test_windows_are_whole_bars_of_the_file(mixed):
    start, length = windows(mixed, "train", T, S)
    for file in mixed.files:
        grid, here = grid_of(file), (start >= file["start"]) & (start < file["start"] + file["n_steps"])
        lines = np.array(grid.lines)
        for first, n in zip(start[here] - file["start"], length[here]):
            assert first in lines and first + n in lines and n <= T
            bar = list(lines).index(first)
            longest = lines[lines <= first + T].max() - first
            assert n == longest or (bar == 0 and n == file["n_steps"])
        # every bar is in a window, and every window begins a bar or more after the one before it
        if file["n_steps"] >= T:
            covered = np.zeros(file["n_steps"], bool)
            for first, n in zip(start[here] - file["start"], length[here]):
                covered[first : first + n] = True
            assert covered[: lines[-1] - max(grid.lengths)].all()
    only = windows(mixed, "train", T, S, four_four=True)[0]
    in_four = [file for file in mixed.files if not file["bars"]]
    assert len(in_four) == 2 and len(only) == 6 + 1
    short, n = windows(mixed, "train", T, S, longest_bar=16)
    assert set(short) < set(start) and len(short) < len(start) and len(n) == len(short)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("meter", [0.0, 0.5])
@pytest.mark.parametrize("halves", [0.0, 1.0])
def test_a_batch_of_many_meters_keeps_the_rules(mixed, seed, meter, halves):
    chances = dict(load_config(CONFIG).Data.augmentation)
    often = {name: 0.3 for name in chances if not name.endswith(("_max", "_range", "_std", "_share"))}
    tasks = {"humanise": 1.0, "add_voice": 1.0, "infill": 1.0, "continue": 1.0}
    data = data_config(augmentation={**often, "meter": meter}, task=tasks, drop={"rhythm_tail": 0.3})
    data.halves = halves
    batches = DrumBatches(mixed, "train", data, 16, seed)
    assert_same(batches[0], DrumBatches(mixed, "train", data, 16, seed)[0])
    for n in range(3):
        batch, width = batches[n], T // 2 if halves else T
        grid, mask = BatchGrid.in_batch(batch), batch["mask"]
        assert mask.shape == (32 if halves else 16, width) and mask[:, 0].all()
        assert (mask.int().diff(dim=1) <= 0).all()  # a window, then padding
        assert not batch["onset"][~mask].any()
        for row, own in enumerate(grid.rows()):
            n_valid = int(mask[row].sum())
            assert own.n_steps == width and (n_valid in own.lines or n_valid == width)
            here = {name: batch[name][row].numpy() for name in ("onset", "vel", "density")}
            bars = bar_attributes(here["onset"], here["vel"], own)
            density = (bars["density"] - NORMALIZE["density"][0]) / NORMALIZE["density"][1]
            got = here["density"][list(own.starts)]
            assert np.isnan(got).all() or np.allclose(got, density, atol=1e-5)
            for name in ("use_latent",):
                use = batch[name][row].numpy()
                assert all(len(set(use[bar].tolist())) == 1 for bar in own.bars())


def test_batches_of_four_four_alone_have_no_bars_of_their_own(cache):
    batches = DrumBatches(cache, "train", data_config(), 8)
    assert "bar_index" not in batches[0]
    batches = DrumBatches(cache, "train", data_config(augmentation={"meter": 1.0}), 8)
    assert {"bar_index", "bar_table"} <= batches[0].keys()


def test_in_another_meter_a_window_takes_bars_that_follow_it(cache):
    """Every hit is one of the performance, at its place in the bar that it comes from, or is gone."""
    batches = DrumBatches(cache, "train", data_config(augmentation={"meter": 1.0}), 16)
    shares = []
    for n in range(4):
        batch = batches[n]
        shares.append(batch["mask"].float().mean().item())
        for row, window in enumerate(batches._windows_of(n)):
            file = cache.files[batches.file[window]]
            whole = cache.rolls(file["start"], file["start"] + file["n_steps"])[1]
            downbeats = {tuple(step) for step in whole[::S].round(4).tolist()}
            vel = batch["vel"][row].numpy()
            for line in BatchGrid.in_batch(batch).rows()[row].starts:
                if batch["mask"][row, line]:
                    assert tuple(vel[line].round(4).tolist()) in downbeats
    assert np.mean(shares) > 0.75


def test_pieces_of_a_batch_of_many_meters_have_their_own_bars(mixed):
    batches = DrumBatches(mixed, "train", data_config(augmentation={"meter": 0.5}), 8)
    whole, (pieces, tokens) = batches[0], Pieces(batches, 4, n_each=2)[0]
    grid = BatchGrid.in_batch(whole)
    assert tokens["bars"] == sum(
        int(own.bars_within(int(n))) for own, n in zip(grid.rows(), whole["mask"].sum(1))
    )
    for piece, rows in zip(pieces, (slice(0, 4), slice(4, 8))):
        assert torch.equal(piece["bar_index"], whole["bar_index"][rows])
        assert torch.equal(piece["bar_table"], whole["bar_table"][rows])
        assert piece["noise"].shape == (4, grid.n_bars, 4)
