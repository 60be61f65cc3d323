"""Batches: what is unset, and that the seed alone decides."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from data_aug import ABOUT_RHYTHM, RHYTHM_KEYS, DrumBatches, Pieces, collate, swap_rhythm, unset_controls
from model.controls import CONTROLS
from tests.helpers.drum_windows import (
    CONFIG,
    S,
    T,
    assert_same,
    batch_of,
    data_config,
    hits,
    rhythm_of,
    twelve_performances,
    windows_of_hits,
)
from utils.config.schema import load_config
from utils.midi.drums import STYLE_NONE
from utils.midi.read import rhythm_roll

FLOAT_CONTROLS = [name for name, control in CONTROLS.items() if control.n_ids is None]


# -------------------------------------------------------------------------------- what is unset


def unset(batch, name):
    gone = ~CONTROLS[name].is_set(batch[name])
    return gone[:, S:] if name == "steady" else gone  # the first bar has none before it


@pytest.mark.parametrize("name", CONTROLS)
def test_a_dropped_control_is_unset_over_the_whole_window(name):
    batch = batch_of(data_config(drop={name: 0.3}), windows_of_hits(1000))
    for other in CONTROLS:
        gone = unset(batch, other).reshape(1000, -1)
        assert (gone.all(1) == gone.any(1)).all()
        assert abs(gone.all(1).float().mean() - 0.3 * (other == name)) < 0.05


def test_all_controls_are_dropped_together():
    batch = batch_of(data_config(drop={"all_controls": 0.3}), windows_of_hits(1000))
    gone = [unset(batch, name).reshape(1000, -1).all(1) for name in CONTROLS]
    assert all(torch.equal(part, gone[0]) for part in gone) and abs(gone[0].float().mean() - 0.3) < 0.05


def test_single_voices_are_dropped_from_none_to_all():
    gone = batch_of(data_config(drop={"voice": 0.4}), windows_of_hits(2000))["instrument"].isnan()
    assert (gone == gone[:, :1]).all()
    share = gone[:, 0].float().mean(1)
    assert abs((share > 0).float().mean() - 0.4 * 0.9) < 0.04  # a share near none may strike none
    assert abs(share[share > 0].mean() - 0.5 / 0.9) < 0.04 and set((share * 9).round().tolist()) == set(
        range(10)
    )


def test_one_control_or_one_voice_is_left_alone():
    batch = batch_of(data_config(drop={"all_but_one": 0.5}), windows_of_hits(2000))
    names = list(CONTROLS)
    there = torch.stack([~unset(batch, name).reshape(2000, -1) for name in names[:2]]).all(2)
    voices, style = ~batch["instrument"][:, 0].isnan(), ~unset(batch, "style").all(1)
    steady = ~unset(batch, "steady").all(1)
    n_left = there.sum(0) + (voices.sum(1) == 9) + style + steady
    kept_whole, one_voice = n_left == len(CONTROLS), voices.sum(1) == 1
    assert abs(kept_whole.float().mean() - 0.5) < 0.05
    assert (n_left[~kept_whole & ~one_voice] == 1).all() and (n_left[one_voice] == 0).all()
    every = voices.sum(1) == 9
    for part, share in ((there[0], 1), (there[1], 1), (every, 1), (style, 1), (steady, 1), (one_voice, 2)):
        assert abs((part & ~kept_whole).float().mean() - share / 14) < 0.03
    assert len(voices[one_voice].nonzero()[:, 1].unique()) == 9


def test_a_voice_that_is_left_alone_plays_more_often_than_chance_would_have_it():
    """Of nine voices three play, one of them in every tenth window. Drawn alike it would be asked for where
    it plays in 1 of 90 windows; it is in half of them, and in the other half ten times as likely as each of
    the other two."""
    vel = np.zeros((4000, T, 9), np.float32)
    vel[:, :, :2] = 0.6
    vel[::10, :, 7] = 0.6
    batch = batch_of(
        data_config(drop={"all_but_one": 1.0}), (vel, np.zeros_like(vel), np.ones((4000, T), bool))
    )
    voices = ~batch["instrument"][:, 0].isnan()
    one_voice, plays = voices.sum(1) == 1, batch["onset"].any(1)
    there = (voices[:, 7] & plays[:, 7])[one_voice].float().mean()
    assert abs(there - (0.1 / 9 + 0.1 * 10 / 12) / 2) < 0.015
    assert (voices & ~plays)[one_voice].any(0).sum() == 7


@pytest.mark.parametrize(
    "drop, parts",
    [("context", ["use_context"]), ("latent", ["use_latent"]), ("rhythm", ["use_context", "use_latent"])],
)
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


@pytest.fixture(scope="module")
def cache():
    return twelve_performances()


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
    kinds = {
        torch.float32: ("onset", "vel", "timeoffset", *RHYTHM_KEYS, *FLOAT_CONTROLS),
        torch.int64: ("style", "rhythm_is", "pads", "phrase", "bar_index", "bar_table"),
        torch.bool: ("mask", "known_onset", "known_vel", "use_context", "use_latent"),
    }
    assert {name: tensor.dtype for name, tensor in batch.items()} == {
        n: kind for kind in kinds for n in kinds[kind]
    }


def loaded(batches, n_workers, start=0, stop=6):
    loader = torch.utils.data.DataLoader(
        batches, batch_size=None, sampler=range(start, stop), num_workers=n_workers
    )
    return list(loader)


def test_workers_do_not_change_the_batches(cache):
    data = load_config(CONFIG).Data
    alone = loaded(DrumBatches(cache, "train", data, 16, seed=5), 0)
    for first, second in zip(alone, loaded(DrumBatches(cache, "train", data, 16, seed=5), 2), strict=True):
        assert_same(first, second)
    resumed = loaded(DrumBatches(cache, "train", data, 16, seed=5), 0, start=4)
    assert_same(resumed[1], alone[5])


def test_the_seed_decides_the_order_and_the_augmentation(cache):
    plain = [DrumBatches(cache, "train", data_config(), 16, seed)[0]["vel"] for seed in (5, 6)]
    assert not torch.equal(*plain)
    one_window = replace(cache, files=cache.files[:1])
    jittered = data_config(augmentation={"timing_jitter": 1.0})
    heard = [
        DrumBatches(one_window, "train", jittered, 16, seed)[0]["rhythm_timeoffset"] for seed in (5, 6, 5)
    ]
    assert torch.equal(heard[0], heard[2]) and not torch.equal(heard[0], heard[1])
    assert not torch.equal(heard[0][0], heard[0][1])


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


def test_shuffled_bars_are_of_the_same_performance(cache):
    """Each at its own place or drawn from the whole performance; without the chance nothing moves."""
    shuffled = DrumBatches(cache, "train", data_config(augmentation={"bar_shuffle": 1.0}), 8, seed=2)
    kept = DrumBatches(cache, "train", data_config(), 8, seed=2)
    moved, n_bars = 0, 0
    for n in range(len(shuffled)):
        for row, window in enumerate(shuffled._windows_of(n)):
            file = cache.files[shuffled.file[window]]
            whole = cache.vel[file["start"] : file["start"] + file["n_steps"]].reshape(-1, S, 9)
            of_performance = {bar.tobytes() for bar in whole}
            for bar in range(shuffled.length[window] // S):
                here = slice(bar * S, (bar + 1) * S)
                vel = np.rint(shuffled[n]["vel"][row, here].numpy() * 127).astype(np.uint8)
                assert vel.tobytes() in of_performance
                moved += not torch.equal(shuffled[n]["vel"][row, here], kept[n]["vel"][row, here])
                n_bars += 1
    assert 0.2 < moved / n_bars < 0.6


def test_a_batch_of_halves_holds_the_same_drums(cache):
    data = data_config()
    whole = DrumBatches(cache, "train", data, 8, seed=3)[0]
    halves = DrumBatches(cache, "train", data.model_copy(update={"halves": 1.0}), 8, seed=3)[0]
    assert halves["vel"].shape == (16, T // 2, 9) and halves["style"].shape == (16, T // 2)
    full = whole["mask"].all(1)
    assert full.any()
    for name in ("onset", "vel", "timeoffset", "rhythm_vel", "style"):
        assert torch.equal(halves[name].reshape(whole[name].shape)[full], whole[name][full])
    pieces, tokens = Pieces(
        DrumBatches(cache, "train", data.model_copy(update={"halves": 1.0}), 8, seed=3), 5, 2
    )[0]
    assert [piece["noise"].shape for piece in pieces] == [(8, 2, 5)] * 2
    assert tokens["steps"] == int(halves["mask"].sum())


def test_validation_is_plain_and_in_order(cache):
    data = load_config(CONFIG).Data
    batches = DrumBatches(cache, "validation", data, 3, augment=False, hop_bars=data.clip_bar)
    assert len(batches.start) % 3  # so that the last batch is short
    assert (np.diff(batches.start) > 0).all() and (
        batches.start[:-1] + batches.length[:-1] <= batches.start[1:]
    ).all()
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
    assert {"rhythm_is", "pads", *RHYTHM_KEYS} == {*ABOUT_RHYTHM}
    before = {name: tensor.clone() for name, tensor in batch.items()}
    bare = unset_controls(batch)
    assert all(unset(bare, name).all() for name in CONTROLS)
    swapped = swap_rhythm(batch)
    for name in batch:
        if name not in (*FLOAT_CONTROLS, "style"):
            assert torch.equal(bare[name], batch[name])
        if name in ABOUT_RHYTHM:
            assert torch.equal(swapped[name][1:], batch[name][:-1]) and torch.equal(
                swapped[name][0], batch[name][-1]
            )
        else:
            assert swapped[name] is batch[name]
    assert_same(batch, before)


def test_last_steps_of_a_run_are_plain_but_for_tasks_and_drops(cache):
    """From plain_from on, what is played is what the corpus holds, and the whole of it is tapped."""
    data = load_config(CONFIG, ["Data.drop.rhythm_tail=0", "Data.halves=0"]).Data
    plain = DrumBatches(cache, "train", data, 8, seed=1, plain_from=3)
    varied = DrumBatches(cache, "train", data, 8, seed=1)
    assert_same(plain[2], varied[2])
    batch = plain[3]
    onset, heard = batch["onset"].numpy(), batch["rhythm_onset"].numpy()[..., 3]
    originals = {cache.vel[s : s + n].tobytes() for s, n in zip(plain.start, plain.length)}
    for row in range(8):
        length = int(batch["mask"][row].sum())
        played = np.rint(batch["vel"][row, :length].numpy() * 127).astype(np.uint8)
        assert played.tobytes() in originals
        assert not heard[row].any() or (heard[row] == onset[row].any(-1)).all()
    assert batch["density"].isnan().any() and not batch["density"].isnan().all()
