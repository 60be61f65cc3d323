"""Batches: what every augmentation must keep, what the encoder may know, and that seeds decide."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import data_aug
from data_aug import RHYTHM_KEYS, DrumBatches, collate, make_batch, swap_rhythm, unset_controls
from utils import augment
from utils.attributes import bar_attributes
from utils.cache import Cache
from utils.config import load_config
from utils.drums import RHYTHM_CHANNEL, STYLE_NONE, VOICES
from utils.midi import rhythm_roll

CONFIG = Path(__file__).parents[1] / "config.yaml"
S, T = 16, 64
NORMALIZE = {"density": [0.12, 0.05], "intensity": [0.55, 0.15]}
KICK, SNARE, CLOSED, FLOOR, OPEN, MID, CRASH, HIGH, RIDE = range(9)
FLOAT_CONTROLS = ("density", "intensity", "instrument")


# ------------------------------------------------------------------------------------ material


def data_config(**sections):
    """The config's Data with every probability 0 and the plain rhythm and task, but for `sections`.

    data_config(augmentation={"swing": 1}) strikes every window with swing and nothing else.
    """
    plain = load_config(CONFIG).Data
    values = {}
    for section in ("augmentation", "drop"):
        for name, value in dict(getattr(plain, section)).items():
            if not name.endswith(("_max", "_range", "_std", "_share")):
                values[f"{section}.{name}"] = 0.0
    for section, only in (("rhythm_source", "loudest"), ("task", "tap")):
        for name in dict(getattr(plain, section)):
            values[f"{section}.{name}"] = float(name == only)
    for section, changed in sections.items():
        values.update({f"{section}.{name}": value for name, value in changed.items()})
    return load_config(CONFIG, [f"Data.{key}={value}" for key, value in values.items()]).Data


def task_config(name, **sections):
    return data_config(task={"tap": 0.0, name: 1.0, "keep_rhythm": 1.0}, **sections)


def hits(rng, n_steps, share=0.2):
    """Random rolls as the cache stores them: vel uint8 and offset int16, (n_steps, 9)."""
    vel = (rng.random((n_steps, 9)) < share) * rng.integers(1, 128, (n_steps, 9))
    offset = np.where(vel > 0, rng.integers(-32768, 32768, vel.shape), 0)
    return vel.astype(np.uint8), offset.astype(np.int16)


def windows_of_hits(n_rows=32, seed=0, share=0.2, n_steps=T):
    rng = np.random.default_rng(seed)
    return collate([hits(rng, n_steps, share) for _ in range(n_rows)], T)


def one_window(*events, n_steps=T):
    """(vel, offset), each (1, n_steps, 9), from (step, voice, velocity, offset) events."""
    vel, offset = np.zeros((2, 1, n_steps, 9), np.float32)
    for step, voice, velocity, late in events:
        vel[0, step, voice], offset[0, step, voice] = velocity, late
    return vel, offset


def events_of(vel, offset, row=0):
    """[(step, voice, velocity, offset)], the inverse of one_window."""
    return [(int(t), int(v), float(vel[row, t, v]), float(offset[row, t, v])) for t, v in zip(*np.nonzero(vel[row]))]


def batch_of(data, vel_offset_mask=None, seed=0):
    vel, offset, mask = vel_offset_mask or windows_of_hits()
    style = np.arange(len(vel)) % 18
    return make_batch(vel.copy(), offset.copy(), mask, style, data, NORMALIZE, np.random.default_rng(seed))


def rhythm_of(batch):
    return [batch[name][..., RHYTHM_CHANNEL].numpy() for name in RHYTHM_KEYS]


@pytest.fixture(scope="module")
def cache():
    """Twelve performances of 1 to 9 bars, nine of them for training."""
    rng, files, start, rolls = np.random.default_rng(1), [], 0, []
    for index in range(12):
        n_steps = S * (1 + index * 3 % 10)
        split = ("train", "train", "train", "validation")[index % 4]
        files.append({"name": f"{index}.mid", "split": split, "style": index, "bpm": 120.0,
                      "beat_type": "beat", "start": start, "n_steps": n_steps})
        start += n_steps
        rolls.append(hits(rng, n_steps))
    vel, offset = (np.concatenate(part) for part in zip(*rolls))
    return Cache(vel=vel, offset=offset, files=files, normalize_factor=NORMALIZE, settings={}, report={})


def assert_same(batch, other):
    assert batch.keys() == other.keys()
    for name in batch:
        assert torch.equal(torch.nan_to_num(batch[name].double(), 99), torch.nan_to_num(other[name].double(), 99)), name


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


def test_double_time_puts_the_first_half_on_even_steps():
    vel, offset = one_window((0, KICK, 0.5, -0.25), (5, RIDE, 0.25, 0.375), (31, CRASH, 0.75, 0.125), (32, KICK, 1.0, 0.0))
    expected = [(0, KICK, 0.5, -0.25), (10, RIDE, 0.25, 0.375), (62, CRASH, 0.75, 0.125)]
    assert events_of(*augment.double_time(vel, offset)) == expected


def test_half_time_plays_the_even_steps_twice():
    vel, offset = one_window((0, KICK, 0.5, -0.25), (7, CLOSED, 0.75, 0.0), (8, SNARE, 0.25, 0.375), (62, RIDE, 1.0, 0.125))
    once = [(0, KICK, 0.5, -0.25), (4, SNARE, 0.25, 0.375), (31, RIDE, 1.0, 0.125)]
    assert events_of(*augment.half_time(vel, offset)) == once + [(step + 32, *rest) for step, *rest in once]


@settings(max_examples=30, deadline=None)
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


@pytest.mark.parametrize("name, share", [("voice_shift", 1.0), ("swing", 0.3), ("tightness", 1.0), ("velocity_scale", 0.25)])
def test_each_probability_strikes_its_share_of_the_windows(name, share):
    windows = windows_of_hits(1000)
    batch = batch_of(data_config(augmentation={name: share}), windows)
    changed = (batch["vel"].numpy() != windows[0]) | (batch["timeoffset"].numpy() != windows[1])
    assert abs(changed.any((1, 2)).mean() - share) < 0.05


@pytest.mark.parametrize("seed", range(3))
def test_every_batch_keeps_the_rules_of_a_roll(cache, seed):
    chances = dict(load_config(CONFIG).Data.augmentation)
    often = {name: 0.5 for name in chances if not name.endswith(("_max", "_range", "_std", "_share"))}
    data = data_config(augmentation={**often, "mask_velocity": 0.0})
    batch = DrumBatches(cache, "train", data, 32, seed)[0]
    mask = batch["mask"][..., None]
    for prefix in ("", "rhythm_"):
        onset, vel, late = (batch[prefix + name] for name in ("onset", "vel", "timeoffset"))
        assert ((onset == 0) | (onset == 1)).all()
        assert torch.equal(onset > 0, vel > 0) and vel.max() <= 1
        assert late.min() >= -0.5 and late.max() < 0.5
        assert not late[onset == 0].any() and not onset[~mask.expand_as(onset)].any()
    assert all(batch[name].dtype == torch.float32 for name in ("onset", "vel", "timeoffset", *RHYTHM_KEYS, *FLOAT_CONTROLS))
    assert batch["style"].dtype == torch.int64
    assert all(batch[name].dtype == torch.bool for name in ("mask", "known_onset", "known_vel", "use_context", "use_latent"))


def test_labels_are_those_of_what_is_played():
    data = data_config(augmentation={"voice_shift": 1.0, "velocity_scale": 1.0, "half_time": 0.5})
    batch = batch_of(data)
    density, intensity, instrument = bar_attributes(batch["onset"].numpy(), batch["vel"].numpy(), S)
    for name, bars in (("density", density), ("intensity", intensity)):
        mean, deviation = NORMALIZE[name]
        np.testing.assert_allclose(batch[name][:, ::S] * deviation + mean, bars, atol=1e-5)
    np.testing.assert_allclose(batch["instrument"][:, ::S], instrument, atol=1e-6)
    per_bar = batch["density"].reshape(-1, T // S, S)
    assert (per_bar == per_bar[..., :1]).all()
    assert (batch["style"] == (torch.arange(32) % 18)[:, None]).all()


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
    _, heard, late = rhythm_of(batch_of(data_config(rhythm_source={"loudest": 0.0, "voice_subset": 1.0}), (vel, offset, mask)))
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


@pytest.mark.parametrize("chance, part, value", [("mask_velocity", 1, 0.0), ("mask_offset", 2, 0.0), ("flat_velocity", 1, 1.0)])
def test_a_feature_of_the_rhythm_is_replaced_and_the_others_stay(chance, part, value):
    plain, new = heard_with(**{chance: 1.0})
    for index in range(3):
        expected = plain[0] * value if index == part else plain[index]
        np.testing.assert_array_equal(new[index], expected)


def test_jitter_moves_the_heard_hits_a_little():
    (onset, vel, late), (new_onset, new_vel, new_late) = heard_with(timing_jitter=1.0, timing_jitter_std=0.04)
    np.testing.assert_array_equal(new_onset, onset)
    np.testing.assert_array_equal(new_vel, vel)
    inner = (onset > 0) & (np.abs(late) < 0.3)
    assert abs((new_late - late)[inner].std() - 0.04) < 0.002
    assert not new_late[onset == 0].any() and np.abs(new_late).max() <= 0.5


# -------------------------------------------------------------------------------- what is known


def known_in(name, windows=None, **sections):
    batch = batch_of(task_config(name, **sections), windows or windows_of_hits(200))
    assert not (batch["known_vel"] & ~batch["known_onset"]).any()
    assert not (batch["known_onset"] & ~batch["mask"][..., None]).any()
    return batch, batch["known_onset"].numpy(), batch["known_vel"].numpy()


def test_a_tap_knows_nothing():
    batch = batch_of(data_config())
    assert not batch["known_onset"].any() and not batch["known_vel"].any()


def test_humanise_knows_the_onsets_alone():
    short = windows_of_hits(8, n_steps=40)
    _, known_onset, known_vel = known_in("humanise", short)
    assert known_onset[:, :40].all() and not known_onset[:, 40:].any() and not known_vel.any()


def test_add_voice_knows_whole_voices_but_not_all():
    vel, offset, mask = windows_of_hits(400)
    silent = np.random.default_rng(3).random((400, 1, 9)) < 0.6
    vel, offset = np.where(silent, 0, vel), np.where(silent, 0, offset)
    _, known_onset, known_vel = known_in("add_voice", (vel, offset, mask))
    np.testing.assert_array_equal(known_onset, known_vel)
    voices = known_vel.any(1)
    assert (known_vel == voices[:, None]).all() and voices.any(1).all() and not voices.all(1).any()
    plays = (vel > 0).any(1)
    assert (voices & plays).any(1)[plays.any(1)].all()
    assert (~voices & plays).any(1)[plays.sum(1) > 1].all()
    assert voices[plays].mean() > 2 * voices[~plays].mean()


@pytest.mark.parametrize("n_steps", [T, 48, 16, 3])
def test_infill_knows_all_but_one_span(n_steps):
    _, known_onset, known_vel = known_in("infill", windows_of_hits(300, n_steps=n_steps))
    np.testing.assert_array_equal(known_onset, known_vel)
    known = known_vel[:, :n_steps]
    assert (known == known[..., :1]).all()
    edges = np.abs(np.diff(np.pad(known[..., 0], ((0, 0), (1, 1)), constant_values=True).astype(int))).sum(1)
    missing = (~known[..., 0]).sum(1)
    assert (edges == 2).all() and missing.min() == min(4, n_steps)
    assert missing.max() == max(int(0.75 * n_steps), min(4, n_steps))
    if n_steps == T:
        first = known[..., 0].argmin(1)
        assert ((missing % S == 0) & (first % S == 0)).mean() > 0.45


def test_continue_knows_everything_before_a_bar_line():
    _, known_onset, known_vel = known_in("continue")
    np.testing.assert_array_equal(known_onset, known_vel)
    bar_line = known_vel[..., 0].sum(1)
    assert (known_vel == (np.arange(T) < bar_line[:, None])[..., None]).all()
    assert set(bar_line) == {S, 2 * S, 3 * S}
    _, one_bar, _ = known_in("continue", windows_of_hits(50, n_steps=S))
    assert (~one_bar[:, :S]).any((1, 2)).all()


def test_known_cells_keep_the_context_and_hear_the_rhythm_in_their_share():
    drops = {"context": 1.0, "rhythm": 1.0, "rhythm_tail": 1.0}
    windows = windows_of_hits(1000)
    data = data_config(task={"tap": 0.0, "infill": 1.0, "keep_rhythm": 0.3}, drop=drops)
    batch = batch_of(data, windows)
    assert batch["use_context"].all() and batch["use_latent"].all()
    onset, vel, late = rhythm_of(batch)
    heard = onset.any(1)
    assert abs(heard.mean() - 0.3) < 0.05
    assert not vel[~heard].any() and not late[~heard].any()
    np.testing.assert_array_equal(vel[heard], windows[0][heard].max(2))


def test_tasks_come_by_their_weights():
    batch = batch_of(data_config(task={"tap": 3.0, "humanise": 1.0}), windows_of_hits(1000))
    assert abs(batch["known_onset"].any(2).any(1).float().mean() - 0.25) < 0.05


# -------------------------------------------------------------------------------- what is unset


def unset(batch, name):
    return batch[name] == STYLE_NONE if name == "style" else batch[name].isnan()


@pytest.mark.parametrize("name", ["density", "intensity", "instrument", "style"])
def test_a_dropped_control_is_unset_over_the_whole_window(name):
    batch = batch_of(data_config(drop={name: 0.3}), windows_of_hits(1000))
    for other in ("density", "intensity", "instrument", "style"):
        gone = unset(batch, other).reshape(1000, -1)
        assert (gone.all(1) == gone.any(1)).all()
        assert abs(gone.all(1).float().mean() - 0.3 * (other == name)) < 0.05


def test_all_controls_are_dropped_together():
    batch = batch_of(data_config(drop={"all_controls": 0.3}), windows_of_hits(1000))
    gone = [unset(batch, name).reshape(1000, -1).all(1) for name in ("density", "intensity", "instrument", "style")]
    assert all(torch.equal(part, gone[0]) for part in gone) and abs(gone[0].float().mean() - 0.3) < 0.05


def test_single_voices_are_dropped_in_half_of_the_windows():
    gone = batch_of(data_config(drop={"voice": 0.4}), windows_of_hits(1000))["instrument"].isnan()
    assert (gone == gone[:, :1]).all()
    struck = gone[:, 0].any(1)
    assert abs(struck.float().mean() - 0.5) < 0.05
    assert abs(gone[:, 0][struck].float().mean() - 0.4) < 0.05


@pytest.mark.parametrize("drop, parts", [("context", ["use_context"]), ("latent", ["use_latent"]),
                                         ("rhythm", ["use_context", "use_latent"])])
def test_the_rhythm_is_dropped_part_by_part(drop, parts):
    batch = batch_of(data_config(drop={drop: 0.3}), windows_of_hits(1000))
    gone = ~batch[parts[0]]
    assert (gone == gone[:, :1]).all() and abs(gone.float().mean() - 0.3) < 0.05
    for name in ("use_context", "use_latent"):
        assert torch.equal(~batch[name], gone if name in parts else torch.zeros_like(gone))


def test_after_a_dropped_tail_nothing_of_the_rhythm_is_left():
    batch = batch_of(data_config(drop={"rhythm_tail": 1.0}), windows_of_hits(200, share=1.0))
    cut = batch["use_context"].sum(1)
    step = torch.arange(T)
    assert cut.min() >= 1 and cut.max() < T and len(set(cut.tolist())) > 40
    assert torch.equal(batch["use_context"], step < cut[:, None])
    assert torch.equal(batch["use_latent"], step // S < (cut // S)[:, None])
    for part in rhythm_of(batch)[:2]:
        assert torch.equal(torch.from_numpy(part) > 0, batch["use_context"])
    assert batch["onset"].all()


# ----------------------------------------------------------------------------- the dataset itself


def loaded(batches, n_workers, start=0, stop=6):
    loader = torch.utils.data.DataLoader(batches, batch_size=None, sampler=range(start, stop), num_workers=n_workers)
    return list(loader)


def test_workers_do_not_change_the_batches(cache):
    data = load_config(CONFIG).Data
    alone = loaded(DrumBatches(cache, "train", data, 16, seed=5), 0)
    for first, second in zip(alone, loaded(DrumBatches(cache, "train", data, 16, seed=5), 2), strict=True):
        assert_same(first, second)
    resumed = loaded(DrumBatches(cache, "train", data, 16, seed=5), 0, start=4)
    assert_same(resumed[1], alone[5])
    with pytest.raises(AssertionError):
        assert_same(alone[0], DrumBatches(cache, "train", data, 16, seed=6)[0])


def test_each_epoch_shows_every_window_in_an_order_of_its_own(cache):
    batches = DrumBatches(cache, "train", data_config(), 7)
    n_windows = len(batches.start)
    assert n_windows % 7  # else nothing is filled up
    assert len(batches) == -(-n_windows // 7)
    epochs = []
    for epoch in range(2):
        rows = [batches[n]["vel"] for n in range(epoch * len(batches), (epoch + 1) * len(batches))]
        assert all(len(vel) == 7 for vel in rows)
        epochs.append([vel.numpy().tobytes() for vel in torch.cat(rows)])
    assert set(epochs[0]) == set(epochs[1]) and len(set(epochs[0])) == n_windows
    assert epochs[0] != epochs[1]


def test_windows_are_those_of_their_performance(cache):
    batches = DrumBatches(cache, "train", data_config(), 1)
    by_style = {file["style"]: file for file in cache.files}
    for n in range(len(batches)):
        batch = batches[n]
        file = by_style[int(batch["style"][0, 0])]
        assert file["split"] == "train"
        length = int(batch["mask"].sum())
        assert length == min(T, file["n_steps"])
        whole = cache.rolls(file["start"], file["start"] + file["n_steps"])
        starts = range(0, file["n_steps"] - length + 1, S)
        rolls = [batch[name][0, :length].numpy() for name in ("onset", "vel", "timeoffset")]
        assert any(all(np.array_equal(a, b[s : s + length]) for a, b in zip(rolls, whole)) for s in starts)


def test_validation_is_plain_and_in_order(cache):
    data = load_config(CONFIG).Data
    batches = DrumBatches(cache, "validation", data, 4, augment=False, hop_bars=data.clip_bar)
    assert (np.diff(batches.start) > 0).all() and (batches.start[:-1] + batches.length[:-1] <= batches.start[1:]).all()
    made = [batches[n] for n in range(len(batches))]
    assert sum(len(batch["vel"]) for batch in made) == len(batches.start)
    batch = {name: torch.cat([part[name] for part in made]) for name in made[0]}
    for row, (start, length) in enumerate(zip(batches.start, batches.length)):
        onset, vel, late = cache.rolls(start, start + length)
        np.testing.assert_array_equal(batch["vel"][row, :length], vel)
        np.testing.assert_array_equal(batch["timeoffset"][row, :length], late)
        np.testing.assert_array_equal(batch["rhythm_vel"][row, :length], rhythm_roll(onset, vel, late)[1])
    assert not batch["known_onset"].any() and batch["use_context"].all() and batch["use_latent"].all()
    assert not batch["density"].isnan().any() and (batch["style"] != STYLE_NONE).all()
    with pytest.raises(IndexError):
        batches[len(batches)]


def test_a_split_without_windows_is_an_error(cache):
    with pytest.raises(ValueError, match="'test'"):
        DrumBatches(cache, "test", data_config(), 4)


def test_collate_pads_and_says_where():
    rng = np.random.default_rng(0)
    clips = [hits(rng, n_steps) for n_steps in (T, 20, 1)]
    vel, offset, mask = collate(clips, T)
    assert mask.sum(1).tolist() == [T, 20, 1]
    for row, (clip_vel, clip_offset) in enumerate(clips):
        np.testing.assert_array_equal(vel[row][mask[row]], clip_vel / np.float32(127))
        np.testing.assert_array_equal(offset[row][mask[row]], clip_offset / np.float32(65536))
        assert not vel[row][~mask[row]].any() and not offset[row][~mask[row]].any()
    for n_steps in (0, T + 1):
        with pytest.raises(ValueError, match=f"clip 1 has {n_steps} steps"):
            collate([clips[0], hits(rng, n_steps)], T)


def test_unset_controls_and_swap_rhythm_change_only_what_they_name():
    batch = batch_of(data_config())
    before = {name: tensor.clone() for name, tensor in batch.items()}
    bare = unset_controls(batch)
    assert all(unset(bare, name).all() for name in ("density", "intensity", "instrument", "style"))
    swapped = swap_rhythm(batch)
    for name in batch:
        if name not in (*FLOAT_CONTROLS, "style"):
            assert torch.equal(bare[name], batch[name])
        if name in RHYTHM_KEYS:
            assert torch.equal(swapped[name][1:], batch[name][:-1]) and torch.equal(swapped[name][0], batch[name][-1])
        else:
            assert swapped[name] is batch[name]
    assert_same(batch, before)
