"""Where the rhythm rests and before it begins: what is silent then, and what is not."""

import numpy as np
import pytest
import torch

from inference_bar_control import Jam, generate, play
from model.bars import BarGrid
from tests.helpers.inference_helpers import build_tiny_model
from tests.helpers.midi_files import midi_bytes, note
from utils.midi.hearing import hear
from utils.playing.play import perform
from utils.playing.request import Request
from utils.playing.rests import rests_of

UNSET = [None] * 5  # density, intensity, instrument, style, masks
BAR = 1920


@pytest.fixture(scope="module")
def model(tiny_config):
    return build_tiny_model(tiny_config)


def file_of(path, bars, length=120, channel=0, pitches=(40, 43, 45)):
    """A file of eighths in these bars, counted from 0: a part of three pitches, or drums on channel 9."""
    places = [
        (bar * BAR + 240 * eighth, pitches[eighth % len(pitches)]) for bar in bars for eighth in range(8)
    ]
    path.write_bytes(
        midi_bytes([event for at in places for event in note(*at, length=length, channel=channel)])
    )
    return path


def hits(take):
    """Of each bar."""
    return np.asarray(take.onset).reshape(-1, 16, 9).sum((1, 2))


def silent(take):
    return np.flatnonzero(hits(take) == 0).tolist()


@pytest.mark.parametrize(
    "taps, rests, first",
    [
        ([0, 17, 33, 49], [], 0),  # a tap in every bar, however far apart
        ([0, 33, 48], range(1, 33), 0),
        ([16, 63], [*range(16), *range(17, 63)], 16),
        ([20, 40, 60], range(20), 20),
        ([63], range(63), 63),
        ([12, 24, 33, 50], [], 0),  # what comes first is shorter than a bar
        ([], range(64), 64),
    ],
)
def test_a_rest_is_a_stretch_without_taps_in_which_a_whole_bar_lies(taps, rests, first):
    sounds = np.isin(np.arange(64), taps)
    found, begins = rests_of(sounds, BarGrid.four_four_bars(4, 4), 64)
    assert np.flatnonzero(found).tolist() == [*rests] and begins == first


def test_past_its_end_and_in_other_meters():
    sounds, grid = np.isin(np.arange(48), [0, 1]), BarGrid.of("3/4", 48)
    assert np.flatnonzero(rests_of(sounds, grid, 24)[0]).tolist() == [*range(2, 24)]
    assert not rests_of(sounds, grid, 20)[0].any()  # 13 to 20 is no bar


def test_silence_before_the_first_note_stays_silent_and_is_no_part_of_the_groove(model, tmp_path):
    late, early = file_of(tmp_path / "a.mid", [2, 3, 5]), file_of(tmp_path / "b.mid", [0, 1, 3])
    for how in ({}, {"follow": "loose"}, {"best_of": 2}, {"timing": 1, "feel": 0.5}):
        waiting, at_once = (play(file, model=model, seed=1, **how) for file in (late, early))
        assert not hits(waiting)[:2].any() and (hits(waiting)[2:] > 0).all()
        assert all(torch.equal(a[:, 32:], b) for a, b in zip(waiting, at_once))
    rolls = [torch.as_tensor(roll) for roll in waiting.rhythm]
    assert silent(play(rolls, model=model, seed=1)) == [0, 1]
    assert silent(play(late, bars=2, model=model, seed=1)) == [0, 1]
    assert silent(play(late, model=model, seed=1, follow="free")) == []
    take = play(late, model=model, seed=1, hits_per_bar=12, style="funk")
    asked = [bar["asked"]["hits"] for bar in take.receipt.data()["bars"]]
    assert asked == [None, None, 12, 12, 12, 12] and take.receipt.data()["bars"][0]["asked"]["style"] is None


def test_a_first_note_within_a_bar_is_waited_for_with_the_bars_before_it(model, tmp_path):
    file = tmp_path / "a.mid"
    for first, waits in ((BAR + 960, 24), (960, 0)):
        file.write_bytes(midi_bytes([event for q in range(8) for event in note(first + 480 * q, 36)]))
        onset = play(file, model=model, seed=1, hits_per_bar=30).onset[0].sum(-1)
        assert not onset[:waits].any() and onset[waits : waits + 6].any()


