"""The jobs and the flags of the command line. Imports nothing heavy, so that --help answers at once."""

import argparse
import re
from typing import NamedTuple

from model.controls import CONTROLS
from utils.checks import ArgumentError
from utils.flags import FlagParser
from utils.midi.drums import STYLES, VOICES, look_up


class Job(NamedTuple):
    """does: what, in a line. takes: the job's own arguments, as its function in jobs.py names them, each with
    the field of a Request that gives it. needs: fields, of which one must be given, and what they say."""

    does: str
    takes: dict
    needs: dict = {}


JOBS = {
    "tap": Job("play drums to the rhythm", {"bars": "bars", "lock": "lock"}),
    "humanise": Job("play the drums' own hits with feeling", {"lock": "lock"}),
    "add": Job("add --voices to the drums", {"voices": "voices_anew"}, {("voices_anew",): "voices to add"}),
    "infill": Job(
        "play --bars-anew, --voices or both anew",
        {"voices": "voices_anew", "bars": "bars_anew", "lock": "lock"},
        {("voices_anew", "bars_anew"): "voices or bars to play anew"},
    ),
    "continue": Job("go on from the end of the drums", {"bars": "bars", "lock": "lock"}),
    "vary": Job("play a variation of the drums", {"strength": "strength", "lock": "lock"}),
    "interpolate": Job(
        "go over from the drums to those of --second",
        {"bars": "bars", "second": "second", "lock": "lock"},
        {("second",): "drums to end with", ("bars",): "a number of bars"},
    ),
}


# ---- how the words of a flag are read


def names_of(words):
    """The names in words, commas between them allowed."""
    return [name for name in ",".join(words).split(",") if name]


def number_or_word(text):
    try:
        return float(text)
    except ValueError:
        return text


def parse_voices(words):
    """Words "kick=4 snare=2,2,4,2", commas between voices allowed too, as a dict of text."""
    return _named(words, "voices", "it must read name=hits, as kick=4 or snare=2,2,4,2")


def parse_guidance(words):
    """Words "2", or "style=3 voice=2" with names of flags or controls, as `generate` takes guidance."""
    rule = "it must be a number, or read name=number for any of hits-per-bar, velocity, voice and style"
    given = _numbers(words, "guidance", rule)
    if not isinstance(given, dict):
        return given
    wishes = {row.wish: name for name, row in CONTROLS.items()}
    flags = {flag.name[2:]: wishes[flag.dest] for flag in FLAGS if flag.dest in wishes}
    names, controls = [*flags, *CONTROLS], [*flags.values(), *CONTROLS]
    return {controls[look_up(name, names, "control of --guidance")]: number for name, number in given.items()}


def parse_feel(words):
    """Words "0.7", or "timing=0.5 velocity=0.8", as `generate` takes feel."""
    rule = "it must be a number from 0 to 1, or read timing=0.5 velocity=0.8, or one of them"
    given = _numbers(words, "feel", rule)
    return {name.lower(): share for name, share in given.items()} if isinstance(given, dict) else given


def _numbers(words, argument, rule):
    """One number, or name=number name=number... as a dict."""
    try:
        if len(words) == 1 and "=" not in words[0]:
            return float(words[0])
        return {name: float(number) for name, number in _named(words, argument, rule).items()}
    except ValueError:
        raise ArgumentError(argument, " ".join(words), rule) from None


def _named(words, argument, rule):
    """name=value name=value... as a dict of text."""
    text = " ".join(words)
    before, *parts = re.split(r"([A-Za-z][\w-]*)\s*=", text)
    if before.strip(" ,") or not parts:
        raise ArgumentError(argument, text, rule)
    return {name: value.strip(" ,") for name, value in zip(parts[::2], parts[1::2])}


# ---- the flags

