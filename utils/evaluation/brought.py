"""Rhythms that people bring: what is played to them, beside the drums that really went with them.

A set is a zip, or the folder of it, that the environment variable RHYTHMS_ZIP names:

    songs/NAME.mid          a real song: a track `rhythm` (its bass part), and its drums on channel 10
    taps/NN/drums.mid       a drum pattern
    taps/NN/KIND_N.mid      the same tapped by people: simple, complex or repetition

Each goes through the front door, a MIDI file into `play`, and is told to be what its group is. Shapes: F
files of a group, P patterns or songs, N takes, n scored bars of a file, 16 steps, 9 voices; onsets are bool.
"""

import os
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tqdm import tqdm

from utils.evaluation.bootstrap import f1, per_performance, quotient
from utils.evaluation.tap import Consensus, mean_there
from utils.midi.drums import N_VOICES, voice_index
from utils.midi.hearing import hear, process_midi
from utils.midi.kits import KITS
from utils.playing.groove import KEEPS_TIME, TIMEKEEPERS
from utils.playing.play import play

PLACE = "RHYTHMS_ZIP"
STEPS = 16  # of a bar
MOST_BARS = 64  # of a song that are scored
TAKES = 8  # at most, of a rhythm
OWN, SONGS = "own hits", "songs"
GROUPS = {OWN: "drums", "simple": "hands", "complex": "hands", "repetition": "hands", SONGS: "part"}
# The keys of a drum kit. A song's shakers and congas are another player's.
KIT_KEYS = sorted({key for kit in KITS.values() for keys in kit.values() for key in keys})
KICK, SNARE = voice_index("kick"), voice_index("snare")


@dataclass(frozen=True)
class Rhythm:
    """One file of the set. name: its path there; track: what of it is the rhythm, None for all. bars (n,):
    those that are scored, counted from 0; of these real (n, 16, 9), the drums, and struck (n, 16), where the
    rhythm sounds."""

    name: str
    path: Path
    group: str
    track: str | None
    bars: np.ndarray
    real: np.ndarray
    struck: np.ndarray

    @property
    def pattern(self):
        """What it is a version of: the folder of a tap, the song itself."""
        return self.name if self.group == SONGS else self.path.parent.name


# ------------------------------------------------------------------------- the set


def missing():
    """Why the set can't be measured, None where it can."""
    return None if os.environ.get(PLACE) else f"{PLACE} names no zip of rhythms"


@contextmanager
def rhythm_folder():
    """Yields the folder of the set. Raises ValueError where the place that is named holds none."""
    place = Path(os.environ[PLACE])
    if place.is_dir():
        yield place
        return
    if not zipfile.is_zipfile(place):
        raise ValueError(f"{PLACE} names {place}, which is neither a zip nor a folder")
    with TemporaryDirectory() as folder:
        with zipfile.ZipFile(place) as archive:
            archive.extractall(folder)
        yield Path(folder)


def read_rhythms(folder, most=None):
    """{group: [Rhythm]} of the groups that the folder has. most: of each group an evenly spaced part."""
    found = {group: [] for group in GROUPS}
    for path in sorted(folder.rglob("*.mid")):
        group = SONGS if path.parent.name == SONGS else path.stem.replace("drums", OWN).partition("_")[0]
        if group not in GROUPS:
            names = f"{SONGS}/NAME, taps/NN/drums and taps/NN/KIND_N, KIND being simple, complex, repetition"
            raise ValueError(
                f"{path.relative_to(folder)}: no name that a set of rhythms has, which are {names}"
            )
        found[group].append(path)
    for group, paths in found.items():
        if most is not None and most < len(paths):
            found[group] = [paths[i] for i in np.linspace(0, len(paths) - 1, most).round().astype(int)]
    return {
        group: [read_rhythm(path, folder, group) for path in paths] for group, paths in found.items() if paths
    }


def read_rhythm(path, folder, group):
    """The Rhythm of a file. Scored are the bars that both rhythm and drums have; of a song those in which
    both sound, MOST_BARS at most."""
    track, drums = ("rhythm", path) if group == SONGS else (None, path.parent / "drums.mid")
    real, struck = kit_onsets(drums), in_bars(process_midi(path, track)[0][0].numpy() > 0).any(-1)
    bars = np.arange(min(len(real), len(struck)))
    if group == SONGS:
        bars = bars[real[bars].any((1, 2)) & struck[bars].any(1)][:MOST_BARS]
    name = str(path.relative_to(folder).with_suffix(""))
    return Rhythm(name, path, group, track, bars, real[bars], struck[bars])


