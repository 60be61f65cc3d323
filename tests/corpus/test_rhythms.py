"""The made rhythms against those that people bring: the tables of how people tap, and of bass parts.

The last column is printed by: pytest -s tests/corpus/test_rhythms.py
"""

import numpy as np
import pytest

from data_aug import DrumBatches, simplify
from model.bars import BarGrid
from preprocessing import preprocess
from tests.helpers.drum_windows import (
    T,
    batch_of,
    data_config,
    rhythm_of,
    twelve_performances,
    windows_of_hits,
)
from utils.corpus import augment, rhythms
from utils.midi.drums import voice_index

KICK, SNARE = voice_index("kick"), voice_index("snare")
HATS = [voice_index(name) for name in ("closed_hat", "open_hat", "ride")]
GRID = BarGrid.four_four_bars(4, 4)


def share(of, among):
    return float((of & among).sum() / among.sum())


def statistics_of_taps(vel, offset, tap_vel, tap_offset, mask, step_ms):
    """The rows of the table of taps; a step counts as tapped if a tap falls on it, or beside it where no
    drum is."""
    played, tapped = vel > 0, tap_vel > 0
    hit = played.any(2)
    loudest, drums_offset = augment.loudest(vel, offset)
    beside = tapped & ~hit
    here = tapped.copy()
    here[:, 1:] |= beside[:, :-1]
    here[:, :-1] |= beside[:, 1:]
    here &= hit
    kick, snare = played[..., KICK], played[..., SNARE]
    alone = played[..., HATS].any(2) & (played.sum(2) == played[..., HATS].sum(2))
    in_beat = np.arange(vel.shape[1]) % 4
    rows = {"all": share(here, hit), "kick": share(here, kick), "snare": share(here, snare)}
    rows["hats alone"] = share(here, alone)
    for place, name in enumerate("1 e and a".split()):
        rows[f"hats alone, {name}"] = share(here, alone & (in_beat == place))
    rows["softest"] = share(here, hit & (loudest < 0.3))
    rows["loudest"] = share(here, hit & (loudest > 0.7))
    rows["no drum"] = share(~hit, tapped)
    both = tapped & hit
    late = ((tap_offset - drums_offset) * step_ms[:, None])[both]
    rows["median ms"], rows["deviation ms"] = float(np.median(late)), float(late.std())
    rows["velocity"], rows["its deviation"] = float(tap_vel[tapped].mean()), float(tap_vel[tapped].std())
    rows["correlation"] = float(np.corrcoef(tap_vel[both], loudest[both])[0, 1])
    return rows


NAMES = (
    "all",
    "kick",
    "snare",
    "hats alone",
    "hats alone, 1",
    "hats alone, e",
    "hats alone, and",
    "hats alone, a",
    "softest",
    "loudest",
    "no drum",
    "median ms",
    "deviation ms",
    "velocity",
    "its deviation",
    "correlation",
)
SIMPLE = (0.66, 0.83, 0.82, 0.32, 0.50, 0.19, 0.31, 0.30, 0.46, 0.86, 0.08, 8, 33, 0.52, 0.23, 0.47)
COMPLEX = (0.86, 0.92, 0.92, 0.74, 0.82, 0.63, 0.78, 0.69, 0.77, 0.94, 0.10, 6, 35, 0.47, 0.24, 0.49)
BOUNDS = {"median ms": 5, "deviation ms": 6}  # of others 0.08


@pytest.fixture(scope="module")
def drums(groove_zip, groove_cache, config):
    """Windows of the training split, two bars long: vel, offset, mask, bpm."""
    config = config.model_copy(deep=True)
    config.Data.corpus, config.Data.cache_dir = str(groove_zip), str(groove_cache)
    config.Data.preprocess_workers = 1
    cache = preprocess(config)
    batches = DrumBatches(cache, "train", config.Data, 1 << 20, augment=False, hop_bars=8)
    some = np.random.default_rng(0).choice(len(batches.start), 1000, replace=False)
    return *(batches[0][name].numpy()[some] for name in ("vel", "timeoffset", "mask")), batches.bpm[some]


