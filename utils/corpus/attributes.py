"""What a bar of drums is like: how dense, how loud, on which voices."""

import numpy as np

from model.controls import CONTROLS


def bar_attributes(onset, vel, grid):
    """The quantities of every bar that controls ask for: {name: values}, float32, for all CONTROLS that are
    measured.

    onset, vel: (..., T, V), onset in {0, 1}, vel in [0, 1]. grid: the BarGrid of the steps, N bars. A last
    bar that is cut short counts as a whole bar whose missing steps are silent.

    density (..., N): share of the bar's cells that are hit, in [0, 1];
    intensity (..., N): mean velocity of the bar's hits, in [0, 1], NaN where there are none;
    instrument (..., N, V): per voice, share of the bar's steps that are hit, in [0, 1].
    """
    onset, vel = np.asarray(onset, np.float32), np.asarray(vel, np.float32)
    return {
        name: control.measure(onset, vel, grid)
        for name, control in CONTROLS.items()
        if control.measure is not None
    }
