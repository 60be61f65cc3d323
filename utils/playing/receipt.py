"""What was asked of drums and what came out, bar by bar; how the rhythm is answered; what they were drawn from.

As a table for the terminal, as data for JSON; utils/playing/plots.py draws it on the piano roll.
"""

from dataclasses import dataclass, field

import numpy as np

from utils.files import json_text, write_text
from utils.get_model import checkpoint_of
from utils.midi.drums import N_VOICES, STYLE_NONE, VOICES
from utils.playing.controls import Bars, asked_voices, measure, style_name

MET = 0.5  # hits: a whole number can't come nearer to what was asked than this


@dataclass
class Tap:
    """How a rhythm is answered, on the steps of the drums that it reaches.

    steps: (n,) int, the steps that it taps; answered: (n,) bool, whether anything is hit there; hits: how many the
    drums have while it lasts; off: how many of them fall on no tapped step.
    """

    steps: np.ndarray
    answered: np.ndarray
    hits: int
    off: int

    @property
    def share_answered(self):
        """Share of the tapped steps that are answered; NaN where there are none."""
        return self.answered.mean() if len(self.steps) else np.nan

    @property
    def share_off(self):
        """Share of the hits that fall on no tapped step; NaN where there are none."""
        return self.off / self.hits if self.hits else np.nan


@dataclass
class Receipt:
    """What was asked of drums and what they are.

    asked, got: Bars of utils.playing.controls, of which `asked` is NaN where nothing is asked
    tap: Tap, or None: no rhythm was heard
    seed: what they were drawn by; None: not known
    checkpoint: {"file", "sha256"}, see checkpoint_of; None: not known
    dials: name -> value: temperature, guidance, follow and what else was turned
    """

    asked: Bars
    got: Bars
    tap: Tap | None = None
    seed: int | None = None
    checkpoint: dict | None = None
    dials: dict = field(default_factory=dict)

    @classmethod
    def of(cls, drums, asked, model, rhythm=None, seed=None, dials=None):
        """drums: onset, vel, timeoffset (T, 9). asked: Bars, or None: nothing. rhythm: the same of the rhythm, of any
        length, or None."""
        got = measure(*(np.asarray(roll) for roll in drums[:2]), model.steps_per_bar)
        asked = nothing_asked(len(got)) if asked is None else asked
        tap = None if rhythm is None else tap_of(drums[0], rhythm[0])
        return cls(asked, got, tap, seed, checkpoint_of(model), dict(dials or {}))

    def origin(self):
        """Seed, checkpoint and dials, in words."""
        words = [] if self.seed is None else [f"seed {self.seed}"]
        if self.checkpoint:
            words.append(
                f"checkpoint {self.checkpoint['file'] or 'in memory'} (SHA-256 {self.checkpoint['sha256']})"
            )
        return words + [f"{name.replace('_', ' ')} {_in_words(value)}" for name, value in self.dials.items()]

    def figures(self):
        """How far the drums are from what was asked, and from the rhythm, in words."""
        words = [f"{name} {100 * miss:.0f} %" for name, miss in misses(self.asked, self.got).items()]
        words = [f"off what was asked, on average: {', '.join(words)}"] if words else []
        if self.tap is not None:
            tap = self.tap
            answered = (
                f"taps answered: {tap.answered.sum()} of {len(tap.steps)}{_percent(tap.share_answered)}"
            )
            words.append(f"{answered}; hits off the taps: {tap.off} of {tap.hits}{_percent(tap.share_off)}")
        return words

    def table(self):
        """A table for the terminal: bar by bar what was asked and what came out, '-' where nothing was asked; below it
        the rhythm, the seed and the checkpoint."""
        asked, got = self.asked, self.got
        columns = [("hits", asked.hits, got.hits), ("velocity", asked.velocity, got.velocity)]
        columns += [
            (VOICES[voice], asked.voices[:, voice], got.voices[:, voice]) for voice in asked_voices(asked)
        ]
        styles = [style_name(style) for style in asked.style]
        styled = set(styles) != {style_name(STYLE_NONE)}
        width = max(len(name) for name, _, _ in columns) + 3
        width = max(width, len("asked got") + 3)

        lines = [
            "bar" + "".join(name.rjust(width) for name, _, _ in columns) + ("   style" if styled else "")
        ]
        lines.append("   " + "asked got".rjust(width) * len(columns))
        for bar in range(len(got)):
            cells = [
                f"{_cell(wish[bar]):>5} {_cell(played[bar]):>3}".rjust(width) for _, wish, played in columns
            ]
            style = f"   {styles[bar]}" if styled else ""
            lines.append(f"{bar + 1:>3}" + "".join(cells) + style)
        return "\n".join([*lines, *self.figures(), ", ".join(self.origin())])

    def data(self):
        """The receipt as plain dicts, lists, text and numbers, for JSON; None where nothing was asked or nothing is hit.

        seed, checkpoint, dials; tap: tapped (steps), answered, hits, off the taps, and the two shares; miss: mean relative
        error of what was asked, see `misses`; bars: for each, asked and got, with hits, velocity, voices (hits of each of
        the nine), and asked also forbidden (names) and style.
        """
        tap = self.tap and {
            "tapped": len(self.tap.steps),
            "answered": int(self.tap.answered.sum()),
            "hits": self.tap.hits,
            "off the taps": self.tap.off,
            "share answered": _plain(self.tap.share_answered),
            "share off": _plain(self.tap.share_off),
        }
        bars = [
            {"asked": _asked_of_bar(self.asked, bar), "got": _bar(self.got, bar)}
            for bar in range(len(self.got))
        ]
        return {
            "seed": self.seed,
            "checkpoint": self.checkpoint,
            "dials": self.dials,
            "tap": tap,
            "miss": {name: _plain(miss) for name, miss in misses(self.asked, self.got).items()},
            "bars": bars,
        }

    def save(self, path):
        """Write the data as a JSON file, whole or not at all."""
        write_text(path, json_text(self.data(), indent=1) + "\n")


