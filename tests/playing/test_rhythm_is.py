"""What the rhythm is, as the file tells it and as it is said."""

import numpy as np
import pytest
import torch

from tests.helpers.midi_files import midi_bytes, note
from tests.helpers.model_batches import small_model
from utils.midi.hearing import drums_from_midi, hear
from utils.playing.generate import generate
from utils.playing.jobs import gist
from utils.playing.play import perform
from utils.playing.request import Request


def midi(path, pitches, channel=0, length=60):
    """A file of quarters at 480 ticks."""
    track = (
        b"".join(
            bytes([0, 0x90 | channel, pitch, 90])
            + _wait(length)
            + bytes([0x80 | channel, pitch, 0])
            + _wait(480 - length)
            + b"\xff\x01\x00"
            for pitch in pitches
        )
        + b"\x00\xff\x2f\x00"
    )
    head = b"MThd" + (6).to_bytes(4, "big") + bytes([0, 0, 0, 1]) + (480).to_bytes(2, "big")
    path.write_bytes(head + b"MTrk" + len(track).to_bytes(4, "big") + track)
    return path


def _wait(ticks):
    return bytes([0x80 | ticks >> 7, ticks & 0x7F])


@pytest.mark.parametrize(
    "kind, notes",
    (
        ("drums", {"pitches": [36, 42, 38, 42], "channel": 9}),
        ("drums", {"pitches": [75] * 4, "channel": 9}),
        ("hands", {"pitches": [60, 74, 60, 60]}),
        ("hands", {"pitches": [60] * 4}),
        ("part", {"pitches": [40] * 4, "length": 400}),
        ("part", {"pitches": [40, 43, 45, 40]}),
    ),
)
def test_the_file_tells(tmp_path, kind, notes):
    assert hear(midi(tmp_path / "a.mid", **notes)).kind() == kind


@pytest.fixture(scope="module")
def told(tiny_config):
    config = tiny_config.model_copy(deep=True)
    config.Model.rhythm_is = True
    return small_model(config)


def test_play_says_which_it_took_and_the_hand_wins(told, tmp_path):
    path, said, onsets = midi(tmp_path / "a.mid", [60, 74, 60, 60]), [], []
    for rhythm_is in (None, "hands", "part", "unset"):
        lines = []
        (take,) = perform(Request(rhythm=path, rhythm_is=rhythm_is, seed=1), told, lines.append)
        said.append(lines[0].rpartition(", heard as ")[2])
        onsets.append(np.asarray(take.onset).tobytes())
    assert said == ["hands", "hands", "part", "unset"]
    assert onsets[0] == onsets[1] and len(set(onsets)) == 3


@pytest.fixture(scope="module")
def pads(tiny_config):
    config = tiny_config.model_copy(deep=True)
    config.Model.rhythm_is = config.Model.pads = True
    return small_model(config)


def test_of_two_pitches_the_file_tells_which_pad_is_struck(tmp_path):
    file = hear(midi(tmp_path / "two.mid", [60, 74, 74, 60]))
    assert file.pads(18)[::4].tolist() == [1, 2, 2, 1, 0] and (file.pads(18) > 0).sum() == 4
    assert file.pads(6).tolist() == [1, 0, 0, 0, 2, 0]
    assert not hear(midi(tmp_path / "one.mid", [60] * 4)).pads(16).any()
    assert hear(midi(tmp_path / "three.mid", [60, 67, 74, 60])).pads(16)[::4].tolist() == [1, 0, 2, 1]


def test_a_tap_that_is_early_for_the_end_of_a_loop_is_at_its_beginning_with_its_pad(tmp_path):
    """In the roll and in its pads alike."""
    taps = [*note(480, 60, channel=0), *note(960, 60, channel=0), *note(1910, 74, length=10, channel=0)]
    (tmp_path / "loop.mid").write_bytes(midi_bytes(taps))
    file = hear(tmp_path / "loop.mid")
    (onset, *_), pads = file.roll(), file.pads(16)
    assert (onset.any(1) == (pads > 0)).all() and pads[0] == 2


