"""The jobs of a drummer who is given drums: what stays stays, to the bit; hard rules hold; wrong input is
told."""

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
    play,
    process_midi,
    vary,
)
from model.decoding.steps import keep_within
from tests.helpers.inference_helpers import write_midi
from tests.helpers.model_batches import random_rolls
from utils.playing import generate as generating
from utils.playing.jobs import between, gist

UNSET = [None] * 5  # density, intensity, instrument, style, masks


@pytest.fixture(scope="module")
def drums():
    return random_rolls(T=48)


@pytest.fixture
def told(monkeypatch):
    """What the model is told, by name."""
    held, sample = {}, generating.sample

    def listen(model, rhythm, *inputs, **more):
        held.update(zip(("onset", "vel", "timeoffset"), rhythm), **more)
        return sample(model, rhythm, *inputs, **more)

    monkeypatch.setattr(generating, "sample", listen)
    return held


# ---- what stays is as it was


def region(*cells):
    """The cells (1, 48, 9) of those indices that are played anew."""
    anew = torch.zeros(1, 48, 9, dtype=torch.bool)
    anew[(0, *cells)] = True
    return anew


EVERY = slice(None)
JOBS = {
    "a voice": (lambda d, **how: add_voices(d, ["Closed hat"], **how), region(EVERY, 2)),
    "voices": (lambda d, **how: add_voices(d, [0, "ride"], **how), region(EVERY, [0, 8])),
    "a bar": (lambda d, **how: infill(d, bars=1, **how), region(slice(16, 32))),
    "bars": (lambda d, **how: infill(d, bars=[0, 2], **how), region([*range(16), *range(32, 48)])),
    "steps": (lambda d, **how: infill(d, steps=range(10, 21), **how), region(slice(10, 21))),
    "crossing": (
        lambda d, **how: infill(d, bars=[1], steps=range(9, 40), voices=["kick"], **how),
        region(slice(16, 32), 0),
    ),
}


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize(
    "how", [{}, {"guidance": 2.0, "density": [2.0] * 48, "at_most": 1, "playable": True}], ids=["", "rules"]
)
def test_what_is_not_named_comes_back_to_the_bit_and_what_is_is_played_anew(model, drums, job, how):
    do, anew = JOBS[job]
    played = do(drums, model=model, seed=1, num_samples=2, **how)
    assert all(roll.shape == (2, 48, 9) for roll in played)
    for roll, given in zip(played, drums):
        stayed = roll.masked_fill(anew, 0)
        assert torch.equal(stayed, given.masked_fill(anew, 0).expand_as(stayed))
    if not how:
        assert not torch.equal(played[0][0], drums[0][0]) and not torch.equal(played[0][0], played[0][1])


def test_humanised_drums_keep_their_onsets_and_their_velocities_are_not_looked_at(model, drums, told):
    played = humanise(drums, model=model, seed=1)
    again = humanise((drums[0], drums[0] * 0.1, drums[0] * 0), model=model, seed=1)
    assert torch.equal(played[0], drums[0]) and all(torch.equal(a, b) for a, b in zip(played, again))
    hit = drums[0] > 0
    assert (played[1][hit] != drums[1][hit]).float().mean() > 0.9 and (played[1][hit] > 0).all()
    assert not told["onset"].any() and told["use_context"].all()
    several = {"model": model, "seed": 1, "num_samples": 16}  # a model that has learnt nothing hears little
    plain, accented = humanise(drums, **several), humanise(drums, rhythm=drums, **several)
    assert torch.equal(told["vel"][:1].sum(-1), drums[1].max(-1).values)
    assert not torch.equal(accented[1], plain[1])


def test_a_timekeeper_that_is_added_is_asked_for_eighths_where_nothing_is_asked(model, drums, monkeypatch):
    asked = []

    def listen(model, rhythm, controls, *_, **__):
        asked.append(controls["instrument"][0, 0])
        return torch.zeros(3, 1, 48, 9)

    monkeypatch.setattr(generating, "sample", listen)
    add_voices(drums, ["ride", "closed_hat"], model=model)
    play(drums, job="add", voices_anew="closed_hat", model=model)
    add_voices(drums, ["crash"], model=model)
    add_voices(drums, ["closed_hat"], style="jazz", model=model)
    assert asked[0].isnan().tolist() == [voice != 2 for voice in range(9)] and asked[0][2] == 0.5
    assert torch.equal(asked[0].nan_to_num(-1), asked[1].nan_to_num(-1))
    assert all(instrument.isnan().all() for instrument in asked[2:])


