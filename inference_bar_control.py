"""Drums for a rhythm, under control bar by bar.

As a library:  from inference_bar_control import *     (process_midi, generate_control_params, generate, ...)
As a command:  python inference_bar_control.py --rhythm examples/clave_taps.mid --style funk

Shapes: T steps of a sixteenth, 16 to a bar; nine voices in the order of utils/drums.py. A roll is three tensors
(1, T, 9): onset {0, 1}, vel [0, 1] and timeoffset [-0.5, 0.5) of a step, the latter two 0 where nothing is hit.
"""

import sys

from utils.arguments import parse_arguments

# The command line is read before the imports below, which take seconds: --help and a typo answer at once.
arguments = parse_arguments() if __name__ == "__main__" else None

import os
from pathlib import Path

import numpy as np
import torch

from utils.checks import whole
from utils.controls import ask, measure, parse_voices, read_controls, receipt, to_model_units
from utils.device import pick_device
from utils.drums import N_VOICES, STYLES, VOICES, inverse_mapping, mapping, mapping_table
from utils.generating import generate
from utils.get_model import get_model, load_model
from utils.jam import Jam
from utils.job_command import check_flags, do_job
from utils.jobs import add_voices, continue_drums, humanise, infill, interpolate, vary
from utils.kits import kit_in, kit_out
from utils.midi import MAX_BARS, MidiError, notes_to_roll, read_midi, rhythm_roll
from utils.midi_out import early_hits, roll_to_midi
from utils.song import read_song
from utils.sound import find_fluidsynth, render
from utils.timeline import Timeline

__all__ = [
    "torch", "np", "STYLES", "VOICES", "mapping", "mapping_table", "inverse_mapping", "get_model",
    "process_midi", "drums_from_midi", "generate_control_params", "generate", "Jam", "read_song", "convert_to_midi",
    "humanise", "add_voices", "infill", "continue_drums", "vary", "interpolate",
]


def process_midi(path, track=None, down_sample_tpq=4, *, kit=None):
    """Read the rhythm of a MIDI file: per step the loudest note, whatever its pitch and instrument.

    track: index (from 0) or name of the one track to hear; None merges all. down_sample_tpq: steps per quarter.
    kit: which voice a pitch is (of equally loud notes in a step the lowest voice's is heard): see utils.kits.kit_in.
    Returns onset, vel, timeoffset, each float32 (1, T, 9), T whole bars of 4/4, the rhythm in channel 3.
    Raises ValueError naming the file if it is missing, no MIDI, too large or too long (see utils/midi.py), or
    without notes, or has no such track; or the kit.
    """
    notes = _heard(read_midi(path), track, path)
    return _tensors(rhythm_roll(*_roll(notes, path, down_sample_tpq, kit)))


def drums_from_midi(path, track=None, down_sample_tpq=4, *, kit=None):
    """Read the drums of a MIDI file, all nine voices of them; of two hits in one cell the louder stays.

    track, kit: as for process_midi; no track: those of channel 10, or all where none of these has a note.
    Returns onset, vel, timeoffset, each float32 (1, T, 9), T whole bars of 4/4. Raises ValueError as process_midi does.
    """
    notes = _heard(read_midi(path), track, path)
    return _tensors(_roll(notes.drums() if track is None else notes, path, down_sample_tpq, kit))


def _heard(midi, track, path):
    """The notes of the track, or of all. ValueError where there are none."""
    heard = midi if track is None else midi.of_tracks([_track_index(midi, track, path)])
    if not len(heard.tick):
        raise ValueError(f"{path}: {'no notes' if track is None else f'no notes in track {track!r}'}; a rhythm needs one at least")
    return heard


def _roll(notes, path, down_sample_tpq, kit):
    try:
        return notes_to_roll(notes.tick, notes.pitch, notes.velocity, notes.tpq, down_sample_tpq, kit_in(kit))[:3]
    except MidiError as error:
        raise MidiError(f"{path}: {error}") from None