def made_of(drums, make, seed=1):
    vel, offset, mask, bpm = drums
    places = rhythms.Places.of(GRID, mask.shape)
    return make(vel, offset, mask, places, 15000 / bpm, np.random.default_rng(seed))


@pytest.mark.parametrize("detail", (0.0, 1.0))
def test_hands_are_those_of_people(drums, detail, monkeypatch):
    table = dict(zip(NAMES, COMPLEX if detail else SIMPLE))
    simple, complex_ = rhythms.SIMPLE, rhythms.COMPLEX
    one = complex_ if detail else simple
    monkeypatch.setattr(rhythms, "SIMPLE", one)
    monkeypatch.setattr(rhythms, "COMPLEX", one)
    vel, offset, mask, bpm = drums
    made = statistics_of_taps(vel, offset, *made_of(drums, rhythms.hands), mask, 15000 / bpm)
    print(f"\n{'statistic':20}{'people':>8}{'made':>8}   hands, {'complex' if detail else 'simple'}")
    for name, people in table.items():
        print(f"{name:20}{people:8.2f}{made[name]:8.2f}")
    for name, people in table.items():
        assert abs(made[name] - people) <= BOUNDS.get(name, 0.08), name


# median and quartiles of 15 songs
PARTS = {
    "onsets a bar": (5.9, 4.4, 7.1),
    "onsets on a kick": (0.46, 0.37, 0.58),
    "kicks on an onset": (0.78, 0.55, 0.86),
    "onsets on a hit": (0.96, 0.89, 0.99),
    "onsets on eighths": (0.92, 0.75, 0.99),
    "onsets on quarters": (0.49, 0.39, 0.58),
    "bars that begin with one": (1.0, 0.8, 1.0),
    "likeness to the bar before": (0.91, 0.72, 0.94),
    "silent bars": (0.05, 0.01, 0.15),
    "offset deviation, steps": (0.03, 0.0, 0.08),
    "velocity": (97 / 127, 0.6, 0.9),
    "its deviation": (7 / 127, 0.0, 0.12),
}


def statistics_of_parts(vel, part_vel, part_offset):
    """{name: (windows,)}, NaN where a window has none."""
    onset = part_vel > 0
    hit, kick = (vel > 0).any(2), vel[..., KICK] > 0
    step, bars = np.arange(vel.shape[1]), onset.reshape(len(onset), -1, 16)

    def over(a, b):
        return np.where(b > 0, a / np.maximum(b, 1), np.nan)

    n, counts = onset.sum(1), bars.sum(2)
    shared = 2 * (bars[:, 1:] & bars[:, :-1]).sum(2)
    likeness = over(shared, counts[:, 1:] + counts[:, :-1])
    loud = np.where(onset, part_vel, np.nan)
    with np.errstate(all="ignore"):
        columns = (
            counts.mean(1),
            over((onset & kick).sum(1), n),
            over((onset & kick).sum(1), kick.sum(1)),
            over((onset & hit).sum(1), n),
            over((onset & (step % 2 == 0)).sum(1), n),
            over((onset & (step % 4 == 0)).sum(1), n),
            over(bars[:, :, 0].sum(1), (counts > 0).sum(1)),
            np.array([np.nanmean(row) if not np.isnan(row).all() else np.nan for row in likeness]),
            (counts == 0).mean(1),
            np.array([row[there].std() if there.any() else np.nan for row, there in zip(part_offset, onset)]),
            np.array([np.nanmean(row) if there.any() else np.nan for row, there in zip(loud, onset)]),
            np.array([np.nanstd(row) if there.any() else np.nan for row, there in zip(loud, onset)]),
        )
    return dict(zip(PARTS, columns))