# Each row: flag, metavar, kind, help. A flag gives the field of a Request of its name, or of FIELDS; left
# out, the field keeps its default.
JOBS_IN_WORDS = "; ".join(f"{name}: {job.does}" for name, job in JOBS.items())
REQUEST_FLAGS = f"""
--rhythm MIDI needed | the rhythm: taps, bass, guitar, drums, any MIDI file
--job NAME job | {JOBS_IN_WORDS}. All jobs but tap read the rhythm as drums, with all voices (default: tap)
--voices NAME names | the voices that a job adds or plays anew
--bars-anew N,N-N text | the bars that infill plays anew, counted from 1: 2,5-7
--strength X float | how far vary goes: from 0, the same drums, to 1, another groove (default: 0.5)
--second MIDI text | the drums to which interpolate leads
--lock NAME names | voices of the drums in --rhythm that stay as they are; after the last bar they repeat
--track N|NAME text | the track to hear: its number, words of its name or of its instrument, or all; --list \
shows the tracks (default: a song's bass, else all but the drums)
--shift X float | move the file by so many sixteenths: -1 for a file that is one late
--beat NAME text | a beat by name: rock, sixteenths, half-time, jazz ..., see docs/playing.md; or a YAML file
--song YAML text | a song with sections, fills and arcs, see examples/song.yaml; in place of bars and wishes
--hits-per-bar VALUE text | hits of all voices together
--velocity VALUE text | mean velocity of the hits, 1 to 127
--voice NAME=VALUE voices | hits per bar of a voice, 0 to 16 in 4/4: --voice kick=4 snare=2,2,2,6
--forbid NAME names | voices that never sound
--at-most K int | no more than K voices at once
--playable - switch | only what two hands and two feet can play
--style VALUE text | a style by name, or a blend: funk=0.7+jazz=0.3
--steady VALUE text | percent of a bar's hits that are as in the bar before, 0 to 100, if the model knows it
--swing VALUE text | where the off-beat lies in its beat: 0.5 is straight, 0.667 triplets, 0.75 the most; \
rhythm takes it from the rhythm; - leaves it as drawn (default: a rhythm that clearly swings is followed)
--bars N int | bars to play; for continue, bars to add (default: as long as the rhythm)
--meter METER text | the meter of all bars: 3/4; or one for each bar, with commas, the last for all after it \
(default: those of the file, or 4/4)
--pickup STEPS int | sixteenths of a short bar before the first whole one
--seed N int | the same seed gives the same drums (default: a new one, which is printed)
--temperature X float | below 1 safer, above 1 wilder (default: 0.8 for onsets, to hands and \
parts 0.85, 0.6 for velocity, 1 for timing)
--guidance X|NAME=X guidance | how much the controls weigh, 1 as in training: one number for all, or by \
name, as style=3 hits-per-bar=2 velocity=1 voice=2 (default: 1.5)
--follow HOW number | how closely to follow the rhythm: literal or 1, hit by hit; loose or 0, only its gist; \
any number from 0 to 2; free, not at all (default: literal)
--rhythm-is KIND text | drums; hands: taps of a person; part: a bass or another part that the drums \
accompany; unset (default: the file decides)
--timing X float | how much of the rhythm's timing the drums take over: from 0, none, to 1, all \
(default: depends on --rhythm-is)
--accents X float | the same for the rhythm's loudness
--feel X|NAME=X feel | from 0, on the grid and each voice of a bar equally loud, to 1, as played; or for one \
of them: timing=0.5 or velocity=0.8 (default: 1)
--stops - switch | the drums rest where the rhythm rests for a bar or more, also beside a part
--num-samples N int | how many versions, the best first (default: 1)
--best-of N int | play N versions and keep those that come nearest to your numbers, or have the best groove \
(default: 1; to hands and parts, and for a style without a rhythm, 8, or 16 beyond 8 bars)
--kit-in KIT text | the kit of a rhythm that is drums, which keys are which voice: gm, roland_td, or a YAML \
file, see examples/kit.yaml (default: gm and roland_td alike)
--kit-out KIT text | the kit of the new drums, given the same way (default: gm)
--keep-tracks - switch | write the tracks of the rhythm beside the drums
--replace-drums - switch | the same, with the new drums in place of the file's own
--lead-in - switch | begin a bar later, so that hits just before the first beat stay there
--count-in - switch | the closed hat counts in; where the drums begin at once, in a bar of its own
--soundfont SF2 text | the sound of --wav (default: a General MIDI soundfont)
"""
OTHER_FLAGS = """
--controls YAML text | a file of wishes, see examples/controls.yaml
--plot - plot | a picture of the drums, with your wishes and the result (default)
--wav - switch | also a sound file: the drums and, with --keep-tracks, the other tracks
--checkpoint PT text | the model (default: checkpoints/drummer.pt)
--device NAME device | cpu, cuda, cuda:1, mps, or auto (default)
--out PATH out | a folder for RHYTHM_1.mid, .json and .png, with the seed in the names unless you give one; \
or the name of the MIDI file (default: output)
--list - flag | show the tracks of the rhythm and play nothing
"""
# the flag with which each group of them begins, in --help
GROUPS = {
    "--rhythm": "the rhythm",
    "--job": "a job, in place of drums to the rhythm",
    "--track": "the rhythm",
    "--beat": "what is played",
    "--seed": "how it is played",
    "--kit-in": "kits, and what is written",
    "--controls": "what is played",
    "--plot": "kits, and what is written",
    "--checkpoint": "the model",
    "--out": "kits, and what is written",
    "--list": "the rhythm",
}
EPILOG = f"""examples:
  python inference_bar_control.py --rhythm examples/clave_taps.mid --style funk --seed 1
  python inference_bar_control.py --rhythm examples/bass_line.mid --hits-per-bar 12,18,18,26 --voice snare=2
  python inference_bar_control.py --rhythm examples/guitar_strum.mid --song examples/song.yaml --keep-tracks
  python inference_bar_control.py --rhythm drums.mid --job infill --bars-anew 3-4 --num-samples 3

A VALUE is one for all bars, or several with commas: one for each bar, or fewer, stretched evenly over
the bars; '-' leaves a bar to the model. What you leave out, the model decides. A flag wins over the
same wish in --controls.
voices: {", ".join(VOICES)}
styles: {", ".join(STYLES[:9])},
        {", ".join(STYLES[9:])}
"""
FIELDS = {"voice": "voices", "voices": "voices_anew"}
READ_WORDS = {  # of several words
    "names": names_of,
    "voices": parse_voices,
    "guidance": parse_guidance,
    "feel": parse_feel,
}
KINDS = {  # options of argparse
    "text": {},
    "needed": {"required": True},
    "int": {"type": int},
    "float": {"type": float},
    "number": {"type": number_or_word},
    "switch": {"action": "store_true"},
    "flag": {"action": "store_true", "default": False},
    "job": {"choices": tuple(JOBS), "type": lambda word: "humanise" if word == "humanize" else word},
    "plot": {"action": argparse.BooleanOptionalAction, "default": True},
    "device": {"default": "auto"},
    "out": {"default": "output"},
} | dict.fromkeys(READ_WORDS, {"nargs": "+", "action": "extend"})