def test_which_pad_is_struck_is_heard_of_hands_alone(pads, told, tmp_path):
    def played(pitches, model=pads, **asked):
        path = midi(tmp_path / "a.mid", pitches * 8)
        (take,) = perform(Request(rhythm=path, seed=1, best_of=1, **asked), model)
        return np.asarray(take.vel).tobytes()

    one, other = [60, 74, 60, 74], [74, 60, 74, 60]
    assert played(one) != played(other)
    assert played(one, rhythm_is="part") == played(other, rhythm_is="part")
    assert played(one, told) == played(other, told)  # a model that is not told
    song = {"rhythm": "loop", "sections": [{"bars": 2, "name": "a"}]}
    assert played(one, song=song) != played(other, song=song)


def test_a_model_that_does_not_know_kinds_says_so_where_it_was_said_by_hand(tiny_config, tmp_path, recwarn):
    model, path, lines = small_model(tiny_config), midi(tmp_path / "a.mid", [60, 74, 60, 60]), []
    (take,) = perform(Request(rhythm=path, seed=1), model, lines.append)
    assert "heard as" not in lines[0] and not recwarn.list
    with pytest.warns(UserWarning, match="rhythm_is: part; this model hears every rhythm alike"):
        (same,) = perform(Request(rhythm=path, seed=1, rhythm_is="part"), model)
    assert torch.equal(torch.as_tensor(take.onset), torch.as_tensor(same.onset))


def test_generate_takes_it_and_refuses_others(told):
    rhythm = [torch.zeros(1, 16, 9) for _ in range(3)]
    rhythm[0][0, ::4, 3] = rhythm[1][0, ::4, 3] = 1
    drums = [
        generate(*rhythm, None, None, None, None, None, 16, model=told, seed=2, rhythm_is=kind)[0]
        for kind in ("drums", "part", None, "unset")
    ]
    assert torch.equal(drums[2], drums[3]) and not torch.equal(drums[0], drums[1])
    with pytest.raises(ValueError, match="rhythm_is: 'bass'; it must be one of drums, hands, part, unset"):
        generate(*rhythm, None, None, None, None, None, 16, model=told, rhythm_is="bass")


@pytest.mark.parametrize(
    "bars, kind, best_of, parts",
    [(8, "part", 8, (8,)), (18, "part", 16, (8, 8, 2)), (18, "hands", 16, (8, 8, 2))],
)
def test_of_a_loose_rhythm_every_eight_bars_are_chosen_by_themselves(
    told, monkeypatch, bars, kind, best_of, parts
):
    chosen = []

    def note(draw, n, many, *wishes, **how):
        chosen.append((many, how["typical"], how["parts"]))
        return draw(n)

    monkeypatch.setattr("utils.playing.generate.best_takes", note)
    steps = 16 * bars
    rhythm = [torch.zeros(1, steps, 9) for _ in range(3)]
    rhythm[0][0, ::4, 3] = rhythm[1][0, ::4, 3] = 1
    generate(*rhythm, None, None, None, None, None, steps, model=told, seed=2, rhythm_is=kind)
    assert chosen == [(best_of, True, parts)]
    generate(*rhythm, None, None, None, None, None, steps, model=told, seed=2, rhythm_is="drums")
    assert len(chosen) == 1  # a drummer's own hits: one take, as it is drawn


def test_of_drums_a_model_that_is_told_of_pads_makes_a_gist(pads, tmp_path):
    """And so what is interpolated is played: drums are on no pad."""
    drums = drums_from_midi(midi(tmp_path / "drums.mid", [36, 42, 38, 42], channel=9))
    assert gist(drums, pads).shape[:2] == (1, 1)
    (take,) = perform(Request(rhythm=drums, job="interpolate", second=drums, bars=1, seed=1), pads)
    assert np.asarray(take.onset).any()
