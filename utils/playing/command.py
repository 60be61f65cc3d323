"""Which flags of inference_bar_control.py go together, what they say of how to play, and the job of --job done to drums."""

from utils.checks import (
    GUIDANCE,
    check_temperature,
    how_followed,
    limits,
    make_generator,
    strengths,
    voice_mask,
    whole,
)
from utils.playing.controls import CONTROL_KEYS, parse_guidance
from utils.playing.jobs import add_voices, check_strength, continue_drums, humanise, infill, vary

GOES_WITH = {
    "bars": ("tap", "continue"),
    "voices": ("add", "infill"),
    "bars_anew": ("infill",),
    "strength": ("vary",),
    "lock": ("tap", "humanise", "infill", "continue", "vary"),
}
SONG_SAYS = ("bars", "controls", "hits_per_bar", "velocity", "voice", "forbid", "style")


def check_flags(arguments):
    """ValueError for a flag that the job or the song has no use for, or that the job lacks."""
    if arguments.song:
        clash = [f"--{name.replace('_', '-')}" for name in SONG_SAYS if getattr(arguments, name) is not None]
        if clash or arguments.job != "tap":
            what = ", ".join(clash) or f"--job {arguments.job}"
            raise ValueError(
                f"--song: does not go with {what}; the song file says how long it is and what is asked of its bars"
            )
    for name, jobs in GOES_WITH.items():
        if getattr(arguments, name) is not None and arguments.job not in jobs:
            raise ValueError(
                f"--{name.replace('_', '-')}: goes with --job {' or '.join(jobs)}, not with {arguments.job}"
            )
    if arguments.job == "add" and not arguments.voices:
        raise ValueError("--job add: needs --voices, those to add")
    if arguments.job == "infill" and not (arguments.voices or arguments.bars_anew):
        raise ValueError("--job infill: needs --bars-anew, --voices or both: what to play anew")


def how_to_play(arguments):
    """How to play, as keywords of `generate`. ValueError naming the flag."""
    dials = {
        name: getattr(arguments, name)
        for name in ("temperature", "num_samples", "best_of", "at_most", "playable")
    }
    try:
        dials["follow"] = float(arguments.follow)
    except ValueError:
        dials["follow"] = arguments.follow
    if arguments.guidance:
        dials["guidance"] = parse_guidance(arguments.guidance)
    dials["temperature"] = check_temperature(dials["temperature"])
    if how_followed(dials["follow"]) not in (1, None) and (arguments.job != "tap" or arguments.lock):
        raise ValueError(
            f"follow: {dials['follow']!r}; beside drums that stay the rhythm is followed literally, or free, not at all"
        )
    strengths(dials.get("guidance", GUIDANCE))
    limits(dials["at_most"], dials["playable"], 1)
    for name in ("num_samples", "best_of"):
        whole(dials[name], name)
    make_generator(arguments.seed, "cpu")
    for name in ("voices", "lock"):
        if getattr(arguments, name) is not None:
            voice_mask(names_of(getattr(arguments, name)), name)
    if arguments.strength is not None:
        check_strength(arguments.strength)
    return dials


def in_flags(message, arguments):
    """The message of an error that names an argument, with the flag or the control file that the argument comes from."""
    name, colon, rule = message.partition(":")
    flag = "voice" if name == "voices" and arguments.job not in GOES_WITH["voices"] else name
    given = getattr(arguments, flag, None)
    if colon and given is not None and given is not False:
        return f"--{flag.replace('_', '-')}:{rule}"
    return f"{arguments.controls}: {message}" if arguments.controls and name in CONTROL_KEYS else message


def do_job(arguments, drums, bars, **playing):
    """Drums (1, T, 9), three rolls, as the job leaves them; bars: how many follow, where it is to continue them."""
    voices = names_of(arguments.voices)
    if arguments.job == "add":
        return add_voices(drums, voices, **playing)
    playing["lock"] = tuple(names_of(arguments.lock))
    if arguments.job == "humanise":
        return humanise(drums, **playing)
    if arguments.job == "infill":
        return infill(
            drums, bars=bars_anew(arguments, drums, playing["model"]), voices=voices or None, **playing
        )
    if arguments.job == "continue":
        return continue_drums(drums, bars, **playing)
    return vary(drums, 0.5 if arguments.strength is None else arguments.strength, **playing)


def names_of(words):
    """The names in the words of a flag, commas between them allowed; none for None."""
    return [name for name in ",".join(words or ()).split(",") if name]


def bars_anew(arguments, drums, model):
    """The bars of the drums that --bars-anew names, "2,5-7", counted from 1, as numbers from 0; None for None."""
    text, there = arguments.bars_anew, drums[0].shape[1] // model.steps_per_bar
    if text is None:
        return None
    bars = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        first, last = first.strip(), last.strip() or first.strip()
        if not (first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last) <= there):
            raise ValueError(f"--bars-anew: {text!r}; it must name bars, as 2,5-7, of the {there} there are")
        bars += range(int(first) - 1, int(last))
    return bars
