"""Other meters than 4/4, and swing.

The files of the corpus that are not 4/4 are read in their meter, and as if they were 4/4, in windows that
begin and end on a bar line of both. The test split has none. A model that was trained on meters was trained
on those of the training split; benchmarks/leave_one_out.py trains to leave them out.

T4 is also cut to 3/4; with a second checkpoint (evaluate.py --beside) that was not trained on cuts the
likelihoods of both stand side by side. P performances, W windows, T steps, V voices, N samples.
"""

from itertools import pairwise

import numpy as np
import torch

from data_aug import RHYTHM_KEYS, make_batch, unset_controls
from model.bars import BarGrid
from utils.config.schema import SPLITS
from utils.corpus.cache import STEPS_PER_BEAT, decode, grid_of
from utils.corpus.meters import CHANGES, changed
from utils.evaluation.bootstrap import per_performance
from utils.evaluation.controls import sums_of
from utils.evaluation.player import FEW, odd_beats, thinned
from utils.evaluation.sets import Windows
from utils.midi.drums import STYLES, VOICES, voice_index
from utils.playing.swing import (
    AS_THE_RHYTHM,
    HEARD,
    MOST_SWING,
    STRAIGHT,
    SWUNG,
    Swing,
    bend,
    off_beat_places,
    swing_of,
)
from utils.training.metrics import SUMS, token_sums

SETTINGS = {"given": "true controls", "unset": "controls unset"}
OWN, FOUR = "in their meter", "as 4/4"
BESIDE = "the other checkpoint"
TOO_LONG = "left out: longer bars than the model has"
SHORTEST, LONGEST = 48, 128  # steps of a window
KICK, CRASH = voice_index("kick"), voice_index("crash")
FEWEST = 4  # off-beats of a window whose swing is measured
SEED = 5


def measure(player, sets):
    windows = sets("T4")
    read, downbeats = {}, {}
    for split in SPLITS:
        found, too_long = windows_in_meters(sets, split, player.model.longest_bar)
        if found:
            read[split] = read_rows(player.model, found, sets)
            downbeats[split] = downbeat_rows(player, found, split)
        if too_long:
            read.setdefault(split, {})[TOO_LONG] = {"files": too_long}
    cut = {"T4": cut_rows(player.model, sets)}
    if player.beside is not None:
        beside_it(cut["T4"], cut_rows(player.beside, sets.read_for(player.beside)))
    swing = {"T4": {"asked and got": swing_sums(windows, player(windows, "unset"))}}
    off_beats = {"T4": off_beat_rows(windows, player(windows, "unset"), player(windows, "thinned"))}
    return {"meters": read, "downbeats": downbeats, "cut": cut, "swing": swing, "off-beats": off_beats}


# ------------------------------------------------------------------------- files that are not 4/4


def windows_in_meters(sets, split, longest_bar):
    """The Windows of the files of a split that are not 4/4, those of one file and length together; and how
    many files have a bar that is longer than the model's, and are left out."""
    found, too_long = [], 0
    for number, file in enumerate(sets.cache.files):
        if file["split"] != split or not file.get("bars"):
            continue
        grid = grid_of(file)
        if grid.longest > longest_bar:
            too_long += 1
            continue
        same = {}
        for start, stop in spans(grid.lines):
            bars = grid.cut(*np.searchsorted(grid.lines, (start, stop)))
            same.setdefault(bars, []).append(file["start"] + start)
        found += [windows_at(sets, file, number, starts, bars) for bars, starts in same.items()]
    return found, too_long


def spans(lines):
    """From where to where windows go: from bar line to bar line, both on bar lines of 4/4 too, the nearest
    that are SHORTEST apart."""
    ends = [line for line in lines if line % 16 == 0]
    chosen = ends[:1]
    for end in ends:
        if end - chosen[-1] >= SHORTEST:
            chosen.append(end)
    return [(start, stop) for start, stop in pairwise(chosen) if stop - start <= LONGEST]


def windows_at(sets, file, number, starts, grid):
    """The Windows of a file, number of the cache, at these steps of the cache, with the bars of the grid."""
    steps = np.array(starts)[:, None] + np.arange(grid.n_steps)
    _, vel, offset = decode(sets.cache.vel[steps], sets.cache.offset[steps])
    mask, style = np.ones(steps.shape, bool), np.full(len(steps), file["style"], np.int64)
    batch = make_batch(vel, offset, mask, style, sets.data, sets.normalize_factor, grids=[grid] * len(steps))
    step_ms = np.full(len(steps), 60_000 / file["bpm"] / STEPS_PER_BEAT)
    return Windows(file["name"], batch, np.full(len(steps), number), step_ms, grid)


def as_four_four(windows, sets):
    """The same windows, read as 4/4."""
    four = BarGrid.four_four(windows.grid.n_steps, STEPS_PER_BEAT)
    return windows_of_batch(windows, windows.batch, four, sets)