def nothing_asked(bars):
    unset = np.full((bars, 2 + N_VOICES), np.nan)
    return Bars(unset[:, 0], unset[:, 1], unset[:, 2:], np.full(bars, STYLE_NONE))


def misses(asked, got):
    """How far drums are from what was asked: {"hits", "velocity", "voices"}, those of which anything was asked.

    Each is the mean, over what was asked of the bars (and of their voices), of |got - asked| / max(asked, 1): 0.1 is ten
    per cent off. A bar that was asked for a velocity and is silent is a whole miss. Forbidden voices don't count, as
    they never sound, nor styles, which nothing here can hear.
    """
    asked_of = {
        "hits": asked.hits,
        "velocity": asked.velocity,
        "voices": np.where(asked.voices < 0, np.nan, asked.voices),
    }
    found = {}
    for name, wish in asked_of.items():
        there = ~np.isnan(wish)
        if there.any():
            played = np.nan_to_num(getattr(got, name))[there]
            found[name] = float(np.mean(np.abs(played - wish[there]) / np.maximum(wish[there], 1)))
    return found


def tap_of(onset, rhythm_onset):
    """The Tap of drums (T, 9) to a rhythm (any length, 9)."""
    hit, tapped = np.asarray(onset) > 0, (np.asarray(rhythm_onset) > 0).any(-1)
    steps = min(len(hit), len(tapped))
    hit, tapped = hit[:steps], tapped[:steps]
    where = np.flatnonzero(tapped)
    return Tap(where, hit[where].any(-1), int(hit.sum()), int(hit[~tapped].sum()))


def is_met(wish, played):
    """Whether so many hits are as near to what was asked as a whole number can be."""
    return abs(played - max(wish, 0)) <= MET


def _bar(bars, bar):
    voices = {name: _plain(hits) for name, hits in zip(VOICES, bars.voices[bar])}
    return {"hits": _plain(bars.hits[bar]), "velocity": _plain(bars.velocity[bar]), "voices": voices}


def _asked_of_bar(asked, bar):
    forbidden = [name for name, hits in zip(VOICES, asked.voices[bar]) if hits < 0]
    wishes = _bar(asked, bar)
    wishes["voices"] |= dict.fromkeys(forbidden)
    style = style_name(asked.style[bar])
    return wishes | {"forbidden": forbidden, "style": None if style == style_name(STYLE_NONE) else style}


def _plain(value):
    """A number for JSON: None for NaN, whole where it is."""
    return None if np.isnan(value) else int(value) if value == int(value) else round(float(value), 4)


def _in_words(value):
    """A dial's value: a number, a word, several, or a dict of numbers."""
    if isinstance(value, dict):
        return " ".join(f"{name} {_in_words(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(map(_in_words, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _percent(share):
    return "" if np.isnan(share) else f" ({100 * share:.0f} %)"


def _cell(value):
    if np.isnan(value):
        return "-"
    return "none" if value < 0 else f"{value:.0f}" if value == round(value) or value >= 20 else f"{value:.1f}"
