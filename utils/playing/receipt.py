"""What was asked of drums and what came out, bar by bar; how the rhythm is answered; what they were drawn
from; and which of several takes obey best.

As a table for the terminal, as data for JSON; utils/playing/plots.py draws it on the piano roll.
"""

import numpy as np
import torch

from utils.files import json_text, write_text
from utils.get_model import checkpoint_of
from utils.midi.drums import VOICES
from utils.playing.controls import NO_STYLE, NUMBERS, Bars, heading, measure, style_name
from utils.playing.groove import advice, groove_missing, groove_of
from utils.playing.swing import swing_of
from utils.warn import warn

ROUNDS = 4  # as many takes again are played so often, at most, where too few of them are different
AT_ONCE = 64  # takes that are played together
TICKS = 120  # of a MIDI file, in a step


class Receipt:
    """What was asked of drums and what they are.

    asked, got: Bars; grid: their BarGrid; swing: as swing_rows gives it; tap: as tap_of gives it, None: no
    rhythm was heard; groove: as groove_of gives it; seed: what they were drawn by, None: not known;
    checkpoint: {"file", "sha256"}, see checkpoint_of; dials: name -> value: temperature, guidance, follow and
    what else was turned.
    """

    def __init__(self, drums, asked, model, rhythm=None, seed=None, dials=None, grid=None):
        """drums: onset, vel, timeoffset (T, 9). asked: Bars, or None: nothing. rhythm: the same of the
        rhythm, of any length, or None. grid: the BarGrid of T; None: 4/4."""
        self.grid = grid or model.grid(len(drums[0]))
        self.asked = Bars.unset(self.grid.n_bars) if asked is None else asked
        self.got = measure(*drums[:2], self.grid)
        self.swing = swing_rows(drums, self.asked.get("swing"), self.grid)
        self.groove = groove_of(drums[0], self.grid, self.asked["style"])
        self.tap = None if rhythm is None else tap_of(drums[0], rhythm[0])
        self.seed, self.checkpoint, self.dials = seed, checkpoint_of(model), dict(dials or {})

    def origin(self):
        """Seed, checkpoint and dials, in words."""
        words = [] if self.seed is None else [f"seed {self.seed}"]
        file, sha = self.checkpoint["file"] or "in memory", self.checkpoint["sha256"]
        words.append(f"checkpoint {file} (SHA-256 {sha})")
        dials = self.dials.items()
        return words + [f"{name.replace('_', ' ')} {_of_dial(name, value)}" for name, value in dials]

    def figures(self):
        """How far the drums are from what was asked, and from the rhythm, in words."""
        words = [f"{name} {100 * miss:.0f} %" for name, miss in misses(self.asked, self.got).items()]
        words = [f"distance from your wishes, on average: {', '.join(words)}"] if words else []
        pairs = [f"{row['asked']:.3g} asked, {row['got']:.3g} got" for row in self.swing if row["asked"] > 0]
        words += [f"swing: {'; '.join(pairs)}"] if pairs else []
        if self.tap is None or "job" in self.dials:  # the rhythm of a job is the drums themselves
            return words
        tapped, answered, hits, off, *shares = self.tap.values()
        answered_share, off_share = ("" if np.isnan(share) else f" ({100 * share:.0f} %)" for share in shares)
        answered = f"taps answered: {answered} of {tapped}{answered_share}"
        return [*words, f"{answered}; hits off the taps: {off} of {hits}{off_share}"]

    def table(self):
        """A table for the terminal: wishes and results bar by bar, '-' without a wish; below it the groove,
        the rhythm, the seed and the checkpoint. Voices that are silent as wished stand in one line."""
        columns, silent = [], []  # (heading, asked, got); names
        for name, control in NUMBERS.items():
            asked, got = self.asked[name], self.got[name]
            if control.optional and np.isnan(asked).all():
                continue
            if control.width is None:
                columns.append((heading(control), asked, got))
            else:
                wanted = ~np.isnan(asked).all(0)
                quiet = (asked <= 0).all(0) & (got == 0).all(0)
                of_voices = [(VOICES[v], asked[:, v], got[:, v]) for v in np.flatnonzero(wanted & ~quiet)]
                columns, silent = columns + of_voices, [VOICES[v] for v in np.flatnonzero(quiet)]
        styles = [style_name(style) for style in self.asked["style"]]
        styled = set(styles) != {NO_STYLE}
        width = max(len(name) for name in ("asked got", *(name for name, _, _ in columns))) + 3

        lines = ["bar" + "".join(name.rjust(width) for name, _, _ in columns) + "   style" * styled]
        lines.append("   " + "asked got".rjust(width) * len(columns))
        for bar in range(self.got.n_bars):
            cells = [f"{_cell(asked[bar]):>5} {_cell(got[bar]):>3}".rjust(width) for _, asked, got in columns]
            lines.append(f"{bar + 1:>3}" + "".join(cells) + f"   {styles[bar]}" * styled)
        lines += [f"silent, as you wish: {', '.join(silent)}"] if silent else []
        hits, *shares = self.groove.values()
        backbeat, keeps, likeness = ("-" if np.isnan(share) else f"{100 * share:.0f} %" for share in shares)
        lines += [
            f"hits per bar: {hits:.1f}; backbeat: {backbeat}; bars with a timekeeper: {keeps}; "
            f"likeness of a bar to the one before: {likeness}"
        ]
        if "job" not in self.dials and (thin := advice(self.groove, self.asked)):
            lines.append(thin)
        return "\n".join([*lines, *self.figures(), ", ".join(self.origin())])

    def data(self):
        """The receipt for JSON; None where nothing was asked or nothing is hit.

        seed, checkpoint, dials; tap: see tap_of; groove: see groove_of; swing: see swing_rows; miss: see
        misses; bars: for each, asked and got, with hits, velocity, voices (hits of each of the nine), and
        asked also forbidden (names) and style.
        """
        data = {"seed": self.seed, "checkpoint": self.checkpoint, "dials": self.dials}
        data |= {"tap": self.tap and _plain(self.tap), "groove": _plain(self.groove)}
        data |= {"swing": [*map(_plain, self.swing)], "miss": _plain(misses(self.asked, self.got))}
        bars = range(self.got.n_bars)
        pairs = [{"asked": _asked_of_bar(self.asked, bar), "got": _bar(self.got, bar)} for bar in bars]
        return data | {"bars": pairs}

    def save(self, path):
        """Write the data as a JSON file, whole or not at all."""
        write_text(path, json_text(self.data(), indent=1) + "\n")