def _tensors(rolls):
    return tuple(torch.from_numpy(np.ascontiguousarray(roll))[None] for roll in rolls)


def _track_index(midi, track, path):
    names = list(midi.track_names)
    if track in names:
        return names.index(track)
    if str(track).isdecimal() and int(track) < len(names):
        return int(track)
    there = ", ".join(f"{index} {name[:40]!r}" for index, name in enumerate(names[:20]))
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    raise ValueError(f"{path}: no track {track!r}; its tracks are {there}{more}")


def generate_control_params(control_points, values, seq_len, mode="linear", device="cpu", is_cat=False):
    """Draw a control curve through a few points.

    control_points: fractions of seq_len, rising, in [0, 1]. values: at each point a number, or a list of dim
    numbers (nine for instrument); None or NaN leaves the stretch to the model. mode: from one point to the next
    "left" holds the value on the left, "right" the one on the right, "linear" ramps (not for categories).
    is_cat: whole numbers (masks, styles). A device that is absent falls back to the CPU with a warning.

    Returns (1, seq_len, dim) on the device, float32, or int64 if is_cat. Raises ValueError.
    """
    seq_len = whole(seq_len, "seq_len")
    points = np.asarray(control_points, dtype=np.float64)
    if points.ndim != 1 or not len(points) or not ((points >= 0) & (points <= 1)).all() or (np.diff(points) < 0).any():
        raise ValueError(f"control_points: {control_points}; they must be fractions of seq_len, rising from 0 to 1")
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


def convert_to_midi(onset, vel, time, inverse_mapping, path, *, tempo=None, source=None, keep_tracks=False, lead_in=False):
    """Write one version of the drums to a MIDI file: channel 10, tempo, meter 4/4, 480 ticks per quarter.

    onset, vel, time: (1, T, 9) or (T, 9). inverse_mapping: voice index -> MIDI pitch; utils.kits.kit_out gives those
    of other kits. tempo: beats per minute, 120 if None. source: the MIDI file of the rhythm; tempo map and meter are
    then its own (and no tempo may be given), and keep_tracks writes its tracks beside the drums. lead_in: all begins
    a bar later, so that an early first hit can be early; otherwise it is put on the beat.
    The file appears whole or not at all.

    Returns a structured array of the hits in the order of time: `time` and `duration` in seconds, `pitch`,
    `velocity` (1 to 127). Raises ValueError naming the argument or the file.
    """
    rolls = []
    for name, roll in (("onset", onset), ("vel", vel), ("time", time)):
        roll = torch.as_tensor(roll).detach().cpu().float().numpy()
        if roll.shape[-1:] != (N_VOICES,) or roll.ndim not in (2, 3) or (roll.ndim == 3 and len(roll) != 1):
            raise ValueError(f"{name}: shape {roll.shape}; it must be (1, steps, {N_VOICES}): one version at a time")
        rolls.append(roll.reshape(-1, N_VOICES))
    return roll_to_midi(*rolls, inverse_mapping, path, tempo, lead_in=lead_in, source=source, keep_tracks=keep_tracks)


def main(arguments):
    """The command line. Returns the exit status: 0, or 2 after one line on stderr."""
    try:
        run(arguments)
    except (ValueError, OSError) as error:
        reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        print(f"inference_bar_control.py: {' '.join(reason.split())}", file=sys.stderr)
        return 2
    return 0


