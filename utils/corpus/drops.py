"""What of a batch is unset or changed, so that each control, the context and the latent can be left out.

Shapes: B windows, T steps, V voices. A batch is a dict of arrays, as data_aug.make_batch makes it, and is
changed in place.
"""

import numpy as np

from model.controls import CONTROLS, UNSET_KIND, UNSET_PHRASE
from utils.corpus import augment
from utils.midi.drums import N_VOICES

RHYTHM_KEYS = ("rhythm_onset", "rhythm_vel", "rhythm_timeoffset")


def drop_rhythm(batch, grid, data, rng):
    """Unsets the context and the latent by Data.drop, and silences rhythms; changes the
    batch. The place in the phrase is unset by Data.drop, too.

    Known cells reach the decoder through the context alone. So a window that has some keeps its
    context, loses the latent only by drop.latent, and has a silent rhythm with the probability
    1 - task.keep_rhythm. Where rhythm_tail happens, the encoder does not read the tail either.
    """
    drop, (n_rows, n_steps) = data.drop, batch["mask"].shape
    length = batch["mask"].sum(1)
    taps = ~batch["known_onset"].any((1, 2))

    def happens(probability):
        return rng.random(n_rows) < probability

    both = taps & happens(drop.rhythm)
    no_context = both | (taps & happens(drop.context))
    no_latent = both | happens(drop.latent)
    cut = np.where(taps & happens(drop.rhythm_tail), rng.integers(1, np.maximum(length, 2)), n_steps)

    step = np.arange(n_steps)
    batch["use_context"] = (step < cut[:, None]) & ~no_context[:, None]
    n_bars = grid.bars_within(cut)
    batch["use_latent"] = (grid.index.bar < n_bars[:, None]) & ~no_latent[:, None]
    without_rhythm = ~taps & ~happens(data.task.keep_rhythm)
    silent = (step >= cut[:, None]) | without_rhythm[:, None]
    for name in RHYTHM_KEYS:
        batch[name][silent] = 0
    unknown = happens(drop.rhythm_is) if drop.rhythm_is else np.zeros(n_rows, bool)
    batch["rhythm_is"][unknown | without_rhythm] = UNSET_KIND
    batch["pads"][silent] = 0
    if batch["pads"].any():
        batch["pads"][unknown | happens(drop.pads)] = 0
    if (batch["phrase"] != UNSET_PHRASE).any():
        batch["phrase"][happens(drop.phrase)] = UNSET_PHRASE


def drop_controls(batch, drop, rng):
    """Unsets controls by the probabilities of Data.drop, window by window; changes the batch.

    A musician often sets one control alone, which independent drops would hardly ever leave: so all_but_one
    leaves one control, or one voice, and nothing else. In half of these windows it is a voice that plays,
    rare voices more often: a share of 0 for a tom teaches nothing of how to play it.
    """
    n_rows = len(batch["mask"])

    def happens(probability):
        return rng.random(n_rows) < probability

    everything, alone = happens(drop.all_controls), happens(drop.all_but_one)
    # a control that is never given takes no part, nor any random number
    given = {name: control for name, control in CONTROLS.items() if getattr(drop, name) < 1}
    for name in CONTROLS.keys() - given.keys():
        batch[name][:] = CONTROLS[name].unset
    left = rng.choice([*given, "voice", "voice"], n_rows)
    for name, control in given.items():
        gone = np.where(alone, left != name, happens(getattr(drop, name)))
        if name == "instrument":
            gone &= ~(alone & (left == "voice"))
        batch[name][everything | gone] = control.unset
    # a window's own share of voices, from none to all of them
    share = np.where(happens(drop.voice), rng.random(n_rows), 0)
    voices = rng.random((n_rows, N_VOICES)) < share[:, None]
    plays = batch["onset"].any(1)
    rarity = np.where(rng.random((n_rows, 1)) < 0.5, plays / np.maximum(plays.sum(0), 1), 1) + 1e-9
    only = np.arange(N_VOICES) == augment.one_of(rarity, rng)[:, None]
    voices = np.where((alone & (left == "voice"))[:, None], ~only, voices)
    batch["instrument"][np.broadcast_to(voices[:, None], batch["instrument"].shape)] = np.nan


def shift_loudness(batch, chance, rng):
    """Makes the rhythm of some windows with an intensity louder or softer than the drums; changes the batch.

    So that with a loud tap and a low intensity the drums are soft, and the tap's accents are kept.
    """
    chosen = rng.random(len(batch["mask"])) < chance.rhythm_loudness
    rows = np.flatnonzero(chosen & ~np.isnan(batch["intensity"]).all(1))
    power = np.exp(rng.uniform(*np.log(chance.rhythm_power_range), len(rows))).astype(np.float32)
    batch["rhythm_vel"][rows] = augment.scale_velocity(batch["rhythm_vel"][rows], power)
