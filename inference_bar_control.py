"""Drums for a rhythm, under control bar by bar.

As a library:  from inference_bar_control import *     (process_midi, generate_control_params, generate, ...)
As a command:  python inference_bar_control.py --rhythm examples/clave_taps.mid --style funk

Shapes: T steps of a sixteenth, 16 to a bar; nine voices in the order of utils/drums.py. A roll is three tensors
(1, T, 9): onset {0, 1}, vel [0, 1] and timeoffset [-0.5, 0.5) of a step, the latter two 0 where nothing is hit.
"""

import argparse
import sys

from utils.drums import STYLES, VOICES


class OneLineParser(argparse.ArgumentParser):
    """Says in one line what is wrong, as every other error of this program does."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def parse_arguments(argv=None):
    parser = OneLineParser(
        prog="inference_bar_control.py",
        description="Play drums to a rhythm: any MIDI file in; a drum MIDI file, a picture and a table of what was "
        "asked and what came out, bar by bar, into the output folder.",
        epilog=f"Voices: {', '.join(VOICES)}. Styles: {', '.join(STYLES)}. A VALUE is one for all bars, or several "
        "with commas: one for each bar, or fewer, stretched evenly over the bars; '-' leaves bars to the model. "
        "What is not asked for, the model decides. Flags win over the control file.",
    )
    parser.add_argument("--rhythm", required=True, metavar="MIDI", help="the rhythm: taps, bass, guitar, drums, anything")
    parser.add_argument("--track", metavar="N|NAME", help="which track of it, counted from 0 (default: all, merged)")
    parser.add_argument("--controls", metavar="YAML", help="a control file, see examples/controls.yaml")
    parser.add_argument("--hits-per-bar", metavar="VALUE", help="hits of all voices together")
    parser.add_argument("--velocity", metavar="VALUE", help="mean velocity of the hits, 1 to 127")
    parser.add_argument("--voice", nargs="+", action="extend", metavar="NAME=VALUE",
                        help="hits per bar of a voice, 0 to 16: --voice kick=4 snare=2,2,2,6")
    parser.add_argument("--forbid", nargs="+", action="extend", metavar="NAME", help="voices that must not sound")
    parser.add_argument("--style", metavar="VALUE", help="a style by name")
    parser.add_argument("--bars", type=int, metavar="N", help="bars to play (default: those of the rhythm)")
    parser.add_argument("--seed", type=int, metavar="N", help="same seed, same drums (default: a new one, printed)")
    parser.add_argument("--temperature", type=float, default=1.0, metavar="X",
                        help="below 1 safer, above 1 wilder (default: 1)")
    parser.add_argument("--guidance", type=float, default=1.0, metavar="X",
                        help="above 1 the controls weigh more (default: 1)")
    parser.add_argument("--follow", choices=("literal", "loose", "free"), default="literal",
                        help="the rhythm hit by hit, its gist alone, or not at all (default: literal)")
    parser.add_argument("--num-samples", type=int, default=1, metavar="N", help="how many versions (default: 1)")
    parser.add_argument("--checkpoint", metavar="PT", help="the model (default: checkpoints/drummer.pt)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps, or auto (default)")
    parser.add_argument("--out", default="output", metavar="FOLDER",
                        help="for RHYTHM_1.mid, RHYTHM_1.png, ..., which are replaced if there (default: output)")
    return parser.parse_args(argv)


# The command line is read before the imports below, which take seconds: --help and a typo answer at once.
arguments = parse_arguments() if __name__ == "__main__" else None

import os
from pathlib import Path

import numpy as np
import torch

from model.sampling import sample
from utils.checks import FOLLOW, MAX_RHYTHM_STEPS, check_playing, in_eval_mode, laid_out, make_generator, whole
from utils.controls import (
    ask, bar_means, control_curve, measure, nearest_possible, parse_voices, read_controls, receipt, style_steps,
    to_model_units,
)  # fmt: skip
from utils.device import pick_device
from utils.drums import N_VOICES, inverse_mapping, mapping, mapping_table
from utils.get_model import get_model, last_model, load_model
from utils.jam import Jam
from utils.midi import TEMPO_RANGE, MidiError, notes_to_roll, read_midi, rhythm_roll, roll_to_midi

__all__ = [
    "torch", "np", "STYLES", "VOICES", "mapping", "mapping_table", "inverse_mapping", "get_model",
    "process_midi", "generate_control_params", "generate", "Jam", "convert_to_midi",
]


def process_midi(path, track=None, down_sample_tpq=4):
    """Read the rhythm of a MIDI file: per step the loudest note, whatever its pitch and instrument.

    track: index (from 0) or name of the one track to hear; None merges all. down_sample_tpq: steps per quarter.
    Returns onset, vel, timeoffset, each float32 (1, T, 9), T whole bars of 4/4, the rhythm in channel 3.
    Raises ValueError naming the file if it is missing, no MIDI, too large or too long (see utils/midi.py), or
    without notes, or has no such track.
    """
    midi = read_midi(path)
    heard = np.ones(len(midi.tick), dtype=bool) if track is None else midi.track == _track_index(midi, track, path)
    if not heard.any():
        raise ValueError(f"{path}: {'no notes' if track is None else f'no notes in track {track!r}'}; a rhythm needs one at least")
    notes = (midi.tick[heard], midi.pitch[heard], midi.velocity[heard])
    try:
        onset, vel, timeoffset, _ = notes_to_roll(*notes, midi.tpq, down_sample_tpq)
    except MidiError as error:
        raise MidiError(f"{path}: {error}") from None
    return tuple(torch.from_numpy(np.ascontiguousarray(roll))[None] for roll in rhythm_roll(onset, vel, timeoffset))


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


def generate(
    piano_roll_onset, piano_roll_vel, piano_roll_timeoffset, density, intensity, instrument, style, masks, seq_len,
    *, model=None, seed=None, temperature=1.0, guidance=1.0, follow="literal", num_samples=1,
):  # fmt: skip
    """Write drums to a rhythm.

    Everything may be a torch tensor or a NumPy array, with or without the leading 1, on any device.

    piano_roll_onset, piano_roll_vel, piano_roll_timeoffset: (1, T, 9), the rhythm, at most 128 steps. Of each
        step the loudest hit is heard. Shorter than seq_len: the model goes on by itself; longer: cut.
    density, intensity: (1, >= seq_len) z-scores; instrument: (1, >= seq_len, 9), share of the bar's steps that
        each voice hits, below zero: the voice is forbidden on that step; style: (1, >= seq_len) ids or one
        style's name. A bar is asked for the mean of its steps, as nearly as it is possible. NaN (style: 18 and
        above) is unset, and None leaves the control to the model altogether.
    masks: (1, >= seq_len), 1 = play, 0 = stay silent; None plays throughout.
    seq_len: steps to write, a multiple of 4.
    model: default: the one built last by get_model. seed: same seed, same drums; None: new ones each time.
    temperature: above 0. guidance: 1 samples as trained, above 1 the controls weigh more. follow: "literal"
        follows the rhythm hit by hit, "loose" its gist bar by bar, "free" not at all. num_samples: versions.

    Returns onset, vel, timeoffset, float32 (num_samples, seq_len, 9) on the model's device.
    Leaves no trace: the model's train/eval mode and all global random numbers are as before.
    Raises ValueError naming the argument, the value and the rule.
    """
    model = last_model() if model is None else model
    seq_len = whole(seq_len, "seq_len")
    if seq_len % 4:
        raise ValueError(f"seq_len: {seq_len}; it must be a multiple of 4 steps")
    num_samples = whole(num_samples, "num_samples")
    check_playing(follow, temperature, guidance)

    bar, factor = model.steps_per_bar, model.normalize_factor
    *rhythm, heard = laid_out((piano_roll_onset, piano_roll_vel, piano_roll_timeoffset), seq_len)
    density = nearest_possible(control_curve(density, "density", seq_len), *factor["density"])
    intensity = nearest_possible(control_curve(intensity, "intensity", seq_len), *factor["intensity"])
    instrument = control_curve(instrument, "instrument", seq_len, N_VOICES)
    style = style_steps(style, seq_len)
    mask = torch.ones(seq_len, dtype=torch.bool) if masks is None else control_curve(masks, "masks", seq_len) > 0
    curves = [bar_means(curve, mask, bar) for curve in (density, intensity, instrument.clamp(0, 1))]
    hear_context, hear_latent = FOLLOW[follow]
    use_context = (torch.arange(seq_len) < heard) & hear_context
    use_latent = (torch.arange(seq_len) // bar * bar < heard) & hear_latent

    weight = next(model.parameters())
    generator = make_generator(seed, weight.device)

    def prepare(x):
        """(seq_len, ...) -> (num_samples, seq_len, ...) on the model's device."""
        return x.expand(num_samples, *x.shape).to(weight.device)

    inputs = [prepare(x) for x in (*rhythm, *curves, style, mask)]
    with in_eval_mode(model):
        return sample(
            model, *inputs, use_context=prepare(use_context), use_latent=prepare(use_latent),
            forbid=prepare(instrument < 0), temperature=temperature, guidance=guidance, generator=generator,
        )  # fmt: skip


