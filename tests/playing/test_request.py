"""A request is one value, whoever makes it: checked where it enters, the same drums by every door."""

import dataclasses

import pytest
import torch

from inference_bar_control import (
    add_voices,
    continue_drums,
    generate,
    humanise,
    infill,
    interpolate,
    play,
    vary,
)
from tests.helpers.inference_helpers import write_midi
from utils.checks import ArgumentError
from utils.playing.arguments import FLAGS, JOBS, parse_arguments
from utils.playing.command import request_of
from utils.playing.jobs import LAYOUTS
from utils.playing.request import LIFT, LOOSE_LIFT, LOOSE_TEMPERATURES, TEMPERATURES, Dials, Request

UNSET = [None] * 5  # density, intensity, instrument, style, masks


def of_words(*words):
    arguments = parse_arguments([str(word) for word in words])
    return request_of(arguments, {f.dest: f for f in FLAGS if getattr(arguments, f.dest) is not None})


def test_flags_a_control_file_and_keywords_make_the_same_request(tmp_path):
    (tmp_path / "wishes.yaml").write_text("velocity: 80\nforbid: ride\nvoices: {kick: 4}\n")
    words = ["--rhythm", "a.mid", "--controls", tmp_path / "wishes.yaml", "--forbid", "crash", "--seed", 3]
    words += ["--hits-per-bar", "9,-", "--voice", "snare=2", "--follow", "0.5", "--guidance", "style=3"]
    request = of_words(*words, "--keep-tracks", "--lock", "kick,ride")
    same = Request(
        rhythm="a.mid",
        velocity=80,
        forbid=["ride", "crash"],
        voices={"kick": 4, "snare": "2"},
        hits_per_bar="9,-",
        follow=0.5,
        guidance={"style": 3.0},
        keep_tracks=True,
        lock=["kick", "ride"],
        seed=3,
    )
    for field in dataclasses.fields(Request):
        assert getattr(request, field.name) == getattr(same, field.name), field.name