def test_parts_lie_to_the_drums_as_people_play_them(drums):
    """Parts are meant to be more various than basses are: sparse ones too. The medians are near."""
    vel, _, mask, _ = drums
    whole = mask.all(1)
    made = statistics_of_parts(vel[whole], *(roll[whole] for roll in made_of(drums, rhythms.parts)))
    print(f"\n{'statistic':28}{'people: median, quartiles':>28}{'made':>24}")
    for name, people in PARTS.items():
        quartiles = np.nanpercentile(made[name], [50, 25, 75])
        print(f"{name:28}{people[0]:12.2f}{people[1]:8.2f}{people[2]:8.2f}   {'':3}", end="")
        print("".join(f"{value:8.2f}" for value in quartiles))
    for name, (_, low, high) in PARTS.items():
        room = 0.05 if high <= 1 else 0.5
        assert low - room <= np.nanmedian(made[name]) <= high + room, name
    assert (made["onsets a bar"] <= 2).mean() > 0.05  # a click, one note a bar
    followed = made["kicks on an onset"]
    assert (followed < 0.4).mean() > 0.08 and (followed > 0.9).mean() > 0.2


def test_nothing_is_drawn_where_they_have_no_weight():
    """So that a run of before gives the numbers that it gave."""
    rng = np.random.default_rng(3)
    before = rng.bit_generator.state
    weights = data_config().rhythm_source
    assert rhythms.draw_kinds(8, weights, rng) is None
    assert rng.bit_generator.state == before


@pytest.mark.parametrize("source", ("hands", "part"))
def test_a_made_rhythm_is_one_and_its_kind_is_told(source):
    vel, offset, mask = windows_of_hits()
    mask[5, 40:] = False
    vel[5, 40:], offset[5, 40:] = 0, 0
    batch = batch_of(data_config(rhythm_source={"loudest": 0.0, source: 1.0}), (vel, offset, mask))
    onset, tap_vel, tap_offset = rhythm_of(batch)
    assert (batch["rhythm_is"] == rhythms.RHYTHM_KINDS.index(source)).all()
    assert ((onset > 0) == (tap_vel > 0)).all() and onset.any(1).mean() > 0.9
    assert tap_vel.max() <= 1 and (np.abs(tap_offset) <= 0.5).all() and not tap_offset[onset == 0].any()
    assert not onset[~mask].any()
    assert (onset != (vel > 0).any(2)).any(1).mean() > 0.9
    assert np.array_equal(batch["vel"].numpy(), vel)  # the drums stay


def test_kinds_come_by_their_weights_and_are_dropped():
    source = {"loudest": 0.5, "hands": 0.3, "part": 0.2}
    many = windows_of_hits(2000)
    kind = batch_of(data_config(rhythm_source=source), many)["rhythm_is"].numpy()
    assert (kind == kind[:, :1]).all()
    assert np.allclose(np.bincount(kind[:, 0], minlength=4) / 2000, [0.5, 0.3, 0.2, 0], atol=0.04)
    dropped = batch_of(data_config(rhythm_source=source, drop={"rhythm_is": 0.25}), many)["rhythm_is"].numpy()
    unset = dropped[:, 0] == len(rhythms.RHYTHM_KINDS)
    assert unset.mean() == pytest.approx(0.25, abs=0.04)


def pads_of(drop, source="hands", many=None):
    data = data_config(rhythm_source={"loudest": 0.0, source: 1.0}, drop=drop)
    return batch_of(data, many or windows_of_hits(400))


def test_hands_have_two_pads_where_they_tap_and_others_none():
    batch = pads_of({})
    pads, tapped = batch["pads"].numpy(), rhythm_of(batch)[0] > 0
    assert ((pads > 0) == tapped).all() and set(np.unique(pads)) == {0, 1, 2, 3}
    for other in (pads_of({"pads": 1.0}), pads_of({}, "part"), pads_of({"rhythm_is": 1.0})):
        assert not other["pads"].any()
    gone = (pads_of({"pads": 0.25})["pads"] == 0).all(1).numpy() & tapped.any(1)
    assert gone.mean() == pytest.approx(0.25, abs=0.07)


@pytest.mark.parametrize("changed", ({"drop": {"rhythm_tail": 1.0}}, {"augmentation": {"mask_steps": 1.0}}))
def test_a_tap_that_is_masked_or_dropped_is_on_no_pad(changed):
    data = data_config(rhythm_source={"loudest": 0.0, "hands": 1.0}, **changed)
    batch, whole = batch_of(data, windows_of_hits(100)), pads_of({}, many=windows_of_hits(100))
    tapped = rhythm_of(batch)[0] > 0
    assert ((batch["pads"].numpy() > 0) == tapped).all()
    assert 0.2 < tapped.sum() / (whole["pads"] > 0).sum() < 0.95


