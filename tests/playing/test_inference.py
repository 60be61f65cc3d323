import random

import numpy as np
import pytest
import torch

import inference_bar_control as inference
from data_aug import RHYTHM_KEYS
from inference_bar_control import generate, generate_control_params, process_midi
from model.bars import BarGrid
from tests.helpers.inference_helpers import build_tiny_model, save_tiny_checkpoint
from tests.helpers.model_batches import small_model
from utils.midi.drums import STYLE_NONE, STYLES
from utils.playing import generate as generating
from utils.playing.bar_lines import BarLines
from utils.playing.request import OWN_FOLLOW, Dials

UNSET = [None] * 5  # density, intensity, instrument, style, masks


@pytest.fixture(scope="module")
def tiny_model(tiny_config):
    return build_tiny_model(tiny_config)


@pytest.fixture
def rhythm(repository):
    return process_midi(repository / "examples" / "clave_taps.mid")


@pytest.fixture
def heard(monkeypatch):
    """Replaces the sampling by a silent drummer, and holds what it was asked."""
    asked = {}

    def sample(model, rhythm, controls, mask, **more):
        asked.update(zip(RHYTHM_KEYS, rhythm), **controls, mask=mask, **more)
        asked["training"] = any(module.training for module in model.modules())
        return [torch.zeros_like(asked["rhythm_onset"]) for _ in range(3)]

    monkeypatch.setattr(generating, "sample", sample)
    return asked


# ---- what generate asks of the model


def test_curve_within_a_bar_asks_for_its_mean(heard, rhythm, tiny_model):
    ramp = generate_control_params([0, 1], [-1, 1], 32, "linear")
    generate(*rhythm, ramp, ramp[:, :, 0], None, None, None, 32, model=tiny_model)
    for name in ("density", "intensity"):
        assert torch.allclose(heard[name][0, :16], ramp[0, :16, 0].mean()) and heard[name].shape == (1, 32)
        assert torch.allclose(heard[name][0, 16:], ramp[0, 16:, 0].mean())
    assert heard["instrument"].isnan().all() and (heard["style"] == STYLE_NONE).all()


def test_mean_of_a_bar_leaves_out_unset_and_invalid_steps():
    curve = torch.tensor([1.0, torch.nan, 3.0, 9.0, torch.nan, torch.nan])
    mask = torch.tensor([True, True, True, False, True, True])
    means = BarGrid.four_four(6, 1).means(curve, mask)
    assert means[:4].tolist() == [2.0] * 4 and means[4:].isnan().all()


def test_negative_instrument_forbids_the_voice_there_and_counts_as_zero(heard, rhythm, tiny_model):
    instrument = torch.full((16, 9), torch.nan)
    instrument[:, 0] = 0.5
    instrument[:8, 0] = -1
    generate(*rhythm, None, None, instrument, None, None, 16, model=tiny_model)
    assert (
        heard["forbid"][0, :, 0].tolist() == [True] * 8 + [False] * 8 and not heard["forbid"][0, :, 1:].any()
    )
    assert (
        heard["instrument"][0, :, 0].tolist() == [0.25] * 16 and heard["instrument"][0, :, 1:].isnan().all()
    )


def test_impossible_requests_are_met_as_nearly_as_can_be(heard, rhythm, tiny_model):
    generate(*rhythm, [-100.0] * 16, [50.0] * 16, torch.full((16, 9), 3.0), None, None, 16, model=tiny_model)
    assert torch.allclose(heard["density"] * 0.05 + 0.125, torch.tensor(0.0), atol=1e-6)
    assert torch.allclose(heard["intensity"] * 0.1 + 0.5, torch.tensor(1.0))
    assert (heard["instrument"] == 1).all()


def test_styles_by_id_by_name_and_unset(heard, rhythm, tiny_model):
    for style, expected in (
        (np.full((1, 16), 16), 16),
        ("funk", STYLES.index("funk")),
        ([99] * 16, 18),
        ([np.nan] * 16, 18),
    ):
        generate(*rhythm, None, None, None, style, None, 16, model=tiny_model)
        assert heard["style"].tolist() == [[expected] * 16] and heard["style"].dtype == torch.int64