def test_drums_go_on_from_where_they_end(model, drums):
    played = continue_drums(drums, 5, model=model, seed=1)
    assert all(
        roll.shape == (1, 128, 9) and torch.equal(roll[:, :48], given) for roll, given in zip(played, drums)
    )
    assert played[0][:, 48:].view(5, -1).any(1).all()


def test_eight_bars_are_mended_as_four_are(model, drums):
    long = [torch.cat((roll, roll, roll[:, :32]), 1) for roll in drums]
    played = infill(long, bars=7, model=model, seed=1)
    for roll, given in zip(played, long):
        assert torch.equal(roll[:, :112], given[:, :112])
    assert not torch.equal(played[0][:, 112:], long[0][:, 112:])


def test_a_rhythm_beside_known_drums_is_heard_unless_free(model, drums, told):
    rhythm = [roll[:, :16] for roll in drums]
    infill(drums, bars=1, rhythm=rhythm, model=model)
    assert told["onset"].any() and told["use_context"].all() and told["use_latent"].all()
    infill(drums, bars=1, rhythm=rhythm, follow="free", model=model)
    assert not told["onset"].any() and told["use_context"].all() and told["use_latent"].all()


# ---- in latent space


def test_variations_of_no_strength_are_the_drums_and_move_away_from_them(model, drums, told):
    same = vary(drums, 0, model=model, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(same, drums))
    share = [
        (vary(drums, strength, model=model, seed=1)[0] != drums[0]).float().mean() for strength in (0.3, 1)
    ]
    assert 0 < share[0] < share[1]
    assert torch.equal(vary(drums, 0.5, model=model, seed=3)[1], vary(drums, 0.5, model=model, seed=3)[1])
    near = torch.cosine_similarity(told["latent"], gist(drums, model), dim=-1)
    assert not torch.equal(vary(drums, 1, model=model)[0], vary(drums, 1, model=model)[0])
    assert (
        (near > 0.1).all()
        and near.max() < 0.99
        and not told["use_context"].any()
        and told["use_latent"].all()
    )


def test_an_interpolation_tells_each_bar_its_share_of_both(model, drums, told):
    second = [roll[:, :32].flip(1) for roll in drums]
    played = interpolate(drums, second, 4, model=model, seed=1)
    first, last = gist(drums, model), gist(second, model)
    assert first.shape == (1, 3, 8) and played[0].shape == (1, 64, 9)
    assert torch.allclose(told["latent"][0, 0], first[0, 0]) and torch.allclose(
        told["latent"][0, 3], last[0, 1], atol=1e-6
    )
    assert torch.allclose(told["latent"][0, 1], between(first[0, 1], last[0, 1], 1 / 3), atol=1e-6)
    assert not told["use_context"].any() and told["use_latent"].all()


def test_the_way_between_latents_is_an_arc():
    a, b = torch.tensor([[3.0, 0.0], [0.0, 2.0]]), torch.tensor([[0.0, 3.0], [0.0, 2.0]])
    assert torch.allclose(between(a, b, 0.5), torch.tensor([[4.5**0.5, 4.5**0.5], [0.0, 2.0]]))
    assert torch.allclose(between(a, b, 0), a) and torch.allclose(between(a, b, 1), b, atol=1e-6)
    assert torch.equal(between(a, -a, 0.25), a / 2)  # no arc is shorter than another


def test_given_latents_are_used_in_place_of_the_rhythms(model, drums):
    def play(latent, follow="loose"):
        return generate(*drums, *UNSET, 48, model=model, seed=1, follow=follow, latent=latent)[1]

    own = gist(drums, model)
    assert torch.equal(play(None), play(own)) and not torch.equal(play(own), play(50 * own))
    alone = generate(None, None, None, *UNSET, 48, model=model, seed=1, latent=own)[1]
    assert torch.equal(alone, play(own))  # what is not heard hit by hit may as well be silent


