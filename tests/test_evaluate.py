"""evaluate.py and its figures: each against a value worked out by hand, the command on a small corpus."""

import json
from math import isnan, log, sqrt
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from data_aug import RHYTHM_KEYS, swap_rhythm
from evaluate import main
from preprocessing import preprocess
from tests.helpers.inference_helpers import FACTOR, build_tiny_model
from tests.helpers.midi_files import beat, midi_bytes, note, write
from utils.checkpoints import save_checkpoint
from utils.evaluation import likeness as realism
from utils.evaluation import pictures as evaluation_pictures
from utils.evaluation import style_classifier
from utils.evaluation.baselines import copy_of_the_tap, onset_guesses, taps
from utils.evaluation.goals import GOALS
from utils.evaluation.parts import PARTS, Sets
from utils.evaluation.player import evaluation_windows, partners, rolls_of, teacher_forced, windows_of
from utils.evaluation.tap import hit_figures
from utils.midi.drums import VOICES, style_id
from utils.training.metrics import likelihood, unset_rhythm

KICK, SNARE, CLOSED, OPEN, RIDE = (
    VOICES.index(name) for name in ("kick", "snare", "closed_hat", "open_hat", "ride")
)


def rolls(n_steps, *hits):
    """onset, vel, timeoffset (1, n_steps, 9) of hits (step, voice, velocity, offset)."""
    onset, vel, timeoffset = (np.zeros((1, n_steps, 9), np.float32) for _ in range(3))
    for step, voice, velocity, offset in hits:
        onset[0, step, voice], vel[0, step, voice], timeoffset[0, step, voice] = 1, velocity, offset
    return onset, vel, timeoffset


# ------------------------------------------------------------------------- likeness


def test_kl_counts_sixteen_bins_and_adds_one():
    real, generated = [0.01, 0.05, 0.06, 1.0], [0.03, 0.99]
    # bins 0 and 15 of the real hold 3 + 1 and 1 + 1 of 20, of the generated 1 + 1 and 1 + 1 of 18
    by_hand = 4 / 20 * log((4 / 20) / (2 / 18)) + 2 / 20 * log((2 / 20) / (2 / 18)) + 14 / 20 * log(18 / 20)
    assert realism.kl_divergence(real, generated, low=0.0) == pytest.approx(by_hand)
    assert realism.kl_divergence(real, real, low=0.0) == 0
    # offsets: -0.5 and -0.44 share the first bin, 0.49 is in the last, -0.01 and 0.01 are not in one bin
    assert realism.kl_divergence([-0.5, 0.49], [-0.44, 0.45], low=-0.5) == 0
    assert realism.kl_divergence([-0.01], [0.01], low=-0.5) > 0


def test_steps_that_no_drummer_can_play_are_counted():
    onset, *_ = rolls(
        4,
        *((0, v, 1, 0) for v in (KICK, SNARE, CLOSED)),
        *((1, v, 1, 0) for v in (SNARE, CLOSED, RIDE)),
        *((2, v, 1, 0) for v in (OPEN, CLOSED)),
    )
    assert realism.crowded_share(onset) == 1 / 4
    assert realism.both_hats_share(onset) == 1 / 4


def test_spread_within_a_step_is_latest_minus_earliest():
    onset, _, timeoffset = rolls(
        4,
        (0, KICK, 1, -0.2),
        (0, SNARE, 1, 0.1),
        (0, CLOSED, 1, 0.0),
        (1, KICK, 1, 0.3),
        (1, RIDE, 1, 0.4),
        (2, KICK, 1, 0.45),
    )
    assert realism.offset_spread(onset, timeoffset) == pytest.approx((0.3 + 0.1) / 2, abs=1e-6)
    assert isnan(realism.offset_spread(onset[:, 2:], timeoffset[:, 2:]))


