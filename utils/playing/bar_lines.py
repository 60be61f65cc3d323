"""The bars that a piece is played in, however long it is, as a model takes them."""

from dataclasses import dataclass

import torch

from utils.midi.timeline import Timeline, read_meters


@dataclass(frozen=True)
class BarLines:
    """The bars of a Timeline for a model; those that are longer than the model's are divided."""

    model: torch.nn.Module
    timeline: Timeline = Timeline()

    @classmethod
    def in_meter(cls, model, meter):
        """Those of meters, see read_meters, or of a Timeline; None: 4/4. Raises ArgumentError."""
        if isinstance(meter, Timeline):
            return cls(model, meter)
        return cls(model, Timeline().in_meter(cls.checked(model, meter)))

    @staticmethod
    def checked(model, meter):
        """The meters of read_meters, whose bars the model can play; None for None. Raises ArgumentError."""
        return None if meter is None else read_meters(meter, model.longest_bar)

    def _whole(self, n_steps):
        return self.timeline.grid(n_steps, self.model.steps_per_beat, self.model.longest_bar)

    def of_steps(self, n_steps):
        """The BarGrid of the first steps, the last bar cut short where they end in it."""
        return self._whole(n_steps).up_to(n_steps, self.model.steps_per_beat)

    def of_bars(self, n_bars):
        """The BarGrid of the first bars, whole ones."""
        n_steps = n_bars * self.model.steps_per_bar
        while (grid := self._whole(n_steps)).n_bars <= n_bars:  # a short bar may still join the last one
            n_steps = 2 * n_steps + 1
        return grid.cut(0, n_bars)

    def round_again(self, n_steps, n_bars):
        """Those of the first steps, whole bars, over and over for so many bars at least."""
        times = n_bars // self.of_steps(n_steps).n_bars + 1
        ticks = n_steps * self.timeline.tpq / self.model.steps_per_beat
        return BarLines(self.model, self.timeline.meters_again(ticks, times))

    def misfits(self, n_steps):
        """The meters of the first steps that the model takes as the nearest that it can."""
        return self.timeline.misfits(n_steps, self.model.steps_per_beat, self.model.longest_bar)
