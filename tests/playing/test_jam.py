"""A jam is the same drumming a bar at a time: endless, and steered from bar to bar."""

import numpy as np
import pytest
import torch

from inference_bar_control import Jam, generate, generate_control_params, process_midi
from utils.playing.request import OWN_FOLLOW

UNSET = [None] * 5  # density, intensity, instrument, style, masks
VOICES_ALLOWED = [0.25, 0.25, 0.5, 0, 0, 0, -1, -1, 0]


@pytest.fixture
def rhythm(repository):
    return [roll[:, :64] for roll in process_midi(repository / "examples" / "clave_taps.mid")]


def play(bars, n):
    return [torch.cat(roll, 1) for roll in zip(*(next(bars) for _ in range(n)))]


def test_bars_are_those_of_the_whole_piece(model, rhythm):
    """Past the decoder's window, with controls that change and voices that are forbidden on the way."""
    rhythm = [torch.cat((roll, roll.flip(1)), 1) for roll in rhythm]
    n_steps = rhythm[0].shape[1]
    assert n_steps == 128
    density = generate_control_params([0, 0.5], [-1, 1.5], n_steps, "left")
    instrument = torch.full((1, n_steps, 9), torch.nan)
    instrument[:, 64:] = torch.tensor(VOICES_ALLOWED)
    whole = generate(*rhythm, density, None, instrument, "funk", None, n_steps, model=model, seed=3)
    bars = Jam(*rhythm, density=-1, style="funk", model=model, seed=3)
    first = play(bars, 4)
    bars.change(density=1.5, instrument=VOICES_ALLOWED)
    for roll, a, b in zip(whole, first, play(bars, 4)):
        assert torch.equal(roll, torch.cat((a, b), 1))
    assert not whole[0][:, 64:, 6:8].any() and whole[0][:, :64, 6:8].any()


def test_a_rhythm_counts_more_until_something_is_asked(model, rhythm):
    whole = generate(*rhythm, *UNSET, 64, model=model, seed=3)
    bars = Jam(*rhythm, model=model, seed=3)
    assert all(torch.equal(roll, bar) for roll, bar in zip(whole, play(bars, 4)))
    assert bars.stream.decoding.guide.follow == OWN_FOLLOW
    for wish, times in (({"density": 1}, 1), ({"density": None}, OWN_FOLLOW)):
        bars.change(**wish)
        next(bars)
        assert bars.stream.decoding.guide.follow == times


def test_the_rhythm_comes_round_and_a_new_one_starts_at_its_first_bar(model, rhythm, monkeypatch):
    taps = []
    bars = Jam(*(roll[:, :32] for roll in rhythm), model=model, seed=1)
    kind, bar = type(bars.stream.decoding), type(bars.stream.decoding).bar
    monkeypatch.setattr(
        kind, "bar", lambda self, told, uniform: taps.append(told["tap_vel"]) or bar(self, told, uniform)
    )
    play(bars, 3)
    bars.change([roll[:, 32:60] for roll in rhythm])  # cut short: filled up with silence
    play(bars, 2)
    bars.change(None)
    play(bars, 1)
    vel = rhythm[1].sum(-1)
    last = torch.nn.functional.pad(vel[:, 48:60], (0, 4))
    expected = [vel[:, :16], vel[:, 16:32], vel[:, :16], vel[:, 32:48], last, torch.zeros(1, 16)]
    assert all(torch.equal(a, b) for a, b in zip(taps, expected, strict=True))
    assert vel[:, :16].any() and vel[:, 32:48].any()


def test_without_a_rhythm_the_model_plays_by_itself(model, rhythm):
    nothing = play(Jam(model=model, seed=2, num_samples=3), 2)
    silence = [torch.zeros_like(roll[:, :32]) for roll in rhythm]
    free = generate(*silence, *UNSET, 32, model=model, seed=2, num_samples=3, follow="free")
    assert all(torch.equal(a, b) for a, b in zip(nothing, free)) and nothing[0].any()


def test_what_is_not_named_stays_and_none_leaves_it_to_the_model(model, rhythm):
    bars = Jam(*rhythm, density=2, intensity=np.linspace(-1, 1, 16), style=3, model=model, seed=1)
    assert torch.allclose(bars.controls["intensity"], torch.zeros(1, 16), atol=1e-6)
    bars.change(density=None, instrument=VOICES_ALLOWED)
    assert bars.controls["density"].isnan().all() and (bars.controls["style"] == 3).all()
    assert (bars.controls["forbid"] == (torch.tensor(VOICES_ALLOWED) < 0)).all()
    bars.change(instrument=None, style="jazz")
    assert not bars.controls["forbid"].any() and bars.controls["instrument"].isnan().all()


def test_goes_on_far_past_its_window_and_leaves_the_model_as_it_was(model, rhythm):
    model.train()
    bars = Jam(*rhythm, model=model, seed=1)
    onset, vel, timeoffset = play(bars, 40)
    assert (
        model.training
        and onset[:, -64:].any()
        and all(torch.isfinite(roll).all() for roll in (vel, timeoffset))
    )
    model.eval()


@pytest.mark.parametrize(
    "change, names",
    [
        ({"density": "loud"}, "density"),
        ({"loudness": 1}, "loudness"),
        ({"style": "polka"}, "style"),
        ({"instrument": [1, 2]}, "instrument"),
        ({"intensity": [1, 2]}, "intensity"),
        ({"style": 2.5}, "style"),
        ({"density": 2, "rhythm": [torch.ones(1, 16, 3)] * 3}, "piano_roll_onset"),
    ],
)
def test_a_change_that_is_refused_changes_nothing(model, rhythm, change, names):
    bars = Jam(*rhythm, density=1, model=model, seed=1)
    before = dict(bars.controls)
    with pytest.raises(ValueError, match=names):
        bars.change(**change)
    assert bars.controls.keys() == before.keys() and all(
        torch.equal(bars.controls[k], before[k]) for k in ("density", "forbid")
    )
    assert bars.stream.grid.n_steps == 64
