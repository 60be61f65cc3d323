"""A song: sections one after the other, each with controls of its own, fills at their ends, an arc over all.

examples/song.yaml shows what a song file looks like. A song ends up as what is asked of each bar, Bars.
"""

import itertools
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from model.controls import PHRASE
from utils.checks import ArgumentError, as_number, check_keys, check_switch, whole, within
from utils.get_model import given_model
from utils.midi.drums import N_VOICES, voice_index
from utils.midi.read import MAX_BARS
from utils.playing.bar_lines import BarLines
from utils.playing.beats import PLAYED, mixed, read_beat
from utils.playing.controls import FORBIDDEN, NUMBERS, Bars, to_model_units
from utils.playing.rolls import KNOWN, ROLLS
from utils.playing.swing import AS_THE_RHYTHM
from utils.playing.wishes import (
    FOUR_FOUR,
    WISHES,
    Room,
    Wish,
    ask,
    check_mapping,
    check_voices,
    counts_hits,
    read_mapping,
    read_number,
)

SONG_KEYS = ("sections", "order", "arc", "rhythm")
SECTION_KEYS = ("name", "bars", "repeat", "fill", "beat", *WISHES)
ARC_KEYS = tuple(control.wish for control in NUMBERS.values())
FILL_KEYS = ("bars", *ARC_KEYS, "crash")

# What a fill is in the training split of the Groove MIDI Dataset. The mix: shares of the hits in the 385
# recordings of one bar that are marked as fills; the voices left out have a fiftieth or less. How it stands
# out: of the recordings marked as beats the 456 bars with four hits of toms or more between two bars with
# none, beside the bar before.
FILL_MIX = {"kick": 0.13, "snare": 0.41, "closed_hat": 0.10, "floor_tom": 0.15, "high_tom": 0.14}
FILL_HITS = 21  # where the section asks for none
HITS_RISE, VELOCITY_RISE = 1.07, 13  # times; MIDI units
TOMS = [voice_index(name) for name in ("floor_tom", "mid_tom", "high_tom")]
CRASH = voice_index("crash")


