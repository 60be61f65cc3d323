"""A small classifier of the style of a bar: does a bar sound like the style that was asked for?

It is trained on the real bars of the training split in a few seconds; how often it is right of real bars of
another split is what generated ones can reach.
"""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from utils.midi.drums import N_STYLES

D_HIDDEN, DROPOUT = 128, 0.5
STEPS, BATCH = 300, 512
LEARNING_RATE, WEIGHT_DECAY = 3e-3, 1.0


class StyleClassifier:
    """Trained on rolls (W, T, V) with the bars of a BarGrid, and their styles (W,). `styles`: the ids that it
    knows. The same bars and version of torch give the same classifier."""

    def __init__(self, rolls, style, grid, seed=0):
        x, y = features(rolls, grid), torch.from_numpy(np.repeat(style, grid.n_bars))
        bars = torch.bincount(y, minlength=N_STYLES)
        self.styles = np.flatnonzero(bars[:-1])  # without "none"
        weight = torch.where(bars > 0, len(y) / bars.clamp(min=1), 0)  # a rare style counts as much as rock
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = nn.Sequential(
                nn.Linear(x.shape[1], D_HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(D_HIDDEN, N_STYLES)
            )
            optimizer = torch.optim.AdamW(self.network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
            for _ in range(STEPS):
                rows = torch.randint(len(y), (BATCH,))
                loss = F.cross_entropy(self.network(x[rows]), y[rows], weight=weight)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        self.network.eval()

    @torch.no_grad()
    def __call__(self, rolls, grid):
        """The likeliest style of each bar of rolls (W, T, V), one after the other: (bars,) ids."""
        return self.network(features(rolls, grid)).argmax(-1).numpy()


def features(rolls, grid):
    """(bars, 3 L V): onset, vel and timeoffset of the cells of each bar."""
    bars = [grid.by_bar(roll).reshape(len(roll) * grid.n_bars, -1) for roll in rolls]
    return torch.from_numpy(np.concatenate(bars, 1))