@pytest.mark.parametrize("seq_len", [32, 64, 96])
def test_rhythm_shorter_or_longer_than_what_is_written(heard, rhythm, tiny_model, seq_len):
    generate(*rhythm, *UNSET, seq_len, model=tiny_model)
    known = min(seq_len, 64)
    assert (
        torch.equal(heard["rhythm_onset"][:, :known], rhythm[0][:, :known])
        and heard["rhythm_onset"].shape[1] == seq_len
    )
    for name in ("use_context", "use_latent"):
        assert heard[name][0].tolist() == [True] * known + [False] * (seq_len - known)


@pytest.mark.parametrize(
    "follow, context, latent", [("literal", True, True), ("loose", False, True), ("free", False, False)]
)
def test_how_the_rhythm_is_followed(heard, rhythm, tiny_model, follow, context, latent):
    generate(*rhythm, *UNSET, 64, model=tiny_model, follow=follow)
    assert (heard["use_context"] == context).all() and (heard["use_latent"] == latent).all()


def test_a_drummers_own_hits_count_more_where_nothing_is_asked_or_known(heard, rhythm, tiny_config):
    config = tiny_config.model_copy(deep=True)
    config.Model.rhythm_is = True
    model = build_tiny_model(config)

    def follow(curves=UNSET, **more):
        generate(*rhythm, *curves, 64, model=model, **more)
        return heard["follow"]

    for dial, times in (("literal", 1), (1, 1), (0.5, 0.5), ("loose", 0)):
        assert follow(follow=dial) == follow(follow=dial, rhythm_is="drums") == OWN_FOLLOW * times
        assert follow(follow=dial, rhythm_is="hands") == follow(follow=dial, rhythm_is="part") == times
    for number in range(4):
        asked = [*UNSET]
        asked[number] = [np.full((1, 64), 0.5), np.full((1, 64), 0.5), np.full((1, 64, 9), 0.5), "funk"][
            number
        ]
        assert follow(asked) == 1
    assert follow(drums=rhythm, lock=["kick"]) == 1 == follow(follow="free")
    generate(*[None] * 8, 64, model=model)
    assert heard["follow"] == 1  # to no rhythm


def test_full_drum_loop_is_heard_by_its_loudest_hits(heard, tiny_model):
    onset, vel, timeoffset = torch.zeros(3, 16, 9).unbind()
    onset[0, [0, 8]], vel[0, 0], vel[0, 8], timeoffset[0, 8] = 1, 0.4, 0.9, 0.2
    generate(onset, vel, timeoffset, *UNSET, 16, model=tiny_model)
    assert heard["rhythm_onset"].nonzero().tolist() == [[0, 0, 3]]
    assert (
        heard["rhythm_vel"][0, 0, 3] == vel[0, 8] and heard["rhythm_timeoffset"][0, 0, 3] == timeoffset[0, 8]
    )


# ---- generate with a real, untrained model


def test_forbidden_voice_never_sounds_and_masked_steps_are_silent(rhythm, tiny_model):
    instrument = torch.zeros(1, 64, 9)
    instrument[:, :, 4] = -0.01
    masks = torch.ones(1, 64)
    masks[:, 40:] = 0
    free = generate(*rhythm, *UNSET, 64, model=tiny_model, seed=1)
    onset, vel, timeoffset = generate(
        *rhythm, None, None, instrument, None, masks, 64, model=tiny_model, seed=1, num_samples=3
    )
    assert onset.shape == vel.shape == timeoffset.shape == (3, 64, 9)
    assert onset[:, :, 4].sum() == 0 < free[0][:, :, 4].sum()
    assert onset[:, 40:].sum() == 0 < free[0][:, 40:].sum() and onset[:, :40].sum() > 0
    assert (
        ((onset == 0) | (onset == 1)).all() and not vel[onset == 0].any() and not timeoffset[onset == 0].any()
    )
    assert (
        (vel[onset == 1] > 0).all()
        and (vel <= 1).all()
        and (timeoffset >= -0.5).all()
        and (timeoffset < 0.5).all()
    )