def convert_to_midi(onset, vel, time, inverse_mapping, path, *, tempo=120.0):
    """Write one version of the drums to a MIDI file: channel 10, tempo, meter 4/4, 480 ticks per quarter.

    onset, vel, time: (1, T, 9) or (T, 9). inverse_mapping: voice index -> MIDI pitch. tempo: beats per minute.
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
    midi = roll_to_midi(*rolls, inverse_mapping, path, tempo)
    notes = sorted(midi.instruments[0].notes, key=lambda note: (note.start, note.pitch))
    return np.array(
        [(note.start, note.end - note.start, note.pitch, note.velocity) for note in notes],
        dtype=[("time", "f8"), ("duration", "f8"), ("pitch", "i8"), ("velocity", "i8")],
    )


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
    from utils.plots import draw_result  # matplotlib is for the command alone

    path = Path(arguments.checkpoint or Path(__file__).parent / "checkpoints" / "drummer.pt")
    model = load_model(path, pick_device(arguments.device))
    bar = model.steps_per_bar

    rhythm = process_midi(arguments.rhythm, arguments.track, bar // 4)
    rhythm_bars = rhythm[0].shape[1] // bar
    rhythm = tuple(roll[:, :MAX_RHYTHM_STEPS] for roll in rhythm)
    midi = read_midi(arguments.rhythm)
    tempo = float(np.clip(midi.tempos[0][1] if midi.tempos else 120.0, *TEMPO_RANGE))
    bars = whole(arguments.bars, "--bars") if arguments.bars is not None else rhythm[0].shape[1] // bar
    seed = int.from_bytes(os.urandom(4), "big") if arguments.seed is None else arguments.seed

    asked = ask(bars, **_wishes(arguments))
    onset, vel, timeoffset = generate(
        *rhythm, *to_model_units(asked, model.normalize_factor, bar), None, bars * bar, model=model, seed=seed,
        temperature=arguments.temperature, guidance=arguments.guidance, follow=arguments.follow,
        num_samples=arguments.num_samples,
    )  # fmt: skip

    folder = Path(arguments.out)
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{arguments.rhythm}: {rhythm_bars} bars at {tempo:g} bpm; playing {bars}, seed {seed}")
    for remark in _remarks(midi, rhythm_bars, rhythm[0].shape[1] // bar):
        print(remark)
    for number, drums in enumerate(zip(onset.cpu(), vel.cpu(), timeoffset.cpu()), start=1):
        name = folder / f"{Path(arguments.rhythm).stem}_{number}"
        got = measure(drums[0], drums[1], bar)
        convert_to_midi(*drums, inverse_mapping, f"{name}.mid", tempo=tempo)
        title = f"{name.name}   {tempo:g} bpm   seed {seed}"
        draw_result(f"{name}.png", drums, [roll[0] for roll in rhythm], asked, got, bar, title)
        print(f"\n{name}.mid, {name}.png\n{receipt(asked, got)}")


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


def _remarks(midi, rhythm_bars, heard_bars):
    """What the listener should know about how the input was taken."""
    if rhythm_bars > heard_bars:
        yield f"  the rhythm has {rhythm_bars} bars: the first {heard_bars} are heard"
    if len({bpm for _, bpm in midi.tempos}) > 1:
        yield "  its tempo changes: the first is kept throughout"
    if midi.tempos and not TEMPO_RANGE[0] <= midi.tempos[0][1] <= TEMPO_RANGE[1]:
        yield f"  its tempo of {midi.tempos[0][1]:g} bpm is beyond what is played: the nearest is taken"
    meters = {f"{numerator}/{denominator}" for _, numerator, denominator in midi.meters} - {"4/4"}
    if meters:
        more = ", ..." * (len(meters) > 4)
        yield f"  its meter is {', '.join(sorted(meters)[:4])}{more}: it is heard, and answered, in bars of 4/4"


if __name__ == "__main__":
    sys.exit(main(arguments))
