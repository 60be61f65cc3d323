"""Each task shows the encoder its cells of the drums, and no others."""

import numpy as np
import pytest

from tests.helpers.drum_windows import S, T, batch_of, data_config, rhythm_of, windows_of_hits


def task_config(name, **sections):
    return data_config(task={"tap": 0.0, name: 1.0, "keep_rhythm": 1.0}, **sections)


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
    first = known[..., 0].argmin(1)
    assert first.min() == 0 and (first + missing).max() == n_steps
    if n_steps == T:
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