def run(arguments):
    check_flags(arguments)
    pitches = kit_out(arguments.kit_out)
    if arguments.wav:
        find_fluidsynth()
    song = read_song(arguments.song) if arguments.song else None
    if song:
        arguments.bars = len(song)
    path = Path(arguments.checkpoint or Path(__file__).parent / "checkpoints" / "drummer.pt")
    model = load_model(path, pick_device(arguments.device))
    bar = model.steps_per_bar

    rhythm = process_midi(arguments.rhythm, arguments.track, bar // 4, kit=arguments.kit_in)
    midi = read_midi(arguments.rhythm)
    timeline = Timeline.of(midi)
    own_steps, steps = _lengths(_heard(midi, arguments.track, arguments.rhythm), timeline, arguments, bar)
    drums = None
    if arguments.job != "tap":
        drums = drums_from_midi(arguments.rhythm, arguments.track, bar // 4, kit=arguments.kit_in)
        own_steps, more = drums[0].shape[1], steps if arguments.job == "continue" else 0
        steps = own_steps + -(-more // bar) * bar
    midi_out = dict(source=arguments.rhythm, keep_tracks=arguments.keep_tracks, lead_in=arguments.lead_in)
    roll_to_midi(*np.zeros((3, 0, N_VOICES)), pitches, **midi_out)  # what can't be kept is told before the playing

    asked = song.asked if song else ask(-(-steps // bar), **_wishes(arguments))
    seed = int.from_bytes(os.urandom(4), "big") if arguments.seed is None else arguments.seed
    about = f"{timeline.bpm()} bpm", f"seed {seed}"
    print(f"{arguments.rhythm}: {own_steps / bar:g} bars at {about[0]}; playing {steps / bar:g}, {about[1]}")
    for remark in _remarks(midi, timeline, song, arguments.keep_tracks):
        print(f"  {remark}")
    controls = to_model_units(asked, model.normalize_factor, bar)
    playing = {name: getattr(arguments, name) for name in ("temperature", "guidance", "follow", "num_samples")}
    playing |= {"model": model, "seed": seed}
    if song:
        rhythm = song.rhythm(rhythm, bar, own_steps)
        takes = generate(**playing | song.arguments(rhythm, model, arguments.follow))
    elif drums is None:
        takes = generate(*rhythm, *controls, None, -(-steps // 4) * 4, **playing)
    else:
        playing |= zip(("density", "intensity", "instrument", "style"), controls)
        takes = do_job(arguments, drums, (steps - own_steps) // bar, **playing)

    folder = Path(arguments.out)
    folder.mkdir(parents=True, exist_ok=True)
    for number, drums in enumerate(zip(*(roll[:, :steps].cpu() for roll in takes)), start=1):
        name = folder / f"{Path(arguments.rhythm).stem}_{number}"
        convert_to_midi(*drums, pitches, f"{name}.mid", **midi_out)
        _show(name, drums, [roll[0] for roll in rhythm], asked, bar, about, arguments)


def _show(name, drums, rhythm, asked, bar, about, arguments):
    """Picture, sound and table of one version, whose MIDI file is written."""
    from utils.plots import draw_result  # matplotlib is for the command alone

    got = measure(drums[0], drums[1], bar)
    draw_result(f"{name}.png", drums, rhythm, asked, got, bar, "   ".join([name.name, *about]))
    if arguments.wav:
        render(f"{name}.mid", f"{name}.wav")
    made = [f"{name}.{kind}" for kind in ("mid", "png", "wav") if kind != "wav" or arguments.wav]
    print(f"\n{', '.join(made)}\n{receipt(asked, got)}")
    early = 0 if arguments.lead_in else early_hits(drums[0], drums[2], bar // 4)
    if early:
        print(f"hits ahead of the very first beat, put on it: {early} (--lead-in keeps them ahead)")


def _lengths(heard, timeline, arguments, bar):
    """Steps of the rhythm, up to the bar line on which its notes end; and steps to play."""
    own = int(timeline.end_of(heard, bar // 4) / timeline.tpq * bar / 4 + 0.5)
    steps = own if arguments.bars is None else whole(arguments.bars, "--bars") * bar
    if steps > MAX_BARS * bar:
        what = f"{arguments.rhythm}: its last note ends in bar" if arguments.bars is None else "--bars:"
        raise ValueError(f"{what} {-(-steps // bar)}; at most {MAX_BARS} are played")
    return own, steps


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
        wishes["forbid"] = [*([named] if isinstance(named, str) else named), *",".join(arguments.forbid).split(",")]
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
