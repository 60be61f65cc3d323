"""What an ear asks of drums: backbeat, timekeeper, likeness; and the takes that are chosen by them."""

import numpy as np
import pytest
import torch

from model.bars import BarGrid
from utils.midi.drums import STYLE_NONE, STYLES, VOICES
from utils.playing.controls import Bars
from utils.playing.groove import advice, groove_missing, groove_of
from utils.playing.receipt import best_takes

GRID = BarGrid.four_four(64, 4)
NO_STYLES = np.full(4, STYLE_NONE)


def drums(**steps):
    """Onsets (64, 9) of four equal bars: voice=[steps of the bar]."""
    bar = np.zeros((16, 9), np.float32)
    for voice, places in steps.items():
        bar[places, VOICES.index(voice)] = 1
    return np.tile(bar, (4, 1))


ROCK = drums(kick=[0, 8], snare=[4, 12], closed_hat=range(0, 16, 2))
ECHO = drums(kick=[0, 3], snare=[6, 10])


def test_figures_of_beats_written_by_hand():
    assert groove_of(ROCK, GRID, NO_STYLES) == {"hits": 12, "backbeat": 1, "timekeeper": 1, "likeness": 1}
    odd = np.concatenate([ROCK[:16], ECHO[:16], ROCK[:32]])
    assert groove_of(odd, GRID, NO_STYLES) == pytest.approx(
        {"hits": 10, "backbeat": 0.75, "timekeeper": 0.75, "likeness": (2 / 16 + 2 / 16 + 1) / 3}
    )
    jazz, latin = (np.full(4, STYLES.index(style)) for style in ("jazz", "latin"))
    swing = drums(ride=[0, 4, 7, 8, 12, 15], closed_hat=[4, 12])
    assert [groove_of(swing, GRID, style)["backbeat"] for style in (jazz, NO_STYLES)] == [1, 0]
    assert np.isnan(groove_of(ROCK, GRID, latin)["backbeat"])
    waltz = groove_of(ROCK[:24], BarGrid.of("3/4", 24), np.full(2, STYLE_NONE))
    assert np.isnan(waltz["backbeat"]) and groove_missing(waltz, Bars.unset(2)) == pytest.approx(
        1 - (1 + 12 / 18) / 2
    )


def test_of_takes_without_numbers_the_one_that_grooves_is_best():
    takes = [torch.from_numpy(np.stack([np.roll(ECHO, shift, 0) for shift in range(3)] + [ROCK]))] * 3
    asked, taps = Bars.unset(4), np.zeros((0, 9))
    best = best_takes(lambda number: takes, 1, 4, asked, taps, GRID)
    assert torch.equal(best[0][0], torch.from_numpy(ROCK))
    asked["density"][:] = 4  # a number comes first
    assert best_takes(lambda number: takes, 1, 4, asked, taps, GRID)[0].sum() == ECHO.sum()
    half = Bars.unset(4)
    half["instrument"][:, VOICES.index("snare")] = 1  # and where it asks for one snare, no backbeat is missed
    assert groove_missing(groove_of(drums(closed_hat=range(0, 16, 4), snare=[8]), GRID, NO_STYLES), half) == 0


def test_of_parts_each_is_chosen_by_itself_and_takes_differ():
    """Takes that all hit what is asked, and lose the beat in one half or the other."""
    halves = [(ROCK[:32], ECHO[:32]), (ECHO[:32], ROCK[:32]), (ECHO[:32], ECHO[:32])]
    takes = [torch.from_numpy(np.stack([np.concatenate(pair) for pair in halves]))] * 3
    asked, taps = Bars.unset(4), np.zeros((0, 9))
    asked["density"][:] = 8
    both = best_takes(lambda number: takes, 2, 3, asked, taps, GRID, parts=(2, 2))[0]
    assert torch.equal(both[0], torch.from_numpy(ROCK)) and not torch.equal(*both)
    assert not torch.equal(best_takes(lambda number: takes, 1, 3, asked, taps, GRID)[0][0], both[0])
    asked["density"][:] = np.nan  # without numbers the half that most takes have, where it is to be typical
    most = best_takes(lambda number: takes, 1, 3, asked, taps, GRID, typical=True, parts=(2, 2))[0][0]
    assert torch.equal(most, torch.from_numpy(ECHO))


def test_what_is_thin_is_said_unless_it_was_asked_for():
    asked, few = Bars.unset(4), drums(kick=[0], snare=[10])
    said = advice(groove_of(few, GRID, NO_STYLES), asked)
    assert (
        "few hits (2.0 per bar)" in said
        and "keeps time" in said
        and "in only 0 %" in said
        and "--beat" in said
    )
    assert advice(groove_of(ROCK, GRID, NO_STYLES), asked) is None
    for voice in ("snare", "closed_hat"):
        asked["instrument"][:, VOICES.index(voice)] = 0
    assert advice(groove_of(few, GRID, NO_STYLES), asked) is None
