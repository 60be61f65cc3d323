"""A request to play, in a musician's words, units and files: checked once, where it enters, and carried.

    flags, YAML, Python  ->  Request  ->  utils.playing.play.perform  ->  takes

A new flag is a field here and a row in arguments.py; a new job a row there and a function in jobs.py.
"""

import functools
import inspect
import itertools
import os
from dataclasses import dataclass, fields
from functools import cached_property

import torch

from model.bars import LONGEST_BAR
from model.controls import CONTROLS, RHYTHM_KINDS
from utils.checks import ArgumentError, check_keys, check_switch, number, whole
from utils.midi.timeline import MAX_BARS, read_meters
from utils.playing.arguments import JOBS
from utils.playing.beats import PLAYED, WISHED, mixed, read_beat
from utils.playing.feel import FEEL
from utils.playing.rolls import limits, three, voice_mask
from utils.playing.song import lay_out_song
from utils.playing.wishes import FOUR_FOUR, UNKNOWN, WISHES, Room, Wish, lay_out, read_swing, read_wishes

GUIDANCE = 1.5  # where controls are set; chosen on the validation split, see docs/experiments.md
STEADIER = 4.0  # times as much `steady` counts past 1, likewise: it says little of a single step
FOLLOW = {"literal": 1.0, "loose": 0.0, "free": None}
MOST_FOLLOW = 2
# The default of temperature, of onsets, velocity and timing. Colder than trained, bars are as alike as a
# drummer's, but rare voices are lost first; the lift, added to the log odds of each voice's onsets, brings
# them back. Chosen on the validation split with the shipped weights, see docs/experiments.md
TEMPERATURES = (0.8, 0.6, 1.0)
LIFT = (0.08, 0.0, 0.0, 0.6, 0.6, 0.0, 0.45, 0.15, -0.15)  # voices in the order of utils/midi/drums.py
# To what is no drummer's own rhythm a draw is less sure of itself. So the most typical of several takes is
# kept, and all voices are lifted alike; chosen on rhythms that people brought, see there
LOOSE_KINDS = "hands", "part"
LOOSE_TEMPERATURES, LOOSE_LIFT = (0.85, 0.6, 1.0), 0.15
# A drummer's own hits count so many times as much as in training, as long as no numbers and no style are
# asked, which they would outweigh; chosen on the validation split, see there
OWN_FOLLOW = 1.5
TAKES, MOST_USUAL = 8, 32  # for each that is wanted, and in all; twice as many of more than PART_BARS
PART_BARS = 8  # of which the best are chosen by themselves, a usual phrase
MOST_SHIFT = 64
KINDS = *RHYTHM_KINDS, "unset"  # by their numbers
MOST_SEED = 2**63 - 1
MOST_TAKES = 1000  # that are played and kept, a megabyte each


def with_arguments_of(values, *names, without=()):
    """Give a function of **keywords a signature with the fields of a dataclass and the names; others are
    refused."""
    defaults = {field.name: field.default for field in fields(values)} | dict.fromkeys(names)

    def decorate(function):
        own = inspect.signature(function)
        parts = {name: part for name, part in own.parameters.items() if part.kind != part.VAR_KEYWORD}
        for name in (name for name in defaults if name not in {*parts, *without}):
            parts[name] = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name])
        signature = own.replace(parameters=[*parts.values()])

        @functools.wraps(function)
        def checked(*given, **keywords):
            check_keys(keywords, signature.parameters, "argument")
            return function(*given, **keywords)

        checked.__signature__ = signature
        return checked

    return decorate


def strengths_of(guidance):
    """The guidance of each control, by name, for one number for all: past 1 `steady` has more."""
    strengths = dict.fromkeys(CONTROLS, guidance)
    return strengths | {"steady": guidance * STEADIER if guidance > 1 else guidance}


