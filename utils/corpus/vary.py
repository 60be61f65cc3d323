"""What a training window's drums become: augmented, and plainer where the rhythm is a part.

Shapes: B windows, T steps, V = 9 voices; vel and offset (B, T, V) as in utils.corpus.augment, mask (B, T).
"""

import numpy as np

from utils.corpus import augment, rhythms
from utils.midi.drums import STYLE_NONE

STEPS_PER_BAR = 16  # of 4/4


def vary_target(vel, offset, mask, style, chance, rng, four_four=True):
    """Augments the drums in place by the probabilities of Data.augmentation.

    Double and half time, the mix of two windows and repeated bars leave those alone that are shorter than a
    window or not 4/4, four_four (B,). Returns the rows whose bars are no longer in their order.
    """
    n_rows, full = len(vel), mask.all(1) & four_four

    def random_rows(probability):
        return np.flatnonzero(rng.random(n_rows) < probability)

    out_of_order = np.zeros(n_rows, bool)
    if chance.repeat_bar:
        rows = random_rows(chance.repeat_bar)
        rows = rows[full[rows]]
        out_of_order[rows] = True
        vel[rows], offset[rows] = augment.repeat_bars(vel[rows], offset[rows], STEPS_PER_BAR, rng)
    if chance.plain:
        rows = random_rows(chance.plain)
        softest = rng.uniform(*chance.plain_range, len(rows)).astype(np.float32)
        vel[rows], offset[rows] = augment.plain(vel[rows], offset[rows], softest)

    rows = random_rows(chance.voice_shift)
    vel[rows], offset[rows] = augment.voice_shift(vel[rows], offset[rows], rng)

    rows = random_rows(chance.voice_mix)
    rows = rows[full[rows]]
    partner = rng.permutation(rows)
    vel[rows], offset[rows] = augment.voice_mix(vel[rows], offset[rows], vel[partner], offset[partner])
    style[rows] = STYLE_NONE

    rows = random_rows(chance.voice_drop)
    vel[rows], offset[rows] = augment.voice_drop(vel[rows], offset[rows], mask[rows].sum(1), rng)

    stretch = np.where(full, rng.random(n_rows), 1)
    out_of_order |= stretch < chance.double_time + chance.half_time
    rows = np.flatnonzero(stretch < chance.double_time)
    vel[rows], offset[rows] = augment.double_time(vel[rows], offset[rows])
    stretch -= chance.double_time
    rows = np.flatnonzero((stretch >= 0) & (stretch < chance.half_time))
    vel[rows], offset[rows] = augment.half_time(vel[rows], offset[rows])

    rows = random_rows(chance.swing)
    amount = (rng.random(len(rows)) * chance.swing_max).astype(np.float32)
    offset[rows] = augment.swing(vel[rows], offset[rows], amount)

    rows = random_rows(chance.tightness)
    factor = rng.uniform(*chance.tightness_range, len(rows)).astype(np.float32)
    offset[rows] = augment.tighten(offset[rows], factor)

    rows = random_rows(chance.velocity_scale)
    power = rng.uniform(*chance.velocity_power_range, len(rows)).astype(np.float32)
    vel[rows] = augment.scale_velocity(vel[rows], power)
    return out_of_order


def simplify(vel, offset, mask, kind, chance, rng, four_four):
    """Makes the drums of some windows whose rhythm is a part plainer, in place, by the probabilities of
    Data.part: a song's drums. Windows that are not whole bars of 4/4, four_four (B,), stay. Returns the rows
    whose bars are no longer in their order."""
    n_rows = len(vel)
    parts = (kind == rhythms.PART) & mask.all(1) & four_four
    plain = np.flatnonzero(parts & (rng.random(n_rows) < chance.plain))
    if len(plain):
        vel[plain], offset[plain] = augment.simple_beat(vel[plain], offset[plain])
    again = np.flatnonzero(parts & (rng.random(n_rows) < chance.repeat_bar))
    if len(again):
        vel[again], offset[again] = augment.repeat_bars(vel[again], offset[again], STEPS_PER_BAR, rng)
    return again