def windows_of_batch(windows, rolls, grid, sets):
    """Windows of these rolls, a dict with vel and timeoffset (W, T, V), with the bars of a grid."""
    vel, offset = (torch.as_tensor(rolls[name]).numpy().copy() for name in ("vel", "timeoffset"))
    style = windows.batch["style"][:, 0].numpy().copy()
    mask, grids = np.ones(vel.shape[:2], bool), [grid] * len(vel)
    batch = make_batch(vel, offset, mask, style, sets.data, sets.normalize_factor, grids=grids)
    return Windows(windows.name, batch, windows.performance, windows.step_ms, grid)


def nats_of(model, several):
    """{setting: (P, 5)}: token_sums of the performances of several Windows."""
    device, sums, place = next(model.parameters()).device, [], []
    for windows in several:
        for number in np.unique(windows.performance):
            part = {name: x[windows.performance == number] for name, x in windows.batch.items()}
            sums.append(token_sums(model, [part], device, tuple(SETTINGS)).numpy())
            place.append(number)
    return {setting: per_performance(of, np.array(place)) for setting, of in zip(SETTINGS, np.stack(sums, 1))}


def read_rows(model, found, sets):
    """{row: {"nats", "files"}}, and of the drums read as 4/4 "cost" (P, 2): onset nats more than in their
    meter, and steps."""
    own, four = nats_of(model, found), nats_of(model, [as_four_four(windows, sets) for windows in found])
    rows = {}
    for setting, title in SETTINGS.items():
        files, steps = len(own[setting]), own[setting][:, SUMS.index("steps")]
        more = four[setting][:, 0] - own[setting][:, 0]
        rows[f"{OWN}, {title}"] = {"nats": own[setting], "files": files}
        rows[f"{FOUR}, {title}"] = {"nats": four[setting], "files": files, "cost": np.stack([more, steps], 1)}
    return rows


def downbeat_rows(player, found, split):
    """{row: sums}, controls unset: of the real bars, wherever the model took them to be, "kick": those with a
    kick on the downbeat, and all; "crash": crashes on a downbeat, and all; "crashes": these, and bars;
    "beyond": hits that sound beyond the line of their bar (on the downbeat, early), and all. None comes
    after the last bar, as rolls end with it."""
    samples, rows = min(player.samples, FEW), {}
    for windows in found:
        batch, title = unset_controls(windows.batch), f"{split}, {windows.name}"
        four = BarGrid.four_four(windows.grid.n_steps, STEPS_PER_BEAT)
        played = {
            "real": [roll[None] for roll in windows.rolls],
            f"played {OWN}": player.play(batch, samples, title, grid=windows.grid),
            f"played {FOUR}": player.play(batch, samples, f"{title}, as 4/4", grid=four),
        }
        for row, (onset, _, timeoffset) in played.items():
            rows.setdefault(row, []).append(downbeat_sums(onset > 0, timeoffset, windows))
    place = np.concatenate([windows.performance for windows in found])
    return {
        row: {name: per_performance(np.concatenate([of[name] for of in parts]), place) for name in parts[0]}
        for row, parts in rows.items()
    }


def downbeat_sums(hit, timeoffset, windows):
    """{name: (W, 2)} of hits and their offsets (N, W, T, V), see downbeat_rows."""
    downbeats, bars = list(windows.grid.starts), np.full(len(windows), windows.grid.n_bars * len(hit))
    first = hit[:, :, downbeats]
    early = (first & (timeoffset[:, :, downbeats] < 0)).sum((0, 2, 3))
    kick, on_it, crashes = (x.sum((0, 2)) for x in (first[..., KICK], first[..., CRASH], hit[..., CRASH]))
    pairs = {"kick": (kick, bars), "crash": (on_it, crashes), "crashes": (crashes, bars)}
    pairs["beyond"] = early, hit.sum((0, 2, 3))
    return {name: np.stack(of, 1).astype(float) for name, of in pairs.items()}


# ------------------------------------------------------------------------- 4/4 cut to 3/4


def cut_rows(model, sets):
    """{row: {"nats": (P, 5)}} of windows of 4/4, whole and cut to 3/4, read as such and as 4/4."""
    windows = sets("T4")
    cut = cut_to_three(windows, sets)
    several = {"whole": windows, "cut to 3/4": cut, "cut to 3/4, read as 4/4": as_four_four(cut, sets)}
    return {
        f"{row}, {SETTINGS[setting]}": {"nats": nats}
        for row, of in several.items()
        for setting, nats in nats_of(model, [of]).items()
    }


def beside_it(rows, of_the_other):
    """Add the rows of the other checkpoint to rows, which get "fewer" (P, 2): onset nats fewer than in these,
    and steps."""
    for row in [*rows]:
        own, other = rows[row]["nats"], of_the_other[row]["nats"]
        rows[row]["fewer"] = np.stack([other[:, 0] - own[:, 0], own[:, SUMS.index("steps")]], 1)
        rows[f"{row}, {BESIDE}"] = {"nats": other}


