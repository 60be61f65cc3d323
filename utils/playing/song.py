"""A song: sections one after the other, each with controls of its own, fills at their ends, an arc over all of them.

examples/song.yaml shows what a song file looks like. A song ends up as what is asked of each bar, utils.playing.controls.Bars.
"""

from dataclasses import dataclass

import numpy as np
import torch

from utils.checks import whole
from utils.config.yaml_file import read_file
from utils.get_model import given_model
from utils.midi.drums import VOICES, voice_index
from utils.midi.read import MAX_BARS
from utils.playing.controls import (
    CONTROL_KEYS,
    Bars,
    ask,
    check_keys,
    check_voices,
    numbers,
    per_bar,
    to_model_units,
)

SONG_KEYS = ("sections", "order", "arc", "rhythm")
SECTION_KEYS = ("name", "bars", "repeat", "fill", *CONTROL_KEYS)
FILL_KEYS = ("bars", "hits_per_bar", "velocity", "voices", "crash")
ARC_KEYS = ("hits_per_bar", "velocity", "voices")

# What a fill is in the training split of the Groove MIDI Dataset. The mix: shares of the hits in the 385 recordings of
# one bar that are marked as fills; the voices left out have a fiftieth or less. How it stands out: of the recordings
# marked as beats the 456 bars with four hits of toms or more between two bars with none, beside the bar before.
FILL_MIX = {"kick": 0.13, "snare": 0.41, "closed_hat": 0.10, "floor_tom": 0.15, "high_tom": 0.14}
FILL_HITS, FILL_HITS_RISE, FILL_VELOCITY_RISE = (
    21,
    1.07,
    13,
)  # where nothing is asked of the section; times; MIDI units
TOMS = [voice_index(name) for name in ("floor_tom", "mid_tom", "high_tom")]
CRASH = voice_index("crash")


