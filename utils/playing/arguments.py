"""The jobs and the flags of inference_bar_control.py. Imports nothing heavy, so that --help and a typo answer at once."""

import argparse
import re
from dataclasses import dataclass, field

from model.controls import CONTROLS
from utils.checks import ArgumentError
from utils.midi.drums import STYLES, VOICES, look_up


@dataclass(frozen=True)
class Job:
    """What can be done. does: in a line. takes: its own arguments, as its function in jobs.py names them, each with the
    field of a Request that gives it. needs: fields, of which one must be given, and what they say."""

    does: str
    takes: dict = field(default_factory=dict)
    needs: dict = field(default_factory=dict)


JOBS = {
    "tap": Job("play drums to the rhythm", {"bars": "bars", "lock": "lock"}),
    "humanise": Job("play the drums' own hits with feeling", {"lock": "lock"}),
    "add": Job("add --voices to the drums", {"voices": "voices_anew"}, {("voices_anew",): "voices to add"}),
    "infill": Job(
        "play --bars-anew, --voices or both anew",
        {"voices": "voices_anew", "bars": "bars_anew", "lock": "lock"},
        {("voices_anew", "bars_anew"): "voices or bars to play anew"},
    ),
    "continue": Job("go on from the drums", {"bars": "bars", "lock": "lock"}),
    "vary": Job("vary the drums", {"strength": "strength", "lock": "lock"}),
    "interpolate": Job(
        "lead from the drums to those of --second",
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
    """Words "2", or "style=3 hits-per-bar=2" with the names of flags or of controls, as `generate` takes guidance."""
    rule = "it must be a number, or read name=number for any of hits-per-bar, velocity, voice and style"
    one = len(words) == 1 and "=" not in words[0]
    try:
        named = {"": words[0]} if one else _named(words, "guidance", rule)
        given = {name: float(number) for name, number in named.items()}
    except ValueError:
        raise ArgumentError("guidance", " ".join(words), rule) from None
    if one:
        return given[""]
    names = {flag.name[2:]: name for name, row in CONTROLS.items() for flag in FLAGS if flag.dest == row.wish}
    names |= {name: name for name in CONTROLS}
    return {
        names[[*names][look_up(name, [*names], "control of --guidance")]]: number
        for name, number in given.items()
    }


def _named(words, argument, rule):
    """name=value name=value... as a dict of text."""
    text = " ".join(words)
    before, *parts = re.split(r"([A-Za-z][\w-]*)\s*=", text)
    if before.strip(" ,") or not parts:
        raise ArgumentError(argument, text, rule)
    return {name: value.strip(" ,") for name, value in zip(parts[::2], parts[1::2])}


# ---- the flags


class Flag:
    """A row. dest: a field of utils.playing.request.Request, which keeps its default where the flag is left out; or a
    name of the command line's own. read: makes the field's value of the flag's words. options: of argparse."""

    def __init__(self, name, help, *, read=lambda words: words, dest=None, **options):
        self.name, self.read = name, read
        self.dest = dest or name[2:].replace("-", "_")
        self.options = {"help": help, "dest": self.dest, "default": None, **options}


_SEVERAL = {"nargs": "+", "action": "extend"}
_SWITCH = {"action": "store_true"}

FLAGS = (
    Flag("--rhythm", "the rhythm: taps, bass, guitar, drums, anything", metavar="MIDI", required=True),
    Flag(
        "--job",
        f"{'; '.join(f'{name}: {job.does}' for name, job in JOBS.items())}. All but tap take the rhythm as drums, all "
        "voices of it (default: tap)",
        choices=tuple(JOBS),
    ),
    Flag(
        "--voices",
        "which voices to add, or to play anew",
        metavar="NAME",
        dest="voices_anew",
        read=names_of,
        **_SEVERAL,
    ),
    Flag("--bars-anew", "which bars to play anew, counted from 1: 2,5-7", metavar="N,N-N"),
    Flag(
        "--strength",
        "of a variation, from 0, the same drums, to 1, another groove (default: 0.5)",
        metavar="X",
        type=float,
    ),
    Flag("--second", "the drums to which interpolate leads", metavar="MIDI"),
    Flag(
        "--lock",
        "voices of the drums in --rhythm that stay exactly as they are there; past their end they come round again",
        metavar="NAME",
        read=names_of,
        **_SEVERAL,
    ),
    Flag("--track", "which track of it, counted from 0 (default: all, merged)", metavar="N|NAME"),
    Flag(
        "--song",
        "a song: sections, fills, arcs, see examples/song.yaml; in place of a control file, the flags of controls and "
        "--bars",
        metavar="YAML",
    ),
    Flag("--hits-per-bar", "hits of all voices together", metavar="VALUE"),
    Flag("--velocity", "mean velocity of the hits, 1 to 127", metavar="VALUE"),
    Flag(
        "--voice",
        "hits per bar of a voice, 0 to 16: --voice kick=4 snare=2,2,2,6",
        metavar="NAME=VALUE",
        dest="voices",
        read=parse_voices,
        **_SEVERAL,
    ),
    Flag("--forbid", "voices that must not sound", metavar="NAME", read=names_of, **_SEVERAL),
    Flag("--at-most", "no more than K voices at once", metavar="K", type=int),
    Flag("--playable", "nothing that two hands and two feet could not play", **_SWITCH),
    Flag("--style", "a style by name, or a blend: funk=0.7+jazz=0.3", metavar="VALUE"),
    Flag(
        "--bars",
        "bars of 4/4 to play, or to go on for (default: as long as the rhythm)",
        metavar="N",
        type=int,
    ),
    Flag("--seed", "same seed, same drums (default: a new one, printed)", metavar="N", type=int),
    Flag("--temperature", "below 1 safer, above 1 wilder (default: 1)", metavar="X", type=float),
    Flag(
        "--guidance",
        "how much the controls weigh; 1: as trained; one for all, or for some by name, as style=3 hits-per-bar=2 "
        "velocity=1 voice=2 (default: 1.5)",
        metavar="X|NAME=X",
        read=parse_guidance,
        **_SEVERAL,
    ),
    Flag(
        "--follow",
        "literal or 1: the rhythm hit by hit; loose or 0: its gist alone; numbers between, or up to 2; free: not at all "
        "(default: literal)",
        metavar="HOW",
        read=number_or_word,
    ),
    Flag("--num-samples", "how many versions, the best first (default: 1)", metavar="N", type=int),
    Flag(
        "--best-of",
        "play so many, and keep those that come nearest to what was asked (default: 1)",
        metavar="N",
        type=int,
    ),
    Flag(
        "--kit-in",
        "which keys are which voice where the rhythm is drums: gm, roland_td, or a YAML file, see examples/kit.yaml "
        "(default: gm and roland_td alike)",
        metavar="KIT",
    ),
    Flag("--kit-out", "the kit to play on, the same way (default: gm)", metavar="KIT"),
    Flag("--keep-tracks", "write the rhythm's tracks beside the drums", **_SWITCH),
    Flag("--lead-in", "begin a bar later, so that hits just before the first beat stay there", **_SWITCH),
)
OF_THE_COMMAND_LINE = (
    Flag("--controls", "a control file, see examples/controls.yaml", metavar="YAML"),
    Flag(
        "--plot",
        "a picture of the piano roll with what was asked and what came out (default)",
        action=argparse.BooleanOptionalAction,
        default=True,
    ),
    Flag("--wav", "also as sound, where FluidSynth is installed", **_SWITCH),
    Flag("--checkpoint", "the model (default: checkpoints/drummer.pt)", metavar="PT"),
    Flag("--device", "cpu, cuda, cuda:1, mps, or auto (default)", default="auto"),
    Flag(
        "--out",
        "for RHYTHM_1.mid, .json, .png, ..., which are replaced if there (default: output)",
        metavar="FOLDER",
        default="output",
    ),
)


class OneLineParser(argparse.ArgumentParser):
    """Says in one line what is wrong, as every other error of this program does."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def parse_arguments(argv=None):
    return build_parser().parse_args(argv)


def build_parser():
    parser = OneLineParser(
        prog="inference_bar_control.py",
        description="Play drums to a rhythm: any MIDI file in; a drum MIDI file, a picture and a receipt of what was "
        "asked and what came out, bar by bar, into the output folder.",
        epilog=f"Voices: {', '.join(VOICES)}. Styles: {', '.join(STYLES)}. A VALUE is one for all bars, or several "
        "with commas: one for each bar, or fewer, stretched evenly over the bars; '-' leaves bars to the model. "
        "What is not asked for, the model decides. Flags win over the control file.",
    )
    for flag in (*FLAGS, *OF_THE_COMMAND_LINE):
        parser.add_argument(flag.name, **flag.options)
    return parser