def test_pads_are_those_of_people(drums):
    """Kicks without a snare are struck on the higher pad in .66 to .81, snares without a kick in .63 to .71
    on the lower, and most people keep to one habit."""
    vel, _, mask, _ = drums
    tap_vel, _ = made_of(drums, rhythms.hands)
    pads = rhythms.struck(vel, tap_vel, rhythms.Places.of(GRID, mask.shape), np.random.default_rng(2))
    kick, snare = vel[..., KICK] > 0, vel[..., SNARE] > 0
    one = (pads == 1) | (pads == 2)
    high = [(pads == 2) & one & only for only in (kick & ~snare, snare & ~kick)]
    of = [one & only for only in (kick & ~snare, snare & ~kick)]
    assert 0.64 <= high[0].sum() / of[0].sum() <= 0.81
    assert 0.27 <= high[1].sum() / of[1].sum() <= 0.39
    there = (of[0].sum(1) > 2) & (of[1].sum(1) > 2)
    lean = (high[0].sum(1) / np.maximum(of[0].sum(1), 1) - high[1].sum(1) / np.maximum(of[1].sum(1), 1))[
        there
    ]
    assert 0.4 < (lean > 0.5).mean() < 0.7 and 0.05 < (lean < -0.3).mean() < 0.25
    assert (pads == 3).sum() / (pads > 0).sum() == pytest.approx(rhythms.BOTH_PADS, abs=0.02)


def test_a_hit_moves_to_the_step_that_it_is_nearest_to():
    vel, late = np.zeros((1, 8), np.float32), np.zeros((1, 8), np.float32)
    vel[0, [0, 2, 3, 7]] = 0.5, 0.9, 0.4, 0.6
    late[0, [0, 2, 3, 7]] = -0.7, 0.6, 0.1, 0.8
    new_vel, offset = rhythms.on_steps(vel, late, np.ones((1, 8), bool))
    assert np.allclose(new_vel[0], [0.5, 0, 0, 0.9, 0, 0, 0, 0.6])
    assert np.allclose(offset[0], [-0.5, 0, 0, -0.4, 0, 0, 0, 0.5])


def test_a_part_comes_again_in_every_bar_or_two():
    """A pattern, not noise: bars are as alike as those of basses are, whatever the drums are."""
    made = batch_of(data_config(rhythm_source={"loudest": 0.0, "part": 1.0}), windows_of_hits(500))
    onset = rhythm_of(made)[0].reshape(500, 4, 16) > 0

    def f1(lag):
        a, b = onset[:, lag:], onset[:, :-lag]
        return 2 * (a & b).sum() / (a.sum() + b.sum())

    assert f1(2) > 0.7 and f1(1) > 0.6


def test_plain_drums_keep_their_kicks_and_their_loudest_hits():
    vel, offset, mask = windows_of_hits(50)
    softest = np.full(50, 0.5, np.float32)
    softest[0] = 1
    new_vel, new_offset = augment.plain(vel, offset, softest)
    kick = np.arange(9) == KICK
    stays = (vel >= 0.5) | kick
    assert np.array_equal(new_vel[1:] > 0, (stays & (vel > 0))[1:]) and new_vel[0].any()
    assert np.array_equal(new_vel[new_vel > 0], vel[new_vel > 0]) and not new_offset[new_vel == 0].any()