def test_description_of_drums():
    real = rolls(4, (0, RIDE, 0.4, 0.1), (1, RIDE, 0.6, -0.1), (2, KICK, 1.0, 0.25))
    assert realism.commonest_voices(real[0], 2) == [RIDE, KICK]
    figures = realism.describe(real, real)
    assert figures["onset rate"] == pytest.approx(3 / 36)
    assert figures["onset rate, ride"] == 0.5 and figures["onset rate, snare"] == 0
    assert figures["velocity mean"] == pytest.approx(2 / 3)
    assert figures["velocity mean, ride"] == pytest.approx(0.5)
    assert figures["velocity deviation, ride"] == pytest.approx(0.1)
    assert figures["offset deviation, ride"] == pytest.approx(0.1)
    assert figures["offset deviation, kick"] == 0 and isnan(figures["velocity mean, snare"])
    assert figures["velocity KL"] == figures["offset KL"] == 0
    silence = realism.describe(rolls(4), real)
    assert silence["onset rate"] == 0 and isnan(silence["velocity mean"]) and silence["velocity KL"] > 0


# ------------------------------------------------------------------------- answers and guesses


def test_onset_scores_and_tap_answers():
    real, *_ = rolls(8, (0, KICK, 1, 0), (0, CLOSED, 1, 0), (2, SNARE, 1, 0), (4, KICK, 1, 0))
    guess, *_ = rolls(8, (0, KICK, 1, 0), (2, SNARE, 1, 0), (3, RIDE, 1, 0))
    scores = realism.onset_scores(guess, real)
    assert scores == pytest.approx({"precision": 2 / 3, "recall": 1 / 2, "f1": 4 / 7})
    answers = realism.tap_answers(guess, taps(real))
    assert answers == pytest.approx({"taps answered": 2 / 3, "hits off the taps": 1 / 3})


# ------------------------------------------------------------------------- obedience


def test_spearman_shares_ranks_among_equals():
    # ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4
    assert realism.spearman([10, 20, 20, 90], [1, 3, 2, 4]) == pytest.approx(4.5 / sqrt(4.5 * 5))
    assert realism.spearman([1, 2, 3], [1, 10, 1000]) == pytest.approx(1)
    assert realism.spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert isnan(realism.spearman([1, 1, 1], [1, 2, 3])) and isnan(realism.spearman([1], [2]))


def test_adherence_compares_bars_in_a_musicians_units():
    # four bars: a snare short, a ride too many, a kick where silence is asked, silence where a hat is
    asked = rolls(64, (0, KICK, 1.0, 0), (4, SNARE, 0.5, 0), (16, KICK, 0.5, 0), (48, CLOSED, 1.0, 0))
    got = rolls(64, (2, KICK, 0.5, 0), (20, KICK, 0.25, 0), (24, RIDE, 0.25, 0), (32, KICK, 1.0, 0))
    figures = realism.adherence(asked, got, 16)
    assert figures["hits"]["error"] == pytest.approx(1) and figures["hits"]["asked"] == pytest.approx(1)
    assert figures["hits"]["spearman"] == pytest.approx(0)  # asked 2, 1, 0, 1; got 1, 2, 1, 0
    assert figures["velocity"]["error"] == pytest.approx(
        127 * 0.25
    )  # of the two bars with hits on both sides
    assert figures["velocity"]["asked"] == pytest.approx(127 * 0.625) and figures["velocity"]["spearman"] == 1
    for voice in ("kick", "snare", "closed_hat", "ride"):
        assert figures[voice]["error"] == pytest.approx(1 / 4)
    assert isnan(figures["crash"]["spearman"])


def test_rhythms_are_swapped_between_performances_only():
    for performance in ([0, 0, 0, 1, 1, 2], [0, 1], [5, 5, 5, 5, 5, 9], np.repeat([3, 7, 8], [40, 9, 12])):
        performance = np.array(performance)
        assert (performance[partners(performance)] != performance).all()
    assert partners(np.array([0, 0, 1, 1])).tolist() == [2, 3, 0, 1]
    with pytest.raises(ValueError, match="windows of two at least"):
        partners(np.array([4, 4, 4]))


