"""The table of docs/arguments.md is that of the code: every flag and every argument, with its default."""

import inspect
import re

import pytest

import inference_bar_control as inference
from tests.conftest import REPOSITORY
from utils.midi.drums import STYLES, VOICES
from utils.midi.kits import KITS
from utils.midi.read import MAX_BARS
from utils.midi.write import TEMPO_RANGE
from utils.playing.arguments import JOBS, build_parser
from utils.playing.request import FOLLOW, MOST_FOLLOW, Request

REQUEST = Request()
PAGE = (REPOSITORY / "docs" / "arguments.md").read_text()


def table():
    """(flags, [(argument, function)], what it takes, what is left out) of each row."""
    rows = []
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and not cells[0].startswith("**") and cells[0] != "flag":
            flags, python, takes, left_out = cells
            named = re.findall(r"((?:`\w+`(?:, )?)+) \(([\w, ]+)\)", python)
            assert "; ".join(f"{names} ({doors})" for names, doors in named) == python, line
            arguments = [
                (name, door)
                for names, doors in named
                for name in re.findall(r"\w+", names)
                for door in doors.split(", ")
            ]
            rows.append((re.findall(r"--[a-z-]+", flags), arguments, takes, left_out))
    return rows


TABLE = table()
FLAGS = {
    flag: action
    for action in build_parser()._actions
    for flag in action.option_strings
    if action.dest != "help"
}
ARGUMENTS = {
    (name, door): parameter.default
    for door in inference.__all__
    if callable(getattr(inference, door))
    for name, parameter in inspect.signature(getattr(inference, door)).parameters.items()
    if parameter.kind != inspect.Parameter.VAR_KEYWORD
}


def in_words(default):
    """A default as the last column has it, or None where words stand for it there."""
    if default in (None, (), inspect.Parameter.empty) or isinstance(default, bool):
        return None
    return f"{default:g}" if isinstance(default, float) else str(default)


def default_of(action):
    """What a flag stands for where it is left out: its field of a Request says it, or the parser."""
    return getattr(REQUEST, action.dest, action.default) if action.dest != "seed" else None


def row(flag):
    return next(row for row in TABLE if flag in row[0])


def test_every_flag_and_every_argument_stands_there_once_and_no_other():
    assert sorted(flag for flags, _, _, _ in TABLE for flag in flags) == sorted(FLAGS)
    assert sorted(argument for _, arguments, _, _ in TABLE for argument in arguments) == sorted(ARGUMENTS)


@pytest.mark.parametrize(
    "flags, arguments, takes, left_out",
    TABLE,
    ids=[(flags or arguments[0])[0] for flags, arguments, _, _ in TABLE],
)
def test_defaults_are_those_of_the_code(flags, arguments, takes, left_out):
    defaults = [default_of(FLAGS[flag]) for flag in flags] + [ARGUMENTS[argument] for argument in arguments]
    needed = any(FLAGS[flag].required for flag in flags) or inspect.Parameter.empty in defaults
    assert needed == ("needed" in left_out)
    said = set(re.findall(r"`([^`]+)`", left_out)) - {*inference.__all__, "bars", "None"}
    assert said == set(map(in_words, defaults)) - {None}


def test_choices_and_limits_are_those_of_the_code():
    assert ", ".join(VOICES) in row("--voice")[2] and ", ".join(STYLES) in row("--style")[2]
    assert ", ".join([*JOBS][1:]) in row("--job")[2] and set(FLAGS["--job"].choices) == set(JOBS)
    assert (
        all(f'"{how}"' in row("--follow")[2] for how in FOLLOW)
        and f"up to {MOST_FOLLOW} for more" in row("--follow")[2]
    )
    assert all(f"`{kit}`" in row("--kit-in")[2] for kit in KITS)
    assert f"at most {MAX_BARS}" in row("--bars")[2] and "{} to {}".format(*TEMPO_RANGE) in PAGE


def test_flags_of_the_readme_and_of_playing_are_there():
    readme = (REPOSITORY / "README.md").read_text().partition("## Play")[2].partition("## Train")[0]
    playing = (REPOSITORY / "docs" / "playing.md").read_text()
    assert len(named := set(re.findall(r"`(--[a-z-]+)", readme + playing))) > 25
    assert named <= {*FLAGS, "--help"}


def test_help_says_the_defaults_that_it_has():
    for flag, action in FLAGS.items():
        said = re.search(r"\(default: ([\d.]+)\)", action.help)
        if said and flag != "--strength":  # which has a default in its job alone
            assert float(said[1]) == default_of(action), flag
