"""Guidance: the views in which a row is decoded, and how their logits are blended.

Shapes: B batch, N views, R = N B rows, those of one view after those of another.
"""

from typing import NamedTuple

import torch

from model.controls import CONTROLS


class View(NamedTuple):
    """What a row of a guided batch sees: which of the given controls are unset in it, and whether it sees the
    tap hit by hit (literal) or only the summary of its bars."""

    without: frozenset
    literal: bool


class Guide:
    """Classifier-free guidance (Ho & Salimans 2022), for each control and for the tap, as one larger batch:
    each of B rows is decoded in several views, and their logits are blended by weights that add up to 1.

    strength: one number for all controls, or a dict of all four. Controls of one strength go together, the
    weaker before the stronger: the blend starts from the logits without controls and adds, control by
    control, strength times the difference that the control makes. At 1 throughout that is the model as
    trained; one strength for all is the usual guidance between all and none. follow: how many times the
    difference between the summary of the tap and its hits counts; past 1 for onsets alone, as velocities
    would only be louder. given: the controls that are set anywhere, all that have a strength where None; the
    others get no view, nor do views of weight 0.
    """

    def __init__(self, strength=1.0, follow=1.0, given=None):
        strengths = strength if isinstance(strength, dict) else dict.fromkeys(CONTROLS, strength)
        given = strengths if given is None else given
        # with s the strengths in rising order and l the logits with the k weakest controls set,
        # l[0] + sum of s[k] (l[k] - l[k - 1]) has the weights 1 - s[1], s[1] - s[2], ..., s[last]
        weights, unset, reached = {}, frozenset(given), 1.0
        for level in (*sorted({strengths[name] for name in given}), None):
            weight = reached - (0.0 if level is None else level)
            weights[View(unset, False)] = weight * (1 - follow)
            weights[View(unset, True)] = weight * follow
            unset, reached = frozenset(name for name in unset if strengths[name] != level), level
        # the view with the fewest controls comes last: the others are measured from it
        self.weights = {view: weight for view, weight in reversed(weights.items()) if weight != 0}
        self.views = tuple(self.weights)
        self.follow, self.given = follow, frozenset(given)
        self.of_hits = Guide(strengths, 1.0, given) if follow > 1 else self  # that of velocity and offset

    def __eq__(self, other):
        return self.weights == other.weights

    def __hash__(self):
        return hash(tuple(self.weights.items()))

    def repeat_views(self, x):
        """x (B, ...) once for each view: (R, ...)."""
        return torch.cat((x,) * len(self.views)) if len(self.views) > 1 else x

    def controls(self, x, unset, name):
        """A control (B, ...) for each view (R, ...): as it is, or `unset` throughout."""
        return torch.cat([torch.full_like(x, unset) if name in view.without else x for view in self.views])

    def heard(self, x, unheard):
        """An input made of the tap (B, ...) for each view (R, ...): `unheard` (B, ...) where it is not
        literal."""
        return torch.cat([x if view.literal else unheard for view in self.views])

    def rows(self, rows, B):
        """Rows (n,) of B, or None for all of them, in all views."""
        if rows is None or len(self.views) == 1:
            return rows
        return torch.cat([rows + B * view for view in range(len(self.views))])

    def rows_of_hits(self, x):
        """Of x (R, ...) the rows of the views of of_hits."""
        if self.of_hits is self:
            return x
        by_view = dict(zip(self.views, x.chunk(len(self.views))))
        return torch.cat([by_view[view] for view in self.of_hits.views])

    def blend(self, logits):
        """(N B, ...) -> (B, ...), or the logits as they are of a single view."""
        if len(self.views) == 1:
            return logits
        *more, least = logits.chunk(len(self.views))
        return sum((weight * (view - least) for weight, view in zip(self.weights.values(), more)), least)

    def came_from(self, earlier):
        """For each view the index of the same view in an earlier Guide, of the same strengths and fewer given
        controls, or of the nearest one."""

        def apart(view, other):
            return view.literal != other.literal, len((view.without & earlier.given) ^ other.without)

        return [
            min(range(len(earlier.views)), key=lambda i: apart(view, earlier.views[i])) for view in self.views
        ]