# ------------------------------------------------------------------------- a small corpus, a small model


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a corpus in corpus/: in test two performances of a beat (3 windows) and a fill."""
    home = tmp_path_factory.mktemp("evaluate")
    rides = [event for quarter in range(48) for event in note(quarter * 480 + 240, 51, 40 + quarter)]
    files = {
        "a.mid": (beat(bars=9), "funk", "train", "beat"),
        "b.mid": (beat(bars=4, velocity=60) + note(120, 46, 30), "rock", "validation", "beat"),
        "c.mid": (beat(bars=9), "funk/groove1", "test", "beat"),
        "d.mid": (rides[: 2 * 16], "jazz", "test", "beat"),
        "e.mid": (beat(bars=4), "rock", "test", "fill"),
    }
    rows = [f"{name},{style},{split},{kind}" for name, (_, style, split, kind) in files.items()]
    table = "\n".join(["midi_filename,style,split,beat_type", *rows, ""])
    midi = {name: midi_bytes(events) for name, (events, *_) in files.items()}
    write(home / "corpus", midi | {"info.csv": table})
    return home


@pytest.fixture(scope="module")
def small(home, tiny_config):
    """The tiny config with its places in `home`, and the statistics a checkpoint's config has."""
    mine = tiny_config.model_copy(deep=True)
    mine.Data.corpus, mine.Data.cache_dir = str(home / "corpus"), str(home / "cache")
    mine.Data.normalize_factor = FACTOR
    return mine


@pytest.fixture(scope="module")
def cache(small):
    return preprocess(small)


def test_windows_are_of_beats_and_carry_the_checkpoints_statistics(cache, small):
    batch, performance = evaluation_windows(cache, "test", small.Data, FACTOR)
    assert [cache.files[index]["name"] for index in performance] == ["c.mid", "c.mid", "d.mid"]
    assert batch["style"][:, 0].tolist() == [style_id("funk"), style_id("funk"), style_id("jazz")]
    mean, deviation = FACTOR["density"]
    np.testing.assert_allclose(batch["density"][0], (8 / 144 - mean) / deviation, rtol=1e-5)
    assert batch["onset"].sum((1, 2)).tolist() == [32, 32, 16] and batch["mask"].all()
    part, performance = evaluation_windows(cache, "test", small.Data, FACTOR, 2)
    assert torch.equal(part["onset"], batch["onset"][[0, 2]]) and len(performance) == 2


def deafened(model):
    """The model that never uses what it hears of the rhythm."""
    hearing = model.forward
    model.forward = lambda batch: hearing(unset_rhythm(batch))
    return model.eval()


def test_a_deaf_model_loses_nothing_by_a_swap(cache, small):
    batch, performance = evaluation_windows(cache, "test", small.Data, FACTOR)
    heard = nats(build_tiny_model(small).eval(), batch, performance)
    assert heard["given_swapped"]["cost"] != 0 and heard["unset_latent_swapped"]["cost"] != 0
    assert heard["given_latent"]["onset"] != heard["given"]["onset"] != heard["unset"]["onset"]
    assert heard["given_swapped"]["cost"] == pytest.approx(
        heard["given_swapped"]["onset"] - heard["given"]["onset"]
    )
    swapped = swap_rhythm(batch, torch.from_numpy(partners(performance)))
    unheard = ("given_no_rhythm", "unset_no_rhythm")
    silent = likelihood(build_tiny_model(small).eval(), [swapped], torch.device("cpu"), unheard)
    for setting, scores in silent.items():
        assert scores == pytest.approx(heard[setting], rel=1e-5)
    deaf = nats(deafened(build_tiny_model(small)), batch, performance)
    for controls in ("given", "unset"):
        for rhythm in ("_latent", "_no_rhythm", "_swapped", "_latent_swapped"):
            assert deaf[controls + rhythm]["total"] == pytest.approx(deaf[controls]["total"]), rhythm
        assert deaf[f"{controls}_swapped"]["cost"] == pytest.approx(0, abs=1e-6)
    assert deaf["given"]["onset"] != deaf["unset"]["onset"]