def test_drums_and_hands_rest_with_the_rhythm_and_to_a_part_the_beat_goes_on(model, tmp_path):
    bars, how = [0, 1, 3], {"model": model, "seed": 1}
    drums = file_of(tmp_path / "drums.mid", bars, channel=9, pitches=(36, 42, 38))
    hands = file_of(tmp_path / "hands.mid", bars, pitches=(60, 74))
    part = file_of(tmp_path / "part.mid", bars)
    assert [hear(file).kind() for file in (drums, hands, part)] == ["drums", "hands", "part"]
    assert [silent(play(file, **how)) for file in (drums, hands, part)] == [[2], [2], []]
    assert silent(play(part, stops=True, **how)) == [2]
    lines = []
    perform(Request(rhythm=file_of(tmp_path / "a.mid", [2, 4]), stops=True, bars=6), model, lines.append)
    assert lines[-1] == "  the drums rest with the rhythm in bars 1-2, 4"
    assert silent(play(drums, follow="loose", **how)) == [] == silent(play(drums, follow="free", **how))
    assert silent(play(drums, follow="loose", stops=True, **how)) == [2]
    assert silent(play(drums, bars=6, **how)) == [2]  # past its end the model goes on
    with pytest.warns(UserWarning, match="hears every rhythm alike"):
        assert silent(play(part, rhythm_is="drums", **how)) == [2]
        assert silent(play(drums, rhythm_is="part", **how)) == []


def test_a_note_that_is_held_is_no_stop(model, tmp_path):
    file = tmp_path / "a.mid"
    for length, stops in ((2 * BAR + 100, []), (2 * BAR - 1000, [1]), (BAR + 50, [1, 2])):
        file.write_bytes(
            midi_bytes(note(0, 40, length=length, channel=0) + note(3 * BAR, 45, length=400, channel=0))
        )
        held = hear(file).held(64)
        assert held[: round(length / 120)].all() and not held[round(length / 120) : 48].any()
        if stops != [1]:
            assert set(stops) >= set(silent(play(file, model=model, seed=1, stops=True, hits_per_bar=20)))
    assert silent(play(file, model=model, seed=1, stops=True, hits_per_bar=20)) == [1, 2]


def test_generate_songs_and_jams_rest_too(model, tmp_path):
    file = file_of(tmp_path / "drums.mid", [0, 2], channel=9, pitches=(36, 42, 38))
    rolls = play(file, model=model, seed=1).rhythm
    rolls = [torch.as_tensor(roll) for roll in rolls]
    song = {"sections": [{"bars": 6}], "rhythm": "loop"}
    assert silent(play(file, song=song, model=model, seed=1)) == [1, 4]
    plain = generate(*rolls, *UNSET, 48, model=model, seed=1)
    assert plain[0][:, 16:32].any()  # nobody said what it is
    with pytest.warns(UserWarning, match="alike"):
        rests = generate(*rolls, *UNSET, 48, model=model, seed=1, rhythm_is="drums")
        jam = Jam(*rolls, model=model, seed=1, rhythm_is="drums")
    assert not rests[0][:, 16:32].any() and torch.equal(rests[0][:, :15], plain[0][:, :15])
    bars = [next(jam) for _ in range(6)]
    assert all(torch.equal(torch.cat(roll, 1)[:, :48], whole) for roll, whole in zip(zip(*bars), rests))
    assert [bool(onset.any()) for onset, _, _ in bars] == [True, False, True] * 2


def test_what_is_locked_or_known_sounds_in_rests_and_before_the_first_note(model, tmp_path):
    file = file_of(tmp_path / "part.mid", [1, 3])
    drums = [torch.zeros(1, 16, 9) for _ in range(3)]
    drums[0][:, ::4, 0] = drums[1][:, ::4, 0] = 1
    take = play(file, drums=drums, lock="kick", stops=True, model=model, seed=1)
    assert torch.equal(take.onset, take.onset * 1.0) and hits(take)[[0, 2]].tolist() == [4, 4]
    assert torch.equal(take.onset[..., 0], drums[0][..., 0].repeat(1, 4)) and (hits(take)[[1, 3]] > 4).all()
