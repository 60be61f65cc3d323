"""The command line of inference_bar_control.py."""

import json
import subprocess
import sys

import pretty_midi
import pytest

import inference_bar_control as inference
from inference_helpers import save_tiny_checkpoint, write_midi


@pytest.fixture
def checkpoint(tiny_config, tmp_path):
    return save_tiny_checkpoint(tiny_config, tmp_path / "tiny.pt")


def command(*words):
    return inference.main(inference.parse_arguments([str(word) for word in words]))


def test_command_writes_midi_picture_and_table(repository, checkpoint, tmp_path, capsys):
    controls = tmp_path / "controls.yaml"
    controls.write_text("hits_per_bar: [10, 20]\nvoices: {kick: 4, snare: 2}\nforbid: [ride]\n")
    arguments = ["--rhythm", repository / "examples" / "bass_line.mid", "--controls", controls, "--voice", "kick=3", "--forbid", "crash,", "high_tom",
                 "--style", "funk", "--seed", 7, "--num-samples", 2, "--checkpoint", checkpoint, "--device", "cpu"]  # fmt: skip
    assert command(*arguments, "--out", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "bass_line_1.mid", "bass_line_1.png", "bass_line_2.mid", "bass_line_2.png",
    ]  # fmt: skip
    midi = pretty_midi.PrettyMIDI(str(tmp_path / "out" / "bass_line_1.mid"))
    assert midi.get_tempo_changes()[1][0] == pytest.approx(96, abs=1e-3)
    assert {49, 50, 51}.isdisjoint(note.pitch for note in midi.instruments[0].notes)
    assert (tmp_path / "out" / "bass_line_1.png").read_bytes().startswith(b"\x89PNG")
    rows = [line.split() for line in printed.splitlines() if line.strip()[:2] in ("1 ", "2 ", "3 ", "4 ")]
    assert len(rows) == 8 and [row[1] for row in rows[:4]] == ["10", "10", "20", "20"]
    assert {row[5] for row in rows} == {"3"} and {row[7] for row in rows} == {"2"} and "seed 7" in printed

    assert command(*arguments, "--out", tmp_path / "again") == 0
    for name in ("bass_line_1.mid", "bass_line_2.mid"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_command_hears_the_first_eight_bars_of_a_long_rhythm_and_says_so(checkpoint, tmp_path, capsys):
    long = write_midi(tmp_path / "long.mid", {"bass": [(quarter, 40, 90) for quarter in range(40)]})
    assert command("--rhythm", long, "--bars", 1, "--checkpoint", checkpoint, "--out", tmp_path) == 0
    assert "the rhythm has 10 bars: the first 8 are heard" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, named",
    [
        (["--rhythm", "absent.mid"], "absent.mid"),
        (["--style", "fnk"], "did you mean funk"),
        (["--voice", "kik=3"], "did you mean kick"),
        (["--bars", "0"], "--bars: 0"),
        (["--hits-per-bar", "1,2,3,4,5"], "hits_per_bar: 5 values for 4 bars"),
        (["--checkpoint", "absent.pt"], "absent.pt"),
        (["--controls", "absent.yaml"], "absent.yaml"),
        (["--track", "flute"], "no track 'flute'"),
        (["--temperature", "-1"], "temperature: -1"),
        (["--device", "abacus"], "device: 'abacus'"),
        (["--out", "config.yaml/out"], "config.yaml/out: Not a directory"),
    ],
)
def test_command_errors_are_one_line_and_leave_nothing(repository, checkpoint, tmp_path, capsys, words, named):
    defaults = ["--rhythm", repository / "examples" / "clave_taps.mid", "--checkpoint", checkpoint, "--out", tmp_path / "out"]
    assert command(*defaults, *words) == 2
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_help_and_typos_answer_before_anything_heavy_is_imported(repository):
    script = (
        "import json, runpy, sys\n"
        "sys.argv = ['inference_bar_control.py', *sys.argv[1:]]\n"
        "try:\n    runpy.run_path('inference_bar_control.py', run_name='__main__')\n"
        "except SystemExit as stop:\n    print(json.dumps([stop.code, 'torch' in sys.modules]))"
    )
    for words, status in ((["--help"], 0), (["--rythm", "x.mid"], 2)):
        done = subprocess.run([sys.executable, "-c", script, *words], cwd=repository, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout.splitlines()[-1]) == [status, False]
        assert done.stderr.count("\n") == (0 if status == 0 else 1)
