"""evaluate.py: windows, likelihood, and the command on a small corpus; baselines on the real one."""

import json

import numpy as np
import pytest
import torch
from matplotlib.layout_engine import ConstrainedLayoutEngine

from data_aug import RHYTHM_KEYS, swap_rhythm
from evaluate import main
from model.heads import AT_THE_TOP, velocity_to_bin
from preprocessing import preprocess
from tests.helpers.evaluation_windows import CLOSED, values
from tests.helpers.inference_helpers import FACTOR, build_tiny_model
from tests.helpers.midi_files import beat, meter, midi_bytes, note, write
from utils.checkpoints import save_checkpoint
from utils.evaluation import pictures as evaluation_pictures
from utils.evaluation import style_classifier
from utils.evaluation.baselines import copy_of_the_tap, onset_f1, onset_guesses
from utils.evaluation.likelihood import ROWS, teacher_forced
from utils.evaluation.parts import HITS, LIKELIHOOD, LIKENESS, PARTS
from utils.evaluation.realism import beside_real, likeness_sums
from utils.evaluation.sets import Sets, partners, windows_of
from utils.evaluation.tap import hit_sums
from utils.midi.drums import VOICES, style_id
from utils.training.metrics import likelihood, unset_rhythm


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
    """A folder with a corpus in corpus/: in test two performances of a beat (3 windows), one of which swings,
    and a fill; in train a waltz."""
    home = tmp_path_factory.mktemp("evaluate")
    rides = [event for quarter in range(48) for event in note(quarter * 480 + 320, 51, 40 + quarter)]
    waltz = [event for quarter in range(24) for event in note(quarter * 480, 49 if quarter % 3 else 36)]
    files = {
        "a.mid": (beat(bars=9), "funk", "train", "beat"),
        "b.mid": (beat(bars=4, velocity=60) + note(120, 46, 30), "rock", "validation", "beat"),
        "c.mid": (beat(bars=9), "funk/groove1", "test", "beat"),
        "d.mid": (rides[: 2 * 16], "jazz", "test", "beat"),
        "e.mid": (beat(bars=4), "rock", "test", "fill"),
        "f.mid": (meter(0, 3, 4) + waltz, "pop", "train", "beat"),
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
    windows = windows_of("T4", cache, "test", small.Data, FACTOR)
    batch, performance = windows.batch, windows.performance
    assert windows.grid.n_bars == 4 and [cache.files[index]["name"] for index in performance] == [
        "c.mid",
        "c.mid",
        "d.mid",
    ]
    assert batch["style"][:, 0].tolist() == [style_id("funk"), style_id("funk"), style_id("jazz")]
    mean, deviation = FACTOR["density"]
    np.testing.assert_allclose(batch["density"][0], (8 / 144 - mean) / deviation, rtol=1e-5)
    assert batch["onset"].sum((1, 2)).tolist() == [32, 32, 16] and batch["mask"].all()
    part = windows_of("T4", cache, "test", small.Data, FACTOR, n_windows=2)
    assert torch.equal(part.batch["onset"], batch["onset"][[0, 2]]) and part.size() == {
        "windows": 2,
        "performances": 2,
    }


def deafened(model):
    """The model that never uses what it hears of the rhythm."""
    hearing = model.forward
    model.forward = lambda batch: hearing(unset_rhythm(batch))
    return model.eval()


def test_a_deaf_model_loses_nothing_by_a_swap(cache, small):
    windows = windows_of("T4", cache, "test", small.Data, FACTOR)
    swapped_row = "{}, another window's rhythm".format
    heard = nats(build_tiny_model(small).eval(), windows)
    given = ROWS["given"]
    assert heard[swapped_row(given)]["cost"] != 0 != heard[swapped_row(ROWS["unset_latent"])]["cost"]
    onset = {row: of["onset, per step"] for row, of in heard.items()}
    assert onset[ROWS["given_latent"]] != onset[given] != onset[ROWS["unset"]]
    assert heard[swapped_row(given)]["cost"] == pytest.approx(onset[swapped_row(given)] - onset[given])
    swapped = swap_rhythm(windows.batch, torch.from_numpy(partners(windows.performance)))
    unheard = ("given_no_rhythm", "unset_no_rhythm")
    silent = likelihood(build_tiny_model(small).eval(), [swapped], torch.device("cpu"), unheard)
    for setting, scores in silent.items():
        same = heard[ROWS[setting]]
        assert list(scores.values()) == pytest.approx(list(same.values()), rel=1e-5)
    deaf = nats(deafened(build_tiny_model(small)), windows)
    for controls in ("given", "unset"):
        total = deaf[ROWS[controls]]["total, per step"]
        for rhythm in ("_latent", "_no_rhythm"):
            assert deaf[ROWS[controls + rhythm]]["total, per step"] == pytest.approx(total), rhythm
        for rhythm in ("", "_latent"):
            row = deaf[swapped_row(ROWS[controls + rhythm])]
            assert row["total, per step"] == pytest.approx(total) and row["cost"] == pytest.approx(
                0, abs=1e-6
            )
    assert deaf[given]["onset, per step"] != deaf[ROWS["unset"]]["onset, per step"]


def nats(model, windows):
    """The likelihood of each row, without the intervals."""
    scores = LIKELIHOOD.score(teacher_forced(model, windows.batch, windows.performance))
    assert all(of["low"] <= of["value"] <= of["high"] for row in scores.values() for of in row.values())
    return {row: {name: of["value"] for name, of in figures.items()} for row, figures in scores.items()}


def test_swapping_takes_the_rhythm_of_the_window_named(cache, small):
    windows = windows_of("T4", cache, "test", small.Data, FACTOR)
    batch = windows.batch
    swapped = swap_rhythm(batch, torch.from_numpy(partners(windows.performance)))
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

    figures = PARTS["rhythm"].figures(lambda _, setting: [np.stack(played[setting])], sets)
    answers = {
        row: [of["value"] for of in scores.values()] for row, scores in figures["answers"]["T4"].items()
    }
    assert answers["real"] == [1, 0] == answers["true controls"]  # taps answered, hits off the taps
    assert answers["controls unset"][0] == pytest.approx(2 / 3)
    found = 2 * half.sum() / (half.sum() + real.sum())
    swapped = {name: of["value"] for name, of in figures["swapped rhythm"]["T4"]["sampled"].items()}
    # the third sample has no counterpart
    assert swapped == pytest.approx({"F1": 1, "F1, swapped": found / 2, "fall of F1": 1 - found / 2})


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
    monkeypatch.delenv("RHYTHMS_ZIP", raising=False)

    def run(*arguments, checkpoint=checkpoint, status=0, pictures=False):
        if not pictures:  # they take most of the time
            monkeypatch.setattr(evaluation_pictures, "draw_pictures", lambda *_: [])
        out = home / "figures" / "out.json"
        out.unlink(missing_ok=True)
        assert (
            main(["--checkpoint", str(checkpoint), "--device", "cpu", "--json", str(out), *arguments])
            == status
        )
        said = capsys.readouterr()
        return (out.read_bytes(), said.out) if status == 0 else said.err

    return run


def test_the_command_prints_and_writes_every_figure_and_repeats_itself(
    evaluated, home, checkpoint, monkeypatch
):
    monkeypatch.setattr(evaluation_pictures, "ROLLS", 1)
    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", lambda *_: None)  # half the time of a picture
    data, text = evaluated("--samples", "2", "--beside", str(checkpoint), pictures=True)
    figures = json.loads(data)
    assert (figures["split"], figures["step"], figures["floor"]) == ("test", 3, "validation")
    assert figures["sets"] == {
        "T2": {"windows": 6, "performances": 2},
        "T4": {"windows": 3, "performances": 2},
    }
    assert "left out: brought, as RHYTHMS_ZIP names no zip of rhythms" in text
    parts = {name: part for name, part in PARTS.items() if name != "brought"}
    for name, part in parts.items():  # every metric that is registered is measured and printed
        for table in part.tables:
            scores = [row for rows in figures[name][table.name].values() for row in rows.values()]
            missing = {metric.name for metric in table.metrics} - {metric for row in scores for metric in row}
            rare = {
                name for name in missing if name.endswith(tuple(VOICES))
            }  # of voices that are hardly played
            longer = {
                name for name in missing if name.startswith(("fall of rho", "rho, ", "likeness at lag"))
            }  # of longer windows
            assert missing == rare | longer, table.name
            assert table.drawn or table.title in text
    for name in ("T2", "T4"):
        onsets, likeness = figures["tap"]["onsets"][name], figures["realism"]["likeness"][name]
        f1 = {row: of["F1"]["value"] for row, of in onsets.items()}
        assert likeness["real"]["onset rate, kick"]["value"] == pytest.approx(2 * 8 / (3 * 64))
        assert likeness["real"]["onset rate, crash"]["value"] == 0 == likeness["real"]["velocity KL"]["value"]
        assert 0 < likeness["controls unset"]["onset rate"]["value"] < 1
        assert onsets["silence"]["precision"]["value"] is None  # there is none, and JSON knows no NaN
        assert f1["training mean"] > 0.5 > f1["silence"] == 0
        in_bars = [of["value"] for of in figures["tap"]["by bar"][name]["sampled"].values()]
        assert [value is None for value in in_bars] == [False] * int(name[1:]) + [True] * (4 - int(name[1:]))
        assert figures["tap"]["hits"][name]["copy of the tap"]["offset, the tap itself"]["value"] == 0
    assert figures["realism"]["true controls"]["T4"]["kick"]["mean asked"]["value"] == pytest.approx(
        2 * 8 / 12
    )
    assert set(figures["controls"]["bars"]) == {"4 bars"}  # 12 bars there are
    goals = [
        goal for part in parts.values() for table in part.tables for m in table.metrics for goal in m.goals
    ]
    assert len(figures["goals"]) == len(
        [goal for goal in goals if goal.of not in ("96 bars", "32 bars")]
    )  # each is found
    card = (home / "figures" / "out.md").read_text()
    rows = [line.split(" | ") for line in card.splitlines() if line.startswith("| ")]
    assert "None" not in card and "nan" not in card
    by_name = {row[0].strip("| "): row for row in reversed(rows)}
    of_tap = figures["tap"]["onsets"]["T2"]["consensus"]["F1"]["value"]
    assert by_name["consensus"][1].startswith(f"{of_tap:.3f}".removeprefix("0"))
    assert by_name["silence"][1].startswith(".000 [") and by_name["greedy"][5] == "–"
    judged = [goal["met"] for goal in figures["goals"] if goal["met"] is not None]
    assert (
        f"{sum(judged)} of {len(judged)} goals are met" in card and f"{sum(judged)} of {len(judged)}" in text
    )
    drawn = {path.name for path in (home / "figures" / "out").iterdir()}
    names = ("controls", "f1_by_bar", "histograms", "voices", "roll_1")
    assert drawn == {f"{name}.png" for name in names}
    assert all(f"{home / 'figures' / 'out' / name}" in text for name in drawn)
    again, text = evaluated("--samples", "2", "--parts", "rhythm,realism,jobs")
    again = json.loads(again)
    assert ".png" not in text  # as none was drawn
    assert all(again[part] == figures[part] for part in ("rhythm", "realism", "jobs"))
    assert "tap" not in again and "controls" not in again
    other = json.loads(evaluated("--samples", "2", "--seed", "1", "--parts", "rhythm")[0])
    assert other["rhythm"] != figures["rhythm"]


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
        (["--split", "tset"], "--split: 'tset'; the splits are train, validation, test"),
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


def test_real_drums_give_the_figures_that_others_measured(groove_zip, groove_cache, small):
    mine = small.model_copy(deep=True)
    mine.Data.corpus, mine.Data.cache_dir = str(groove_zip), str(groove_cache)
    cache = preprocess(mine)
    real, validation, train = (
        windows_of("T4", cache, split, mine.Data, FACTOR) for split in ("test", "validation", "train")
    )
    assert len(real) == 525
    loudest = train.rolls[1][velocity_to_bin(torch.from_numpy(train.rolls[1]), 32).numpy() == 31]
    assert (loudest == 1).mean() == pytest.approx(AT_THE_TOP, abs=0.005)
    sums = [likeness_sums([roll[None] for roll in of.rolls], of.performance) for of in (real, validation)]
    own, floor = (values(LIKENESS, beside_real(of, sums[0])) for of in sums)
    assert (round(floor["velocity KL"], 3), round(floor["offset KL"], 3)) == (0.017, 0.005)
    assert own["onset rate"] == pytest.approx(0.1308, abs=5e-5)
    assert own["offset spread within a step"] == pytest.approx(0.123, abs=1e-3)
    assert own["steps with more than two non-kick voices"] == pytest.approx(0.0167, abs=1e-4)
    guesses = onset_guesses(train.rolls, validation.rolls, real.rolls)
    scores = {name: onset_f1(guess, real.rolls[0]) for name, (guess, _) in guesses.items()}
    assert scores["training mean"] == pytest.approx(0.489, abs=0.005)
    assert scores["training mean given the tap"] == pytest.approx(0.553, abs=0.01)
    T2 = windows_of("T2", cache, "test", mine.Data, FACTOR, 2)
    onset = T2.rolls[0]
    assert (len(T2), onset.sum(), len(set(T2.performance))) == (1059, 39816, 75)
    copied = values(HITS, hit_sums(T2, *(roll[onset > 0][None] for roll in copy_of_the_tap(T2.rolls))))
    assert copied["offset"] == pytest.approx(5.5, abs=0.05)
    assert copied["velocity"] == pytest.approx(0.090, abs=5e-4)