def nats(model, batch, performance):
    """What teacher_forced gives, without the intervals."""
    figures = teacher_forced(model, batch, performance)
    assert all(
        of["low"] <= of["value"] <= of["high"] for scores in figures.values() for of in scores.values()
    )
    return {
        setting: {name: of["value"] for name, of in scores.items()} for setting, scores in figures.items()
    }


def test_swapping_takes_the_rhythm_of_the_window_named(cache, small):
    batch, performance = evaluation_windows(cache, "test", small.Data, FACTOR)
    swapped = swap_rhythm(batch, torch.from_numpy(partners(performance)))
    for name in RHYTHM_KEYS:
        assert torch.equal(swapped[name], batch[name][[2, 2, 0]])
    assert torch.equal(swapped["onset"], batch["onset"])


def test_sets_are_of_the_split_and_tuning_is_on_validation(cache, small):
    sets = Sets(cache, "test", small.Data, FACTOR, 2)
    assert (len(sets("T4")), len(sets("T2")), len(sets("T2", "train"))) == (
        2,
        2,
        4,
    )  # a part of the split's own alone
    splits = {
        name: {cache.files[index]["split"] for index in windows.performance}
        for name, windows in (
            ("own", sets("T2")),
            ("tuning", sets.tuning("T2")),
            ("other", sets("T2", sets.other)),
        )
    }
    assert splits == {"own": {"test"}, "tuning": {"validation"}, "other": {"validation"}}
    assert Sets(cache, "validation", small.Data, FACTOR).other == "test"
    assert sets("T4") is sets("T4") and sets("T4").step_ms.tolist() == [125, 125]  # at 120 beats a minute


def test_a_fall_of_f1_is_that_of_the_same_samples(cache, small):
    sets = Sets(cache, "test", small.Data, FACTOR)
    real = sets("T4").rolls[0]
    right, half, wrong = real, real * (np.arange(9) == CLOSED), np.zeros_like(real)
    played = {"unset": [right, right, wrong], "swapped": [half, wrong], "given": [right]}

    class Fake:
        model = SimpleNamespace(steps_per_bar=16)

        def __call__(self, _, setting):
            return [np.stack(played[setting])]

    figures = PARTS["rhythm"](Fake(), sets)
    assert figures["real"] == {"taps answered": 1, "hits off the taps": 0} == figures["controls given"]
    assert figures["controls unset"]["taps answered"] == pytest.approx(2 / 3)
    found = 2 * half.sum() / (half.sum() + real.sum())
    assert {name: of["value"] for name, of in figures["swapped"].items()} == pytest.approx(
        {"f1": 1, "f1, swapped": found / 2, "fall": 1 - found / 2}
    )  # the third sample has no counterpart


# ------------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def checkpoint(home, small):
    model = build_tiny_model(small)
    path = home / "tiny.pt"
    save_checkpoint({"config": model.config, "vae_model": model.state_dict(), "step": 3}, path)
    return path


@pytest.fixture
def evaluated(home, checkpoint, capsys, monkeypatch):
    """Runs the command; returns the bytes of its JSON and what it printed, or its error."""
    monkeypatch.setattr(style_classifier, "STEPS", 2)

    def run(*arguments, checkpoint=checkpoint, status=0, pictures=False):
        if not pictures:  # they take most of the time
            monkeypatch.setattr(evaluation_pictures, "draw_pictures", lambda *_: None)
        out = home / "figures" / "out.json"
        out.unlink(missing_ok=True)
        assert (
            main(["--checkpoint", str(checkpoint), "--device", "cpu", "--json", str(out), *arguments])
            == status
        )
        said = capsys.readouterr()
        return (out.read_bytes(), said.out) if status == 0 else said.err

    return run