def test_same_seed_same_drums_for_tensors_and_arrays(rhythm, tiny_model):
    first = generate(*rhythm, *UNSET, 20, model=tiny_model, seed=5)
    arrays = [roll[0].numpy() for roll in rhythm]
    again = generate(*arrays, *UNSET, 20, model=tiny_model, seed=5)
    other = generate(*rhythm, *UNSET, 20, model=tiny_model, seed=6)
    assert all(torch.equal(a, b) for a, b in zip(first, again)) and first[0].shape == (1, 20, 9)
    assert not torch.equal(first[0], other[0])
    unseeded = [generate(*rhythm, *UNSET, 20, model=tiny_model)[0] for _ in range(2)]
    assert not torch.equal(*unseeded)


def test_generate_leaves_no_trace(rhythm, tiny_model):
    tiny_model.train()
    tiny_model.encoder.eval()
    modes = [module.training for module in tiny_model.modules()]
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    trained = [parameter.clone() for parameter in tiny_model.parameters()]
    generate(*rhythm, *UNSET, 16, model=tiny_model, seed=1)
    generate(*rhythm, *UNSET, 16, model=tiny_model)
    assert [module.training for module in tiny_model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[2]
    assert (np.random.get_state()[1] == before[1]).all()
    assert all(torch.equal(a, b) for a, b in zip(trained, tiny_model.parameters()))


def test_model_samples_in_eval_mode(heard, rhythm, tiny_model):
    tiny_model.train()
    generate(*rhythm, *UNSET, 16, model=tiny_model)
    assert heard["training"] is False and tiny_model.training


def test_mode_is_restored_when_sampling_fails(rhythm, tiny_model, monkeypatch):
    monkeypatch.setattr(generating, "sample", lambda *_, **__: 1 / 0)
    tiny_model.train()
    with pytest.raises(ZeroDivisionError):
        generate(*rhythm, *UNSET, 16, model=tiny_model)
    assert tiny_model.training


def test_without_a_model_every_door_takes_the_shipped_one(rhythm, tiny_config, tmp_path, monkeypatch):
    import utils.get_model

    monkeypatch.setattr(
        utils.get_model, "SHIPPED", save_tiny_checkpoint(tiny_config, tmp_path / "shipped.pt")
    )
    doors = (
        lambda: generate(*rhythm, *UNSET, 16),
        lambda: inference.humanise(rhythm),
        lambda: inference.Jam(*rhythm),
        lambda: inference.Take(rhythm),
    )
    for door in doors:
        monkeypatch.setattr(utils.get_model, "_last_model", None)
        door()
        assert utils.get_model._last_model.loaded_from[0] == "shipped.pt"
    with pytest.raises(ValueError, match="model: .*get_model"):
        generate(*rhythm, *UNSET, 16, model="drummer.pt")


def test_model_defaults_to_the_last_one_built(rhythm, tiny_model, monkeypatch):
    import utils.get_model

    monkeypatch.setattr(utils.get_model, "_last_model", None)
    monkeypatch.setattr(utils.get_model, "_last_model", tiny_model)
    assert torch.equal(
        generate(*rhythm, *UNSET, 16, seed=1)[0], generate(*rhythm, *UNSET, 16, model=tiny_model, seed=1)[0]
    )


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"seq_len": 18}, "seq_len: 18; .* multiple of 4"),
        ({"seq_len": 0}, "seq_len: 0"),
        ({"seq_len": 16.0}, "seq_len: 16.0"),
        ({"density": torch.zeros(1, 12)}, "density: 12 steps; seq_len, 16, .* no longer than the controls"),
        ({"intensity": torch.zeros(2, 16)}, r"intensity: shape \(2, 16\)"),
        ({"instrument": torch.zeros(1, 16)}, r"instrument: shape \(1, 16\)"),
        ({"masks": torch.ones(1, 8)}, "masks: 8 steps"),
        ({"style": [-3] * 16}, "style: -3"),
        ({"style": [1.5] * 16}, "style: 1.5"),
        ({"style": "fuk"}, "style 'fuk'; did you mean funk"),
        ({"piano_roll_onset": torch.zeros(1, 65552, 9)}, "piano_roll_onset: 65552 steps; .* at most 65536"),
        ({"piano_roll_vel": torch.zeros(1, 32, 9)}, "piano_roll_vel: 32 steps; .* 64"),
        ({"piano_roll_vel": torch.full((1, 64, 9), 90.0)}, "piano_roll_vel: from 90 to 90; .* 0 and 1"),
        ({"piano_roll_timeoffset": torch.zeros(2, 64, 9)}, r"piano_roll_timeoffset: shape \(2, 64, 9\)"),
        ({"follow": "closely"}, "follow: 'closely'"),
        ({"temperature": 0}, "temperature: 0"),
        ({"guidance": -1}, "guidance: -1"),
        ({"temperature": "hot"}, "temperature: 'hot'; it must be a number"),
        ({"playable": "no"}, "playable: 'no'; it must be True or False"),
        ({"seq_len": 65540}, "seq_len: 65540; .* 65536 at most"),
        ({"density": "busy"}, "density: 'busy'; it must be a tensor, an array or a list"),
        ({"style": ["funk"] * 16}, r"style: \['funk', .*; it must be a tensor"),
        ({"latent": "x"}, "latent: 'x'"),
        ({"piano_roll_onset": "rhythm.mid"}, "piano_roll_onset: 'rhythm.mid'; it must be a tensor"),
        ({"model": "drummer.pt"}, "model: 'drummer.pt'; it must be a model that get_model built"),
        ({"num_samples": 0}, "num_samples: 0"),
        (
            {"num_samples": 2**70},
            "num_samples: 1180591620717411303424; it must be a whole number, 1 or more, 1000 at most",
        ),
        ({"best_of": 10**6}, "best_of: 1000000; it must be a whole number, 1 or more, 1000 at most"),
        ({"seq_len": 65536, "best_of": 65}, "best_of: 65; of 65536 steps at most 64 takes are played"),
        ({"seed": -1}, "seed: -1"),
        ({"seed": "one"}, "seed: 'one'"),
    ],
)
def test_generate_names_argument_value_and_rule(heard, rhythm, tiny_model, changes, named):
    rolls = dict(zip(("piano_roll_onset", "piano_roll_vel", "piano_roll_timeoffset"), rhythm))
    unset = dict.fromkeys(("density", "intensity", "instrument", "style", "masks"))
    with pytest.raises(ValueError, match=named):
        generate(**{**rolls, **unset, "seq_len": 16, "model": tiny_model, **changes})