def tap_of(onset, rhythm_onset):
    """How drums (T, 9) answer a rhythm (any length, 9), on the steps that both have: how many of them are
    tapped and how many of these answered by any hit; how many hits the drums have and how many of these are
    off the taps; and the two shares, NaN of nothing."""
    hit, tapped = np.asarray(onset) > 0, (np.asarray(rhythm_onset) > 0).any(-1)
    steps = min(len(hit), len(tapped))
    hit, tapped = hit[:steps], tapped[:steps]
    taps, answered = int(tapped.sum()), int(hit[tapped].any(-1).sum())
    hits, off = int(hit.sum()), int(hit[~tapped].sum())
    counts = {"tapped": taps, "answered": answered, "hits": hits, "off the taps": off}
    shares = {
        "share answered": answered / taps if taps else np.nan,
        "share off": off / hits if hits else np.nan,
    }
    return counts | shares


def swing_rows(drums, asked, grid):
    """[{"asked", "got", "bars"}]: for each ratio of swing that is asked of bars, asked (n_bars,) or None, for
    NaN too, the ratio that these bars have, see utils.playing.swing, and how many they are."""
    asked = np.full(grid.n_bars, np.nan) if asked is None else asked
    onset, vel, timeoffset = map(np.asarray, drums)
    rows = []
    for ratio in np.unique(asked):
        bars = np.isnan(asked) if np.isnan(ratio) else asked == ratio
        got = swing_of(onset, vel, timeoffset, grid, grid.spread(bars, 0)[:, None])
        rows.append({"asked": ratio, "got": got, "bars": int(bars.sum())})
    return rows


