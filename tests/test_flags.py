"""Errors of flags: one line with the flag, the value and the rule, the same for every script."""

import pytest

import evaluate
import preprocessing
import studio
import training_script_causal_decoder as training
from utils.playing.arguments import parse_arguments

RHYTHM = ["--rhythm", "bass.mid"]
SCRIPTS = {
    "play": parse_arguments,
    "evaluate": evaluate.main,
    "preprocess": preprocessing.main,
    "train": training.main,
    "studio": studio.parse_arguments,
}


@pytest.mark.parametrize(
    "script, words, says",
    [
        ("play", [*RHYTHM, "--stile", "funk"], "--stile: no such flag; did you mean --style?"),
        ("play", ["--rythm=bass.mid"], "--rythm: no such flag; did you mean --rhythm?"),
        ("play", [*RHYTHM, "-seed", "3"], "-seed: no such flag; did you mean --seed?"),
        ("play", [*RHYTHM, "--xyz"], "--xyz: no such flag"),
        ("evaluate", ["--sampels", "3"], "--sampels: no such flag; did you mean --samples?"),
        ("preprocess", ["--midi_dir", "x"], "--midi_dir: no such flag; did you mean --midi-dir?"),
        ("train", ["--inti-from", "x"], "--inti-from: no such flag; did you mean --init-from?"),
        ("studio", ["--prot", "1"], "--prot: no such flag; did you mean --port?"),
        ("play", [*RHYTHM, "--seed", "x"], "--seed: 'x'; it must be a whole number"),
        ("play", [*RHYTHM, "--bars", "2.5"], "--bars: '2.5'; it must be a whole number"),
        ("play", [*RHYTHM, "--timing", "lazy"], "--timing: 'lazy'; it must be a number"),
        ("evaluate", ["--windows", "few"], "--windows: 'few'; it must be a whole number"),
        ("studio", ["--port", "x"], "--port: 'x'; it must be a whole number"),
        ("play", [*RHYTHM, "--job", "hum"], "--job: 'hum'; it must be one of "),
        ("play", [*RHYTHM, "--track"], "--track: it needs a value"),
        ("play", [*RHYTHM, "--voice"], "--voice: it needs a value"),
        ("play", [*RHYTHM, "--stops=3"], "--stops: '3'; it takes no value"),
        ("play", [*RHYTHM, "--vo", "3"], "--vo: it may mean --voices, --voice"),
        ("play", ["--beat", "rock"], "--rhythm: it is needed"),
        ("play", [*RHYTHM, "song.mid"], "song.mid: no flag takes this word"),
    ],
)  # fmt: skip
def test_an_error_names_flag_value_and_rule(script, words, says, capsys):
    with pytest.raises(SystemExit) as stop:
        SCRIPTS[script](words)
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.partition(": ")[2].startswith(says)
    assert said.count("\n") == 1 and said.endswith(" (see --help)\n")


def test_the_first_bar_may_be_left_free():
    given = parse_arguments([*RHYTHM, "--hits-per-bar", "-,14", "--velocity", "-", "--style=-,funk"])
    assert (given.hits_per_bar, given.velocity, given.style) == ("-,14", "-", "-,funk")


def test_negative_numbers_and_beginnings_of_flags_are_understood():
    given = parse_arguments([*RHYTHM, "--shift", "-1", "--temp", "0.5", "--no-plot"])
    assert (given.shift, given.temperature, given.plot) == (-1, 0.5, False)