def test_every_field_is_checked_when_the_request_is_made_and_it_stays_as_it_is():
    assert {flag.dest for flag in FLAGS} <= {field.name for field in dataclasses.fields(Request)}
    for name, value in {
        "temperature": 0,
        "hits_per_bar": "many",
        "bars_anew": "3-1",
        "song": {"sections": []},
        "lock": ["cowbell"],
        "job": "whistle",
        "bars": 0,
        "lead_in": "yes",
        "seed": -1,
        "guidance": {"style": -1},
    }.items():
        job = {"job": "infill"} if name == "bars_anew" else {}
        with pytest.raises(ArgumentError) as error:
            Request(**{"rhythm": "a.mid", name: value, **job})
        assert error.value.argument[0] == name
    request = Request(rhythm="a.mid", seed=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.seed = 2
    assert Request().seed != Request().seed  # without one each is new, and says which


@pytest.mark.parametrize(
    "job, asked, function",
    [
        ("humanise", {"lock": ["kick"]}, lambda d, **how: humanise(d, lock=["kick"], **how)),
        ("add", {"voices_anew": ["ride"]}, lambda d, **how: add_voices(d, ["ride"], **how)),
        ("infill", {"bars_anew": 2, "voices_anew": 0}, lambda d, **how: infill(d, bars=1, voices=0, **how)),
        ("continue", {"bars": 1}, lambda d, **how: continue_drums(d, 1, **how)),
        ("vary", {"strength": 0.4}, lambda d, **how: vary(d, 0.4, **how)),
        ("interpolate", {"bars": 3, "second": True}, lambda d, **how: interpolate(d, flipped(d), 3, **how)),
    ],
)
def test_a_job_is_the_same_as_a_function_and_as_a_request(model, drums, job, asked, function):
    asked = {name: flipped(drums) if value is True else value for name, value in asked.items()}
    take = play(drums, job=job, model=model, seed=5, **asked)
    for a, b in zip(take, function(drums, model=model, seed=5)):
        assert torch.equal(a, b)
    assert take.receipt.dials["job"] == job and JOBS.keys() == LAYOUTS.keys()


def flipped(drums):
    return [roll.flip(1) for roll in drums]


def test_a_lock_takes_the_drums_of_the_file(model, tmp_path):
    loop = write_midi(tmp_path / "loop.mid", {"kit": [(q / 2, 36 if q % 4 else 38, 90) for q in range(8)]})
    take = play(loop, lock="kick", bars=2, model=model, seed=1)
    kick = take.onset[0, :16, 0]
    assert kick.nonzero().flatten().tolist() == [2, 4, 6, 10, 12, 14]
    assert torch.equal(kick, take.onset[0, 16:, 0])


def test_each_cell_is_decided_by_the_first_that_speaks_of_it(model):
    """masks, then lock, then known, then a forbidden voice, then what is drawn."""
    hit, none = torch.ones(1, 16, 9), torch.zeros(1, 16, 9)
    known = {"onset": hit, "vel": none, "timeoffset": none, "known_vel": none}
    known["known_onset"] = torch.zeros(1, 16, 9)
    known["known_onset"][..., [0, 1]] = 1
    instrument, masks = torch.full((1, 16, 9), torch.nan), torch.ones(1, 16)
    instrument[..., [0, 1, 2]], masks[:, 12:] = -1, 0
    rules = {"known": known, "drums": [none, none, none], "lock": ["kick"], "at_most": 1}
    onset = generate(*[None] * 5, instrument, None, masks, 16, model=model, seed=1, **rules)[0][0]
    assert not onset[12:].any()  # silent, though known
    assert not onset[:, 0].any()  # as the drums have it, though known to be hit
    assert onset[:12, 1].all() and onset[:12].sum() == 12  # known, though forbidden; no room for another
    assert not generate(*[None] * 5, instrument, None, None, 16, model=model, seed=1)[0][..., :3].any()


def test_an_error_carries_argument_value_and_rule(tmp_path):
    path = tmp_path / "song.yaml"
    path.write_text("sections: [{name: verse, bars: 2, voices: {kick: 40}}]")
    with pytest.raises(ArgumentError) as error:
        Request(song=str(path))
    error = error.value
    assert error.argument == (str(path), "section verse", "voices", "kick") and error.value == 40
    assert error.rule.startswith("it must be a number, 0 to 16")
    assert str(error) == f"{path}: section verse: voices: kick: 40; {error.rule}"
    assert str(error.named("--voice", "kick")) == f"--voice: kick: 40; {error.rule}"


@pytest.mark.parametrize(
    "dials, bars, drawn_at, best_of",
    [
        ({}, 8, TEMPERATURES, 8),
        ({}, 9, TEMPERATURES, 16),
        ({"num_samples": 3}, 8, TEMPERATURES, 24),
        ({"num_samples": 3}, 9, TEMPERATURES, 32),
        ({"num_samples": 40}, 9, TEMPERATURES, 40),
        ({"num_samples": 5, "temperature": 1}, 4, 1.0, 32),
    ],
)
def test_how_warm_and_how_often_is_played_where_nothing_is_said(dials, bars, drawn_at, best_of):
    dials = Dials(**dials)
    assert (dials.drawn_at(), dials.usual_best_of(bars)) == (drawn_at, best_of)
    assert "best_of" not in dials.turned()
    told = dials.turned(bars)
    assert (told["temperature"], told["best_of"]) == (drawn_at, best_of)
    assert Dials(best_of=3).turned(bars)["best_of"] == 3


@pytest.mark.parametrize(
    "loose, usual, lift", [(False, TEMPERATURES, LIFT), (True, LOOSE_TEMPERATURES, LOOSE_LIFT)]
)
def test_onsets_are_drawn_by_what_the_rhythm_is_unless_a_temperature_is_given(loose, usual, lift):
    assert Dials().for_model("cpu", loose)["temperature"] == (*usual, lift)
    assert Dials().turned(loose=loose)["temperature"] == usual
    assert Dials(temperature=1).for_model("cpu", loose)["temperature"] == 1.0