def misses(asked, got):
    """How far drums are from what was asked, of each of hits, velocity and voices that was asked for.

    Each is the mean, over what was asked of the bars (and of their voices), of |got - asked| / max(asked, 1):
    0.1 is ten per cent off. A bar that was asked for a velocity and is silent is a whole miss. Forbidden
    voices don't count, as they never sound, nor styles, which nothing here can measure.
    """
    found = {}
    for name, control in NUMBERS.items():
        there = asked[name] >= 0
        if control.optional:  # a bar may have none of it, as the first has no bar before it
            there &= ~np.isnan(got[name])
        if there.any():
            wish, played = asked[name][there], np.nan_to_num(got[name])[there]
            found[heading(control)] = float(np.mean(np.abs(played - wish) / np.maximum(wish, 1)))
    return found


# ---- the best of several takes


def best_takes(
    draw, num_samples, best_of, asked, rhythm_onset, grid, onsets_known=False, typical=False, parts=()
):
    """Play best_of takes and keep the num_samples that obey best, the best first and no two alike.

    draw: number -> onset, vel, timeoffset (number, T, 9) of as many takes. asked: Bars. rhythm_onset: (steps,
    9) of the rhythm as far as it is followed hit by hit. onsets_known: the takes differ in velocity and
    timing alone. typical: where no numbers are asked, the best are those that are most like the others (a
    minimum of the expected error, as in machine translation: Kumar and Byrne 2004). parts: the bars of each
    part, as of a song's sections, of which each is chosen by itself, see best_of_parts. Returns the three
    rolls (num_samples, T, 9), or fewer, with a warning, where ROUNDS times best_of takes hold no more
    different ones.
    """
    takes = {}
    for _ in range(ROUNDS):
        for start in range(0, best_of, AT_ONCE):
            for take in zip(*draw(min(AT_ONCE, best_of - start))):
                takes.setdefault(_content(take, onsets_known), take)
        if len(takes) >= num_samples:
            break
    else:
        warn(f"of {ROUNDS * best_of} takes only {len(takes)} differ, {num_samples} were asked for")
    takes = list(takes.values())
    if parts:
        whole = best_of_parts(takes, asked, rhythm_onset, grid, parts, typical)
        takes = [*{_content(take, onsets_known): take for take in (*whole, *takes)}.values()][:num_samples]
        return tuple(torch.stack(roll) for roll in zip(*takes))
    distance = [distance_from_request(take, asked, rhythm_onset, grid) for take in takes]
    if typical:
        alike = likeness_to_others(torch.stack([take[0] for take in takes]))
        distance = [(missed, -like, rest) for (missed, rest), like in zip(distance, alike)]
    best = sorted(range(len(takes)), key=distance.__getitem__)[:num_samples]
    return tuple(torch.stack(roll) for roll in zip(*(takes[number] for number in best)))


def best_of_parts(takes, asked, rhythm_onset, grid, parts, typical=False):
    """As many takes made of the parts of takes: the first of the best of each part, and so on.

    A part is the better, the less of what was asked, of the taps and of a groove is missing in it: all takes
    are near to the numbers, but after sparse bars some lose the beat. typical: where no numbers are asked in
    a part, it is the better, the more it is like those of the other takes.
    """
    lines, ranked = [0, *np.cumsum(parts).tolist()], []
    for first, last in zip(lines, lines[1:]):
        steps, bars = grid.steps_of(first, last), slice(first, last)
        own = [tuple(roll[steps] for roll in take) for take in takes]
        about = asked.part(bars), rhythm_onset[steps], grid.cut(first, last)
        lacks = [shortcomings(take, *about) for take in own]
        if typical and np.isnan([of["missed"] for of in lacks]).all():
            lacks = [-like for like in likeness_to_others(torch.stack([take[0] for take in own]))]
        else:
            lacks = [np.nansum([of["missed"], of["unanswered"], of["groove"]]).round(9) for of in lacks]
        order = sorted(range(len(own)), key=lacks.__getitem__)
        ranked.append([own[number] for number in order])
    return [tuple(torch.cat(roll) for roll in zip(*take)) for take in zip(*ranked)]


