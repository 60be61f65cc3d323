"""The part `meters`: windows read in two ways, what is on their downbeats, and where off-beats lie."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from data_aug import RHYTHM_KEYS, make_batch
from model.bars import BarGrid
from model.batch_bars import BatchGrid
from tests.helpers.drum_windows import NORMALIZE, data_config, hits
from tests.helpers.evaluation_windows import CLOSED, CRASH, KICK, RIDE, rolls, values, windows_in
from tests.helpers.inference_helpers import build_tiny_model
from utils.corpus.cache import Cache, bars_of
from utils.evaluation import meters
from utils.evaluation.parts import CUT, DOWNBEATS, METERS, OFF_BEATS, SWING
from utils.evaluation.player import Player
from utils.evaluation.sets import Sets
from utils.midi.drums import STYLES, voice_index

THREE, FIVE = ["3/4"] * 9, ["5/4"] * 8
TRIPLET = 2 / 3


@pytest.fixture(scope="module")
def sets():
    """A waltz and a tune in 5/4 in the training split, one in 4/4 and 2/4 in validation: random hits."""
    rng, files, start, drums = np.random.default_rng(2), [], 0, []
    songs = (THREE, "train"), (FIVE, "train"), (["4/4", "2/4", *["4/4"] * 4, "2/4", "4/4"], "validation")
    for index, (bars, split) in enumerate(songs):
        grid = BarGrid.of(bars)
        about = {"name": f"{index}.mid", "split": split, "style": index, "bpm": 120.0, "beat_type": "beat"}
        files.append(about | {"start": start, "n_steps": grid.n_steps, "bars": bars_of(grid)})
        start += grid.n_steps
        drums.append(hits(rng, grid.n_steps))
    vel, offset = (np.concatenate(part) for part in zip(*drums))
    cache = Cache(vel=vel, offset=offset, files=files, normalize_factor=NORMALIZE, settings={}, report={})
    return SimpleNamespace(cache=cache, data=data_config(), normalize_factor=NORMALIZE)


def four_four(*drums, styles=None):
    """Windows of drums, (1, T, 9) each, with the tap that is theirs."""
    parts = [np.concatenate(part) for part in zip(*drums)]
    style, mask = np.array(styles or [0] * len(drums)), np.ones(parts[0].shape[:2], bool)
    return windows_in(make_batch(parts[1], parts[2], mask, style, data_config(), NORMALIZE))


# ---- in their meter and as 4/4


def test_windows_begin_and_end_on_bar_lines_of_both_readings(sets):
    assert meters.spans(BarGrid.of(THREE).lines) == [(0, 48), (48, 96)]
    assert meters.spans(BarGrid.of(FIVE).lines) == [(0, 80), (80, 160)]
    assert meters.spans(BarGrid.of(["4/4", "2/4", *["4/4"] * 9]).lines) == []
    both, too_long = meters.windows_in_meters(sets, "train", 32)
    assert [(len(of), of.grid.lengths) for of in both] == [(2, (12,) * 4), (2, (20,) * 4)] and not too_long
    (waltz,), too_long = meters.windows_in_meters(sets, "train", 16)
    assert too_long == 1 and waltz.performance.tolist() == [0, 0]
    vel = sets.cache.vel[:96].reshape(2, 48, 9)
    np.testing.assert_array_equal(np.rint(waltz.rolls[1] * 127), vel)
    (mixed,), _ = meters.windows_in_meters(sets, "validation", 16)
    assert mixed.grid.lengths == (16, 8, 16, 16, 16, 16, 8)


def test_as_four_four_the_drums_are_the_same_and_the_bars_are_not(sets):
    (waltz, _), _ = meters.windows_in_meters(sets, "train", 32)
    four = meters.as_four_four(waltz, sets)
    assert all(map(np.array_equal, waltz.rolls, four.rolls))
    assert BatchGrid.in_batch(four.batch) is None and four.grid.lengths == (16,) * 3
    assert BatchGrid.in_batch(waltz.batch).rows()[0].lengths == (12,) * 4
    density = waltz.batch["density"].numpy() * NORMALIZE["density"][1] + NORMALIZE["density"][0]
    np.testing.assert_allclose(density[0, :12], (waltz.rolls[0][0, :12]).mean(), rtol=1e-5)


def test_each_reading_has_its_nats_and_the_difference_is_the_cost(sets, tiny_config):
    model = build_tiny_model(tiny_config).eval()
    found, _ = meters.windows_in_meters(sets, "train", 32)
    rows = {row: values(METERS, of) for row, of in meters.read_rows(model, found, sets).items()}
    own, four = (rows[f"{how}, controls unset"] for how in ("in their meter", "as 4/4"))
    assert own["onset, per step"] != four["onset, per step"] and own["files"] == 2
    assert four["cost"] == pytest.approx(four["onset, per step"] - own["onset, per step"], abs=1e-5)
    played = Player(model, 2, 0)
    batch, steps = found[0].batch, found[0].grid.n_steps
    three, four = (played.play(batch, 1, "", grid=grid)[0] for grid in (found[0].grid, None))
    assert three.shape == four.shape == (1, 2, steps, 9) and not np.array_equal(three, four)


def test_what_is_on_the_downbeat_is_counted_in_the_real_bars():
    windows = four_four(rolls(24, (0, KICK, 0.5, 0)))
    windows.grid = BarGrid.of(["3/4"] * 2)
    hits = (0, KICK, 1, 0), (11, KICK, 1, 0.4), (12, CRASH, 1, -0.2), (16, CRASH, 1, -0.2)
    onset, _, offset = (np.concatenate([roll[None]] * 2) for roll in rolls(24, *hits))
    got = values(DOWNBEATS, meters.downbeat_sums(onset > 0, offset, windows))
    assert list(got.values()) == [0.5, 0.5, 1, 0.25]


def test_a_bar_that_is_cut_keeps_its_downbeat_and_its_fill(sets):
    toms = [(step, voice_index("floor_tom"), 0.6, 0) for step in (28, 30)]
    quarters = [(step, KICK, (step + 1) / 100, 0) for step in range(0, 64, 4)]
    cut = meters.cut_to_three(four_four(rolls(64, *quarters, *toms)), sets)
    kicks = np.rint(cut.rolls[1][0, ::4, KICK] * 100) - 1
    assert cut.grid.lengths == (12,) * 4
    assert kicks.tolist() == [0, 4, 8, 16, 24, 28, 32, 36, 40, 48, 52, 56]


def test_another_checkpoint_stands_beside_bars_that_are_cut(tiny_config):
    """It is read with controls in its own units."""
    model, other = (build_tiny_model(tiny_config).eval() for _ in range(2))
    other.normalize_factor = other.normalize_factor | {"density": [0.2, 0.1]}
    vel, offset = hits(np.random.default_rng(3), 128)
    file = {"name": "a.mid", "split": "test", "style": 0, "bpm": 120.0, "beat_type": "beat", "start": 0}
    about = {"files": [file | {"n_steps": 128}], "normalize_factor": NORMALIZE, "settings": {}, "report": {}}
    cache = Cache(vel=vel, offset=offset, **about)
    sets = Sets(cache, "test", data_config(), model.normalize_factor)
    rows = meters.cut_rows(model, sets)
    meters.beside_it(rows, meters.cut_rows(other, sets.read_for(other)))
    got, row = {row: values(CUT, sums) for row, sums in rows.items()}, "cut to 3/4, true controls"
    both = (got[name]["onset, per step"] for name in (f"{row}, the other checkpoint", row))
    fewer = "onset, fewer than the other"
    assert got[row][fewer] == pytest.approx(np.subtract(*both), abs=1e-6) and abs(got[row][fewer]) > 1e-5
    assert got["cut to 3/4, controls unset"][fewer] == pytest.approx(0, abs=1e-6)


# ---- swing


def beats(place, voice=CLOSED, straight=(), n_beats=16):
    """Kicks on the beats and a voice at u = place of each, at .5 of the beats `straight`."""
    drums = []
    for beat in range(n_beats):
        off = 4 * (0.5 if beat in straight else place)
        step = round(off)
        drums += [(4 * beat, KICK, 0.9, 0), (4 * beat + step, voice, 0.5, off - step)]
    return rolls(4 * n_beats, *drums)


def test_off_beats_that_answer_no_tap_are_looked_at_by_themselves():
    jazz, funk = STYLES.index("jazz"), STYLES.index("funk")
    windows = four_four(beats(TRIPLET), beats(0.5, RIDE), styles=[jazz, funk])
    strays = [beats(TRIPLET, straight=range(1, 16, 2)), beats(0.5, RIDE)]
    own, sparse = (
        [np.concatenate(part)[None] for part in zip(*of)] for of in ([beats(0.6), beats(0.5)], strays)
    )
    rows = meters.off_beat_rows(windows, own, sparse)
    got = {row: values(OFF_BEATS, of) for row, of in rows.items()}
    for group, style in (("files that swing", "jazz"), ("straight files", "funk")):
        assert got[group] == pytest.approx(got[style], nan_ok=True)
    assert got["jazz"]["ratio"] == pytest.approx(0.6) and got["jazz"]["nearer to thirds"] == 1
    untapped = got["files that swing, untapped"]
    assert untapped["ratio, real"] == pytest.approx(TRIPLET) and untapped["nearer to thirds, real"] == 1
    assert untapped["ratio"] == 0.5 and untapped["nearer to thirds"] == 0 and untapped["hits / real"] == 1
    for way in ("as heard", "--swing rhythm"):
        mended = got[f"files that swing, untapped, {way}"]
        assert mended["ratio"] == pytest.approx(TRIPLET) and mended["nearer to thirds"] == 1
        assert got[f"straight files, untapped, {way}"]["ratio"] == pytest.approx(0.5)
    of_style = got["jazz, untapped, as heard"]
    assert of_style == pytest.approx(got["files that swing, untapped, as heard"], nan_ok=True)


def test_the_thinned_tap_has_nothing_after_every_other_beat():
    batch = meters.thinned(four_four(beats(TRIPLET)))
    assert torch.nonzero(batch[RHYTHM_KEYS[0]][0].sum(-1))[:6, 0].tolist() == [0, 3, 4, 8, 11, 12]


def test_swing_is_asked_of_each_window_and_got():
    windows = four_four(*[beats(place) for place in (0.5, 0.55, 0.6, TRIPLET, 0.7, 0.5)], beats(0.1))
    row = meters.swing_sums(windows, [roll[None] for roll in windows.rolls])
    assert values(SWING, row) == {"rho": pytest.approx(1), "mean error": pytest.approx(0, abs=1e-5)}
    assert row["error"][:, 0, 1].sum() == 6  # the last window has no off-beat
