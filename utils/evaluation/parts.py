"""An evaluation, part by part: what `python evaluate.py --parts` chooses from."""

import functools
import time

from utils.evaluation.bootstrap import estimate
from utils.evaluation.controls import control_figures
from utils.evaluation.goals import judge
from utils.evaluation.jobs import jobs_part
from utils.evaluation.likeness import tap_answers
from utils.evaluation.player import teacher_forced, windows_of
from utils.evaluation.realism import realism_figures
from utils.evaluation.tap import cell_sums, f1, tap_to_drums

TUNING_WINDOWS = 256  # of the validation split, to choose thresholds on


class Sets:
    """The sets that a model is evaluated on, made when they are asked for: sets("T2") and sets("T4") are Windows of the
    split, sets("T2", "validation") those of another split. data: the config's Data. n_windows: an evenly spaced part of
    the split's, all where None."""

    def __init__(self, cache, split, data, normalize_factor, n_windows=None):
        self.cache, self.split, self.other = cache, split, "test" if split == "validation" else "validation"
        self._make = functools.cache(functools.partial(_windows, cache, data, normalize_factor, n_windows))

    def __call__(self, name, split=None):
        return self._make(name, split or self.split, split is None)

    def tuning(self, name):
        """An evenly spaced part of the validation split, whatever the split."""
        return self._make(name, "validation", True, TUNING_WINDOWS)


def _windows(cache, data, normalize_factor, n_windows, name, split, part, most=None):
    limits = [limit for limit in (n_windows if part else None, most) if limit is not None]
    title = f"{name}, {split}" + (", tuning" if most else "")
    return windows_of(title, cache, split, data, normalize_factor, int(name[1:]), min(limits, default=None))


def likelihood_part(player, sets):
    """Nats, teacher-forced, on T4; see teacher_forced."""
    windows = sets("T4")
    began = time.perf_counter()
    figures = teacher_forced(player.model, windows.batch, windows.performance)
    player.seconds["likelihood"] = time.perf_counter() - began
    return figures


def tap_part(player, sets):
    """From the tap to the drums on T2 and T4, {set: what tap_to_drums gives}."""
    return {
        name: tap_to_drums(player, sets(name), sets.tuning(name), sets(name, "train"), name == "T2")
        for name in ("T2", "T4")
    }


def rhythm_part(player, sets):
    """How the taps of T4 are answered, and how far the sampled F1 falls when another window's rhythm is heard.

    Real drums answer all taps and only them, since the rhythm is the loudest hit of each of their steps.
    """
    windows = sets("T4")
    unset, swapped = player(windows, "unset")[0], player(windows, "swapped")[0]
    rows = {
        "real": windows.rolls[0][None],
        "controls unset": unset,
        "controls given": player(windows, "given")[0],
    }
    figures = {
        name: tap_answers(onset, windows.tapped[None].repeat(len(onset), 0)) for name, onset in rows.items()
    }
    right, wrong = (
        cell_sums(onset, windows, player.model.steps_per_bar).sum((2, 3))
        for onset in (unset[: len(swapped)], swapped)
    )
    figures["swapped"] = {
        "f1": estimate(lambda sums: f1(sums).mean(-1), right),
        "f1, swapped": estimate(lambda sums: f1(sums).mean(-1), wrong),
        "fall": estimate(lambda sums, other: (f1(sums) - f1(other)).mean(-1), right, wrong),
    }
    return figures


def controls_part(player, sets):
    """Obedience, one control swept at a time over T4; see control_figures."""
    return control_figures(player, sets("T4"), sets("T4", "train"))


PARTS = {
    "likelihood": likelihood_part,
    "tap": tap_part,
    "rhythm": rhythm_part,
    "controls": controls_part,
    "realism": realism_figures,
    "jobs": jobs_part,
}


def evaluate(player, sets, parts=tuple(PARTS)):
    """All figures of a player's model, in eval mode, on Sets, as a dict for JSON; see `tables`.

    parts: names out of PARTS. Raises ValueError where the cache is too small.
    """
    figures = {"split": sets.split, "floor": sets.other, "samples": player.samples, "seed": player.seed}
    figures |= {"guidance": player.guidance, "sets": {}}
    for name in ("T2", "T4"):
        windows = sets(name)
        figures["sets"][name] = {
            "windows": len(windows),
            "performances": len(set(windows.performance.tolist())),
        }
    for name, part in PARTS.items():
        if name in parts:
            figures[name] = part(player, sets)
    return figures | {"goals": judge(figures)}
