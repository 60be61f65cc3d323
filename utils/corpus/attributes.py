"""What a bar of drums is like: how dense, how loud, on which voices."""

import numpy as np


def bar_attributes(onset, vel, steps_per_bar):
    """Density, intensity and instrument of every bar.

    onset, vel: (..., T, V), onset in {0, 1}, vel in [0, 1]. A last bar that is cut short counts as a
    whole bar whose missing steps are silent.

    Returns, with n_bars = ceil(T / steps_per_bar), float32:
    density (..., n_bars): share of the bar's steps_per_bar * V cells that are hit, in [0, 1];
    intensity (..., n_bars): mean velocity of the bar's hits, in [0, 1], NaN where there are none;
    instrument (..., n_bars, V): per voice, share of the bar's steps that are hit, in [0, 1].
    """
    onset, vel = np.asarray(onset, np.float32), np.asarray(vel, np.float32)
    *lead, T, V = onset.shape
    missing = -T % steps_per_bar
    if missing:
        pad = [(0, 0)] * len(lead) + [(0, missing), (0, 0)]
        onset, vel = np.pad(onset, pad), np.pad(vel, pad)
    bars = (*lead, (T + missing) // steps_per_bar, steps_per_bar, V)
    onset, vel = onset.reshape(bars), vel.reshape(bars)

    hits_per_voice = onset.sum(-2)  # (..., n_bars, V)
    hits = hits_per_voice.sum(-1)  # (..., n_bars)
    loudness = (vel * onset).sum((-2, -1))
    intensity = np.where(hits > 0, loudness / np.maximum(hits, 1), np.nan).astype(np.float32)
    return hits / (steps_per_bar * V), intensity, hits_per_voice / steps_per_bar
