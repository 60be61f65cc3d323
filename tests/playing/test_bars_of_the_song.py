"""Bars as the music has them: files of many meters are played, written and read again, and whatever speaks of
a bar means the song's."""

import json

import numpy as np
import pytest
import torch

import inference_bar_control as inference
from inference_bar_control import (
    Jam,
    Take,
    continue_drums,
    convert_to_midi,
    drums_from_midi,
    generate,
    humanise,
    infill,
    interpolate,
    inverse_mapping,
    play,
    process_midi,
    read_song,
    vary,
)
from model.bars import BarGrid
from tests.helpers.inference_helpers import build_tiny_model, save_tiny_checkpoint
from tests.helpers.midi_files import meter, midi_bytes, note
from tests.helpers.model_batches import small_model
from utils.midi.drums import VOICES
from utils.midi.read import read_midi
from utils.midi.timeline import Timeline

STEP = 120  # ticks
# name -> meters by the number of the bar that they begin with, and the beats of all bars
SONGS = {
    "waltz": ({0: (3, 4)}, [(4, 4, 4)] * 3),
    "jig": ({0: (6, 8)}, [(6, 6)] * 3),
    "five": ({0: (5, 4)}, [(4,) * 5] * 2),
    "seven": ({0: (7, 8)}, [(4, 4, 6)] * 3),
    "pickup of a quarter": ({0: (1, 4), 1: (4, 4)}, [(4,)] + [(4,) * 4] * 2),
    "pickup of an eighth": ({0: (1, 8), 1: (3, 4)}, [(2,)] + [(4,) * 3] * 2),
    "one bar of 2/4": ({0: (4, 4), 1: (2, 4), 2: (4, 4)}, [(4,) * 4, (4, 4), (4,) * 4]),
    "4/4 to 6/8 and back": ({0: (4, 4), 1: (6, 8), 3: (4, 4)}, [(4,) * 4, (6, 6), (6, 6), (4,) * 4]),
    "blues in 12/8": ({0: (12, 8)}, [(6,) * 4] * 2),
    "shuffle": ({0: (4, 4)}, [(4,) * 4] * 2),
}


def song(path, name):
    """Kick on the downbeats alone, a hat on each beat, the last of which ends before the bar line; in the
    shuffle hats on the last third of the beats too. Returns the path and the BarGrid."""
    meters, beats = SONGS[name]
    grid, events = BarGrid.of_beats(beats), []
    for bar, (numerator, denominator) in meters.items():
        events += meter(grid.starts[bar] * STEP, numerator, denominator)
    for step, place in enumerate(grid.index.place_in_beat):
        events += note(step * STEP, 36) if step in grid.starts else []
        events += note(step * STEP, 42) if place == 0 else []
        events += note(step * STEP + 320, 42) if place == 0 and name == "shuffle" else []
    path.write_bytes(midi_bytes(events))
    return path, grid


@pytest.fixture(scope="module")
def model(tiny_config):
    return build_tiny_model(tiny_config)


def read_again(path, n_steps):
    """The meters of a file, its BarGrid, and the step on which its last track ends."""
    midi = read_midi(path)
    timeline = Timeline.of(midi)
    return timeline.meters, timeline.grid(n_steps), int(midi.ends[-1]) / STEP


@pytest.mark.parametrize("name", SONGS)
def test_a_song_is_played_written_and_read_again_in_its_own_bars(tmp_path, model, name):
    source, grid = song(tmp_path / "song.mid", name)
    meters, n_steps = Timeline.of(read_midi(source)).meters, grid.n_steps
    takes = {
        "tap": play(source, model=model, seed=1),
        "humanise": play(source, job="humanise", model=model, seed=1),
        "vary": play(source, job="vary", strength=1, model=model, seed=1),
        "tempo": play(source, job="humanise", tempo=90, model=model, seed=1),
    }
    for job, take in takes.items():
        take.save(tmp_path / f"{job}.mid")
        assert take.onset.shape == (1, n_steps, 9) and take.onset.any()
        assert take.receipt.grid == grid and len(take.receipt.data()["bars"]) == grid.n_bars
        assert read_again(tmp_path / f"{job}.mid", n_steps) == (meters, grid, n_steps)
    played = drums_from_midi(tmp_path / "humanise.mid")[0][0]
    assert torch.equal(played, drums_from_midi(source)[0][0]) and len(played) == n_steps
    assert played[:, 0].nonzero().flatten().tolist() == list(grid.starts)  # downbeats where they were
    if name == "shuffle":
        assert drums_from_midi(source)[2][0, 3, 2] == pytest.approx(-1 / 3, abs=0.01)
        assert takes["humanise"].time[0, 3, 2].abs() <= 0.5
        assert takes["tap"].receipt.dials["swing"] == "0.67, heard from the rhythm"

    anew = play(source, job="infill", bars_anew="2", model=model, seed=1).onset[0]
    here = grid.steps_of(1)
    assert torch.equal(anew[: here.start], played[: here.start])
    assert torch.equal(anew[here.stop :], played[here.stop :])
    assert not torch.equal(anew[here], played[here])
    longer = play(source, job="continue", bars=1, model=model, seed=1)
    longer.save(tmp_path / "longer.mid")
    end = n_steps + grid.lengths[-1]
    assert torch.equal(longer.onset[0, :n_steps], played) and longer.onset[0, n_steps:].any()
    assert read_again(tmp_path / "longer.mid", end)[1:] == (
        BarGrid.of_beats([*grid.beats, grid.beats[-1]]),
        end,
    )
    assert play(source, bars=2, model=model).onset.shape[1] == grid.lines[2]