def test_extras_are_keyword_only(rhythm, tiny_model):
    with pytest.raises(TypeError):
        generate(*rhythm, *UNSET, 16, tiny_model)


def test_bars_are_those_of_the_meter(tiny_config):
    model = small_model(tiny_config, longest_bar=32)
    nothing = [None] * 3

    def hits(meter, seq_len, **asked):
        wishes = dict.fromkeys(("density", "intensity", "instrument", "style", "masks"))
        return generate(*nothing, **wishes | asked, seq_len=seq_len, model=model, seed=1, meter=meter)[0][0]

    assert torch.equal(hits("4/4", 48), hits(None, 48))
    assert len(hits("7/8", 42)) == 42 and len(hits(["1/4", "3/4"], 29)) == 29
    share = torch.full((1, 36, 9), -1.0)
    share[..., 0] = torch.tensor([1.0, 0, 0.5]).repeat_interleave(12)  # a bar each
    curves = dict.fromkeys(("density", "intensity", "style")) | {"instrument": share}
    plan = generating.make_plan(
        model, Dials(), 36, nothing, curves, grid_of=BarLines.in_meter(model, "3/4").of_steps
    )
    assert plan.wishes[0]["instrument"][:, 0].tolist() == [12, 0, 6] and plan.grid.lengths == (12,) * 3
    assert not hits("3/4", 36, instrument=share)[:, 1:].any()
    for meter in ("9/4", "3", 5.5, ["3/4", None], []):
        with pytest.raises(ValueError, match="meter: .*2 to 32 sixteenths"):
            hits(meter, 48)
    shorter = small_model(tiny_config, longest_bar=16)
    with pytest.raises(
        ValueError, match="meter: '5/4'; this model was trained on bars of up to 16 sixteenths"
    ):
        wishes = dict.fromkeys(("density", "intensity", "instrument", "style", "masks"))
        generate(*nothing, **wishes, seq_len=40, model=shorter, meter="5/4")
