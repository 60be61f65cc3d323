"""What the model is told of the meter, beside a step's place in its bar; and weights of a model that was not.

Shapes: B batch, T steps, D width.
"""

import torch
import torch.nn as nn

from model.bars import LONGEST_BAR


class MeterEmbedding(nn.Module):
    """Embeds, for each step, how long its bar and its beat are, which beat it is in, and its place there:
    3/4 and 6/8 have bars of one length and beats of another. It begins at zero, so that a model that has
    learnt 4/4 without it plays as before."""

    KINDS = "length", "beat", "place_in_beat", "beat_length"  # of a StepIndex

    def __init__(self, d_out):
        super().__init__()
        self.tables = nn.ModuleDict({kind: nn.Embedding(LONGEST_BAR + 1, d_out) for kind in self.KINDS})
        for table in self.tables.values():
            nn.init.zeros_(table.weight)

    def forward(self, index):
        """A StepIndex, (T,) or (B, T) -> (T, D) or (B, T, D)."""
        return sum(table(getattr(index, kind)) for kind, table in self.tables.items())


# the weights with one row, or as many as make one place, for each place in the bar
ROWS_OF_PLACES = (
    "encoder.position.weight",
    "latent.fold",
    *(f"condition.{name}" for name in ("position.weight", "unfold.weight", "unfold.bias")),
)
METER_PARTS = "encoder.meter.", "condition.meter."


def for_longer_bars(state_dict, own, longest_bar):
    """(The weights, what was done, in words) of a state dict for a model whose own state dict is `own`, and
    whose bars have up to longest_bar steps; the same weights and "" if they need nothing.

    The new places begin as copies of the second half of the shorter bar, over and over: at zero the rhythm
    there would not reach the latent, nor the latent the drums; and none of them is a downbeat. What tells
    meters apart begins as in the new model: at zero.
    """
    known = state_dict.get(ROWS_OF_PLACES[0])
    if not torch.is_tensor(known) or known.ndim != 2 or len(known) >= longest_bar:
        return state_dict, ""
    shorter, grown = len(known), dict(state_dict)
    half = max(1, shorter // 2)
    places = [
        place if place < shorter else shorter - half + (place - shorter) % half
        for place in range(longest_bar)
    ]
    for name in ROWS_OF_PLACES:
        if torch.is_tensor(weight := state_dict.get(name)):
            grown[name] = weight.unflatten(0, (shorter, -1))[places].flatten(0, 1)
    grown |= {name: x for name, x in own.items() if name.startswith(METER_PARTS) and name not in state_dict}
    return grown, (
        f"bars of up to {shorter} steps become bars of up to {longest_bar}: their new places begin as copies "
        "of the old ones, what tells meters apart at zero"
    )
