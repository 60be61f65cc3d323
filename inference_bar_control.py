"""Drums for a rhythm, under control bar by bar.

As a library:  from inference_bar_control import *     (process_midi, generate_control_params, generate, ...)
As a command:  python inference_bar_control.py --rhythm examples/clave_taps.mid --style funk

Shapes: T steps of a sixteenth, 16 to a bar; nine voices in the order of utils/midi/drums.py. A roll is three tensors
(1, T, 9): onset {0, 1}, vel [0, 1] and timeoffset [-0.5, 0.5) of a step, the latter two 0 where nothing is hit.
"""

import os
import sys
import warnings

from utils.playing.arguments import parse_arguments

# The command line is read before the imports below, which take seconds: --help and a typo answer at once.
arguments = parse_arguments() if __name__ == "__main__" else None

from pathlib import Path

import numpy as np
import torch

from utils.checks import as_floats, file_name, whole
from utils.device import pick_device
from utils.get_model import SHIPPED, get_model, load_model
from utils.midi.drums import N_VOICES, STYLES, VOICES, inverse_mapping, mapping, mapping_table
from utils.midi.hearing import drums_from_midi, heard_notes, process_midi, steps_to_play
from utils.midi.read import read_midi
from utils.midi.sound import find_fluidsynth
from utils.midi.timeline import Timeline
from utils.midi.write import early_hits, roll_to_midi
from utils.playing.command import bars_anew, check_flags, do_job, how_to_play, in_flags, names_of
from utils.playing.controls import ask, parse_voices, read_controls, to_model_units
from utils.playing.generate import generate
from utils.playing.jam import Jam
from utils.playing.jobs import add_voices, continue_drums, humanise, infill, interpolate, vary
from utils.playing.song import read_song
from utils.playing.takes import Take, check_written, dials_of, new_seed, play, takes_of

__all__ = [
    "torch",
    "np",
    "STYLES",
    "VOICES",
    "mapping",
    "mapping_table",
    "inverse_mapping",
    "get_model",
    "process_midi",
    "drums_from_midi",
    "generate_control_params",
    "generate",
    "Jam",
    "read_song",
    "convert_to_midi",
    "play",
    "Take",
    "humanise",
    "add_voices",
    "infill",
    "continue_drums",
    "vary",
    "interpolate",
]


def generate_control_params(control_points, values, seq_len, mode="linear", device="cpu", is_cat=False):
    """Draw a control curve through a few points.

    control_points: fractions of seq_len, rising, in [0, 1]. values: at each point a number, or a list of dim
    numbers (nine for instrument); None or NaN leaves the stretch to the model. mode: from one point to the next
    "left" holds the value on the left, "right" the one on the right, "linear" ramps (not for categories).
    is_cat: whole numbers (masks, styles). A device that is absent falls back to the CPU with a warning.

    Returns (1, seq_len, dim) on the device, float32, or int64 if is_cat. Raises ValueError.
    """
    seq_len = whole(seq_len, "seq_len")
    try:
        points = np.asarray(control_points, dtype=np.float64)
    except (TypeError, ValueError):
        points = np.empty(0)
    if (
        points.ndim != 1
        or not len(points)
        or not ((points >= 0) & (points <= 1)).all()
        or (np.diff(points) < 0).any()
    ):
        raise ValueError(
            f"control_points: {control_points}; they must be fractions of seq_len, rising from 0 to 1"
        )
    try:
        table = np.asarray(values, dtype=np.float64).reshape(len(points), -1)
    except (TypeError, ValueError):
        raise ValueError(
            f"values: {values}; there must be one for each of the {len(points)} control_points, all of one size"
        ) from None
    if mode not in ("left", "right", "linear") or (is_cat and mode == "linear"):
        raise ValueError(f"mode: {mode!r}; it must be 'left', 'right' or, not for categories, 'linear'")
    if is_cat and (table != np.round(table)).any():
        raise ValueError(f"values: {values}; categories must be whole numbers")

    step = np.arange(seq_len) / seq_len
    if mode == "linear":
        curve = np.stack([np.interp(step, points, column) for column in table.T], axis=1)
    else:
        left = np.searchsorted(points, step, side="right") - 1
        curve = table[np.clip(left + (mode == "right"), 0, len(points) - 1)]
    dtype = torch.int64 if is_cat else torch.float32
    return torch.as_tensor(curve).to(dtype)[None].to(pick_device(device))