def test_the_command_prints_and_writes_every_figure_and_repeats_itself(evaluated, home, monkeypatch):
    monkeypatch.setattr(evaluation_pictures, "ROLLS", 1)
    data, text = evaluated("--samples", "2", pictures=True)
    figures = json.loads(data)
    assert (figures["split"], figures["step"], figures["floor"]) == ("test", 3, "validation")
    assert figures["sets"] == {
        "T2": {"windows": 6, "performances": 2},
        "T4": {"windows": 3, "performances": 2},
    }
    assert set(PARTS) < set(figures)
    assert figures["likelihood"]["given_swapped"]["cost"]["value"] != 0
    for name in ("T2", "T4"):
        tap, likeness = figures["tap"][name], figures["realism"]["likeness"][name]
        assert likeness["real"]["onset rate, kick"] == pytest.approx(2 * 8 / (3 * 64))
        assert likeness["real"]["onset rate, crash"] == 0 == likeness["real"]["velocity KL"]
        assert 0 < likeness["unset"]["onset rate"] < 1 and likeness["unset"]["velocity KL"] > 0
        assert tap["onsets"]["silence"]["precision"]["value"] is None  # there is none, and JSON knows no NaN
        assert (
            tap["onsets"]["training mean"]["f1"]["value"] > 0.5 > tap["onsets"]["silence"]["f1"]["value"] == 0
        )
        assert len(tap["onsets"]["sampled"]["by bar"]) == int(name[1:])
        assert tap["hits"]["copy of the tap"]["offset, the tap itself"]["value"] == 0
    assert "consensus, density given" in figures["tap"]["T2"]["onsets"]
    assert figures["realism"]["given"]["kick"]["asked"] == pytest.approx(2 * 8 / 12)
    assert set(figures["controls"]["bars"]) == {"4"}  # 12 bars there are
    assert len(figures["goals"]) == len([goal for goal in GOALS if "/96/" not in goal.path])  # each is found
    assert set(figures["controls"]["bars"]["4"]) == {"density", "intensity", *VOICES, "instrument", "style"}
    for words in (
        "controls given, rhythm swapped",
        "open and closed hat",
        "training mean given the tap",
        "consensus",
        "cross by chance",
        "Goals, test split",
        "copy of the tap",
        "longest copy",
        "hears as asked",
    ):
        assert words in text
    card = (home / "figures" / "out.md").read_text()
    rows = [line.split(" | ") for line in card.splitlines() if line.startswith("| ")]
    assert "None" not in card and "nan" not in card
    by_name = {row[0].strip("| "): row for row in reversed(rows)}
    of_tap, met = figures["tap"]["T2"]["onsets"], sum(row["met"] for row in figures["goals"])
    assert by_name["consensus"][1].startswith(f"{of_tap['consensus']['f1']['value']:.3f}".removeprefix("0"))
    assert by_name["silence"][1].startswith(".000 [") and by_name["greedy"][2] == "–"
    assert f"{met} of {len(figures['goals'])} goals are met." in card
    drawn = {path.name for path in (home / "figures" / "out").iterdir()}
    names = ("controls", "f1_by_bar", "histograms", "voices", "roll_1")
    assert drawn == {f"{name}.png" for name in names}
    assert evaluated("--samples", "2")[0] == data
    assert evaluated("--samples", "2", "--seed", "1", "--parts", "rhythm")[0] != data


def test_parts_are_the_same_alone(evaluated):
    whole = json.loads(evaluated("--parts", "rhythm,realism", "--samples", "2")[0])
    alone = json.loads(evaluated("--parts", "realism", "--samples", "2")[0])
    assert alone["realism"] == whole["realism"] and "rhythm" in whole and "rhythm" not in alone


