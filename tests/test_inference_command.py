"""The command line of inference_bar_control.py."""

import json
import subprocess
import sys

import mido
import pretty_midi
import pytest
import torch

import inference_bar_control as inference
from tests.helpers.inference_helpers import save_tiny_checkpoint, write_midi
from tests.helpers.midi_files import beat, meter, midi_bytes, note, tempo
from utils.midi.read import read_midi


@pytest.fixture
def checkpoint(tiny_config, tmp_path):
    return save_tiny_checkpoint(tiny_config, tmp_path / "tiny.pt")


def command(*words, plot=("--no-plot",)):
    """Runs the command line, without pictures, which take a second each; plot=() draws them."""
    return inference.main(inference.parse_arguments([str(word) for word in (*words, *plot)]))


def test_command_writes_midi_picture_and_receipt(repository, checkpoint, tmp_path, capsys):
    controls = tmp_path / "controls.yaml"
    controls.write_text("hits_per_bar: [10, 20]\nvoices: {kick: 4, snare: 2}\nforbid: [ride]\n")
    arguments = [
        "--rhythm",
        repository / "examples" / "bass_line.mid",
        "--controls",
        controls,
        "--voice",
        "kick=3",
        "--forbid",
        "crash,",
        "high_tom",
        "--style",
        "funk+jazz=3,rock",
        "--guidance",
        "style=2",
        "voice=3",
        "--follow",
        "0.5",
        "--seed",
        7,
        "--num-samples",
        2,
        "--checkpoint",
        checkpoint,
        "--device",
        "cpu",
    ]
    assert command(*arguments, "--out", tmp_path / "out", plot=()) == 0
    printed = capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "bass_line_1.json",
        "bass_line_1.mid",
        "bass_line_1.png",
        "bass_line_2.json",
        "bass_line_2.mid",
        "bass_line_2.png",
    ]
    midi = pretty_midi.PrettyMIDI(str(tmp_path / "out" / "bass_line_1.mid"))
    assert midi.get_tempo_changes()[1][0] == pytest.approx(96, abs=1e-3)
    assert {49, 50, 51}.isdisjoint(note.pitch for note in midi.instruments[0].notes)
    assert (tmp_path / "out" / "bass_line_1.png").read_bytes().startswith(b"\x89PNG")
    rows = [line.split() for line in printed.splitlines() if line.strip()[:2] in ("1 ", "2 ", "3 ", "4 ")]
    assert len(rows) == 8 and [row[1] for row in rows[:4]] == ["10", "10", "20", "20"]
    assert {row[5] for row in rows} == {"3"} and {row[7] for row in rows} == {"2"} and "seed 7" in printed

    receipt = json.loads((tmp_path / "out" / "bass_line_2.json").read_text())
    assert receipt["seed"] == 7 and receipt["checkpoint"]["file"] == "tiny.pt" and len(receipt["bars"]) == 4
    got = receipt["bars"][3]["got"]
    assert [f"{got['hits']}", f"{got['voices']['kick']}"] == [rows[7][2], rows[7][6]]
    assert (
        f"tiny.pt (SHA-256 {receipt['checkpoint']['sha256']})" in printed
        and printed.count("taps answered: ") == 2
    )

    assert command(*arguments, "--out", tmp_path / "again") == 0
    assert {path.suffix for path in (tmp_path / "again").iterdir()} == {".mid", ".json"}
    for name in ("bass_line_1.mid", "bass_line_2.mid"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_command_hears_a_long_rhythm_to_its_end(checkpoint, tmp_path, capsys, monkeypatch):
    long = write_midi(tmp_path / "long.mid", {"bass": [(quarter, 40, 90) for quarter in range(40)]})
    heard = []

    def listen(model, rhythm, **_):
        heard.append(rhythm[0])
        return torch.zeros(3, *rhythm[0].shape)

    monkeypatch.setattr("utils.playing.generate.sample", listen)
    assert command("--rhythm", long, "--checkpoint", checkpoint, "--out", tmp_path) == 0
    assert "10 bars at 120 bpm; playing 10, " in capsys.readouterr().out
    assert heard[0][0].any(-1).nonzero().flatten().tolist() == list(range(0, 160, 4))


def drums_of(path):
    return inference.drums_from_midi(path)[0][0]


@pytest.mark.parametrize(
    "flags, bars, stays",
    [
        (["humanise"], 3, ...),
        (["add", "--voices", "crash", "ride"], 3, (slice(None), slice(6))),
        (["infill", "--bars-anew", "2-3", "--voices", "snare,kick"], 3, (slice(16), slice(None))),
        (["infill", "--bars-anew", "1"], 3, (slice(16, 48), slice(None))),
        (["continue", "--bars", "2"], 5, (slice(48), slice(None))),
        (["continue"], 6, (slice(48), slice(None))),
        (["vary", "--strength", "0"], 3, ...),
        (["vary", "--strength", "1", "--lock", "kick,snare"], 3, (slice(None), slice(2))),
        (["infill", "--bars-anew", "1-3", "--lock", "kick"], 3, (slice(None), 0)),
        (["tap", "--lock", "kick", "--bars", "5"], 5, (slice(None), 0)),
    ],
)
def test_command_does_other_jobs(checkpoint, tmp_path, capsys, flags, bars, stays):
    loop = write_midi(tmp_path / "loop.mid", {"kit": [(q / 2, 36 if q % 4 else 38, 90) for q in range(24)]})
    assert (
        command(
            "--rhythm",
            loop,
            "--job",
            *flags,
            "--checkpoint",
            checkpoint,
            "--out",
            tmp_path / "out",
            "--seed",
            1,
        )
        == 0
    )
    assert f"3 bars at 120 bpm; playing {bars}, seed 1" in capsys.readouterr().out
    given, played = drums_of(loop), drums_of(tmp_path / "out" / "loop_1.mid")
    assert played.shape == (16 * bars, 9) and torch.equal(played[:48][stays], given[stays])
    assert flags[0] in ("humanise", "vary") or not torch.equal(played[: len(given)], given) or bars > 3


@pytest.mark.parametrize(
    "flags, says",
    [
        (["--voices", "kick"], "--voices: it goes with job add or infill, not with tap"),
        (["--job", "add"], "--voices: job add needs voices to add"),
        (["--job", "humanise", "--follow", "loose"], "--follow: 'loose'; beside known drums"),
        (["--job", "infill", "--bars-anew", "2,9"], "--bars-anew: '2,9'"),
        (["--job", "add", "--voices", "kik"], "--voices: unknown voice 'kik'"),
        (["--job", "infill"], "--voices: job infill needs voices or bars to play anew"),
        (["--job", "vary", "--strength", "2"], "--strength: 2.0"),
        (["--job", "infill", "--bars-anew", "3-1"], "--bars-anew: '3-1'"),
        (["--job", "infill", "--bars-anew", "9"], "--bars-anew: '9'; it must name bars, as 2,5-7, of the 4 "),
        (["--job", "interpolate", "--bars", "2"], "--second: job interpolate needs drums to end with"),
        (["--job", "add", "--voices", "kick", "--lock", "ride"], "--lock: it goes with job tap or humanise"),
        (["--at-most", "0"], "--at-most: 0"),
        (["--follow", "closely"], "--follow: 'closely'"),
        (["--follow", "3"], "--follow: 3.0"),
        (["--guidance", "-1"], "--guidance: -1.0"),
        (
            ["--job", "humanise", "--bars", "2"],
            "--bars: it goes with job tap or continue or interpolate, not with humanise",
        ),
    ],
)
def test_command_says_what_a_job_needs(repository, checkpoint, tmp_path, capsys, flags, says):
    rhythm = repository / "examples" / "clave_taps.mid"
    assert command("--rhythm", rhythm, *flags, "--checkpoint", checkpoint, "--out", tmp_path) == 2
    assert capsys.readouterr().err.startswith(f"inference_bar_control.py: {says}")


def test_command_keeps_tempo_meter_length_and_tracks_of_the_rhythm(checkpoint, tmp_path, capsys):
    song = tmp_path / "waltz.mid"
    held = note(4 * 1440, 43, length=1440, channel=0)  # the fifth bar of 3/4 is one long note
    conductor = tempo(0, 90) + tempo(1440, 120) + meter(0, 3, 4)
    song.write_bytes(midi_bytes(conductor, note(0, 40, channel=0) + held, note(720, 38)))
    words = ["--rhythm", song, "--seed", 1, "--kit-out", "roland_td", "--voice", "high_tom=3"]
    words += ["--checkpoint", checkpoint]
    assert command(*words, "--keep-tracks", "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert (
        "5 bars at 90 to 120 bpm; playing 5, seed 1\n  meter: 3/4\n" in said
        and "its own drums are kept too" in said
    )
    (file,) = (mido.MidiFile(path) for path in (tmp_path / "out").glob("*.mid"))
    assert [sum(event.time for event in track) for track in (file.tracks[1], file.tracks[3])] == [
        5 * 1440,
        5 * 1440,
    ]
    assert [round(6e7 / event.tempo) for event in file.tracks[0] if event.type == "set_tempo"] == [90, 120]
    played = {event.note for event in file.tracks[3] if event.type == "note_on"}
    assert len(file.tracks) == 4 and 48 in played and not played & {50, 47}

    assert command(*words, "--bars", 1, "--lead-in", "--out", tmp_path / "led") == 0
    (led,) = (mido.MidiFile(path) for path in (tmp_path / "led").glob("*.mid"))
    assert len(led.tracks) == 2
    assert sum(event.time for event in led.tracks[1]) == 2 * 1440  # the lead-in and a bar
    assert [event.time for event in led.tracks[0] if event.type == "set_tempo"] == [0]


def test_command_gives_a_song_back_with_new_drums_in_place_of_its_own(checkpoint, tmp_path, capsys):
    """Also with those of a job, which would sound twice."""
    song = tmp_path / "song.mid"
    bass = [event for quarter in range(8) for event in note(480 * quarter, 40, channel=1)]
    song.write_bytes(midi_bytes(tempo(0, 100), bass, beat(2)))
    assert command("--rhythm", song, "--list") == 0
    assert [row.split()[-3:] for row in capsys.readouterr().out.splitlines()[1:]] == [
        ["to", "E2", "1"],
        ["to", "F#2", "1"],
    ]
    words = ["--rhythm", song, "--seed", 1, "--keep-tracks", "--checkpoint", checkpoint]
    for flags in (["--replace-drums"], ["--job", "humanize"]):
        assert command(*words, *flags, "--out", tmp_path / "new.mid") == 0
        midi = read_midi(tmp_path / "new.mid")
        assert (midi.channel == 1).sum() == 8 and len(midi.track_names) == 3
        assert (midi.tick[midi.channel == 9] < 60).sum() < 4 and "sound beside" not in capsys.readouterr().out
    assert (midi.channel == 9).sum() == 16  # humanised, and no more


def test_takes_are_never_overwritten(repository, checkpoint, tmp_path):
    words = ["--rhythm", repository / "examples" / "clave_taps.mid", "--bars", 1, "--checkpoint", checkpoint]
    out = tmp_path / "out"
    for flags in (["--seed", 1], ["--seed", 1], ["--seed", 1, "--forbid", "kick", "snare"], []):
        assert command(*words, *flags, "--out", out) == 0
    named = sorted(path.stem for path in out.glob("*.mid"))
    assert named[:2] == ["clave_taps_1", "clave_taps_1-2"] and len(named) == 3
    seed = json.loads((out / f"{named[2]}.json").read_text())["seed"]
    assert named[2] == f"clave_taps_{seed}_1"
    assert command(*words, "--num-samples", 2, "--out", tmp_path / "mine.mid") == 0
    assert sorted(path.name for path in tmp_path.glob("mine*")) == [
        f"mine_{number}.{kind}" for number in (1, 2) for kind in ("json", "mid")
    ]


def test_command_ends_on_the_bar_line_where_that_is_within_a_quarter(checkpoint, tmp_path, capsys):
    (tmp_path / "seven.mid").write_bytes(midi_bytes(meter(0, 7, 8) + note(0, 40) + note(1440, 40)))
    words = ["--rhythm", tmp_path / "seven.mid", "--checkpoint", checkpoint, "--out", tmp_path / "new.mid"]
    assert command(*words) == 0 and "1 bar at 120 bpm; playing 1, " in capsys.readouterr().out
    file = mido.MidiFile(tmp_path / "new.mid")
    assert [sum(event.time for event in track) for track in file.tracks] == [1680, 1680]


def test_command_says_how_many_hits_are_ahead_of_the_first_beat(checkpoint, tmp_path, capsys, monkeypatch):
    taps = write_midi(tmp_path / "taps.mid", {"bass": [(quarter, 40, 90) for quarter in range(4)]})

    def early(*_, **__):
        hits = torch.zeros(1, 16, 9)
        hits[0, 0, :2] = hits[0, 8, 0] = 1
        return hits, 0.5 * hits, -0.25 * hits

    monkeypatch.setattr("utils.playing.generate.sample", early)
    words = ["--rhythm", taps, "--checkpoint", checkpoint, "--out", tmp_path / "new.mid"]
    assert (
        command(*words) == 0 and "hits before the first beat, moved onto it: 2 (" in capsys.readouterr().out
    )
    assert command(*words, "--lead-in") == 0 and "first beat" not in capsys.readouterr().out
    assert read_midi(tmp_path / "new.mid").tick.tolist() == [1890, 1890, 1920 + 930]


def test_command_says_before_it_plays_that_tracks_cannot_be_kept(checkpoint, tmp_path, capsys, monkeypatch):
    songs = bytearray(midi_bytes(note(0, 40), note(0, 50)))
    songs[9] = 2  # type 2: several songs side by side
    (tmp_path / "songs.mid").write_bytes(songs)
    monkeypatch.setattr("utils.playing.generate.sample", lambda *_, **__: pytest.fail("it played"))
    words = ["--rhythm", tmp_path / "songs.mid", "--keep-tracks", "--out", tmp_path / "out"]
    assert (
        command(*words, "--checkpoint", checkpoint) == 2
        and "songs.mid: its tracks can't be kept" in capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


def test_command_refuses_a_rhythm_that_is_held_for_hours(checkpoint, tmp_path, capsys):
    (tmp_path / "stuck.mid").write_bytes(midi_bytes(note(0, 40, length=5000 * 1920)))
    assert (
        command("--rhythm", tmp_path / "stuck.mid", "--checkpoint", checkpoint, "--out", tmp_path / "out")
        == 2
    )
    assert "stuck.mid: its last note ends in bar 5000; at most 4096 are played" in capsys.readouterr().err
    assert (
        command(
            "--rhythm",
            tmp_path / "stuck.mid",
            "--bars",
            1,
            "--checkpoint",
            checkpoint,
            "--out",
            tmp_path / "out",
        )
        == 0
    )


@pytest.mark.parametrize(
    "words, named",
    [
        (["--rhythm", "absent.mid"], "absent.mid: no such file"),
        (["--style", "fnk"], "did you mean funk"),
        (["--beat", "rok"], "--beat: unknown beat 'rok'; did you mean rock?"),
        (["--shift", "65"], "--shift: 65.0"),
        (["--voice", "kik=3"], "did you mean kick"),
        (["--bars", "0"], "--bars: 0"),
        (["--bars", "4097"], "--bars: 4097; it must be a whole number, 1 or more, 4096 at most"),
        (["--velocity", "200"], "--velocity: '200'; it must be a number, 1 to 127"),
        (["--voice", "kick=40"], "--voice: kick: '40'; it must be a number, 0 to 16"),
        (["--best-of", "0"], "--best-of: 0"),
        (["--temperature", "0"], "--temperature: 0"),
        (["--seed", "-1"], "--seed: -1"),
        (["--hits-per-bar", "1,2,3,4,5"], "--hits-per-bar: 5 values for 4 bars"),
        (["--checkpoint", "absent.pt"], "absent.pt"),
        (["--controls", "absent.yaml"], "absent.yaml"),
        (["--track", "flute"], "no track 'flute'"),
        (["--temperature", "-1"], "temperature: -1"),
        (["--device", "abacus"], "device: 'abacus'"),
        (["--kit-in", "rolland_td"], "did you mean roland_td"),
        (["--kit-out", "config.yaml"], "config.yaml: unknown voice 'Data'"),
        (["--out", "config.yaml/out"], "--out: config.yaml/out; it must be a folder"),
    ],
)
def test_command_errors_are_one_line_and_leave_nothing(
    repository, checkpoint, tmp_path, capsys, words, named
):
    defaults = [
        "--rhythm",
        repository / "examples" / "clave_taps.mid",
        "--checkpoint",
        checkpoint,
        "--out",
        tmp_path / "out",
    ]
    assert command(*defaults, *words) == 2
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_error_of_the_control_file_says_the_file(repository, checkpoint, tmp_path, capsys):
    (tmp_path / "wishes.yaml").write_text("velocity: 200\nvoices: {kick: 4}")
    words = ["--rhythm", repository / "examples" / "clave_taps.mid", "--controls", tmp_path / "wishes.yaml"]
    words += ["--checkpoint", checkpoint, "--out", tmp_path / "out"]
    for more, says in (
        ([], f"{tmp_path / 'wishes.yaml'}: velocity: 200; it must be a number, 1 to 127"),
        (["--velocity", "0"], "--velocity: '0'; it must be a number, 1 to 127"),
        (["--velocity", "9", "--voice", "kick=1,2,3,4,5"], "--voice: kick: 5 values for 4 bars"),
    ):
        assert command(*words, *more) == 2
        assert capsys.readouterr().err.startswith(f"inference_bar_control.py: {says}")


def test_help_and_typos_answer_before_anything_heavy_is_imported(repository):
    script = (
        "import json, runpy, sys\n"
        "sys.argv = ['inference_bar_control.py', *sys.argv[1:]]\n"
        "try:\n    runpy.run_path('inference_bar_control.py', run_name='__main__')\n"
        "except SystemExit as stop:\n    print(json.dumps([stop.code, 'torch' in sys.modules]))"
    )
    for words, status in ((["--help"], 0), (["--rythm", "x.mid"], 2)):
        done = subprocess.run(
            [sys.executable, "-c", script, *words], cwd=repository, capture_output=True, text=True, check=True
        )
        assert json.loads(done.stdout.splitlines()[-1]) == [status, False]
        assert done.stderr.count("\n") == (0 if status == 0 else 1)


def test_command_keeps_the_best_and_says_where_there_are_no_more(checkpoint, tmp_path, capsys):
    loop = write_midi(tmp_path / "loop.mid", {"kit": [(q / 2, 36 if q % 4 else 38, 90) for q in range(8)]})
    words = [
        "--rhythm",
        loop,
        "--checkpoint",
        checkpoint,
        "--out",
        tmp_path / "out",
        "--seed",
        1,
        "--hits-per-bar",
        9,
    ]
    assert command(*words, "--best-of", 6) == 0 and "best of 6" in capsys.readouterr().out
    best = json.loads((tmp_path / "out" / "loop_1.json").read_text())["miss"]["hits"]
    assert command(*words, "--num-samples", 6) == 0
    missed = [
        json.loads(path.read_text())["miss"]["hits"] for path in sorted((tmp_path / "out").glob("*.json"))
    ]
    assert len(missed) == 6 and missed == sorted(missed) and missed[0] == best < missed[-1]
    capsys.readouterr()
    assert (
        command(*words, "--job", "vary", "--strength", 0, "--num-samples", 2, "--out", tmp_path / "same") == 0
    )
    assert capsys.readouterr().err == "inference_bar_control.py: of 8 takes only 1 differ, 2 were asked for\n"
    assert len(list((tmp_path / "same").glob("*.mid"))) == 1
