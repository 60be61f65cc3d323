"""How loosely drums are played at each tempo, and how much of a tap's timing and loudness they take.

    RHYTHMS_ZIP=ZIP python benchmarks/feel.py --corpus data/groove-v1.0.0-midionly.zip [--checkpoint PT]

The spread (root mean square) of the offsets, in steps and in milliseconds, by tempo: of the training split;
then, of windows of the validation split, as they were played and as the model plays to them what it hears of
them, once as drawn and once at the pace of utils.playing.feel.pace_of. Then, of rhythms tapped by people: the
tap's offset and velocity against those of the loudest hit that answers it, for some values of both dials.
"""

import argparse
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

import numpy as np
import torch

from data_aug import unset_controls
from preprocessing import preprocess
from utils.config.schema import load_config
from utils.evaluation.brought import read_rhythms, rhythm_folder
from utils.evaluation.player import Player, onsets_known, without_rhythm
from utils.evaluation.sets import windows_of
from utils.get_model import load_model
from utils.midi.drums import RHYTHM_CHANNEL, voice_index
from utils.playing.feel import PACE, USUAL_BPM
from utils.playing.play import play

TEMPI = (0, 88, 112, 400)  # edges of the classes; the middle one holds the median
KICK = voice_index("kick")


def exponent(cache):
    """By which power of the tempo the spread of a recording grows, over those with 30 hits or more."""
    spreads = []
    for file in cache.files:
        onset, _, timeoffset = cache.rolls(file["start"], file["start"] + file["n_steps"])
        late = timeoffset[onset > 0]
        if file["split"] == "train" and not file["bars"] and len(late) >= 30 and late.std() > 0:
            spreads.append((np.log(file["bpm"]), np.log(late.std()), len(late) ** 0.5))
    bpm, spread, weight = np.transpose(spreads)
    return np.polyfit(bpm, spread, 1, w=weight)[0], len(spreads)


def heard_of(windows):
    """Name -> the batch in which the model hears this of the windows."""
    unset = unset_controls(windows.batch)
    kicks = {f"rhythm_{name}": torch.zeros_like(unset[name]) for name in ("onset", "vel", "timeoffset")}
    for name, roll in kicks.items():
        roll[..., RHYTHM_CHANNEL] = unset[name.removeprefix("rhythm_")][..., KICK]
    on_grid = {"rhythm_timeoffset": torch.zeros_like(unset["rhythm_timeoffset"])}
    unheard = {name: torch.zeros_like(unset[name]) for name in ("use_context", "use_latent")}
    return {
        "their own rhythm": unset,
        "their kicks": unset | kicks,
        "their own rhythm, on the grid": unset | on_grid,
        "their kicks, on the grid": unset | kicks | on_grid,
        "their onsets (humanise)": without_rhythm(onsets_known(windows)),
        "nothing": without_rhythm(unset) | unheard,
    }


def spread(onset, timeoffset, bpm):
    """By class of tempo, in words."""
    words = []
    for low, high in zip(TEMPI, TEMPI[1:]):
        of_class = (bpm >= low) & (bpm < high)
        hit, step_ms = onset[of_class] > 0, (15000 / bpm[of_class])[:, None, None]
        steps, ms = (
            np.sqrt((late[hit] ** 2).mean()) for late in (x * timeoffset[of_class] for x in (1, step_ms))
        )
        words.append(f"{steps:.3f} {ms:4.1f} ms")
    return "   ".join(words)


def answers(model, rhythms, **dials):
    """How the taps are answered, in words."""
    pairs = {"loudness": [], "timing": []}  # of a tap, and of the loudest hit that answers it
    for rhythm in rhythms:
        take = play(rhythm.path, model=model, seed=1, rhythm_is="hands" if model.told_kind else None, **dials)
        onset, *played = (np.asarray(roll)[0] for roll in take)
        tapped, *tap = (np.asarray(roll)[0, : len(onset)].sum(-1) for roll in take.rhythm)
        loudest = np.where(onset > 0, played[0], -1).argmax(-1)[:, None]
        there = (tapped > 0) & onset.any(-1)
        for pair, brought, roll in zip(pairs.values(), tap, played):
            pair.append([brought[there], np.take_along_axis(roll, loudest, -1)[there, 0]])
    words = []
    for name, pair in pairs.items():
        brought, got = np.concatenate(pair, 1)
        r, off = np.corrcoef(brought, got)[0, 1], np.abs(brought - got).mean()
        words.append(f"{name}: r {r:.2f}, mean distance {off:.3f}")
    return ", ".join(words)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", required=True, help="the zip, or a folder, of the Groove MIDI Dataset")
    parser.add_argument("--windows", type=int, default=150, help="of four bars (default: %(default)s)")
    parser.add_argument("--taps", type=int, default=33, help="of each kind (default: %(default)s)")
    parser.add_argument("--checkpoint", default=REPOSITORY / "checkpoints/drummer.pt")
    args = parser.parse_args()
    model = load_model(args.checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        overrides = [f"Data.corpus={args.corpus}", f"Data.cache_dir={folder}"]
        config = load_config(REPOSITORY / "config.yaml", overrides)
        cache = preprocess(config)
    print("the spread grows as the tempo to the power of {:.2f} ({} recordings)".format(*exponent(cache)))
    windows = windows_of(
        "T4", cache, "validation", config.Data, model.normalize_factor, n_windows=args.windows
    )
    bpm = 15000 / windows.step_ms
    pace = ((bpm / USUAL_BPM) ** PACE)[:, None, None]
    print(f"{len(bpm)} windows below {TEMPI[1]} bpm, up to {TEMPI[2]}, and above")
    print(f"{'as they were played':32}{spread(windows.rolls[0], windows.rolls[2], bpm)}")
    for name, batch in heard_of(windows).items():
        onset, _, timeoffset = (roll[0] for roll in Player(model, 1, 1).play(batch, 1, name))
        print(f"{name:32}{spread(onset, timeoffset, bpm)}")
        print(f"{'    at the pace':32}{spread(onset, timeoffset * pace, bpm)}", flush=True)
    with rhythm_folder() as folder:
        for kind, rhythms in read_rhythms(folder, args.taps).items():
            for share in (None, 0, 0.5, 1) if kind in ("simple", "complex") else ():
                print(
                    f"{kind}, dials {share}: {answers(model, rhythms, timing=share, accents=share)}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
