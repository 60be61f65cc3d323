"""What every augmentation must keep: of what is played, and of what is heard of it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_aug import RHYTHM_KEYS
from model.bars import BarGrid
from tests.helpers.drum_windows import NORMALIZE, S, T, batch_of, data_config, rhythm_of, windows_of_hits
from utils.corpus import augment
from utils.corpus.attributes import bar_attributes
from utils.midi.drums import VOICES
from utils.midi.read import rhythm_roll

KICK, SNARE, CLOSED, FLOOR, OPEN, MID, CRASH, HIGH, RIDE = range(9)


def one_window(*events, n_steps=T):
    """(vel, offset), each (1, n_steps, 9), from (step, voice, velocity, offset) events."""
    vel, offset = np.zeros((2, 1, n_steps, 9), np.float32)
    for step, voice, velocity, late in events:
        vel[0, step, voice], offset[0, step, voice] = velocity, late
    return vel, offset


def events_of(vel, offset, row=0):
    """[(step, voice, velocity, offset)], the inverse of one_window."""
    return [
        (int(t), int(v), float(vel[row, t, v]), float(offset[row, t, v]))
        for t, v in zip(*np.nonzero(vel[row]))
    ]


# ------------------------------------------------------------------------------- what is played


def test_voice_shift_moves_one_part_and_keeps_the_rest():
    vel, offset, _ = windows_of_hits(200, share=0.1)
    new_vel, new_offset = augment.voice_shift(vel, offset, np.random.default_rng(0))
    moves_seen = set()
    for row in range(len(vel)):
        before, after = events_of(vel, offset, row), events_of(new_vel, new_offset, row)
        matching = [name for name, move in augment.VOICE_MOVES.items() if _moved(before, move) == after]
        assert len(matching) == 1
        moves_seen.add(matching[0])
    assert moves_seen == set(augment.VOICE_MOVES)


def _moved(events, move):
    """The same move, hit by hit: the louder of two hits in a cell stays."""
    to = {VOICES.index(a): VOICES.index(b) for a, b in move.items()}
    cells = {}
    for step, voice, velocity, late in sorted(events, key=lambda event: event[2]):
        cells[step, to.get(voice, voice)] = velocity, late
    return [(step, voice, *rest) for (step, voice), rest in sorted(cells.items())]


def test_voice_shift_draws_a_move_that_changes_the_window():
    vel, offset = one_window((0, KICK, 0.5, 0.0), (4, RIDE, 0.5, 0.1))
    for seed in range(20):
        shifted, _ = augment.voice_shift(vel, offset, np.random.default_rng(seed))
        assert shifted[0, 4, RIDE] == 0 and shifted[0, 4].any()
    silent = np.zeros_like(vel)
    assert not augment.voice_shift(silent, silent, np.random.default_rng(0))[0].any()


def test_voice_drop_takes_one_voice_and_leaves_another():
    vel, offset, mask = windows_of_hits(200, share=0.1)
    new_vel, new_offset = augment.voice_drop(vel, offset, mask.sum(1), np.random.default_rng(0))
    gone = (vel > 0) & (new_vel == 0)
    np.testing.assert_array_equal(new_vel, np.where(gone, 0, vel))
    np.testing.assert_array_equal(new_offset, np.where(gone, 0, offset))
    assert (gone.any(1).sum(1) <= 1).all()
    throughout = (gone == (vel > 0)).all(1) & gone.any(1)
    assert 0.4 < throughout.any(1).mean() < 0.7  # the others lose it for a while
    assert len(np.unique(np.nonzero(gone)[2])) == 9


def test_a_voice_that_plays_alone_is_not_dropped():
    vel, offset = one_window((0, KICK, 0.5, 0.0), (4, KICK, 0.5, 0.1))
    for seed in range(10):
        kept, _ = augment.voice_drop(vel, offset, np.array([T]), np.random.default_rng(seed))
        np.testing.assert_array_equal(kept, vel)


def test_voice_mix_puts_the_cymbals_of_others_over_the_drums():
    (vel, offset, _), (other_vel, other_offset, _) = windows_of_hits(seed=0), windows_of_hits(seed=1)
    mixed = augment.voice_mix(vel, offset, other_vel, other_offset)
    drums, cymbals = [KICK, SNARE, FLOOR, MID, HIGH], [CLOSED, OPEN, CRASH, RIDE]
    for got, own, others in zip(mixed, (vel, offset), (other_vel, other_offset)):
        np.testing.assert_array_equal(got[..., drums], own[..., drums])
        np.testing.assert_array_equal(got[..., cymbals], others[..., cymbals])


def test_a_mixed_window_has_no_style():
    played = windows_of_hits(40)
    batch = batch_of(data_config(augmentation={"voice_mix": 0.5}), played)
    changed = (batch["vel"].numpy() != played[0]).any((1, 2))
    assert 0.3 < changed.mean() < 0.7
    unset = (batch["style"] == 18).all(1).numpy()
    assert unset[changed].all() and not unset[~changed].all()


def test_halves_are_windows_of_their_own():
    vel, offset, mask = windows_of_hits(4)
    mask[1, T // 2 :] = False  # a clip that fills the first half
    halves = augment.halves([vel, offset], mask, [BarGrid.four_four(mask.shape[1], 4)] * len(mask))
    for roll, whole in zip(halves, (vel, offset, mask)):
        assert roll.shape == (8, T // 2, *whole.shape[2:])
        np.testing.assert_array_equal(roll[::2], whole[:, : T // 2])
        np.testing.assert_array_equal(roll[5::2], whole[2:, T // 2 :])
        np.testing.assert_array_equal(roll[3], whole[1, : T // 2])


def test_double_time_puts_the_first_half_on_even_steps():
    vel, offset = one_window(
        (0, KICK, 0.5, -0.25), (5, RIDE, 0.25, 0.375), (31, CRASH, 0.75, 0.125), (32, KICK, 1.0, 0.0)
    )
    expected = [(0, KICK, 0.5, -0.25), (10, RIDE, 0.25, 0.375), (62, CRASH, 0.75, 0.125)]
    assert events_of(*augment.double_time(vel, offset)) == expected


def test_half_time_plays_the_even_steps_twice():
    vel, offset = one_window(
        (0, KICK, 0.5, -0.25), (7, CLOSED, 0.75, 0.0), (8, SNARE, 0.25, 0.375), (62, RIDE, 1.0, 0.125)
    )
    once = [(0, KICK, 0.5, -0.25), (4, SNARE, 0.25, 0.375), (31, RIDE, 1.0, 0.125)]
    assert events_of(*augment.half_time(vel, offset)) == once + [(step + 32, *rest) for step, *rest in once]


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 0.5))
def test_half_time_undoes_double_time(seed, share):
    vel, offset, _ = windows_of_hits(4, seed, share)
    for got, played in zip(augment.half_time(*augment.double_time(vel, offset)), (vel, offset)):
        np.testing.assert_array_equal(got[:, : T // 2], played[:, : T // 2])
        np.testing.assert_array_equal(got[:, T // 2 :], played[:, : T // 2])


def test_clips_shorter_than_the_window_keep_their_time():
    short = windows_of_hits(8, n_steps=40)
    batch = batch_of(data_config(augmentation={"double_time": 0.5, "half_time": 0.5}), short)
    np.testing.assert_array_equal(batch["vel"], short[0])
    full = windows_of_hits(8)
    batch = batch_of(data_config(augmentation={"double_time": 0.5, "half_time": 0.5}), full)
    assert (batch["vel"].numpy() != full[0]).any((1, 2)).all()


def test_swing_makes_every_second_step_later():
    vel, offset, _ = windows_of_hits()
    amount = np.linspace(0, 0.25, len(vel)).astype(np.float32)
    swung = augment.swing(vel, offset, amount)
    np.testing.assert_array_equal(swung[:, 0::2], offset[:, 0::2])
    expected = np.minimum(offset[:, 1::2] + amount[:, None, None], augment.LATEST)
    np.testing.assert_array_equal(swung[:, 1::2], np.where(vel[:, 1::2] > 0, expected, 0))


def test_tightness_scales_every_offset():
    vel, offset, _ = windows_of_hits()
    tight = augment.tighten(offset, np.full(len(vel), 0.5, np.float32))
    np.testing.assert_array_equal(tight, offset / 2)
    loose = augment.tighten(offset, np.full(len(vel), 1.3, np.float32))
    assert loose.min() == -0.5 and loose.max() == augment.LATEST
    inner = np.abs(offset) < 0.35
    np.testing.assert_allclose(loose[inner], offset[inner] * 1.3, rtol=1e-6)


def test_velocity_scaling_keeps_hits_and_their_order():
    vel, _, _ = windows_of_hits()
    power = np.random.default_rng(0).uniform(0.7, 1.4, len(vel)).astype(np.float32)
    scaled = augment.scale_velocity(vel, power)
    np.testing.assert_array_equal(scaled > 0, vel > 0)
    assert scaled.max() <= 1 and scaled[scaled > 0].min() >= augment.SOFTEST
    for row, exponent in enumerate(power):
        before, after = vel[row][vel[row] > 0], scaled[row][vel[row] > 0]
        assert (np.diff(after[np.argsort(before)]) >= 0).all()
        np.testing.assert_allclose(after, np.maximum(before**exponent, augment.SOFTEST), rtol=1e-5)


@pytest.mark.parametrize(
    "name, share", [("voice_shift", 1.0), ("swing", 0.3), ("tightness", 1.0), ("velocity_scale", 0.25)]
)
def test_each_probability_strikes_its_share_of_the_windows(name, share):
    windows = windows_of_hits(1000)
    batch = batch_of(data_config(augmentation={name: share}), windows)
    changed = (batch["vel"].numpy() != windows[0]) | (batch["timeoffset"].numpy() != windows[1])
    assert abs(changed.any((1, 2)).mean() - share) < 0.05


def test_labels_are_those_of_what_is_played():
    data = data_config(augmentation={"voice_shift": 1.0, "velocity_scale": 1.0, "half_time": 0.5})
    batch = batch_of(data)
    density, intensity, instrument, _ = bar_attributes(
        batch["onset"].numpy(), batch["vel"].numpy(), BarGrid.four_four(batch["vel"].shape[1], S // 4)
    ).values()
    for name, bars in (("density", density), ("intensity", intensity)):
        mean, deviation = NORMALIZE[name]
        np.testing.assert_allclose(batch[name][:, ::S] * deviation + mean, bars, atol=1e-5)
    np.testing.assert_allclose(batch["instrument"][:, ::S], instrument, atol=1e-6)
    per_bar = batch["density"].reshape(-1, T // S, S)
    assert (per_bar == per_bar[..., :1]).all()
    assert (batch["style"].numpy() == (np.arange(32) % 18)[:, None]).all()


def test_a_bar_without_hits_has_no_intensity():
    vel, offset = one_window((0, KICK, 0.5, 0.0), (40, SNARE, 0.5, 0.0))
    batch = batch_of(data_config(), (vel, offset, np.ones((1, T), bool)))
    assert batch["intensity"][0, ::S].isnan().tolist() == [False, True, False, True]
    assert not batch["density"].isnan().any() and not batch["instrument"].isnan().any()


# -------------------------------------------------------------------------------- what is heard


def test_the_loudest_rhythm_is_that_of_rhythm_roll():
    windows = windows_of_hits(8)
    batch = batch_of(data_config(), windows)
    for row in range(8):
        expected = rhythm_roll((windows[0][row] > 0).astype(np.float32), windows[0][row], windows[1][row])
        for name, roll in zip(RHYTHM_KEYS, expected):
            np.testing.assert_array_equal(batch[name][row], roll)


@pytest.mark.parametrize("source, voices", [("kick_snare", [KICK, SNARE]), ("hats", [CLOSED, OPEN, RIDE])])
def test_a_rhythm_of_some_voices_hears_only_these(source, voices):
    vel, offset, mask = windows_of_hits()
    vel[0][:, voices] = offset[0][:, voices] = 0
    batch = batch_of(data_config(rhythm_source={"loudest": 0.0, source: 1.0}), (vel, offset, mask))
    onset, heard, _ = rhythm_of(batch)
    np.testing.assert_array_equal(heard[1:], vel[1:][..., voices].max(2))
    np.testing.assert_array_equal(heard[0], vel[0].max(1))  # none of them plays: all are heard
    assert np.array_equal(batch["vel"], vel)


def test_a_random_subset_of_voices_is_heard():
    vel, offset, mask = windows_of_hits(100, share=0.3)
    data = data_config(rhythm_source={"loudest": 0.0, "voice_subset": 1.0})
    _, heard, late = rhythm_of(batch_of(data, (vel, offset, mask)))
    subsets = (np.arange(1, 512)[:, None] >> np.arange(9) & 1).astype(bool)
    seen = set()
    for row in range(100):
        of_subset = (vel[row][None] * subsets[:, None]).max(2)
        explains = np.flatnonzero((of_subset == heard[row]).all(1))
        assert len(explains) == 1
        seen.add(int(explains[0]))
    assert len(seen) > 80
    assert ((vel == heard[..., None]) & (offset == late[..., None])).any(2).all()


def heard_with(seed=0, n_rows=400, **chances):
    windows = windows_of_hits(n_rows, share=0.3)
    plain = rhythm_of(batch_of(data_config(), windows))
    batch = batch_of(data_config(augmentation=chances), windows, seed)
    np.testing.assert_array_equal(batch["vel"], windows[0])  # the target never changes with what is heard
    np.testing.assert_array_equal(batch["timeoffset"], windows[1])
    return plain, rhythm_of(batch)


def test_masked_steps_go_unheard():
    (onset, vel, late), (new_onset, new_vel, new_late) = heard_with(mask_steps=1.0, mask_steps_share=0.25)
    assert abs(1 - new_onset.sum() / onset.sum() - 0.25) < 0.02
    for plain, new in ((onset, new_onset), (vel, new_vel), (late, new_late)):
        np.testing.assert_array_equal(new, plain * new_onset)


def test_a_masked_span_is_one_run_of_at_most_half_the_window():
    windows = windows_of_hits(400, share=1.0)
    onset, *_ = rhythm_of(batch_of(data_config(augmentation={"mask_span": 1.0}), windows))
    edges = np.abs(np.diff(np.pad(onset, ((0, 0), (1, 1)), constant_values=1))).sum(1)
    assert (edges == 2).all()
    missing = (onset == 0).sum(1)
    assert missing.min() == 1 and missing.max() == T // 2


@pytest.mark.parametrize(
    "chance, part, value", [("mask_velocity", 1, 0.0), ("mask_offset", 2, 0.0), ("flat_velocity", 1, None)]
)
def test_a_feature_of_the_rhythm_is_replaced_and_the_others_stay(chance, part, value):
    plain, new = heard_with(**{chance: 1.0})
    for index in range(3):
        expected = plain[index]
        if index == part:
            level = new[part].max(-1, keepdims=True)  # one for the whole window
            expected = plain[0] * (level if value is None else value)
        np.testing.assert_array_equal(new[index], expected)


def test_jitter_moves_the_heard_hits_a_little():
    (onset, vel, late), (new_onset, new_vel, new_late) = heard_with(timing_jitter=1.0, timing_jitter_std=0.04)
    np.testing.assert_array_equal(new_onset, onset)
    np.testing.assert_array_equal(new_vel, vel)
    inner = (onset > 0) & (np.abs(late) < 0.3)
    assert abs((new_late - late)[inner].std() - 0.04) < 0.002
    assert not new_late[onset == 0].any() and np.abs(new_late).max() <= 0.5


def test_flat_velocities_differ_from_window_to_window_within_their_range():
    onset, vel, _ = heard_with(flat_velocity=1.0)[1]
    levels = vel.max(-1)[onset.any(-1)]
    assert len(np.unique(levels)) > 10 and levels.min() >= 0.3 and levels.max() <= 1.0


def test_a_rhythm_is_louder_or_softer_only_where_an_intensity_is_asked_for():
    """The target, the timing and the order of the tap's accents stay."""
    chances = {"rhythm_loudness": 0.6, "rhythm_power_range": [0.3, 3.0]}
    batch = batch_of(data_config(augmentation=chances, drop={"intensity": 0.5}), windows_of_hits(400))
    plain = batch_of(data_config(drop={"intensity": 0.5}), windows_of_hits(400))
    for name in set(batch) - {"rhythm_vel"}:
        assert torch.equal(batch[name].nan_to_num(9), plain[name].nan_to_num(9))
    heard, before = (rhythm_of(b)[1] for b in (batch, plain))
    changed, asked = (heard != before).any(1), ~batch["intensity"].isnan().all(1).numpy()
    assert not changed[~asked].any() and abs(changed[asked].mean() - 0.6) < 0.08
    medium = (before > 0.2) & (before < 0.9)
    power = np.log(heard[medium]) / np.log(before[medium])
    assert 0.25 < power.min() < 0.4 and 2.2 < power.max() < 3.2
    for row in np.flatnonzero(changed):
        order = np.argsort(before[row], kind="stable")
        assert (np.diff(heard[row][order]) >= 0).all()
