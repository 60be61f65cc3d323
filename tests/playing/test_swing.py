"""Swing: how it is measured, and that what is asked for is what one gets, and nothing else moves."""

import json

import numpy as np
import pytest
import torch

from inference_bar_control import Jam, generate, humanise, play, read_song
from model.bars import BarGrid
from tests.helpers.inference_helpers import build_tiny_model, write_midi
from tests.playing.test_dials import UNSET
from utils.midi.drums import VOICES
from utils.playing.jam import SWING_BARS
from utils.playing.play import perform
from utils.playing.receipt import Receipt
from utils.playing.request import Request
from utils.playing.swing import MOST_SWING, STRAIGHT, TRIPLET, bend, clear_swing, swing_of

KICK, SNARE, HAT = (VOICES.index(name) for name in ("kick", "snare", "closed_hat"))
GRID = BarGrid.four_four(32, 4)


@pytest.fixture(scope="module")
def model(tiny_config):
    return build_tiny_model(tiny_config)


def drums(*hats, late=0.0, spread=0.0, n_steps=32):
    """Kicks on the beats and hats at these places (u) of every beat, all `late`, the off-beats spread evenly
    over so much: onset, vel, timeoffset (n_steps, 9)."""
    rolls = np.zeros((3, n_steps, 9), np.float32)
    for beat in range(n_steps // 4):
        wide = spread * ((beat % 5) / 4 - 0.5)
        hits = [(KICK, 0.0), *((HAT, u + wide * (u > 0)) for u in hats)]
        for voice, u in hits:
            place = 4 * (beat + u + late)
            step = int(np.floor(place + 0.5))
            rolls[:, step, voice] = 1, 0.9 if u == 0 else 0.5, place - step
    return rolls


def places(rolls, voice=HAT):
    """u of the hits of a voice, beat by beat: the steps of a beat first, then the beats."""
    step, place = np.arange(len(rolls[0])), rolls[2][:, voice] / 4
    return [step[at] % 4 / 4 + place[at] for at in np.flatnonzero(rolls[0][:, voice])]


def bent(rolls, ratio, closed=False, limit=None):
    closed = np.broadcast_to(closed, rolls[0].shape)
    return bend(*rolls, GRID, np.broadcast_to(ratio, GRID.n_bars), closed, limit)


# ---- measured


@pytest.mark.parametrize(
    "hats, ratio",
    (
        ([0, 0.5], 0.5),
        ([0, TRIPLET], TRIPLET),
        ([0, 0.25, 0.5, 0.75], 0.5),
        ([0, 1 / 3, TRIPLET], TRIPLET),
        ([0, 0.75], 0.75),
        ([0, 0.6], 0.6),
    ),
)
@pytest.mark.parametrize("late", (0, 0.06, -0.06))
def test_the_ratio_is_that_of_the_off_beats_wherever_the_beat_lies(hats, ratio, late):
    rolls = drums(*hats, late=late)[:, 4:]  # without the hits that are early for the first beat
    assert swing_of(*rolls, BarGrid.four_four(28, 4)) == pytest.approx(ratio, abs=1e-6)


def test_louder_off_beats_count_for_more_and_there_may_be_none():
    rolls = drums(0, TRIPLET)
    rolls[:, 2::4, SNARE] = np.array([1, 0.3, 0])[:, None]  # softer and straight, but the first in the beat
    assert swing_of(*rolls, GRID) == pytest.approx(0.5)
    for straight, ratio in (([2, 6], TRIPLET), ([2, 6, 10], 0.5)):  # twice as loud as the hats of the others
        rolls = drums(0, TRIPLET)
        rolls[:, straight, SNARE] = np.array([1, 1.0, 0])[:, None]
        assert swing_of(*rolls, GRID) == pytest.approx(ratio)
    assert np.isnan(swing_of(*drums(0), GRID))
    assert np.isnan(swing_of(*drums(0, 0.5, n_steps=24), BarGrid.of("6/8", 24)))
    assert swing_of(*drums(0, 0.5, n_steps=24), BarGrid.of("3/4", 24)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "hats, ratio",
    (
        ([0, TRIPLET], TRIPLET),
        ([0, 1 / 3, TRIPLET], TRIPLET),
        ([0, 0.62], 0.62),
        ([0, 0.5], None),
        ([0, 0.56], None),
        ([0, 0.25, 0.5, 0.75], None),
        ([0, 0.75], None),
    ),
)
@pytest.mark.parametrize("late", (0, 0.05, -0.05))
def test_a_rhythm_is_heard_to_swing_where_it_plainly_does(hats, ratio, late):
    rolls = drums(*hats, late=late, spread=0.1)[:, 4:]
    heard = clear_swing(*rolls, BarGrid.four_four(28, 4))
    assert np.isnan(heard) if ratio is None else heard == pytest.approx(ratio, abs=0.03)


def test_few_off_beats_and_such_of_two_minds_are_no_swing():
    both, few, no_beat = (drums(0, TRIPLET) for _ in range(3))
    both[:, 4:8], both[:, 20:24] = drums(0, 0.5)[:, 4:8], drums(0, 0.5)[:, 4:8]  # two beats of eight
    few[:, 12:] = 0
    no_beat[:, ::4] = 0
    for rolls in (both, few, no_beat):
        assert np.isnan(clear_swing(*rolls, GRID))


# ---- asked for


@pytest.mark.parametrize("heard", (0.5, 0.58, TRIPLET, 0.72))
@pytest.mark.parametrize("asked", (STRAIGHT, 0.56, TRIPLET, MOST_SWING))
def test_what_is_asked_for_is_got_and_the_beat_and_the_spread_stay(heard, asked):
    before = drums(0, heard, spread=0.12)
    after, heard = bent(before, asked), swing_of(*before, GRID)
    assert swing_of(*after, GRID) == pytest.approx(asked, abs=1e-5)
    assert places(after, KICK) == places(before, KICK)
    off = [[u for u in places(rolls) if u > 0.2] for rolls in (before, after)]
    np.testing.assert_allclose(np.subtract(off[1], off[0]), asked - heard, atol=1e-6)
    np.testing.assert_array_equal(np.sort(after[1], 0), np.sort(before[1], 0))  # as loud, elsewhere


def test_sixteenths_keep_their_order_and_none_is_lost():
    before = drums(0, 0.25, 0.5, 0.75)
    for asked in (0.55, 0.6, TRIPLET, MOST_SWING):
        after = bent(before, asked)
        u = np.reshape(places(after), (-1, 4))
        assert (np.diff(u) > 0).all() and (GRID.sums(after[0], 0) == GRID.sums(before[0], 0)).all()
        half_way = (asked - 0.5) / 2
        np.testing.assert_allclose(u[:, [1, 3]], np.broadcast_to([0.25, 0.75], (8, 2)) + half_way, atol=1e-6)
        np.testing.assert_allclose(u[:, 2], min(asked, 0.625), atol=1e-6)  # at the edge of its own step
    close = drums(0, 0.37, 0.385, 0.72)  # the second would come into the step of the first
    u = np.reshape(places(bent(close, 0.5)), (-1, 4))
    assert (np.diff(u) > 0).all() and u[:, 2] == pytest.approx(0.375)
    alone = drums(0, 0.5)
    alone[:, 3::4, SNARE] = np.array([1, 0.4, 0])[:, None]  # another voice on the last sixteenth: no matter
    np.testing.assert_allclose([u for u in places(bent(alone, TRIPLET)) if u > 0], TRIPLET, atol=1e-6)


@pytest.mark.parametrize("most, one", ((TRIPLET, 0.5), (0.5, TRIPLET)))
def test_a_beat_of_another_mind_is_bent_from_there(most, one):
    before = drums(0, most)
    before[:, 12:16] = drums(0, one)[:, 12:16]
    for asked in (0.5, 0.6, TRIPLET):
        off = [u for u in places(bent(before, asked)) if u > 0.2]
        np.testing.assert_allclose(off, asked, atol=1e-6)
    alone = drums(0, 0.5)
    alone[:, 12:16] = drums(0, 0.75)[:, 12:16]  # the last sixteenth of a straight beat is no off-beat
    assert places(bent(alone, 0.5)) == places(alone)


def test_a_bar_of_which_nothing_is_asked_stays_to_the_bit():
    before = drums(0, 0.55, spread=0.1, late=0.03)
    after = bent(before, [np.nan, TRIPLET])
    for old, new in zip(before, after):
        assert np.array_equal(old[:16], new[:16]) and not np.array_equal(old[16:], new[16:])


def test_closed_cells_neither_move_nor_are_moved_into():
    before, closed = drums(0, 0.5), np.zeros((32, 9), bool)
    closed[:16, HAT], closed[19, HAT] = True, True  # a known bar, and a step that stays silent
    after = bent(before, TRIPLET, closed)
    assert all(np.array_equal(old[:16], new[:16]) for old, new in zip(before, after))
    off = [u for u in places([roll[16:] for roll in after]) if u > 0.2]
    np.testing.assert_allclose(off, [0.625, *[TRIPLET] * 3], atol=1e-6)


def test_what_two_hands_can_play_they_still_can():
    before = drums(0.5, 0.75)
    before[:, [2, 18], SNARE] = np.array([1, 0.7, 0])[:, None]
    before[:, 3::4, VOICES.index("ride")] = np.array([1, 0.7, 0])[:, None]
    limit = np.full((32, 1, 9), 9)
    limit[:, 0, 1:] = 2  # of all but the kick
    after, free = bent(before, TRIPLET, limit=limit), bent(before, TRIPLET)
    assert (before[0][:, 1:].sum(1) <= 2).all() and (after[0][:, 1:].sum(1) <= 2).all()
    assert (free[0][:, 1:].sum(1) > 2).any() and after[0].sum() == before[0].sum()


# ---- by every door


def rhythm(ratio=TRIPLET, bars=2):
    rolls = drums(0, ratio, n_steps=16 * bars)
    heard = np.zeros_like(rolls)
    heard[..., 3] = rolls[..., HAT]
    return [torch.from_numpy(roll)[None] for roll in heard]


def test_generate_bends_what_it_draws_and_nothing_else(model):
    def drawn(**more):
        rolls = generate(*rhythm(), *UNSET, 32, model=model, seed=1, num_samples=2, **more)
        return [roll.numpy() for roll in rolls]

    plain, closed = drawn(), np.zeros((32, 9), bool)
    for old, new in zip(plain, drawn(swing=None)):
        assert np.array_equal(old, new)
    expected = [bend(*version, GRID, [0.7, 0.55], closed) for version in zip(*plain)]
    for roll, own in zip(drawn(swing=[0.7, 0.55]), zip(*expected)):
        assert np.array_equal(roll, np.stack(own))
    as_heard, same = drawn(swing="rhythm"), drawn(swing=swing_of(*(r[0].numpy() for r in rhythm()), GRID))
    assert all(map(np.array_equal, as_heard, same))
    kick = [np.where(np.arange(9) == KICK, roll, 0) for roll in drums(0, 0.5)]
    kick[0][6, KICK], kick[1][6, KICK], kick[2][6, KICK] = 1, 0.8, 0.1
    locked = drawn(lock="kick", drums=[roll[None] for roll in kick], swing=0.7)
    assert all((roll[..., KICK] == own[:, KICK]).all() for roll, own in zip(locked, kick))


def test_humanised_drums_swing_with_all_their_hits(model):
    swung = humanise([roll[None] for roll in drums(0, 0.5)], model=model, seed=1, swing=0.7)
    swung = [roll[0].numpy() for roll in swung]
    assert swing_of(*swung, GRID) == pytest.approx(0.7, abs=0.03)
    assert (GRID.sums(swung[0], 0) == GRID.sums(drums(0, 0.5)[0], 0)).all()


def test_a_jam_swings_from_the_next_bar_on(model):
    """The first bars as generate has them; what has been drawn for so long is what the ratio is heard in."""
    one = {"model": model, "seed": 1}
    plain = generate(*rhythm(bars=4), *UNSET, 64, **one)
    bars = Jam(*rhythm(bars=4), **one)
    assert all(torch.equal(a, b[:, :16]) for a, b in zip(next(bars), plain))
    bars.change(swing=0.7)
    here, grid, nothing = slice(16, 32), BarGrid.four_four(32, 4), np.zeros((32, 9), bool)
    expected = bend(*(roll[0, :32].numpy() for roll in plain), grid, [0.7, 0.7], nothing)
    for roll, own in zip(next(bars), expected):
        assert np.array_equal(roll[0], own[here])
    bars.change(swing="rhythm")
    assert bars._ratio() == pytest.approx(TRIPLET)
    bars.change(swing=None)
    assert all(torch.equal(a, b[:, 48:]) for a, b in zip([next(bars), next(bars)][1], plain))


def test_a_jam_swings_in_bars_of_several_lengths_as_it_has_drawn_the_last_ones(model):
    meters = ["4/4", "3/4"]
    plain, swung = (Jam(model=model, seed=1, meter=meters, swing=swing) for swing in (None, 0.7))
    drawn = []
    for number in range(SWING_BARS + 2):
        drawn.append([roll[0].numpy() for roll in next(plain)])
        last = drawn[-SWING_BARS:]
        rolls = [np.concatenate(parts) for parts in zip(*last)]
        grid = BarGrid.of([meters[bar % 2] for bar in range(number + 1)][-SWING_BARS:])
        nothing = np.zeros(rolls[0].shape, bool)
        expected = bend(*rolls, grid, np.full(grid.n_bars, 0.7), nothing)
        for roll, own in zip(next(swung), expected):
            assert np.array_equal(roll[0], own[-grid.lengths[-1] :])


def test_the_receipt_says_what_was_asked_and_what_was_got(model, tmp_path):
    song = {"sections": [{"bars": 2, "swing": TRIPLET}, {"bars": 1}, {"bars": 1, "swing": "rhythm"}]}
    path = write_midi(
        tmp_path / "tap.mid", {"tap": [(q + u, 60, 90) for q in range(16) for u in (0, 0.6)]}, 120.0
    )
    take = play(path, song=song, model=model, seed=2)
    rows = take.receipt.swing
    assert [row["bars"] for row in rows] == [1, 2, 1]
    np.testing.assert_allclose([row["asked"] for row in rows], [0.6, TRIPLET, np.nan], atol=0.003)
    take.receipt.save(tmp_path / "receipt.json")
    data = json.loads((tmp_path / "receipt.json").read_text())["swing"]
    assert data[2]["asked"] is None and data[1] == {
        "asked": 0.6667,
        "got": pytest.approx(rows[1]["got"], abs=1e-4),
        "bars": 2,
    }
    same = generate(**read_song(song).arguments(take.rhythm, model), seed=2)
    assert all(torch.equal(a, b) for a, b in zip(same, take))
    asked, _ = Request(bars=2, swing="0.6,-").asked(model.grid(32))
    receipt = Receipt(bent(drums(0, 0.5), [0.6, np.nan]), asked, model)
    assert receipt.table().splitlines()[-2] == "swing: 0.6 asked, 0.6 got"
    assert "swing" not in Receipt(drums(0, 0.5), None, model).table()


def test_play_hears_swing_and_bends_what_answers_no_tap(model, tmp_path):
    tap = rhythm()
    for roll in tap:
        roll[:, 4:16] = 0  # the first bar has a shuffled beat and a rest
    one = {"model": model, "seed": 1}
    as_drawn, take = play(tap, swing="-", **one), play(tap, **one)
    assert all(map(torch.equal, as_drawn, generate(*tap, *UNSET, 32, **one)))
    answers = (tap[0][0] > 0).any(-1, keepdim=True).numpy() & (as_drawn.onset[0] > 0).numpy()
    assert answers.any()
    expected = bend(*(roll[0].numpy() for roll in as_drawn), GRID, [TRIPLET] * 2, answers)
    for roll, own, before in zip(take, expected, as_drawn):
        np.testing.assert_allclose(roll[0], own, atol=1e-6)
        assert torch.equal(roll[0][answers], before[0][answers])
    assert not torch.equal(take.time, as_drawn.time)
    assert take.receipt.dials["swing"] == "0.67, heard from the rhythm"
    assert "swing 0.67, heard from the rhythm" in take.receipt.table()

    song = play(tap, song={"sections": [{"bars": 2}]}, **one)
    assert song.receipt.dials["swing"] == take.receipt.dials["swing"]
    for other in ({"swing": 0.5}, {"song": {"sections": [{"bars": 1, "swing": 0.6}, {"bars": 1}]}}):
        assert "heard" not in str(play(tap, **other, **one).receipt.dials)
    for other in ({"follow": "free"}, {"timing": 0}, {"feel": {"timing": 0.5}}):
        assert "swing" not in play(tap, **other, **one).receipt.dials

    notes = {"tap": [(beat + u, 60, 90) for beat in range(8) for u in (0, TRIPLET)]}
    said = []
    perform(Request(rhythm=write_midi(tmp_path / "tap.mid", notes, 120.0), seed=1), model, said.append)
    assert "  swing 0.67, heard from the rhythm; --swing - plays it as drawn" in said[:3]


def test_to_a_straight_rhythm_all_stays_to_the_bit(model):
    one = {"model": model, "seed": 1}
    plain, take = generate(*rhythm(0.5), *UNSET, 32, **one), play(rhythm(0.5), **one)
    assert all(map(torch.equal, plain, take)) and "swing" not in take.receipt.dials


@pytest.mark.parametrize("wrong", (0.4, 0.8, "fast", True, [0.6, "x"]))
def test_what_is_no_ratio_is_refused_in_a_sentence(model, wrong):
    with pytest.raises(ValueError, match="swing: .*from 0.5, straight, past 0.667, triplets, to 0.75"):
        generate(*rhythm(), *UNSET, 32, model=model, swing=wrong)
    with pytest.raises(ValueError, match="swing: .*3 values for 2 bars"):
        generate(*rhythm(), *UNSET, 32, model=model, swing=[0.6, 0.6, 0.6])