def cut_to_three(windows, sets):
    """The Windows without the last beat of their bars or, where that is a fill, without the second."""
    change = CHANGES["3/4"]
    grid = BarGrid.of(["3/4"] * windows.grid.n_bars)
    rolls = {name: windows.batch[name].numpy() for name in ("vel", "timeoffset")}
    steps = np.stack([changed(vel, grid.n_steps, change, 0, None)[0] for vel in rolls["vel"]])
    rolls = {name: np.take_along_axis(roll, steps[..., None], 1) for name, roll in rolls.items()}
    return windows_of_batch(windows, rolls, grid, sets)


# ------------------------------------------------------------------------- swing


def swing_sums(windows, played):
    """What rho and mean_error take, of the ratio that is asked of each window, drawn evenly, and that which
    is got when the first sample is bent to it; NaN where the window has few off-beats."""
    asked = np.random.default_rng(SEED).uniform(STRAIGHT, MOST_SWING, len(windows))
    got, grid = np.full(len(windows), np.nan), windows.grid
    for window, ratio in enumerate(asked):
        drums = [roll[0, window] for roll in played]
        if len(off_beat_places(*drums, grid)[0]) >= FEWEST:
            nothing = np.zeros(drums[0].shape, bool)
            got[window] = swing_of(*bend(*drums, grid, np.full(grid.n_bars, ratio), nothing), grid)
    place = np.unique(windows.performance, return_inverse=True)[1]
    return sums_of(asked, got, place)


def off_beat_rows(windows, own, sparse):
    """{row: sums}: where the off-beats of files that swing, of straight ones and of each style lie, played
    beside real: to the whole tap, and ("untapped") to a tap that has nothing between every other beat and the
    next, in these beats: hits that are no answer to a tap. These also as `play` hears that tap, and, but for
    styles, with its swing whatever it is.

    "real", "played" (P, 3): 1, u, uu; "... thirds" (P, 2): hits nearer to two thirds than to a quarter of a
    beat, and hits; "hits" (P, 2): played in a sample, and real. own, sparse: three rolls (N, W, T, V) each.
    """
    grid, real = windows.grid, [roll[None] for roll in windows.rolls]
    silent = odd_beats(grid)[:, None]
    numbers = np.unique(windows.performance)
    ratio = [swing_of(*(x[windows.performance == number] for x in windows.rolls), grid) for number in numbers]
    ratio, style = np.array(ratio), windows.batch["style"][:, 0].numpy()
    styles = style[[np.argmax(windows.performance == number) for number in numbers]]
    groups = {"files that swing": ratio > SWUNG, "straight files": ratio <= SWUNG}
    of_styles = {STYLES[of]: styles == of for of in np.unique(style) if of < len(STYLES)}
    several = {"": (own, True), ", untapped": (sparse, silent)}
    several[", untapped, as heard"] = as_the_tap(windows, sparse, HEARD), silent
    as_asked = ", untapped, --swing rhythm"
    several[as_asked] = as_the_tap(windows, sparse, AS_THE_RHYTHM), silent
    rows = {}
    for name, (played, free) in several.items():
        sums = {
            of: np.stack([places(rolls, windows.performance == number, grid, free) for number in numbers])
            for of, rolls in (("real", real), ("played", played))
        }
        for group, chosen in (groups | ({} if name == as_asked else of_styles)).items():
            if chosen.any():
                row = {of: x[chosen, :3] for of, x in sums.items()}
                row |= {f"{of} thirds": x[chosen][:, [3, 0]] for of, x in sums.items()}
                hits = np.stack([row["played"][:, 0] / len(played[0]), row["real"][:, 0]], 1)
                rows[group + name] = row | {"both": (row["played"], row["real"]), "hits": hits}
    return rows


def as_the_tap(windows, played, ratio):
    """Drums played to thinned taps, bent as each of these says: AS_THE_RHYTHM or HEARD."""
    grid, taps, bent = windows.grid, [thinned(windows)[name] for name in RHYTHM_KEYS], []
    nothing = torch.zeros(grid.n_steps, len(VOICES), dtype=torch.bool)
    free = {"known": None, "forbid": nothing, "mask": ~nothing[:, 0], "limit": None}
    for window in range(len(windows)):
        swing = Swing.of(np.full(grid.n_bars, ratio), grid, [roll[window] for roll in taps], **free)
        bent.append(swing([torch.from_numpy(roll[:, window]) for roll in played]))
    return [torch.stack(roll, 1).numpy() for roll in zip(*bent)]


def places(rolls, chosen, grid, free):
    """(4,): 1, u, uu of the off-beats of chosen windows of drums (N, W, T, V), and how many are nearer to two
    thirds."""
    onset, vel, timeoffset = (roll[:, chosen] for roll in rolls)
    u, _ = off_beat_places(onset, vel, timeoffset, grid, free)
    return np.array([len(u), u.sum(), (u * u).sum(), ((u > 7 / 12) & (u < 17 / 24)).sum()])