def test_the_jobs_and_files_in_python_take_a_meter(tmp_path, model):
    drums = drums_from_midi(song(tmp_path / "seven.mid", "seven")[0])
    how = {"meter": "7/8", "model": model, "seed": 1}
    assert humanise(drums, **how)[0].shape[1] == vary(drums, 1, **how)[0].shape[1] == 42
    assert continue_drums(drums, 2, **how)[0].shape[1] == 70
    assert interpolate(drums, [roll[:, :14] for roll in drums], 4, **how)[0].shape[1] == 56
    anew = infill(drums, bars=[2], **how)[0][0]
    assert torch.equal(anew[:28], drums[0][0, :28]) and not torch.equal(anew[28:], drums[0][0, 28:])
    locked = generate(*[None] * 8, 35, drums=drums, lock="kick", **how)[0][0]
    assert locked[:, 0].nonzero().flatten().tolist() == [0, 14, 28]
    with pytest.raises(ValueError, match="drums: 42 steps; they must be a multiple of 4"):
        humanise(drums, model=model)
    with pytest.raises(ValueError, match="drums: 41 steps; to go on from them they must be whole bars"):
        continue_drums([roll[:, :41] for roll in drums], 1, **how)

    take = Take(drums, meter="7/8", model=model)
    assert take.receipt.grid.beats == ((4, 4, 6),) * 3
    take.save(tmp_path / "take.mid")
    convert_to_midi(*drums, inverse_mapping, tmp_path / "drums.mid", meter=["7/8", "7/8", "3/4"])
    assert read_again(tmp_path / "take.mid", 42)[::2] == (((0, 7, 8),), 42)
    assert read_again(tmp_path / "drums.mid", 42)[::2] == (((0, 7, 8), (3360, 3, 4)), 52)


def test_a_meter_and_a_pickup_stand_in_place_of_what_the_file_says(tmp_path, tiny_config, model, capsys):
    upbeat = note(0, 42) + sum((note(480 + 1440 * bar, 36) for bar in range(2)), [])
    (tmp_path / "plain.mid").write_bytes(midi_bytes(upbeat + note(480 + 1440 + 960, 42)))
    words = ["--rhythm", tmp_path / "plain.mid", "--meter", "3/4", "--pickup", 4, "--seed", 1, "--no-plot"]
    words += ["--voice", "kick=2"]
    words += ["--checkpoint", save_tiny_checkpoint(tiny_config, tmp_path / "tiny.pt"), "--out", tmp_path]

    def command(*more):
        return inference.main(inference.parse_arguments([str(word) for word in (*words, *more)]))

    assert command() == 0
    assert "3 bars at 120 bpm; playing 3, seed 1\n  meter: 1/4, 3/4\n" in capsys.readouterr().out
    end = 4 + 12 + 12
    meters, grid, ends = read_again(tmp_path / "plain_1.mid", end)
    assert meters == ((0, 1, 4), (480, 3, 4)) and grid.lengths == (4, 12, 12) and ends == end
    receipt = json.loads((tmp_path / "plain_1.json").read_text())
    assert [bar["asked"]["voices"]["kick"] for bar in receipt["bars"]] == [0.6667, 2, 2]
    assert command("--meter", "3/4,2/4", "--job", "humanise", "--keep-tracks") == 0
    assert read_again(tmp_path / "plain_1-2.mid", 28)[0] == ((0, 1, 4), (480, 3, 4), (1920, 2, 4))
    for flags, says in (
        (["--meter", "3"], "--meter: '3'; it must be a meter such as '3/4'"),
        (["--pickup", 12], "--pickup: 12; it must be a whole number, 1 or more, 11 at most"),
        (["--voice", "kick=13"], "--voice: kick: '13'; it must be a number, 0 to 12"),
        (["--bars", "4000", "--meter", "8/4"], "--bars: "),
    ):
        assert command(*flags) == 2 and says in capsys.readouterr().err
    assert play(bars=3, meter="5/4", voices={"kick": 20}, model=model).receipt.grid.lengths == (20,) * 3
    with pytest.raises(ValueError, match="kick: 17; it must be a number, 0 to 16"):
        play(bars=3, voices={"kick": 17}, model=model)