def test_without_a_rhythm_the_model_plays_by_itself(model, drums):
    jam = generate(None, None, None, *UNSET, 48, model=model, seed=1)
    free = generate(*drums, *UNSET, 48, model=model, seed=1, follow="free")
    assert jam[0].any() and all(torch.equal(a, b) for a, b in zip(jam, free))


# ---- hard rules


def test_no_step_hits_more_than_it_may(model):
    def play(**rules):
        rules |= {"model": model, "seed": 1, "num_samples": 2, "temperature": 1}
        return generate(None, None, None, [9.0] * 32, *UNSET[1:], 32, **rules)[0]

    free, two, hands = play(), play(at_most=2), play(playable=True)
    assert (free.sum(-1) > 4).any() and two.sum(-1).max() == 2
    by_hand, closed, opened = hands[..., [1, 3, 4, 5, 6, 7, 8]].sum(-1), hands[..., 2] > 0, hands[..., 4] > 0
    assert by_hand.max() == 2 and not (closed & opened).any() and opened.any()
    assert (closed & (by_hand == 2) & (hands[..., 0] > 0)).any()  # all four limbs at once
    assert play(at_most=1, playable=True).sum(-1).max() == 1


def test_the_likeliest_stay_whatever_their_place_and_all_that_is_known():
    onset = torch.tensor([[1.0, 1, 1, 1, 0, 0, 0, 0, 1]])
    above = torch.tensor([[0.1, 0.2, 5.0, 0.4, -9, -9, -9, -9, 3.0]])

    def stay(at_most, of_these, **known):
        limit = torch.full((1, 2, 9), at_most)
        limit[:, 0] = torch.tensor([9] + [of_these] * 8)  # all but the kick
        return keep_within(onset.clone(), above, {"limit": limit, **known})[0].nonzero().flatten().tolist()

    assert (
        stay(9, 9) == [0, 1, 2, 3, 8]
        and stay(2, 9) == [2, 8]
        and stay(9, 2) == [0, 2, 8]
        and stay(1, 2) == [2]
    )
    known = {
        "onset": onset,
        "known_onset": torch.zeros(1, 9, dtype=torch.bool).index_fill(1, torch.tensor([1, 3, 5]), True),
    }
    assert (
        stay(3, 9, **known) == [1, 2, 3]
        and stay(1, 1, **known) == [1, 3]
        and stay(9, 2, **known) == [0, 1, 3]
    )


# ---- drums from a file


def test_drums_are_read_with_all_their_voices(tmp_path):
    path = write_midi(
        tmp_path / "drums.mid",
        {"kit": [(0, 36, 100), (0, 42, 50), (1.05, 38, 80), (4, 51, 127)], "bass": [(2, 36, 90)]},
    )
    onset, vel, timeoffset = drums_from_midi(path, "kit")
    assert onset.shape == (1, 32, 9) and onset[0].nonzero().tolist() == [[0, 0], [0, 2], [4, 1], [16, 8]]
    assert vel[0, 0, [0, 2]].tolist() == pytest.approx([100 / 127, 50 / 127]) and timeoffset[
        0, 4, 1
    ] == pytest.approx(0.2, abs=0.01)
    assert drums_from_midi(path)[0].sum() == 4 and process_midi(path, "kit")[0].sum() == 3  # its kit alone
    for given in ("nobody", 7):
        with pytest.raises(ValueError, match=f"drums.mid: no track {str(given)!r}"):
            drums_from_midi(path, given)


def test_channel_ten_alone_is_drums(tmp_path, model, drums):
    import pretty_midi

    midi = pretty_midi.PrettyMIDI(
        str(write_midi(tmp_path / "song.mid", {"bass": [(0, 36, 90)], "kit": [(1, 38, 90)]}))
    )
    midi.instruments[1].is_drum = True
    midi.write(str(tmp_path / "song.mid"))
    assert drums_from_midi(tmp_path / "song.mid")[0][0].nonzero().tolist() == [[4, 1]]


# ---- wrong input


