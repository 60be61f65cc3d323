"""A small classifier of the style of a bar, to hear whether a style that was asked for is there.

It reads which cells of the bar are hit, how loud, and how early or late, and is trained on the real bars of the
training split in a few seconds. What it can tell of real bars of another split is the measure of what it says of
generated ones.
"""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from utils.midi.drums import N_STYLES, N_VOICES

D_HIDDEN, DROPOUT = 128, 0.5
STEPS, BATCH = 300, 512
LEARNING_RATE, WEIGHT_DECAY = 3e-3, 1.0


class StyleClassifier:
    """Trained on rolls (W, T, V) of T / steps_per_bar bars each, and their styles (W,). `styles`: the ids that it
    knows. The same bars and torch's same version give the same classifier."""

    def __init__(self, rolls, style, steps_per_bar, seed=0):
        self.steps_per_bar = steps_per_bar
        x, y = self._features(rolls), torch.from_numpy(np.repeat(style, rolls[0].shape[1] // steps_per_bar))
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
    def __call__(self, rolls):
        """The likeliest style of each bar of rolls (W, T, V), one after the other: (bars,) ids."""
        return self.network(self._features(rolls)).argmax(-1).numpy()

    def _features(self, rolls):
        """(bars, 3 S V): onset, vel and timeoffset of the bar's cells."""
        return torch.from_numpy(
            np.concatenate([roll.reshape(-1, self.steps_per_bar * N_VOICES) for roll in rolls], 1)
        )