@dataclass
class Song:
    """What is asked of a song. sections: [(name, bars)] in the order they are played. asked: Bars. half,
    crash (bars,) bool: bars whose second half alone is a fill, and that begin with a crash after one. loops:
    whether a rhythm that is shorter comes round again; otherwise the model goes on by itself. source,
    values: the file, or "song", and what stands in it. dials: follow, guidance and temperature of the first
    of the sections' beats that says them, for all of the song. fresh: bars, from 0, at which `play` begins
    anew: where a beat begins, lest it goes on in the phase of a sparse section before it."""

    sections: list
    asked: Bars
    half: np.ndarray
    crash: np.ndarray
    loops: bool
    source: str
    values: dict
    dials: dict
    fresh: tuple

    def __len__(self):
        return self.asked.n_bars

    def __str__(self):
        ends = np.cumsum([bars for _, bars in self.sections])
        return ", ".join(f"{name} {end - bars + 1}-{end}" for (name, bars), end in zip(self.sections, ends))

    def arguments(self, rhythm=(None, None, None), model=None, follow=None, meter=None):
        """The arguments of `generate` by name: generate(**song.arguments(rhythm), seed=1).

        rhythm: onset, vel, timeoffset (1, T, 9). model: default: the one built last by get_model. follow:
        None: as the sections' beats say, or literally. meter: as for generate; where the rhythm loops, its
        bars come round again with it. Where a rhythm is followed literally to the end of the song, the
        crashes after fills are known cells, so that they do come; otherwise they are asked for and come more
        often than not.
        """
        model, dials = given_model(model), {"follow": "literal"} | self.dials
        dials |= {} if follow is None else {"follow": follow}
        lines, rhythm = self.laid(BarLines.in_meter(model, meter), rhythm)
        grid = lines.of_bars(len(self))
        song = self.for_bars(grid)
        arguments = {f"piano_roll_{part}": roll for part, roll in zip(ROLLS, rhythm)}
        arguments |= song.curves(grid, model.normalize_factor)
        arguments |= {"masks": None, "seq_len": grid.n_steps, "model": model} | dials
        arguments |= {} if meter is None else {"meter": lines.timeline}
        swing = ["rhythm" if ratio == AS_THE_RHYTHM else ratio for ratio in song.asked["swing"]]
        return arguments | {"known": song.crashes(rhythm, grid, dials["follow"]), "swing": swing}

    def phrase_of(self, grid):
        """Which bar of its phrase each step's bar is, (T,) long: every section begins one."""
        bars = np.concatenate([np.arange(bars) for _, bars in self.sections]) % PHRASE
        return torch.from_numpy(bars[grid.index.bar])

    def for_bars(self, grid):
        """The same Song, of the bars of a BarGrid."""
        with within(self.source):
            return _laid_out(self.source, self.values, Room.of(grid))

    def laid(self, lines, rhythm, n_steps=0):
        """The BarLines of the song to a rhythm in these BarLines, and its rolls (1, T, 9), or None; where it
        loops, whole bars of it, n_steps at least, come round to the end, and so do the bars."""
        if not self.loops or rhythm is None or rhythm[0] is None:
            return lines, rhythm
        rolls = [torch.as_tensor(roll) for roll in rhythm]
        own = rolls[0].shape[-2]
        loop = lines.of_steps(max(own, n_steps)).whole().n_steps
        lines = lines.round_again(loop, len(self))
        rest, steps = loop - own, torch.arange(lines.of_bars(len(self)).n_steps) % loop
        return lines, [torch.nn.functional.pad(roll, (0, 0, 0, rest))[..., steps, :] for roll in rolls]

    def crashes(self, rhythm, grid, follow):
        """The crashes after fills as known cells, see `arguments`; or None. grid: the BarGrid of the song."""
        to_the_end = rhythm[0] is not None and rhythm[0].shape[-2] >= grid.n_steps
        if not (self.crash.any() and to_the_end and follow in ("literal", 1)):
            return None
        hits = torch.zeros(1, grid.n_steps, N_VOICES)
        hits[:, np.array(grid.starts)[self.crash], CRASH] = 1
        nothing = torch.zeros_like(hits)
        return dict(zip((*ROLLS, *KNOWN), (hits, nothing, nothing, hits, nothing)))

    def curves(self, grid, normalize_factor):
        """The curves of `generate`: those of to_model_units, but that the toms of half a bar's fill are
        forbidden before it, and a crash after a fill from the second step on."""
        curves = to_model_units(self.asked, normalize_factor, grid)
        instrument = curves["instrument"][0]
        for flagged, voices in ((self.half, TOMS), (self.crash, [CRASH])):
            for bar, voice in itertools.product(np.flatnonzero(flagged), voices):
                shares = instrument[grid.steps_of(bar), voice]
                here = slice(len(shares) // 2, None) if voice in TOMS else slice(1)
                if shares[0] > 0:  # neither unset nor forbidden; the mean of the bar stays what is asked
                    share = shares[0] * len(shares) / len(shares[here])
                    shares[:] = FORBIDDEN
                    shares[here] = share
        return curves


def read_song(song):
    """Read a song: the path of a YAML file, or what stands in one as a dict.

    sections: a list of dicts with bars and, if wanted, name, repeat (how often), fill, beat (as for play) and
        the keys of a control file, which win over the beat, each laid out over the section's bars. fill: how
        many bars at its end are a fill, 0.5 for half a bar, or a dict of that (bars), hits_per_bar, velocity,
        voices and crash (false: no crash after it).
    order: names of sections, in the order they are played; left out: as they stand.
    arc: for hits_per_bar, velocity or voices a value, as {from: 60, to: 100}, laid out over the song's bars.
        It fills bars that a section leaves free; {add: VALUE} and {scale: VALUE} change what sections ask.
    rhythm: loop, if a rhythm that is shorter is to come round again.

    Returns a Song. Raises ArgumentError naming the file, the section, the key, the value and the rule.
    """
    return lay_out_song(song)


def lay_out_song(song, room=FOUR_FOUR):
    """read_song for bars of this Room."""
    values = song if isinstance(song, dict) else read_mapping(song, SONG_KEYS)
    with within(name := "song" if values is song else song):
        return _laid_out(name, check_mapping(values, SONG_KEYS), room)


def _laid_out(source, song, room):
    """The Song of what stands in `source`."""
    sections = _ordered(song)
    total = sum(bars for _, _, bars in sections)
    if total > MAX_BARS:
        raise ValueError(f"{total} bars; a song has at most {MAX_BARS}")
    if song.get("rhythm") not in (None, "loop"):
        raise ArgumentError("rhythm", song["rhythm"], "it must be loop, or left out")
    parts, start, dials, fresh, last = [], 0, {}, [], None
    for name, section, bars in sections:
        with within(f"section {name}"):
            beat = read_beat(section.get("beat"))
            dials = {key: beat[key] for key in PLAYED if key in beat} | dials
            wishes = mixed({key: section.get(key) for key in WISHES}, beat)
            if beat and wishes["voices"] != last:
                fresh.append(start)
            last = wishes["voices"]
            here = slice(start, start := start + bars)
            parts.append(ask(bars, room.part(here), **{key: wishes[key] for key in WISHES}))
    asked = Bars.joined(parts)
    with within("arc"):
        _bend(asked, check_mapping(song.get("arc") or {}, ARC_KEYS), room)
    names = [(name, bars) for name, _, bars in sections]
    flags = np.zeros((2, total), bool)
    laid = Song(names, asked, *flags, song.get("rhythm") == "loop", source, song, dials, tuple(fresh))
    end = 0
    for name, section, bars in sections:
        end += bars
        with within(f"section {name}", "fill"):
            _fill(laid, section.get("fill"), bars, end, room)
    crash = asked["instrument"][:, CRASH]
    laid.crash &= np.isnan(crash)
    crash[laid.crash] = 1
    return laid


def _ordered(song):
    """[(name, section, bars)] in the order they are played."""
    sections = song.get("sections")
    if not isinstance(sections, list) or not sections:
        raise ArgumentError("sections", sections, "it must be a list of sections, one at least")
    named = []
    for place, section in enumerate(sections, start=1):
        name = section.get("name") if isinstance(section, dict) else None
        name = str(place if name is None else name)
        with within(f"section {name}"):
            bars = whole(check_mapping(section, SECTION_KEYS).get("bars"), "bars")
            check_voices(section.get("voices"))
            named.append((name, section, bars, whole(section.get("repeat", 1), "repeat")))
    names = [name for name, *_ in named]
    order = song.get("order")
    if order is not None:
        if not isinstance(order, list) or not order or len(set(names)) < len(names):
            rule = "it must be a list of names of sections, each name that of one section"
            raise ArgumentError("order", order, rule)
        order = [str(name) for name in order]
        with within("order"):
            check_keys(order, names, "section")
        named = [named[names.index(name)] for name in order]
    return [(name, section, bars) for name, section, bars, repeat in named for _ in range(repeat)]


def _bend(asked, arc, room):
    """Apply the arc to Bars, in place."""
    for name, control in NUMBERS.items():
        wish = arc.get(control.wish)
        if wish is not None and control.width is None:
            _bend_curve(asked[name], control, control.wish, wish, room)
        elif wish is not None:
            check_voices(wish)
            with within(control.wish):
                for voice, value in wish.items():
                    _bend_curve(asked[name][:, voice_index(voice)], control, voice, value, room)


def _bend_curve(curve, control, name, value, room):
    """Apply one value of the arc to what is asked of each bar, in place."""
    how, amount, least = "", value, control.fewest
    if isinstance(value, dict) and value.keys() & {"add", "scale"}:
        if len(value) > 1:
            raise ArgumentError(name, value, "it must be one of add and scale, and nothing beside it")
        if not (curve >= 0).any():
            rule = f"no section asks for {name}, so there is nothing to change"
            raise ArgumentError(name, value, rule)
        ((how, amount),) = value.items()
        least = -np.inf if how == "add" else 0
    shares = room.shares if counts_hits(control) and how != "scale" else None
    with within(*[name] * bool(how)):
        wanted = Wish(how or name, amount, partial(read_number, least=least)).over(len(curve), shares)
    if not how:
        curve[:] = np.where(np.isnan(curve), wanted, curve)
        return
    bent = curve + np.nan_to_num(wanted) if how == "add" else curve * np.nan_to_num(wanted, nan=1)
    curve[:] = np.where(curve >= 0, np.clip(bent, control.fewest, control.units(room.longest)), curve)


def _fill(song, fill, bars, end, room):
    """Make a fill of the last bars of a section of so many bars, which ends before bar `end` (from 0), in
    place. A crash is noted, not yet asked for: its bar may become a fill itself."""
    if not isinstance(fill, dict):
        fill = {"bars": 0 if fill is None else fill}
    check_keys(fill, FILL_KEYS)
    length, crash = fill.get("bars", 1), fill.get("crash", True)
    wishes = {name: fill.get(name) for name in ARC_KEYS}
    if as_number(length) not in (0.5, *range(bars + 1)):
        rule = f"it must be 0.5 or a whole number, and at most the {bars} of the section"
        raise ArgumentError("bars", length, rule)
    check_switch(crash, "crash", "true or false")
    if not length:
        return
    n, asked = -int(-length // 1), song.asked
    here = slice(end - n, end)
    was, wanted = asked.part(here), ask(n, room.part(here), **wishes)
    usual = FILL_HITS * (1 if room.shares is None else room.shares[here])
    hits = np.where(np.isnan(was["density"]), usual, was["density"] * HITS_RISE)
    louder = np.minimum(was["intensity"] + VELOCITY_RISE, 127)
    fill = {"density": hits, "intensity": louder}
    for name, own in fill.items():
        asked[name][here] = fill[name] = np.where(np.isnan(wanted[name]), own, wanted[name])
    voices = wanted["instrument"]
    if wishes.get("voices") is None:
        for name, share in FILL_MIX.items():
            voices[:, voice_index(name)] = np.round(share * fill["density"])
    before = was["instrument"]
    asked["instrument"][here] = np.where(before < 0, before, voices)  # what never sounds stays silent
    if length == 0.5:
        _halve(asked, was, here)
        song.half[end - 1] = True
    song.crash[end : end + 1] = crash


def _halve(asked, was, here):
    """A bar whose second half alone is a fill gets half of the section's wishes and half of the fill's, in
    place. Voices that the section leaves free stay free, but for toms, which play in the fill alone."""
    for name in ("density", "intensity"):
        fill = asked[name][here]
        fill[:] = np.where(np.isnan(was[name]), fill, (was[name] + fill) / 2)
    fill, before, toms = asked["instrument"][here], was["instrument"], np.isin(np.arange(N_VOICES), TOMS)
    both = (np.nan_to_num(before) + np.nan_to_num(fill)) / 2
    both = np.where(np.isnan(before) & (np.isnan(fill) | ~toms), np.nan, both)
    fill[:] = np.where(before < 0, before, both)