def known(drums, **changed):
    rolls = dict(zip(("onset", "vel", "timeoffset"), drums))
    return rolls | {"known_onset": torch.ones(1, 48, 9), "known_vel": torch.ones(1, 48, 9)} | changed


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"vel": torch.zeros(1, 48, 9)}, "known: a cell of known_vel"),
        ({"onset": torch.full((1, 48, 9), 0.5)}, "known: onset"),
        ({"known_onset": torch.zeros(1, 48, 9)}, "known_vel is set where known_onset"),
        ({"loud": 1}, "known: onset, .*loud"),
        ({"known_vel": torch.ones(1, 47, 9)}, "known: known_vel: 47 steps.*seq_len, 48"),
        ({"known_vel": torch.ones(1, 48, 8)}, "known: known_vel: shape"),
        ({"known_vel": 2 * torch.ones(1, 48, 9)}, "between 0 and 1"),
    ],
)
def test_known_drums_that_contradict_themselves(model, drums, changed, says):
    with pytest.raises(ValueError, match=says):
        generate(None, None, None, *UNSET, 48, model=model, known=known(drums, **changed))


@pytest.mark.parametrize(
    "arguments, says",
    [
        ({"follow": "loose", "known": True}, "follow: 'loose'; beside known drums"),
        ({"known": [1]}, "known: list; it must be a dict"),
        ({"latent": torch.zeros(1, 2, 8)}, r"latent: shape \(1, 2, 8\); it must be \(1, 3, 8\)"),
        ({"at_most": 0}, "at_most: 0"),
        ({"latent": torch.full((1, 3, 8), np.nan)}, "finite"),
        ({"latent": torch.zeros(1, 3, 5)}, r"latent: .*\(1, 3, 8\)"),
    ],
)
def test_wrong_arguments_of_generate(model, drums, arguments, says):
    if arguments.get("known") is True:
        arguments = arguments | {"known": known(drums)}
    with pytest.raises(ValueError, match=says):
        generate(None, None, None, *UNSET, 48, model=model, **arguments)
    with pytest.raises(ValueError, match="piano_roll_vel: None"):
        generate(drums[0], None, None, *UNSET, 48, model=model)


@pytest.mark.parametrize(
    "job, says",
    [
        (lambda d, m: humanise(d[0], model=m), "drums: of type Tensor; it must be three rolls"),
        (lambda d, m: humanise([d[0], d[1], d[2][:, :9]], model=m), "drums: 48, 48, 9 steps"),
        (lambda d, m: humanise([roll[:, :0] for roll in d], model=m), "drums: 0 steps"),
        (lambda d, m: humanise([d[0], d[1] * 200, d[2]], model=m), "drums: vel: from 0 to"),
        (
            lambda d, m: humanise([roll[:, :46] for roll in d], model=m),
            "drums: 46 steps; they must be a multiple of 4",
        ),
        (lambda d, m: add_voices(d, ["cowbell"], model=m), "unknown voice 'cowbell'"),
        (lambda d, m: add_voices(d, [9], model=m), "voices: .9.; it must be .* from 0 to 8"),
        (lambda d, m: add_voices(d, [], model=m), "voices: .."),
        (lambda d, m: infill(d, model=m), "bars, steps, voices: None"),
        (lambda d, m: infill(d, bars=3, model=m), "bars: 3; .* from 0 to 2"),
        (lambda d, m: infill(d, bars=[1.5], model=m), "bars: .1.5."),
        (lambda d, m: infill(d, steps=range(40, 60), model=m), "steps: range"),
        (lambda d, m: infill(d, bars=0, steps=[20], model=m), "bars: 0, steps: .20.; no cell is in both"),
        (
            lambda d, m: continue_drums([roll[:, :20] for roll in d], 1, model=m),
            "drums: 20 steps; .* whole bars",
        ),
        (lambda d, m: continue_drums(d, 0, model=m), "bars: 0"),
        (lambda d, m: vary(d, 1.5, model=m), "strength: 1.5"),
        (lambda d, m: vary(d, "much", model=m), "strength: 'much'"),
        (lambda d, m: interpolate(d, 3, 4, model=m), "second: of type int"),
        (lambda d, m: interpolate(d, d, 2.5, model=m), "bars: 2.5"),
    ],
)
def test_jobs_that_cannot_be_done(model, drums, job, says):
    with pytest.raises(ValueError, match=says):
        job(drums, model)