def test_a_training_checkpoint_is_judged_by_its_averaged_weights(evaluated, home, small):
    model = build_tiny_model(small)
    average = {name: weight.clone() for name, weight in model.named_parameters()}
    plain = json.loads(evaluated("--parts", "likelihood")[0])["likelihood"]
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    path = home / "training.pt"
    save_checkpoint(
        {"config": model.config, "vae_model": model.state_dict(), "ema": average, "step": 3}, path
    )
    assert json.loads(evaluated("--parts", "likelihood", checkpoint=path)[0])["likelihood"] == plain


def test_other_splits_windows_and_caches(evaluated, home):
    cache = f"Data.cache_dir={home / 'other'}"
    figures = json.loads(evaluated("--windows", "2", "--parts", "likelihood", "--set", cache)[0])
    assert figures["sets"]["T4"]["windows"] == 2 and (home / "other" / "cache.npz").is_file()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--windows", "1"], "--windows: 1; it must be at least 2"),
        (["--samples", "0"], "--samples: 0"),
        (["--seed", "-1"], "--seed: -1"),
        (["--device", "abacus"], "device: 'abacus'"),
        (["--split", "validation"], "swapping rhythms needs windows of two"),
        (["--json", "figures"], "--json: figures; it must end in .json"),
        (["--parts", "tap,taste"], "--parts: 'taste'; the parts are likelihood"),
        (["--set", "Model.Encoder.n_layer=3"], "only Data can be changed"),
        (["--set", "Data.cache_dri=x"], "did you mean cache_dir"),
        (["--midi-dir", "nowhere"], "nowhere"),
    ],
)
def test_errors_are_one_line(evaluated, arguments, words):
    said = evaluated(*arguments, status=2)
    assert said.startswith("error: ") and said.count("\n") == 1 and words in said


def test_a_missing_checkpoint_is_named(evaluated, home):
    assert "none.pt" in evaluated(checkpoint=home / "none.pt", status=2)


# ------------------------------------------------------------------------- the real corpus


def test_real_drums_give_the_figures_that_others_measured(groove_zip, small, tmp_path):
    mine = small.model_copy(deep=True)
    mine.Data.corpus, mine.Data.cache_dir = str(groove_zip), str(tmp_path)
    cache = preprocess(mine)
    real, validation, train = (
        rolls_of(evaluation_windows(cache, split, mine.Data, FACTOR)[0])
        for split in ("test", "validation", "train")
    )
    assert len(real[0]) == 525
    floor = realism.describe(validation, real)
    assert (round(floor["velocity KL"], 3), round(floor["offset KL"], 3)) == (0.017, 0.005)
    figures = realism.describe(real, real)
    assert figures["onset rate"] == pytest.approx(0.1308, abs=5e-5)
    assert figures["offset spread within a step"] == pytest.approx(0.123, abs=1e-3)
    assert figures["steps with more than two non-kick voices"] == pytest.approx(0.0167, abs=1e-4)
    scores = {
        name: realism.onset_scores(guess, real[0])["f1"]
        for name, (guess, _) in onset_guesses(train, validation, real).items()
    }
    assert scores["training mean"] == pytest.approx(0.489, abs=0.005)
    assert scores["training mean given the tap"] == pytest.approx(0.553, abs=0.01)
    T2 = windows_of("T2", cache, "test", mine.Data, FACTOR, 2)
    onset, vel, timeoffset = T2.rolls
    assert (len(T2), onset.sum(), len(set(T2.performance))) == (1059, 39816, 75)
    copied = hit_figures(*(roll[onset > 0][None] for roll in copy_of_the_tap(T2.rolls)), T2)
    assert copied["offset"]["value"] == pytest.approx(5.5, abs=0.05)
    assert copied["velocity"]["value"] == pytest.approx(0.090, abs=5e-4)