@dataclass(frozen=True, kw_only=True, eq=False)
class Dials:
    """How drums are played, as `generate` takes it. Raises ArgumentError."""

    temperature: float | None = None  # None: by what the rhythm is
    guidance: float | dict = GUIDANCE
    follow: float | str = "literal"
    rhythm_is: str | None = None  # None: as the file tells
    timing: float | None = None  # None: by what the rhythm is
    accents: float | None = None  # likewise
    feel: float | dict = 1.0
    stops: bool = False
    lock: object = None
    at_most: int | None = None
    playable: bool = False
    swing: object = None
    num_samples: int = 1
    best_of: int | None = None
    seed: int | None = None  # None: a new one

    def __post_init__(self):
        warmth = 1 if self.temperature is None else self.temperature
        number(warmth, "temperature", "a number above 0", above=True)
        whole(self.num_samples, "num_samples", most=MOST_TAKES)
        whole(1 if self.best_of is None else self.best_of, "best_of", most=MOST_TAKES)
        if self.rhythm_is not in (None, *KINDS):
            raise ArgumentError("rhythm_is", self.rhythm_is, f"it must be one of {', '.join(KINDS)}")
        rule = "a number from 0, the drummer's, to 1, the rhythm's"
        for name in ("timing", "accents"):
            number(0 if getattr(self, name) is None else getattr(self, name), name, rule, most=1)
        check_switch(self.stops, "stops")
        limits(self.at_most, self.playable, 1)
        new = int.from_bytes(os.urandom(4), "big")  # short enough to type
        object.__setattr__(self, "seed", whole(new if self.seed is None else self.seed, "seed", 0, MOST_SEED))
        _ = self.strengths, self.followed, self.locked, self.felt, self.ratio  # they are read once, and kept

    @cached_property
    def strengths(self):
        """The guidance of each control, by name."""
        rule = "a number, 0 or more"
        if not isinstance(self.guidance, dict):
            return strengths_of(number(self.guidance, "guidance", rule))
        for name in self.guidance:
            if name not in CONTROLS:
                raise ArgumentError("guidance", name, f"the controls are {', '.join(CONTROLS)}")
        given = strengths_of(GUIDANCE) | self.guidance
        return {name: number(strength, ("guidance", name), rule) for name, strength in given.items()}

    @cached_property
    def followed(self):
        """How closely the rhythm is followed, 0 to MOST_FOLLOW, or None: not at all."""
        if isinstance(self.follow, str) and self.follow in FOLLOW:
            return FOLLOW[self.follow]
        rule = f"{', '.join(FOLLOW)}, or a number from 0, loose, past 1, literal, to {MOST_FOLLOW}"
        return number(self.follow, "follow", rule, most=MOST_FOLLOW)

    @cached_property
    def felt(self):
        """feel for each of FEEL, by name."""
        rule = "a number from 0, on the grid and even, to 1, as played"
        if not isinstance(self.feel, dict):
            return dict.fromkeys(FEEL, number(self.feel, "feel", rule, most=1))
        for name in self.feel:
            if name not in FEEL:
                raise ArgumentError("feel", name, f"it is of {' and '.join(FEEL)}")
        given = dict.fromkeys(FEEL, 1) | self.feel
        return {name: number(share, ("feel", name), rule, most=1) for name, share in given.items()}

    @cached_property
    def locked(self):
        """The voices of `lock` as a mask (9,), or None."""
        return None if self.lock is None or self.lock == () else voice_mask(self.lock, "lock")

    def drawn_at(self, loose=False):
        """The temperature, of all that is drawn or of onsets, velocity and timing. loose: as of for_model."""
        usual = LOOSE_TEMPERATURES if loose else TEMPERATURES
        return usual if self.temperature is None else float(self.temperature)

    def usual_best_of(self, n_bars):
        """How many takes of so many bars are played to a loose rhythm where best_of does not say."""
        takes = TAKES if n_bars <= PART_BARS else 2 * TAKES
        return max(self.num_samples, min(takes * self.num_samples, MOST_USUAL))

    @cached_property
    def ratio(self):
        """The Wish of `swing`, or None."""
        return None if self.swing is None else Wish("swing", self.swing, read_swing)

    def for_model(self, device, loose=False, own=False):
        """The dials as `sample` and `Stream` take them. loose: whether the rhythm is one of LOOSE_KINDS and
        the model is told; own: see follow_of."""
        temperature, lift = self.drawn_at(loose), LOOSE_LIFT if loose else LIFT
        dials = {"temperature": (*temperature, lift) if self.temperature is None else temperature}
        dials |= {"guidance": self.strengths, "follow": self.follow_of(own)}
        return dials | {"generator": torch.Generator(device).manual_seed(self.seed)}

    def follow_of(self, own):
        """How many times as much as in training the hits of the rhythm count. own: whether they are a
        drummer's own, and nothing is asked or known beside them."""
        return (1.0 if self.followed is None else self.followed) * (OWN_FOLLOW if own else 1)

    def turned(self, n_bars=None, loose=False):
        """The dials, name -> value, without those that are off: for a receipt. n_bars: where best_of does not
        say, usual_best_of of so many bars holds; None: one take. loose: as of for_model."""
        off = {"num_samples": 1, "best_of": 1, "playable": False, "lock": (), "seed": self.seed}
        off |= {"feel": 1, "stops": False}
        dials = {field.name: getattr(self, field.name) for field in fields(Dials)}
        dials["temperature"] = self.drawn_at(loose)
        if n_bars and self.best_of is None:
            dials["best_of"] = self.usual_best_of(n_bars)
        return {name: value for name, value in dials.items() if value is not None and value != off.get(name)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Request(Dials):
    """What a musician asks for; `play` says what each field takes. Raises ArgumentError."""

    rhythm: object = None
    track: int | str | None = None
    shift: float | None = None
    kit_in: str | None = None
    job: str = "tap"
    drums: object = None
    voices_anew: object = None
    bars_anew: object = None
    strength: float | None = None
    second: object = None
    hits_per_bar: object = None
    velocity: object = None
    voices: dict | None = None
    style: object = None
    steady: object = None
    forbid: object = ()
    beat: str | None = None
    song: object = None
    bars: int | None = None
    meter: object = None
    pickup: int | None = None
    known: dict | None = None
    latent: object = None
    kit_out: str | None = None
    tempo: float | None = None
    keep_tracks: bool = False
    replace_drums: bool = False
    lead_in: bool = False
    count_in: bool = False
    soundfont: str | None = None
    temperature: float | None = None  # None of these three: as the beat says, or as in Dials
    guidance: float | dict | None = None
    follow: float | str | None = None

    def __post_init__(self):
        if self.job == "humanize":
            object.__setattr__(self, "job", "humanise")
        self._take_beat()
        super().__post_init__()
        takes = {name: row.takes.values() for name, row in JOBS.items()}
        if self.job not in tuple(JOBS):
            raise ArgumentError("job", self.job, f"it must be one of {', '.join(JOBS)}")
        for field in dict.fromkeys(itertools.chain(*takes.values())):
            if self.is_given(field) and field not in takes[self.job]:
                others = " or ".join(job for job, fields in takes.items() if field in fields)
                raise ArgumentError(field, None, f"it goes with job {others}, not with {self.job}", "")
        for names, what in JOBS[self.job].needs.items():
            if not any(map(self.is_given, names)):
                raise ArgumentError(names[0], None, f"job {self.job} needs {what}", "")
        for name in ("keep_tracks", "replace_drums", "lead_in", "count_in"):
            check_switch(getattr(self, name), name)
        if self.shift is not None:
            rule = f"a number of sixteenths, -{MOST_SHIFT} to {MOST_SHIFT}"
            number(self.shift, "shift", rule, -MOST_SHIFT, MOST_SHIFT)
        if self.bars is not None:
            whole(self.bars, "bars", most=MAX_BARS)
        if self.meter is not None:
            read_meters(self.meter)
        if self.pickup is not None:
            whole(self.pickup, "pickup", most=LONGEST_BAR - 1)
        if self.song is not None:
            for name in filter(self.is_given, ("bars", "beat", *WISHES, "job")):
                rule = "it does not go with song: the song gives its bars and its wishes"
                raise ArgumentError(name, getattr(self, name), rule)
        if self.file is None:
            for name in filter(self.is_given, ("track", "shift", "kit_in", "replace_drums")):
                raise ArgumentError(name, getattr(self, name), "it goes with a MIDI file, and rhythm is none")
            if self.rhythm is not None:
                three(self.rhythm, "rhythm")
        _ = self.bars_from_0, self.laid_song, self._wishes(self._room)  # they are checked here

    def _take_beat(self):
        """Fill what is left out: with the mix of the beat or of the song's beats, then with the defaults."""
        mix = dict(read_beat(self.beat) if self.song is None else self.laid_song.dials)
        if self.job != "tap" or self.known is not None or not (self.lock is None or self.lock == ()):
            mix.pop("follow", None)  # beside known drums it is literally, or not at all
        own = {name: getattr(self, name) for name in (*WISHED, *PLAYED)}
        defaults = {field.name: field.default for field in fields(Dials) if field.name in PLAYED}
        for name, value in mixed(mixed(own, mix), defaults).items():
            object.__setattr__(self, name, value)

    def is_given(self, name):
        """Whether a field says something: it is neither empty nor its default."""
        value, default = getattr(self, name), type(self).__dataclass_fields__[name].default
        plain = isinstance(value, (str, bool, list, tuple, dict))
        return value is not None and not (plain and (not value or value == default))

    @property
    def file(self):
        """The file of the rhythm, or None."""
        return self.rhythm if isinstance(self.rhythm, (str, os.PathLike)) else None

    @cached_property
    def laid_song(self):
        """The Song; None without one."""
        return None if self.song is None else lay_out_song(self.song, self._room)

    @property
    def _room(self):
        return FOUR_FOUR if self.file is None and self.meter is None else UNKNOWN

    def _wishes(self, room):
        return read_wishes(room=room, **{name: getattr(self, name) for name in WISHES})

    def asked(self, grid):
        """What is asked of the bars of a BarGrid: the Bars, and the Song that asks for them, or None."""
        if self.song is None:
            room = Room.of(grid)
            return lay_out(self._wishes(room), grid.n_bars, room), None
        song = self.laid_song.for_bars(grid)
        return song.asked, song

    @cached_property
    def bars_from_0(self):
        """The bars of bars_anew, text as "2,5-7" or numbers from 1, in a list from 0; or None."""
        if self.bars_anew is None:
            return None
        several = hasattr(self.bars_anew, "__iter__") and not isinstance(self.bars_anew, str)
        bars = []
        for part in map(str, self.bars_anew) if several else str(self.bars_anew).split(","):
            first, _, last = part.partition("-")
            first, last = first.strip(), last.strip() or first.strip()
            if not (first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last) <= MAX_BARS):
                raise ArgumentError("bars_anew", self.bars_anew, "it must name bars from 1 on, as 2,5-7")
            bars += range(int(first) - 1, int(last))
        return bars