def kit_onsets(path):
    """The onsets (bars, 16, 9) of the drum kit of a MIDI file."""
    heard = hear(path, drums=True)
    heard = replace(heard, notes=heard.notes.select(np.isin(heard.notes.pitch, KIT_KEYS)))
    return in_bars(heard.roll()[0] > 0) if len(heard.notes.tick) else np.zeros((0, STEPS, N_VOICES), bool)


def in_bars(onset):
    """(T, 9) -> (bars, 16, 9), the last bar filled up with silence."""
    onset = np.pad(onset, ((0, -len(onset) % STEPS), (0, 0)))
    return onset.reshape(-1, STEPS, N_VOICES)


# ------------------------------------------------------------------------- what is played


def measure(player, sets):
    with rhythm_folder() as folder:
        groups, n_takes = read_rhythms(folder, sets.n_windows), min(player.samples, TAKES)
        progress = tqdm(total=sum(map(len, groups.values())), desc="brought", unit="rhythm", disable=None)
        played = {}
        for rhythm in (rhythm for group in groups.values() for rhythm in group):
            played[rhythm.name] = takes(player, rhythm, n_takes, player.seed + len(played))
            progress.update()
        progress.close()
        return {"brought": rows(groups, played)}


def measure_midi(folders, most=None):
    """What `measure` gives, of drums that lie in folders, a take each, under the names of the rhythms. A
    group is left out where no folder has any of it. Raises ValueError where a file of a group is missing."""
    with rhythm_folder() as folder:
        groups = read_rhythms(folder, most)
        for group, rhythms in list(groups.items()):
            if not any(take_in(place, rhythm).is_file() for place in folders for rhythm in rhythms):
                del groups[group]
        if not groups:
            raise ValueError(f"{', '.join(folders)}: no file is named as a rhythm, such as songs/NAME.mid")
        played = {
            rhythm.name: np.stack([bars_of(kit_onsets(take_in(place, rhythm)), rhythm) for place in folders])
            for rhythms in groups.values()
            for rhythm in rhythms
        }
        return {"brought": rows(groups, played)}


def take_in(place, rhythm):
    return Path(place) / f"{rhythm.name}.mid"


def bars_of(onset, rhythm):
    """The scored bars of what is played to a rhythm, onset (bars, 16, 9); silent past its end."""
    onset = np.pad(onset, ((0, max(rhythm.bars[-1] + 1 - len(onset), 0)), (0, 0), (0, 0)))
    return onset[rhythm.bars]


def takes(player, rhythm, n_takes, seed):
    """What `play` makes of a rhythm, (N, n, 16, 9): n_takes as they are drawn, of its scored bars. Where no
    so many differ, they come again. A model that knows kinds of rhythms is told which this is."""
    kind = GROUPS[rhythm.group] if player.model.told_kind else None
    dials = {"rhythm_is": kind, "guidance": player.guidance, "seed": seed, "best_of": None}
    about = {"track": rhythm.track, "bars": int(rhythm.bars[-1]) + 1, "num_samples": n_takes}
    played = play(rhythm.path, model=player.model, **about, **dials)
    onsets = [bars_of(in_bars(take.onset[0].numpy() > 0), rhythm) for take in played]
    return np.stack([onsets[number % len(onsets)] for number in range(n_takes)])


# ------------------------------------------------------------------------- figures


def rows(groups, played):
    """{group: {row: sums}} of {group: [Rhythm]} and of what was played to each, {name: (N, n, 16, 9)}."""
    found = {}
    for group, rhythms in groups.items():
        onsets = [played[rhythm.name] for rhythm in rhythms]
        n_takes = len(onsets[0])
        found[group] = {"real": [rhythm.real[None] for rhythm in rhythms], "one take": onsets}
        of_kind = [
            other for name, those in groups.items() if GROUPS[name] == GROUPS[group] for other in those
        ]
        if n_takes > 1 and len({rhythm.pattern for rhythm in of_kind}) > 1:
            found[group]["consensus"] = consensus(rhythms, of_kind, played)
        for row, follows in (("rock beat", False), ("rock beat, kick on the rhythm", True)):
            found[group][row] = [rock_beat(rhythm.struck, follows)[None] for rhythm in rhythms]
        found[group] = {row: sums(rhythms, of) for row, of in found[group].items()}
        told = [hear(rhythm.path, rhythm.track).kind() == GROUPS[group] for rhythm in rhythms]
        found[group]["one take"]["kind"] = by_pattern(rhythms, [(right, 1) for right in told])
    return found