def convert_to_midi(
    onset, vel, time, inverse_mapping, path, *, tempo=None, source=None, keep_tracks=False, lead_in=False
):
    """Write one version of the drums to a MIDI file: channel 10, tempo, meter 4/4, 480 ticks per quarter.

    onset, vel, time: (1, T, 9) or (T, 9). inverse_mapping: voice index -> MIDI pitch; utils.midi.kits.kit_out gives those
    of other kits. tempo: beats per minute, 120 if None. source: the MIDI file of the rhythm; tempo map and meter are
    then its own (and no tempo may be given), and keep_tracks writes its tracks beside the drums. lead_in: all begins
    a bar later, so that an early first hit can be early; otherwise it is put on the beat.
    The file appears whole or not at all.

    Returns a structured array of the hits in the order of time: `time` and `duration` in seconds, `pitch`,
    `velocity` (1 to 127). Raises ValueError naming the argument or the file.
    """
    rolls, path = [], file_name(path, "path")
    for name, roll in (("onset", onset), ("vel", vel), ("time", time)):
        roll = as_floats(roll, name).numpy()
        if roll.shape[-1:] != (N_VOICES,) or roll.ndim not in (2, 3) or (roll.ndim == 3 and len(roll) != 1):
            raise ValueError(
                f"{name}: shape {roll.shape}; it must be (1, steps, {N_VOICES}): one version at a time"
            )
        rolls.append(roll.reshape(-1, N_VOICES))
    return roll_to_midi(
        *rolls, inverse_mapping, path, tempo, lead_in=lead_in, source=source, keep_tracks=keep_tracks
    )


def main(arguments):
    """The command line. Returns the exit status: 0, or 2 after one line on stderr."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(
                f"inference_bar_control.py: {message}", file=sys.stderr
            )
            run(arguments)
    except (ValueError, OSError) as error:
        reason = (
            f"{error.filename}: {error.strerror}"
            if isinstance(error, OSError)
            else in_flags(str(error), arguments)
        )
        print(f"inference_bar_control.py: {' '.join(reason.split())}", file=sys.stderr)
        return 2
    return 0


def run(arguments):
    check_flags(arguments)
    playing = how_to_play(arguments)
    check_folder(arguments.out)
    midi_out = dict(source=arguments.rhythm, keep_tracks=arguments.keep_tracks, lead_in=arguments.lead_in)
    check_written(arguments.kit_out, **midi_out)  # what can't be kept is told before the playing
    if arguments.wav:
        find_fluidsynth()
    song = read_song(arguments.song) if arguments.song else None
    if song:
        arguments.bars = len(song)
    model = load_model(arguments.checkpoint or SHIPPED, pick_device(arguments.device))
    bar = model.steps_per_bar

    rhythm = process_midi(arguments.rhythm, arguments.track, bar // 4, kit=arguments.kit_in)
    midi = read_midi(arguments.rhythm)
    timeline, heard = Timeline.of(midi), heard_notes(midi, arguments.track, arguments.rhythm)
    own_steps, steps = steps_to_play(midi, heard, bar, arguments.bars, arguments.rhythm, "--bars")
    drums = None
    if arguments.job != "tap" or arguments.lock:
        drums = drums_from_midi(arguments.rhythm, arguments.track, bar // 4, kit=arguments.kit_in)
    if arguments.job != "tap":
        own_steps, more = drums[0].shape[1], steps if arguments.job == "continue" else 0
        steps = own_steps + -(-more // bar) * bar
        bars_anew(arguments, drums, model)  # an error comes before the first line

    asked = song.asked if song else ask(-(-steps // bar), **_wishes(arguments))
    seed = new_seed() if arguments.seed is None else arguments.seed
    print(
        f"{arguments.rhythm}: {own_steps / bar:g} bars at {timeline.bpm()} bpm; playing {steps / bar:g}, seed {seed}"
    )
    for remark in _remarks(midi, timeline, song, arguments.keep_tracks):
        print(f"  {remark}")
    controls = to_model_units(asked, model.normalize_factor, bar)
    locked = {"drums": drums, "lock": names_of(arguments.lock)} if arguments.lock else {}
    dials = dials_of(playing | locked) | ({} if arguments.job == "tap" else {"job": arguments.job})
    playing |= {"model": model, "seed": seed}
    if song:
        rhythm = song.rhythm(rhythm, bar, own_steps)
        played = generate(**playing | locked | song.arguments(rhythm, model, playing["follow"]))
    elif arguments.job == "tap":
        played = generate(*rhythm, *controls, None, -(-steps // 4) * 4, **locked, **playing)
    else:
        playing |= zip(("density", "intensity", "instrument", "style"), controls)
        played = do_job(arguments, drums, (steps - own_steps) // bar, **playing)

    about = dict(
        asked=asked, rhythm=rhythm, model=model, seed=seed, dials=dials, kit=arguments.kit_out, **midi_out
    )
    for take in takes_of([roll[:, :steps] for roll in played], Path(arguments.rhythm).stem, **about):
        _write(take, Path(arguments.out), arguments)


def check_folder(out):
    """ValueError, before anything is played, where files can't be written into this folder."""
    there = next(
        folder for folder in (Path(out).absolute(), *Path(out).absolute().parents) if folder.exists()
    )
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ValueError(f"out: {out}; it must be a folder that can be written to, and {there} is none")