class Flag:
    """A row of a table. dest: the field of a Request, or the name, that it gives."""

    def __init__(self, row):
        words, _, self.help = row.partition(" | ")
        self.name, self.metavar, self.kind = words.split()
        self.dest = self.name[2:].replace("-", "_")
        self.dest = FIELDS.get(self.dest, self.dest)

    def read(self, value):
        return READ_WORDS[self.kind](value) if self.kind in READ_WORDS else value


FLAGS, OWN_FLAGS = ([*map(Flag, table.strip().splitlines())] for table in (REQUEST_FLAGS, OTHER_FLAGS))


def parse_arguments(words=None):
    return build_parser().parse_args(words)


def build_parser():
    parser = FlagParser(
        prog="inference_bar_control.py",
        usage="%(prog)s --rhythm MIDI [flags]",
        description="Play drums to a rhythm, any MIDI file. The output folder gets the drums as a MIDI\n"
        "file, a picture, and a receipt that sets your wishes beside the result, bar by bar.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    groups = {title: parser.add_argument_group(title) for title in dict.fromkeys(GROUPS.values())}
    title = ""
    for flag in (*FLAGS, *OWN_FLAGS):
        title = GROUPS.get(flag.name, title)
        metavar = {} if flag.metavar == "-" else {"metavar": flag.metavar}
        options = {"default": None, "help": flag.help, **metavar, **KINDS[flag.kind]}
        groups[title].add_argument(flag.name, dest=flag.dest, **options)
    return parser
