"""The flags of inference_bar_control.py. Imports nothing heavy, so that --help and a typo answer at once."""

import argparse

from utils.midi.drums import STYLES, VOICES

JOBS = "tap", "humanise", "add", "infill", "continue", "vary"


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
    parser.add_argument(
        "--rhythm", required=True, metavar="MIDI", help="the rhythm: taps, bass, guitar, drums, anything"
    )
    parser.add_argument(
        "--job",
        choices=JOBS,
        default="tap",
        help="tap: play drums to the rhythm (default). The others take it as drums, all voices of it, and "
        "play them with feeling, add --voices to them, play --bars-anew or --voices anew, go on from them, "
        "or vary them",
    )
    parser.add_argument(
        "--voices", nargs="+", action="extend", metavar="NAME", help="which voices to add, or to play anew"
    )
    parser.add_argument("--bars-anew", metavar="N,N-N", help="which bars to play anew, counted from 1: 2,5-7")
    parser.add_argument(
        "--strength",
        type=float,
        metavar="X",
        help="of a variation, from 0, the same drums, to 1, another groove (default: 0.5)",
    )
    parser.add_argument(
        "--lock",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="voices of the drums in --rhythm that stay exactly as they are there; past their end they come "
        "round again",
    )
    parser.add_argument(
        "--track", metavar="N|NAME", help="which track of it, counted from 0 (default: all, merged)"
    )
    parser.add_argument("--controls", metavar="YAML", help="a control file, see examples/controls.yaml")
    parser.add_argument(
        "--song",
        metavar="YAML",
        help="a song: sections, fills, arcs, see examples/song.yaml; in place of "
        "a control file, the flags of controls and --bars",
    )
    parser.add_argument("--hits-per-bar", metavar="VALUE", help="hits of all voices together")
    parser.add_argument("--velocity", metavar="VALUE", help="mean velocity of the hits, 1 to 127")
    parser.add_argument(
        "--voice",
        nargs="+",
        action="extend",
        metavar="NAME=VALUE",
        help="hits per bar of a voice, 0 to 16: --voice kick=4 snare=2,2,2,6",
    )
    parser.add_argument(
        "--forbid", nargs="+", action="extend", metavar="NAME", help="voices that must not sound"
    )
    parser.add_argument("--at-most", type=int, metavar="K", help="no more than K voices at once")
    parser.add_argument(
        "--playable", action="store_true", help="nothing that two hands and two feet could not play"
    )
    parser.add_argument("--style", metavar="VALUE", help="a style by name, or a blend: funk=0.7+jazz=0.3")
    parser.add_argument(
        "--bars",
        type=int,
        metavar="N",
        help="bars of 4/4 to play, or to go on for (default: as long as the rhythm)",
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="same seed, same drums (default: a new one, printed)"
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        metavar="X",
        help="below 1 safer, above 1 wilder (default: 1)",
    )
    parser.add_argument(
        "--guidance",
        nargs="+",
        action="extend",
        metavar="X|NAME=X",
        help="how much the controls weigh; 1: as trained; one for all, or for some by name, as "
        "style=3 hits-per-bar=2 velocity=1 voice=2 (default: 1.5)",
    )
    parser.add_argument(
        "--follow",
        default="literal",
        metavar="HOW",
        help="literal or 1: the rhythm hit by hit; loose or 0: its gist alone; numbers between, or up to 2; "
        "free: not at all (default: literal)",
    )
    parser.add_argument(
        "--num-samples",
        type=int,
        default=1,
        metavar="N",
        help="how many versions, the best first (default: 1)",
    )
    parser.add_argument(
        "--best-of",
        type=int,
        default=1,
        metavar="N",
        help="play so many, and keep those that come nearest to what was asked (default: 1)",
    )
    parser.add_argument(
        "--kit-in",
        metavar="KIT",
        help="which keys are which voice where the rhythm is drums: gm, roland_td, or a YAML file, "
        "see examples/kit.yaml (default: gm and roland_td alike)",
    )
    parser.add_argument("--kit-out", metavar="KIT", help="the kit to play on, the same way (default: gm)")
    parser.add_argument(
        "--keep-tracks", action="store_true", help="write the rhythm's tracks beside the drums"
    )
    parser.add_argument(
        "--lead-in",
        action="store_true",
        help="begin a bar later, so that hits just before the first beat stay there",
    )
    parser.add_argument(
        "--plot",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="a picture of the piano roll with what was asked and what came out (default)",
    )
    parser.add_argument("--wav", action="store_true", help="also as sound, where FluidSynth is installed")
    parser.add_argument("--checkpoint", metavar="PT", help="the model (default: checkpoints/drummer.pt)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps, or auto (default)")
    parser.add_argument(
        "--out",
        default="output",
        metavar="FOLDER",
        help="for RHYTHM_1.mid, .json, .png, ..., which are replaced if there (default: output)",
    )
    return parser