def _write(take, folder, arguments):
    """The files of one version, and its table."""
    folder.mkdir(parents=True, exist_ok=True)
    ways = {"mid": take.save, "json": take.receipt.save}
    ways |= {"png": take.plot} if arguments.plot else {}
    ways |= {"wav": take.wav} if arguments.wav else {}
    for kind, way in ways.items():
        way(folder / f"{take.name}.{kind}")
    print(f"\n{', '.join(str(folder / f'{take.name}.{kind}') for kind in ways)}\n{take.receipt.table()}")
    early = 0 if arguments.lead_in else early_hits(take.onset[0], take.time[0], take.steps_per_bar // 4)
    if early:
        print(f"hits ahead of the very first beat, put on it: {early} (--lead-in keeps them ahead)")


def _wishes(arguments):
    """The control file and the flags over it, as arguments for `ask`."""
    wishes = read_controls(arguments.controls) if arguments.controls else {}
    for key in ("hits_per_bar", "velocity", "style"):
        if getattr(arguments, key) is not None:
            wishes[key] = getattr(arguments, key)
    if arguments.voice:
        wishes["voices"] = {**wishes.get("voices", {}), **parse_voices(arguments.voice)}
    if arguments.forbid:
        named = wishes.get("forbid", [])
        wishes["forbid"] = [
            *([named] if isinstance(named, str) else named),
            *",".join(arguments.forbid).split(","),
        ]
    return wishes


def _remarks(midi, timeline, song, keep_tracks):
    """What the listener should know about how the input was taken."""
    if song:
        yield f"bars of the sections: {song}"
    meters = {f"{numerator}/{denominator}" for _, numerator, denominator in timeline.meters} - {"4/4"}
    if meters:
        more = ", ..." * (len(meters) > 4)
        kept = f"its meter is {', '.join(sorted(meters)[:4])}{more}, and the MIDI file keeps it"
        yield f"{kept}; but the model, the controls and the table count bars of 4/4"
    if keep_tracks and midi.is_drum[midi.track].any():
        yield "its own drums are kept too, and sound beside the new ones"


if __name__ == "__main__":
    sys.exit(main(arguments))