def test_hits_that_stand_for_several_bars_are_shared_out_by_their_lengths(model):
    meters = ["1/8", "4/4", "5/4", "4/4"]
    wishes = {
        "hits_per_bar": 16,
        "velocity": 70,
        "voices": {"kick": 4, "snare": [1, 2, 3, 4]},
        "forbid": "ride",
    }
    asked = play(bars=4, meter=meters, model=model, **wishes).receipt.asked
    assert asked["density"].tolist() == [2, 16, 20, 16] and asked["intensity"].tolist() == [70] * 4
    assert asked["instrument"][:, [0, 1, 8]].T.tolist() == [[0.5, 4, 5, 4], [1, 2, 3, 4], [-1] * 4]
    sections = [{"bars": 1, "hits_per_bar": 2}, {"bars": 3, "hits_per_bar": 8, "fill": 1}]
    arc = {"hits_per_bar": {"add": 4}}
    asked = play(song={"sections": sections, "arc": arc}, meter=meters, model=model).receipt.asked
    assert asked["density"].tolist() == pytest.approx([2.5, 12, 15, 12 * 1.07])


def test_bars_that_a_model_can_not_play_are_read_as_the_nearest_or_refused(tmp_path, tiny_config, capsys):
    shorter = small_model(tiny_config, longest_bar=16)
    source, _ = song(tmp_path / "five.mid", "five")
    take = play(source, model=shorter, seed=1)
    assert take.receipt.grid.lengths == (12, 8, 12, 8)
    take.save(tmp_path / "out.mid")
    assert read_again(tmp_path / "out.mid", 40)[::2] == (((0, 5, 4),), 40)
    with pytest.raises(ValueError, match="meter: '5/4'; this model was trained on bars of up to 16"):
        play(source, meter="5/4", model=shorter)
    checkpoint = save_tiny_checkpoint(tiny_config, tmp_path / "tiny.pt")
    (tmp_path / "odd.mid").write_bytes(midi_bytes(meter(0, 9, 32) + note(0, 36)))
    words = ["--rhythm", tmp_path / "odd.mid", "--checkpoint", checkpoint, "--out", tmp_path, "--no-plot"]
    assert inference.main(inference.parse_arguments([str(word) for word in words])) == 0
    said = capsys.readouterr().out
    assert "  meter: 9/32\n  bars of 9/32 are read as the nearest that are 2 to 32 whole sixteenths" in said


def test_the_bars_of_a_song_are_those_of_its_rhythm_and_come_round_with_it(tmp_path, model):
    source, own = song(tmp_path / "song.mid", "one bar of 2/4")
    sections = [{"name": "a", "bars": 2, "fill": 0.5}, {"name": "b", "bars": 3, "voices": {"kick": 2}}]
    take = play(source, song={"sections": sections, "rhythm": "loop"}, model=model, seed=1)
    again = BarGrid.of_beats((own.beats * 2)[:5])
    assert take.receipt.grid == again and take.receipt.asked["instrument"][2:, 0].tolist() == [2, 2, 1]
    assert take.onset[0, again.starts[2], VOICES.index("crash")] == 1  # after the fill in the bar of 2/4
    assert not take.onset[0, 16:20, VOICES.index("high_tom")].any()  # half of that bar
    take.save(tmp_path / "take.mid")
    assert read_again(tmp_path / "take.mid", again.n_steps)[1:] == (again, again.n_steps)
    once = play(source, song={"sections": sections}, model=model, seed=1).receipt.grid
    assert once == BarGrid.of_beats(own.beats + own.beats[-1:] * 2)  # the last meter goes on

    laid = read_song({"sections": sections, "rhythm": "loop"})
    arguments = laid.arguments(process_midi(source), model, meter=["4/4", "2/4", "4/4"])
    assert arguments["seq_len"] == again.n_steps
    assert torch.equal(generate(**arguments, seed=1)[0], take.onset)


def test_a_jam_goes_round_the_bars_of_its_meter(tmp_path, model):
    source, grid = song(tmp_path / "song.mid", "4/4 to 6/8 and back")
    rhythm, meters = process_midi(source), ["4/4", "6/8", "6/8", "4/4"]
    bars = Jam(*rhythm, meter=meters, density=1, model=model, seed=3)
    played = [next(bars) for _ in range(5)]
    assert [bar[0].shape[1] for bar in played] == [16, 12, 12, 16, 16]
    nothing = dict.fromkeys(("intensity", "instrument", "style", "masks"))
    density = torch.ones(1, grid.n_steps)
    whole = generate(*rhythm, density, **nothing, seq_len=grid.n_steps, meter=meters, model=model, seed=3)
    assert torch.equal(whole[0], torch.cat([bar[0] for bar in played[:4]], 1))
    with pytest.raises(ValueError, match="density: .*it must be a number"):
        bars.change(density=np.ones(12))  # bars of many lengths have no curve
    bars.change(meter="3/4", density=np.ones(12))
    assert next(bars)[0].shape[1] == 12
    alone = Jam(meter="3/4,2/4", model=model, seed=1)
    assert [next(alone)[0].shape[1] for _ in range(3)] == [12, 8, 12]
