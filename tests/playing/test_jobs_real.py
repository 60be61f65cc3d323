"""The jobs on real performances with the shipped checkpoint: what is played belongs to the drums it is played
to."""

import csv
import io
import zipfile

import numpy as np
import pytest
import torch

from inference_bar_control import (
    add_voices,
    continue_drums,
    drums_from_midi,
    generate,
    humanise,
    infill,
    interpolate,
    vary,
)
from tests.conftest import REPOSITORY
from utils.evaluation.baselines import onset_f1
from utils.get_model import load_model
from utils.midi.drums import voice_index

WINDOWS = 8
SAMPLES = 4


@pytest.fixture(scope="module", autouse=True)
def model():
    return load_model(REPOSITORY / "checkpoints" / "drummer.pt")


@pytest.fixture(scope="module")
def performances(groove_zip, tmp_path_factory):
    """The first four bars of some beats of the test split, each onset, vel, timeoffset (1, 64, 9)."""
    folder = tmp_path_factory.mktemp("groove")
    with zipfile.ZipFile(groove_zip) as archive:
        rows = list(csv.DictReader(io.TextIOWrapper(archive.open("groove/info.csv"))))
        beats = [
            row["midi_filename"]
            for row in rows
            if (row["split"], row["beat_type"], row["time_signature"]) == ("test", "beat", "4-4")
            and float(row["duration"]) > 20
        ]
        names = [beats[int(i)] for i in np.linspace(0, len(beats) - 1, WINDOWS)]
        paths = [archive.extract(f"groove/{name}", folder) for name in names]
    return [tuple(roll[:, :64] for roll in drums_from_midi(path)) for path in paths]


def f1(played, real):
    """Of onsets, each (N, T, V) or (T, V); the real ones again for each of N."""
    played, real = np.asarray(played), np.asarray(real)
    return onset_f1(played, np.broadcast_to(real, played.shape))


def test_humanised_drums_are_played_as_the_drummer_played_them(performances):
    """From drums of one loudness on the grid: nearer than the best that is the same everywhere, and loud
    where he was."""
    errors, likeness = [], []
    for number, (onset, vel, timeoffset) in enumerate(performances):
        played = humanise((onset, onset * 0.8, timeoffset * 0), seed=number, num_samples=SAMPLES)
        hit = onset[0] > 0
        guesses = [roll[:, hit].median(0).values for roll in played[1:]]
        pairs = (
            (guesses[0], vel[0][hit]),
            (0.57, vel[0][hit]),
            (guesses[1], timeoffset[0][hit]),
            (0.0, timeoffset[0][hit]),
        )
        errors.append([(guess - real).abs().mean().item() for guess, real in pairs])
        likeness.append(np.corrcoef(played[1][:, hit].mean(0), vel[0][hit])[0, 1])
    velocity, constant_velocity, offset, no_offset = np.mean(errors, 0)
    assert velocity < 0.9 * constant_velocity and offset < 0.95 * no_offset and np.mean(likeness) > 0.4


def test_an_added_voice_is_where_the_drummer_had_it(performances):
    """The kick, to the rest of the drums: it goes with the real one, and more than with those of the
    others."""
    kick = voice_index("kick")
    played = [
        add_voices(drums, ["kick"], seed=number, num_samples=SAMPLES)[0][..., kick].mean(0)
        for number, drums in enumerate(performances)
    ]
    likeness = np.corrcoef(torch.stack(played), torch.cat([drums[0][..., kick] for drums in performances]))
    likeness = likeness[:WINDOWS, WINDOWS:]
    own = np.diag(likeness).mean()
    assert own > 0.4 and own > (likeness.sum() - np.trace(likeness)) / (WINDOWS * (WINDOWS - 1)) + 0.1


def test_a_bar_played_anew_is_of_the_same_groove(performances):
    own, other = [], []
    for number, drums in enumerate(performances):
        real, played = (
            drums[0][0, 16:32],
            infill(drums, bars=1, seed=number, num_samples=SAMPLES)[0][:, 16:32],
        )
        own.append(f1(played, real))
        other.append(f1(performances[number - 1][0][0, 16:32], real))
    assert np.mean(own) > 0.5 and np.mean(own) > np.mean(other) + 0.1


def test_what_comes_after_is_heard(performances):
    """The bar before stays as it is; another bar after it, and it is mostly played otherwise."""
    otherwise = []
    for number, drums in enumerate(performances):
        other = performances[number - 4]
        after = [torch.cat((roll[:, :32], end[:, 32:]), 1) for roll, end in zip(drums, other)]
        one, two = (infill(rolls, bars=1, seed=1, num_samples=SAMPLES)[0] for rolls in (drums, after))
        assert torch.equal(one[:, :16], two[:, :16])
        otherwise.append(not torch.equal(one[:, 16:32], two[:, 16:32]))
    assert sum(otherwise) > WINDOWS / 2


def test_drums_go_on_as_they_began(performances):
    """Eight bars after two: the groove goes on, and neither thins out nor fills up."""
    own, other, rate = [], [], []
    for number, drums in enumerate(performances[::2]):
        onset = continue_drums([roll[:, :32] for roll in drums], 8, seed=number)[0][0]
        own.append(f1(onset[32:64], drums[0][0, 32:]))
        other.append(f1(performances[2 * number - 1][0][0, 32:], drums[0][0, 32:]))
        rate.append([onset[start : start + 64].mean() for start in (32, 96)])
    assert np.mean(own) > np.mean(other) + 0.1
    assert np.mean(rate, 0) == pytest.approx(
        np.mean([drums[0].mean() for drums in performances[::2]]), rel=0.3
    )


def test_variations_move_away_from_the_drums_step_by_step(performances):
    strengths = (0.3, 0.6, 1)
    own = np.mean(
        [
            [f1(vary(drums, strength, seed=number)[0], drums[0]) for strength in strengths]
            for number, drums in enumerate(performances[::2])
        ],
        0,
    )
    assert (np.diff([1, *own]) < -0.03).all() and own[1] > 0.55 > own[2]


def test_an_interpolation_leads_from_the_first_to_the_second(performances):
    """Of two grooves that have little in common, the first bar is like the first one, the last no longer."""
    nearer = []
    for ends in ((0, 3), (4, 7)):
        ends = [performances[number] for number in ends]
        onset = interpolate(*ends, 4, seed=1, num_samples=8)[0]
        bars = [slice(start, start + 16) for start in range(0, 64, 16)]
        nearer.append(np.subtract(*([f1(onset[:, bar], drums[0][0, bar]) for bar in bars] for drums in ends)))
    first, *_, last = np.mean(nearer, 0)
    assert first > 0.1 and last < first - 0.05


def test_rules_hold_and_the_drums_are_still_drums():
    free, hands = (
        generate(*[None] * 8, 64, seed=1, num_samples=16, playable=playable)[0] for playable in (False, True)
    )
    by_hand = [1, 3, 4, 5, 6, 7, 8]
    assert (hands[..., by_hand].sum(-1) <= 2).all() and (hands[..., [2, 4]].sum(-1) <= 1).all()
    assert (free[..., by_hand].sum(-1) > 2).any() or (free[..., [2, 4]].sum(-1) > 1).any()
    assert hands.mean().item() == pytest.approx(free.mean().item(), rel=0.15)
