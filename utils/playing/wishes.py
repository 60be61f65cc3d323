"""A musician's wishes: one value for all bars or several, checked as they enter, then laid out over bars."""

import itertools
from functools import partial
from typing import NamedTuple

import numpy as np

from model.controls import CONTROLS
from utils.checks import ArgumentError, check_keys, within
from utils.config.yaml_file import read_file
from utils.midi.drums import voice_index, voices_meant
from utils.playing.controls import FORBIDDEN, Bars, as_ids, style_weights
from utils.playing.swing import AS_THE_RHYTHM, MOST_SWING, STRAIGHT

WISHES = (*(control.wish for control in CONTROLS.values()), "swing", "forbid")
UNSET_WORDS = ("", "-", "none")


class Room(NamedTuple):
    """How many hits bars have room for. longest: the steps of the longest bar, which no voice can hit more
    often. shares: of each bar its length by that of a usual one, the commonest, of equally common ones the
    longest; None: all are alike."""

    longest: float = 16
    shares: np.ndarray | None = None

    @classmethod
    def of(cls, grid):
        """That of the bars of a BarGrid."""
        usual = max(grid.lengths, key=lambda length: (grid.lengths.count(length), length))
        return cls(grid.longest, None if grid.even else np.array(grid.lengths) / usual)

    def part(self, bars):
        """That of the bars in a slice."""
        return self if self.shares is None else Room(self.longest, self.shares[bars])


FOUR_FOUR, UNKNOWN = Room(), Room(np.inf)


class Wish:
    """Values for bars: one, several, or the two ends of a ramp."""

    def __init__(self, name, value, read_item):
        """value: as read_wishes takes it; read_item checks an item, or None, left to the model."""
        self.name, self.ramp = name, isinstance(value, dict) and value.keys() == {"from", "to"}
        items = [value["from"], value["to"]] if self.ramp else items_of(value) or [None]
        with within(name):
            self.items = [read_item(item) for item in items]

    def over(self, n_bars, shares=None):
        """A value for each bar, evenly stretched, as an array; of values that stand for several bars each bar
        has its share. ArgumentError for more values than bars."""
        values = self._stretched(n_bars)
        own = shares is None or (len(self.items) == n_bars and not self.ramp)
        return values if own else values * shares

    def _stretched(self, n_bars):
        if self.ramp:
            return np.linspace(*self.items, n_bars)
        if len(self.items) > n_bars:
            rule = "give one for all, or at most one for each bar"
            raise ArgumentError(self.name, self.items, rule, f"{len(self.items)} values for {n_bars} bars")
        return np.array([self.items[bar * len(self.items) // n_bars] for bar in range(n_bars)])


def read_wishes(forbid=(), room=FOUR_FOUR, swing=None, **wishes):
    """Check wishes, by the `wish` of their controls: [(control name, voice or None, Wish)]. room: the Room of
    their bars.

    hits_per_bar, velocity, style and each value of the dict voices (name -> hits per bar): one value for all
    bars or several, a list or text with commas. A list shorter than the bars is stretched evenly, each value
    held until the next one's turn. Numbers may be {from: a, to: b}, evenly from the first bar to the last.
    None or "-" leaves a bar to the model. A blend of styles is a dict of weights, or text:
    "funk=0.7+jazz=0.3". swing: ratios, or "rhythm", see read_swing. forbid: names of voices.
    """
    read = [] if swing is None else [("swing", None, Wish("swing", swing, read_swing))]
    for name, control in CONTROLS.items():
        value = wishes.get(control.wish)
        if value is None:
            continue
        most = control.units and control.units(room.longest) * control.highest
        read_item = style_weights if control.n_ids else partial(read_number, least=control.fewest, most=most)
        if control.width is None:
            read.append((name, None, Wish(control.wish, value, read_item)))
            continue
        check_voices(value)
        with within(control.wish):
            for voice, hits in value.items():
                read.append((name, voice_index(voice), Wish(voice, hits, read_item)))
    never = Wish("forbid", FORBIDDEN, float)
    with within("forbid"):
        never_heard = itertools.chain.from_iterable(map(voices_meant, filter(None, items_of(forbid))))
        return read + [("instrument", voice, never) for voice in never_heard]


def lay_out(wishes, n_bars, room=FOUR_FOUR):
    """Bars that ask for these wishes, as read_wishes gives them."""
    asked = Bars.unset(n_bars)
    for name, voice, wish in wishes:
        counted = name in CONTROLS and counts_hits(CONTROLS[name]) and wish.name != "forbid"
        shares = room.shares if counted else None
        if voice is None:
            values = wish.over(n_bars, shares)
            asked[name] = as_ids(values) if name == "style" else values
        else:
            with within(CONTROLS[name].wish):
                asked[name][:, voice] = wish.over(n_bars, shares)
    return asked


def counts_hits(control):
    """Whether a longer bar has more of it."""
    return control.units is not None and control.units(2) > control.units(1)


def ask(n_bars, room=FOUR_FOUR, **wishes):
    """Bars that ask for wishes as read_wishes takes them."""
    return lay_out(read_wishes(room=room, **wishes), n_bars, room)


def read_number(item, least, most=np.inf):
    """A number of a wish, NaN for None."""
    try:
        number = np.nan if item is None else float(item)
    except (TypeError, ValueError):
        number = np.inf
    if isinstance(item, bool) or np.isinf(number) or number < least or number > most:
        rule = "a number" if least == -np.inf else f"a number, {least:g} or more"
        rule = rule if most == np.inf else f"a number, {least:g} to {most:g}"
        raise ArgumentError((), item, f"it must be {rule}, or '-' to leave it to the model")
    return number


def read_swing(item):
    """A ratio of utils/playing/swing.py, AS_THE_RHYTHM for "rhythm", NaN for None."""
    if isinstance(item, str) and item.lower() == "rhythm":
        return AS_THE_RHYTHM
    try:
        return read_number(item, STRAIGHT, MOST_SWING)
    except ArgumentError as error:
        rule = f"it must be a number from {STRAIGHT}, straight, past 0.667, triplets, to {MOST_SWING}"
        raise ArgumentError((), item, f"{rule}; 'rhythm' for that of the rhythm; or '-'") from error


def check_voices(voices):
    if voices is not None and not isinstance(voices, dict):
        raise ArgumentError("voices", voices, "it must be voice names with hits per bar, as 'kick: 4'")


def check_mapping(value, keys):
    if not isinstance(value, dict):
        raise ArgumentError((), value, f"it must hold keys out of {', '.join(keys)}")
    check_keys(value, keys)
    return value


def read_mapping(path, keys):
    """The dict in a YAML file, which has some of these keys. Raises ArgumentError naming the file."""
    values, problems = read_file(path)
    with within(path):
        if problems:
            raise ValueError("; ".join(problems))
        return check_mapping({} if values is None else values, keys)


def items_of(value):
    """The items of a wish: of text with commas, of an array, of a list, or the one value."""
    if isinstance(value, str):
        value = value.split(",")
    elif hasattr(value, "tolist"):
        value = np.ravel(value).tolist()
    elif isinstance(value, dict) or not hasattr(value, "__iter__"):
        value = [value]
    items = [item.strip() if isinstance(item, str) else item for item in value]
    return [None if isinstance(item, str) and item.lower() in UNSET_WORDS else item for item in items]