def likeness_to_others(onset):
    """How like each take is to the others, onset (N, T, 9): the mean F1 of its hits with theirs, a list."""
    hits = (onset > 0).flatten(1).float()
    n_hits = hits.sum(1)
    alike = 2 * (hits @ hits.T) / (n_hits[:, None] + n_hits).clamp(min=1)
    return ((alike.sum(1) - alike.diagonal()) / max(1, len(hits) - 1)).tolist()


def distance_from_request(take, asked, rhythm_onset, grid):
    """How far a take, onset, vel, timeoffset (T, 9), is from the Bars asked: the mean of `misses` and, where
    takes are equal in that, the share of the taps without a hit and that of the hits off the taps.

    The rhythm comes second because nearly every take answers nearly every tap, whereas numbers that a person
    gave are a wish. How much of a groove is missing comes last; where no numbers are given, it counts as the
    taps without a hit do, and hits off the taps come last.
    """
    missed, unanswered, off, missing = shortcomings(take, asked, rhythm_onset, grid).values()
    rest = (unanswered + missing, off) if np.isnan(missed) else (unanswered + off, missing)
    return round(np.nan_to_num(missed), 9), tuple(round(part, 9) for part in rest)


def shortcomings(take, asked, rhythm_onset, grid):
    """What a take lacks, arguments as of distance_from_request, by name: missed, the mean of `misses`, NaN
    where no numbers are asked; unanswered, the share of the taps without a hit; off, that of the hits off the
    taps; groove, how much of one is missing."""
    onset, vel = (roll.cpu().numpy() for roll in take[:2])
    miss, tap = [*misses(asked, measure(onset, vel, grid)).values()], tap_of(onset, rhythm_onset)
    unanswered, off = np.nan_to_num([1 - tap["share answered"], tap["share off"]]).tolist()
    missing = groove_missing(groove_of(onset, grid, asked["style"]), asked)
    missed = float(np.mean(miss)) if miss else np.nan
    return {"missed": missed, "unanswered": unanswered, "off": off, "groove": missing}


def _content(take, onsets_known):
    """Equal for takes that are one: with the same hits or, where these are known, with the same velocities
    and timing as a MIDI file holds them."""
    onset, vel, timeoffset = (roll.cpu().numpy() for roll in take)
    if not onsets_known:
        return (onset > 0).tobytes()
    return np.rint(vel * 127).astype(int).tobytes() + np.rint(timeoffset * TICKS).astype(int).tobytes()


# ---- values in words and in JSON


def _bar(bars, bar):
    values = {
        heading(control): bars[name][bar]
        for name, control in NUMBERS.items()
        if not (control.optional and np.isnan(bars[name][bar]))
    }
    return _plain(
        {name: dict(zip(VOICES, value)) if np.ndim(value) else value for name, value in values.items()}
    )


def _asked_of_bar(asked, bar):
    forbidden = [name for name, hits in zip(VOICES, asked["instrument"][bar]) if hits < 0]
    wishes = _bar(asked, bar)
    wishes["voices"] |= dict.fromkeys(forbidden)
    style = style_name(asked["style"][bar])
    return wishes | {"forbidden": forbidden, "style": None if style == NO_STYLE else style}


def _plain(value):
    """Numbers for JSON, a dict of them, or of such dicts: None for NaN, whole where they are."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return None if np.isnan(value) else int(value) if value == int(value) else round(float(value), 4)


def _of_dial(name, value):
    if name == "temperature" and isinstance(value, tuple):
        return "{:g} for onsets, {:g} for velocity, {:g} for timing".format(*value)
    return _in_words(value)


def _in_words(value):
    """A dial's value: a number, a word, several, or a dict of numbers."""
    if isinstance(value, dict):
        return " ".join(f"{name} {_in_words(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(map(_in_words, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cell(value):
    if np.isnan(value):
        return "-"
    return "none" if value < 0 else f"{value:.0f}" if value == round(value) or value >= 20 else f"{value:.1f}"
