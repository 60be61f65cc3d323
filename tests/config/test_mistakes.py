"""Arguments as people mistype them: one sentence that names the argument, never another error, wherever they
are given."""

import re

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import inference_bar_control as inference
from inference_bar_control import (
    Jam,
    Take,
    get_model,
    infill,
    interpolate,
    play,
    process_midi,
    read_song,
    vary,
)
from tests.helpers.inference_helpers import build_tiny_model

MISTAKES = st.one_of(
    st.text(max_size=8),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(),
    st.none(),
    st.binary(max_size=4),
    st.lists(st.one_of(st.text(max_size=3), st.integers(-9, 9), st.none()), max_size=20),
    st.dictionaries(st.text(max_size=4), st.integers(-1, 3), max_size=2),
    st.sampled_from(
        [
            torch.zeros(3),
            torch.full((1, 16), torch.nan),
            np.array(["a"]),
            np.zeros((1, 16, 9)),
            object(),
            range(3),
            2**70,
        ]
    ),
)


@pytest.fixture(scope="module")
def model(tiny_config):
    return build_tiny_model(tiny_config)


@pytest.fixture(scope="module")
def drums(repository):
    return [roll[:, :16] for roll in inference.drums_from_midi(repository / "examples" / "clave_taps.mid")]


def doors(model, drums):
    """Every function to be asked wrongly, and what of it."""
    given = {"model": model, "seed": 1}
    rolls = dict(zip(("piano_roll_onset", "piano_roll_vel", "piano_roll_timeoffset"), drums))
    unset = dict.fromkeys(("density", "intensity", "instrument", "style", "masks"))
    dials = [
        "temperature",
        "guidance",
        "follow",
        "num_samples",
        "best_of",
        "lock",
        "drums",
        "at_most",
        "playable",
        "seed",
        "model",
    ]
    wishes = [
        "hits_per_bar",
        "velocity",
        "voices",
        "forbid",
        "style",
        "bars",
        "song",
        "tempo",
        "kit_out",
        "track",
        "rhythm",
    ]
    jam = [name for name in dials if name != "best_of"]
    return [
        (
            inference.generate,
            rolls | unset | given | {"seq_len": 4},
            [*rolls, *unset, "seq_len", "known", "latent", *dials],
        ),
        (play, given | {"bars": 1}, [*wishes, *dials[:5], "keep_tracks", "lead_in", "job", "second"]),
        (
            play,
            given | {"drums": drums, "job": "infill", "bars_anew": 1},
            ["job", "drums", "voices_anew", "bars_anew", "strength", "lock", "rhythm"],
        ),
        (
            infill,
            given | {"drums": drums, "steps": 0},
            ["drums", "bars", "steps", "voices", "rhythm", "density", *dials],
        ),
        (vary, given | {"drums": drums, "strength": 0.1}, ["strength", "lock", "rhythm"]),
        (interpolate, given | {"first": drums, "second": drums, "bars": 1}, ["first", "second", "bars"]),
        (Jam, rolls | given, [*rolls, *list(unset)[:4], *jam]),
        (
            Take,
            {"drums": drums, "model": model},
            ["drums", "asked", "rhythm", "tempo", "kit", "lead_in", "model", "dials"],
        ),
    ]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_mistyped_is_taken_or_told(model, drums, data):
    door, arguments, names = doors(model, drums)[data.draw(st.integers(0, 7))]
    name = data.draw(st.sampled_from(names))
    mistake = data.draw(MISTAKES)
    try:
        door(**arguments | {name: mistake})
    except ValueError:
        pass
    except Exception as error:
        pytest.fail(f"{door.__name__}({name}={mistake!r}): {type(error).__name__}: {error}")


@pytest.mark.parametrize(
    "wrong, told",
    [
        (
            lambda m, d: play(bars=1, model=m, hits_perbar=3),
            "unknown argument 'hits_perbar'; did you mean hits_per_bar",
        ),
        (lambda m, d: play(bars=1, model=m, velocity=200), "velocity: 200; it must be a number, 1 to 127"),
        (lambda m, d: play(bars=1, model=m, voices="kick=4"), "voices: 'kick=4'; it must be voice names"),
        (
            lambda m, d: play(bars=1, model=m, forbid="rode"),
            "forbid: unknown voice 'rode'; did you mean ride",
        ),
        (lambda m, d: play(d, model=m, track=1), "track: 1; it goes with a MIDI file"),
        (lambda m, d: infill(d, voices=["kik"], model=m), "voices: unknown voice 'kik'; did you mean kick"),
        (lambda m, d: infill(d, voices=[], model=m), r"voices: \[\]; it must name a voice"),
        (
            lambda m, d: infill(d, bars=0, rhythm=d[0], model=m),
            "rhythm: of type Tensor; it must be three rolls",
        ),
        (lambda m, d: infill(d, bars=0, known={}, model=m), "known: not for a job"),
        (lambda m, d: interpolate(d, d, 1, latent=0, model=m), "latent: not for interpolate"),
        (lambda m, d: interpolate(d, d, 5000, model=m), "bars: 5000; it must be .* 4096 at most"),
        (lambda m, d: inference.continue_drums(d, 4096, model=m), "bars: 4096; it must be .* 4095 at most"),
        (lambda m, d: play(bars=5000, model=m), "bars: 5000; it must be .* 4096 at most"),
        (
            lambda m, d: Take(d, asked={"desnity": 1}, model=m),
            "asked: unknown control 'desnity'; did you mean density",
        ),
        (lambda m, d: Take(d, tempo=0, model=m), "tempo: 0; it must be a number, 4 to 1000"),
        (
            lambda m, d: Jam(density=[1] * 64, model=m),
            r"density: shape \(64,\); it must be a number, or a curve of the bar's 16 steps",
        ),
        (lambda m, d: Jam("rhythm.mid", model=m), "piano_roll_onset: 'rhythm.mid'"),
        (lambda m, d: Jam(model=m).change(rhythm=d[0]), "rhythm: of type Tensor; it must be three rolls"),
        (lambda m, d: process_midi(3), "3: not a readable MIDI file"),
        (lambda m, d: read_song(3), "3: is no name of a file"),
        (
            lambda m, d: get_model({"config": 1}),
            r'config: .*; it must be that of a checkpoint: torch.load\(PATH\)\["config"\]',
        ),
        (
            lambda m, d: inference.generate_control_params("0,1", [1, 1], 16),
            "control_points: '0,1'; they must be fractions",
        ),
    ],
)
def test_it_is_told_what_to_do(model, drums, wrong, told):
    with pytest.raises(ValueError, match=told):
        wrong(model, drums)


def test_wishes_may_be_arrays(model):
    for wish in (np.array([4, 9]), torch.tensor([4.0, 9.0]), range(4, 14, 5), "4,9"):
        assert re.match(
            "bar .*\n.*\n  1 +4 .*\n  2 +9 ",
            play(bars=2, model=model, seed=1, hits_per_bar=wish).receipt.table(),
        )