def rock_beat(struck, follows):
    """A beat that needs no model, (n, 16, 9): kick on one and three, snare on two and four, closed hat on the
    eighths. follows: the kick is where the rhythm (n, 16) sounds, in its place."""
    beat = np.zeros((*struck.shape, N_VOICES), bool)
    beat[:, [4, 12], SNARE] = beat[:, ::2, voice_index("closed_hat")] = True
    beat[:, [0, 8], KICK] = True
    if follows:
        beat[..., KICK] = struck
    return beat


def consensus(rhythms, of_kind, played):
    """Of each rhythm the cells (1, n, 16, 9) that enough of its takes hit: as many as give the highest F1 on
    the other patterns or songs of its kind, of_kind. A group of a kind may have few patterns; a threshold of
    these alone is one of chance. played: as of `rows`."""
    guesses = []
    for rhythm in rhythms:
        takes, others = played[rhythm.name], [other for other in of_kind if other.pattern != rhythm.pattern]
        cells = np.concatenate([played[other.name].reshape(len(takes), -1) for other in others], 1)
        real = np.concatenate([other.real.ravel() for other in others])
        guesses.append(Consensus(cells, real).guess(takes)[None])
    return guesses


def sums(rhythms, onsets):
    """Sums over the P patterns or songs of a group, of takes (N, n, 16, 9) to each of its F rhythms.

    "cells" (P, N, 3): cells that are hit in both, in the take, in the real drums, for F1; "hits" (P, 2): hits
    of a take and of the real drums. Songs differ in length and fullness, and each counts as one: its cells
    are divided by the mean of the hits on both sides, its hits are those of a bar; "hits a bar" and HABITS
    are of songs alone, (P, 2), for `mean`.
    """
    cells = np.stack([cells_of(takes, rhythm.real) for rhythm, takes in zip(rhythms, onsets)])
    hits = cells[..., 1:].mean(1)
    if rhythms[0].group != SONGS:
        return {"cells": by_pattern(rhythms, cells), "hits": by_pattern(rhythms, hits)}
    cells = cells / cells[..., 1:].mean(-1, keepdims=True)
    hits = hits / [[len(rhythm.bars)] for rhythm in rhythms]
    found = {"cells": cells, "hits": hits, "hits a bar": [(of_take, 1) for of_take, _ in hits]}
    for name, habit in HABITS.items():
        value = np.array([habit(takes, rhythm) for rhythm, takes in zip(rhythms, onsets)])
        found[name] = np.stack([np.nan_to_num(value), ~np.isnan(value)], -1)
    return {name: by_pattern(rhythms, values) for name, values in found.items()}


def by_pattern(rhythms, values):
    """Values (F, ...) summed over the files of each pattern or song, (P, ...)."""
    return per_performance(np.asarray(values, np.float64), [rhythm.pattern for rhythm in rhythms])


def cells_of(takes, real):
    """(N, 3) of takes (N, n, 16, 9) and the real drums (n, 16, 9): cells that are hit in both, in each."""
    both = takes & real, takes, np.broadcast_to(real, takes.shape)
    return np.stack([hit.sum((1, 2, 3)) for hit in both], -1)


def backbeat(takes, rhythm):
    """The share of the seconds and fourths beats with a snare."""
    return takes[:, :, [4, 12], SNARE].mean()


def timekeeper(takes, rhythm):
    """The share of the bars in which a hat or the ride sounds on four steps or more."""
    return (takes[..., TIMEKEEPERS].any(-1).sum(-1) >= KEEPS_TIME).mean()


def likeness(takes, rhythm):
    """F1 of a bar and the one before it, the mean over the scored bars that follow another, but not of two
    silent ones; NaN where there is no such bar."""
    after = np.flatnonzero(np.diff(rhythm.bars) == 1) + 1
    now, before = takes[:, after], takes[:, after - 1]
    shared = np.stack([hit.sum((2, 3)) for hit in (now & before, now, before)], -1)
    return float(mean_there(f1(shared).ravel()))


def off_rhythm(takes, rhythm):
    """The share of the hits where the rhythm does not sound; NaN where there are no hits."""
    return float(quotient(takes[:, ~rhythm.struck].sum(), takes.sum()))


HABITS = {
    "backbeat": backbeat,
    "bars with a timekeeper": timekeeper,
    "likeness to the bar before": likeness,
    "hits off the rhythm": off_rhythm,
}