@dataclass
class Song:
    """What is asked of a song. sections: [(name, bars)] in the order they are played. asked: Bars. half (bars,) bool:
    bars whose second half alone is a fill; crash (bars,) bool: bars that begin with a crash after a fill. loops: whether
    a rhythm that is shorter comes round again; otherwise the model goes on by itself."""

    sections: list
    asked: Bars
    half: np.ndarray
    crash: np.ndarray
    loops: bool

    def __len__(self):
        return len(self.asked)

    def __str__(self):
        starts = np.cumsum([1] + [bars for _, bars in self.sections])
        return ", ".join(
            f"{name} {start}-{start + bars - 1}" for (name, bars), start in zip(self.sections, starts)
        )

    def arguments(self, rhythm=(None, None, None), model=None, follow="literal"):
        """The arguments of `generate` by name, model and follow included: generate(**song.arguments(rhythm), seed=1).

        rhythm: onset, vel, timeoffset (1, T, 9). model: default: the one built last by get_model. Where a rhythm is
        followed literally to the end of the song, the crashes after fills are known cells, so that they do come;
        otherwise they are asked for and come more often than not.
        """
        model = given_model(model)
        bar = model.steps_per_bar
        rhythm = rhythm if rhythm[0] is None else self.rhythm(rhythm, bar)
        names = (
            "piano_roll_onset",
            "piano_roll_vel",
            "piano_roll_timeoffset",
            "density",
            "intensity",
            "instrument",
            "style",
        )
        arguments = dict(zip(names, (*rhythm, *self.controls(model.normalize_factor, bar))))
        arguments |= {"masks": None, "seq_len": len(self) * bar, "model": model, "follow": follow}
        to_the_end = rhythm[0] is not None and rhythm[0].shape[-2] >= len(self) * bar
        if self.crash.any() and to_the_end and follow in ("literal", 1):
            hits = torch.zeros(1, len(self) * bar, len(VOICES))
            hits[:, np.flatnonzero(self.crash) * bar, CRASH] = 1
            nothing = torch.zeros_like(hits)
            arguments["known"] = {
                "onset": hits,
                "vel": nothing,
                "timeoffset": nothing,
                "known_onset": hits,
                "known_vel": nothing,
            }
        return arguments

    def rhythm(self, rolls, steps_per_bar, n_steps=0):
        """The rolls (1, T, 9) of a rhythm; where it loops, whole bars of it, n_steps at least, over and over to the end of
        the song."""
        if not self.loops:
            return tuple(rolls)
        steps = torch.arange(len(self) * steps_per_bar)
        rolls = [torch.as_tensor(roll) for roll in rolls]
        long = max(rolls[0].shape[-2], n_steps)
        rest = -(-long // steps_per_bar) * steps_per_bar - rolls[0].shape[-2]
        rolls = [torch.nn.functional.pad(roll, (0, 0, 0, rest)) for roll in rolls]
        return tuple(roll[..., steps % roll.shape[-2], :] for roll in rolls)

    def controls(self, normalize_factor, steps_per_bar):
        """density, intensity, instrument and style of `generate`: those of to_model_units, but that the toms of half a
        bar's fill are forbidden before it, and a crash after a fill from the second step on."""
        *curves, instrument, style = to_model_units(self.asked, normalize_factor, steps_per_bar)
        bars = instrument.reshape(len(self), steps_per_bar, len(VOICES))
        for flagged, voices, here in (
            (self.half, TOMS, slice(steps_per_bar // 2, None)),
            (self.crash, [CRASH], slice(1)),
        ):
            for bar, voice in ((bar, voice) for bar in np.flatnonzero(flagged) for voice in voices):
                share = bars[bar, 0, voice]
                if share > 0:  # neither unset nor forbidden; the mean of the bar stays what is asked
                    bars[bar, :, voice] = -1
                    bars[bar, here, voice] = share * steps_per_bar / len(bars[bar, here])
        return (*curves, instrument, style)


def read_song(song):
    """Read a song: the path of a YAML file, or what stands in one as a dict.

    sections: a list of dicts with bars and, if wanted, name, repeat (how often), fill and the keys of a control file,
        each laid out over the section's bars. fill: how many bars at its end are a fill, 0.5 for half a bar, or a dict of
        that (bars), hits_per_bar, velocity, voices and crash (false: no crash after it).
    order: names of sections, in the order they are played; left out: as they stand.
    arc: for hits_per_bar, velocity or voices a value, as {from: 60, to: 100}, laid out over the song's bars. Bars of which
        a section asks nothing are asked for it; {add: VALUE} and {scale: VALUE} change what the sections ask.
    rhythm: loop, if a rhythm that is shorter is to come round again.

    Returns a Song. Raises ValueError naming the file, the section, the key, the value and the rule.
    """
    source = "song" if isinstance(song, dict) else song
    problems = []
    if not isinstance(song, dict):
        song, problems = read_file(song)
    try:
        if problems:
            raise ValueError("; ".join(problems))
        return _laid_out(_mapping(song, SONG_KEYS))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def _laid_out(song):
    sections = _ordered(song)
    total = sum(bars for _, _, bars in sections)
    if total > MAX_BARS:
        raise ValueError(f"{total} bars; a song has at most {MAX_BARS}")
    if song.get("rhythm") not in (None, "loop"):
        raise ValueError(f"rhythm: {song['rhythm']!r}; it must be loop, or left out")
    parts, styles = [], []
    for name, section, bars in sections:
        with _named(name):
            parts.append(
                ask(bars, **{key: section[key] for key in CONTROL_KEYS if section.get(key) is not None})
            )
            styles += per_bar(section.get("style"), bars, "style")
    columns = [
        np.concatenate([getattr(part, name) for part in parts]) for name in ("hits", "velocity", "voices")
    ]
    asked = Bars(*columns, ask(total, style=styles).style)
    with _named("arc", ""):
        _bend(asked, _mapping(song.get("arc") or {}, ARC_KEYS))
    laid = Song(
        [(name, bars) for name, _, bars in sections],
        asked,
        *np.zeros((2, total), bool),
        song.get("rhythm") == "loop",
    )
    end = 0
    for name, section, bars in sections:
        end += bars
        with _named(name), _named("fill", ""):
            _fill(laid, section.get("fill"), bars, end)
    laid.crash &= np.isnan(asked.voices[:, CRASH])
    asked.voices[laid.crash, CRASH] = 1
    return laid


def _ordered(song):
    """[(name, section, bars)] in the order they are played."""
    sections = song.get("sections")
    if not isinstance(sections, list) or not sections:
        raise ValueError(f"sections: {sections!r}; it must be a list of sections, one at least")
    named = []
    for number, section in enumerate(sections, start=1):
        name = section.get("name") if isinstance(section, dict) else None
        name = f"{number}" if name is None else str(name)
        with _named(name):
            bars = whole(_mapping(section, SECTION_KEYS).get("bars"), "bars")
            check_voices(section.get("voices"))
            named.append((name, section, bars, whole(section.get("repeat", 1), "repeat")))
    names = [name for name, *_ in named]
    order = song.get("order")
    if order is None:
        order = names
    elif not isinstance(order, list) or not order or len(set(names)) < len(names):
        raise ValueError(
            f"order: {order!r}; it must be a list of names of sections, each name that of one section"
        )
    else:
        order = [str(name) for name in order]
        check_keys(order, names, "order: ", "section")
        named = [named[names.index(name)] for name in order]
    return [(name, section, bars) for name, section, bars, repeat in named for _ in range(repeat)]


class _named:
    """Puts the section, or another part of the song, before the message of an error within."""

    def __init__(self, name, what="section "):
        self.name = f"{what}{name}" if what else name

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if isinstance(error, ValueError):
            raise ValueError(f"{self.name}: {error}") from None


def _mapping(value, keys):
    if not isinstance(value, dict):
        raise ValueError(f"{value!r}; it must hold keys out of {', '.join(keys)}")
    check_keys(value, keys)
    return value


def _bend(asked, arc):
    """Apply the arc to Bars, in place."""
    voices = arc.get("voices") or {}
    check_voices(voices)
    curves = [
        (f"voices: {name}", value, asked.voices[:, voice_index(name)], 0, 16)
        for name, value in voices.items()
    ]
    for key, curve, least, most in (
        ("hits_per_bar", asked.hits, 0, np.inf),
        ("velocity", asked.velocity, 1, 127),
    ):
        curves += [(key, arc.get(key), curve, least, most)] * (arc.get(key) is not None)
    for name, value, curve, least, most in curves:
        changes = isinstance(value, dict) and bool(value.keys() & {"add", "scale"})
        if not changes:
            wanted = numbers(value, len(curve), name, least)
            curve[:] = np.where(np.isnan(curve), wanted, curve)
            continue
        if len(value) > 1:
            raise ValueError(f"{name}: {value!r}; it must be one of add and scale, and nothing beside it")
        if not (curve >= 0).any():
            raise ValueError(f"{name}: {value!r}; no section asks for {name}, so there is nothing to change")
        ((how, amount),) = value.items()
        wanted = numbers(amount, len(curve), f"{name}: {how}", -np.inf if how == "add" else 0)
        wanted = np.nan_to_num(wanted, nan=0 if how == "add" else 1)
        bent = np.clip(curve + wanted if how == "add" else curve * wanted, least, most)
        curve[:] = np.where(curve >= 0, bent, curve)


def _fill(song, fill, bars, end):
    """Make a fill of the last bars of a section of so many bars, which ends before bar `end` (from 0), in place. A crash
    is noted, not yet asked for: its bar may become a fill itself."""
    length, crash, wishes = _checked(fill, bars)
    if not length:
        return
    n, asked = -int(-length // 1), song.asked
    here = slice(end - n, end)
    was = Bars(
        asked.hits[here].copy(), asked.velocity[here].copy(), asked.voices[here].copy(), asked.style[here]
    )
    wanted = ask(n, **wishes)
    hits = np.where(np.isnan(was.hits), FILL_HITS, was.hits * FILL_HITS_RISE)
    louder = np.minimum(was.velocity + FILL_VELOCITY_RISE, 127)
    asked.hits[here] = hits = np.where(np.isnan(wanted.hits), hits, wanted.hits)
    asked.velocity[here] = np.where(np.isnan(wanted.velocity), louder, wanted.velocity)
    if wishes["voices"] is None:
        for name, share in FILL_MIX.items():
            wanted.voices[:, voice_index(name)] = np.round(share * hits)
    asked.voices[here] = np.where(was.voices < 0, was.voices, wanted.voices)  # what never sounds stays silent
    if length == 0.5:
        _halve(asked, was, here)
        song.half[end - 1] = True
    song.crash[end : end + 1] = crash


def _checked(fill, bars):
    """How long a fill is, whether a crash follows, and what is asked of it, as arguments for `ask`."""
    if not isinstance(fill, dict):
        fill = {"bars": 0 if fill is None else fill}
    check_keys(fill, FILL_KEYS)
    length, crash, voices = fill.get("bars", 1), fill.get("crash", True), fill.get("voices")
    number = isinstance(length, (int, float)) and not isinstance(length, bool)
    if not number or not 0 <= length <= bars or (length % 1 and length != 0.5):
        raise ValueError(
            f"bars: {length!r}; it must be 0.5 or a whole number, and at most the {bars} of the section"
        )
    if not isinstance(crash, bool):
        raise ValueError(f"crash: {crash!r}; it must be true or false")
    check_voices(voices)
    return (
        length,
        crash,
        {"hits_per_bar": fill.get("hits_per_bar"), "velocity": fill.get("velocity"), "voices": voices},
    )


def _halve(asked, was, here):
    """Of the bar whose second half alone is a fill ask for half of what was asked and half of the fill, in place. Of a
    voice of which the section asks nothing nothing is asked, unless it is a tom: that plays in the fill alone."""
    for before, fill in ((was.hits, asked.hits[here]), (was.velocity, asked.velocity[here])):
        fill[:] = np.where(np.isnan(before), fill, (before + fill) / 2)
    fill, toms = asked.voices[here], np.isin(np.arange(len(VOICES)), TOMS)
    both = (np.nan_to_num(was.voices) + np.nan_to_num(fill)) / 2
    both = np.where(np.isnan(was.voices) & (np.isnan(fill) | ~toms), np.nan, both)
    fill[:] = np.where(was.voices < 0, was.voices, both)