def test_repeated_bars_are_one_or_two_of_the_window():
    vel, offset, _ = windows_of_hits(60)
    new_vel, new_offset = augment.repeat_bars(vel, offset, 16, np.random.default_rng(0))
    bars, new = vel.reshape(60, 4, 16, 9), new_vel.reshape(60, 4, 16, 9)
    assert np.array_equal(new[:, 2:], new[:, :2])
    one = (new[:, 0] == new[:, 1]).all((1, 2))
    assert 0.3 < one.mean() < 0.7
    for row in range(60):
        found = [n for n in range(4) if np.array_equal(bars[row, n], new[row, 0])]
        assert found and (one[row] or np.array_equal(bars[row, found[0] + 1], new[row, 1]))
    assert np.array_equal(new_offset > 0, (new_offset > 0) & (new_vel > 0))
    assert len(augment.repeat_bars(vel[:0], offset[:0], 16, np.random.default_rng(0))[0]) == 0


def test_plain_and_repeated_bars_are_what_the_controls_say():
    """They are augmentations of the drums: controls and rhythm are made of what is left."""
    plain = data_config(augmentation={"plain": 1.0, "repeat_bar": 1.0})
    batch = batch_of(plain, windows_of_hits(40))
    usual = batch_of(data_config(), windows_of_hits(40))
    assert batch["density"].mean() < usual["density"].mean()
    steady = batch["steady"][:, ::16]
    assert 0.3 < (steady[:, 1:] == 1).all(1).float().mean() < 0.7  # of one bar repeated
    assert np.array_equal(rhythm_of(batch)[0], batch["onset"].any(2).float().numpy())


def a_beat(ride=False, snare=True):
    """Two bars (1, 32, 9): eighths, a snare on two and four, ghost notes before it, a sixteenth of a hat."""
    vel = np.zeros((1, 32, 9), np.float32)
    vel[:, ::2, voice_index("ride") if ride else voice_index("closed_hat")] = 0.4
    vel[:, 7::16, voice_index("closed_hat")] = 0.7
    vel[:, ::16, KICK] = 0.3
    if snare:
        vel[:, 4::8, SNARE], vel[:, 3::8, SNARE] = 0.9, 0.2
    return vel


def test_a_beat_has_a_timekeeper_a_kick_and_a_backbeat_or_a_ride():
    beats = np.concatenate(
        [a_beat(), a_beat(ride=True, snare=False), a_beat(snare=False), a_beat(), a_beat()]
    )
    beats[3, :16, voice_index("closed_hat")] = 0
    beats[4, :, KICK] = 0
    assert augment.is_beat(beats).tolist() == [True, True, False, False, False]
    rolls = a_beat()
    rolls[:, ::2, SNARE] = 0.8
    assert not augment.is_beat(rolls)[0]


def test_a_simple_beat_has_eighths_and_no_ghost_notes():
    vel = a_beat()
    vel[:, 8, voice_index("ride")] = 0.2  # beside the hat
    simple, _ = augment.simple_beat(vel, np.zeros_like(vel))
    gone = (vel > 0) & (simple == 0)
    assert gone[0, 3::8, SNARE].all() and gone[0, 7::16, voice_index("closed_hat")].all() and gone.sum() == 7
    assert (simple[simple > 0] == vel[simple > 0]).all()


def test_a_part_comes_with_plain_drums_and_to_beats():
    vel = np.repeat(a_beat(), 200, 0)
    mask, rng = np.ones(vel.shape[:2], bool), np.random.default_rng(1)
    weights = dict(data_config().rhythm_source) | {"loudest": 0.5, "part": 0.5}
    kind = rhythms.draw_kinds(200, weights, rng)
    parts = kind == rhythms.PART
    assert 60 < parts.sum() < 140
    chance = data_config(part={"plain": 1.0}).part
    plain = vel.copy()
    simplify(plain, np.zeros_like(vel), mask, kind, chance, rng, np.ones(len(vel), bool))
    assert ((plain != vel).any((1, 2)) == parts).all()
    cache = twelve_performances()
    one = cache.files[6]["start"]
    cache.vel[one : one + T] = np.rint(np.concatenate((a_beat()[0],) * 2) * 127)
    data = data_config(rhythm_source={"loudest": 0, "part": 1}, part={"beats": 1.0})
    batches = DrumBatches(cache, "train", data, 8)
    assert [batches.start[beat] for beat in batches.beats] == [one]
    assert (batches[0]["vel"].numpy() == cache.vel[one : one + T] / np.float32(127)).all()
