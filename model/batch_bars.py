"""The bars of a batch whose rows have bars of their own.

Shapes: B rows, T steps, N bars of the row with the most, L steps of the longest bar. In a batch such bars
are two tensors, bar_index (B, T, 6) and bar_table (B, N, L), so that a loader treats them like any other.
"""

from functools import cached_property

import numpy as np
import torch

from model.bars import BarGrid, StepIndex

BAR_KEYS = "bar_index", "bar_table"


class BatchGrid:
    """What a BarGrid is for one row, for B rows; it does what the model and the loader need of one. Rows with
    fewer than N bars have empty ones at the end. NumPy arrays or tensors throughout, on one device."""

    def __init__(self, index, table):
        """index: the StepIndex of every row, (B, T, 6). table (B, N, L): the step at each place of each bar,
        T where there is none."""
        self._index, self.table = index, table

    @classmethod
    def of(cls, grids):
        """That of a BarGrid of T steps for each row."""
        n_steps, longest = grids[0].n_steps, max(grid.longest for grid in grids)
        table = np.full((len(grids), max(grid.n_bars for grid in grids), longest), n_steps)
        for row, grid in zip(table, grids):
            row[: grid.n_bars, : grid.longest] = grid.table
        return cls(np.stack([np.stack(grid.index, -1) for grid in grids]), table)

    @classmethod
    def in_batch(cls, batch):
        """The BatchGrid of a batch, None where its rows have no bars of their own."""
        return cls(*(batch[key] for key in BAR_KEYS)) if BAR_KEYS[0] in batch else None

    def as_batch(self):
        return dict(zip(BAR_KEYS, (self._index, self.table)))

    def rows(self):
        """The BarGrid of each row."""
        return [_grid(StepIndex(*index)) for index in np.moveaxis(np.asarray(self._index.tolist()), -1, 1)]

    @property
    def n_bars(self):
        return self.table.shape[1]

    @property
    def longest(self):
        return self.table.shape[2]

    @cached_property
    def index(self):
        return StepIndex(*(self._index[..., i] for i in range(len(StepIndex._fields))))

    def on(self, device):
        return self.index

    @cached_property
    def lengths(self):
        """Of each bar its length in steps, (B, N), 0 of one that a row does not have; NumPy only."""
        lengths = np.zeros(self.table.shape[:2], np.int64)
        row = np.arange(len(lengths))[:, None]
        lengths[row, self.index.bar] = self.index.length
        return lengths

    @cached_property
    def _lines(self):
        """(B, N + 1)."""
        return np.concatenate((np.zeros((len(self.lengths), 1), np.int64), self.lengths.cumsum(1)), 1)

    def line(self, number):
        """The step of a bar line of each row, numbers (B,) from 0. Too high a number: the last."""
        number = np.clip(number, 0, self.n_bars)
        return np.take_along_axis(self._lines, number[:, None], 1)[:, 0]

    def bars_within(self, n_steps):
        """How many whole bars of each row lie within its first n_steps (B,)."""
        ends = np.where(self.lengths > 0, self._lines[:, 1:], np.iinfo(np.int64).max)
        return (ends <= np.reshape(n_steps, (-1, 1))).sum(1)

    def _rows(self, n):
        B, table = len(self.table), self.table
        rows = torch.arange(B, device=table.device) if torch.is_tensor(table) else np.arange(B)
        return rows.reshape(-1, *[1] * n)

    def _check(self, x, dim):
        assert dim % x.ndim == 1, "the rows of a batch come first, their steps or bars second"

    def by_bar(self, x, dim=1):
        """x (B, T, ...) -> (B, N, L, ...): the steps of each bar, zeros where there is no step."""
        self._check(x, dim)
        if torch.is_tensor(x):
            x = torch.cat((x, x.new_zeros(len(x), 1, *x.shape[2:])), 1)
        else:
            x = np.concatenate((x, np.zeros((len(x), 1, *x.shape[2:]), x.dtype)), 1)
        return x[self._rows(2), self.table]

    def by_step(self, x, dim=1):
        """The way back from by_bar: x (B, N, L, ...) -> (B, T, ...)."""
        self._check(x, dim)
        return x[self._rows(1), self.index.bar, self.index.place]

    def spread(self, x, dim=1):
        """One value per bar, x (B, N, ...), for each of its steps, (B, T, ...)."""
        self._check(x, dim)
        return x[self._rows(1), self.index.bar]

    def sums(self, x, dim=1):
        """The sum over each bar's steps: x (B, T, ...) -> (B, N, ...)."""
        return self.by_bar(x, dim).sum(2)

    def sums_before(self, x, dim=1):
        """For each step the sum over the earlier steps of its bar: x (B, T, ...) -> (B, T, ...)."""
        bars = self.by_bar(x, dim)
        return self.by_step(bars.cumsum(2) - bars, dim)


def _grid(index):
    """The BarGrid of a StepIndex in NumPy arrays."""
    begins = np.flatnonzero(index.place_in_beat == 0)
    beats = [index.beat_length[begins][index.bar[begins] == bar].tolist() for bar in np.unique(index.bar)]
    for bar, length in zip(beats, index.length[index.place == 0]):
        bar += [int(length) - sum(bar)] if sum(bar) < length else []  # of a last bar that is cut short
    return BarGrid.of_beats(beats, len(index.bar))
