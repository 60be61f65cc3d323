"""The model is the one that the design describes: causal, chained, conditioned, deaf to padding."""

import copy
import math

import pytest
import torch

from model.bars import BarGrid
from model.condition import BarLatent
from model.controls import CONTROLS, controls_of
from model.decoding.sampling import sample
from model.heads import velocity_to_bin
from model.layers import Block, rotary_table
from model.loss import count_tokens, training_loss
from model.model import DrumVAE
from model.phi3_arch_model import modulate
from tests.helpers.model_batches import FACTOR, hidden_states, random_batch, sampling_inputs, small_model
from utils.training.optim import make_optimizer

GRID = BarGrid.four_four(64, 4)
LOSS_WEIGHT = {"onset": 1.0, "velocity": 0.2, "offset": 0.2, "marginal": 0.5}


@pytest.fixture(scope="module")
def model(tiny_config):
    return small_model(tiny_config)


def test_block_gives_the_numbers_of_the_published_phi3_block():
    """A plain reference, written out head by head: RMSNorm, fused qkv, rotary halves, causal softmax,
    SwiGLU."""
    torch.manual_seed(0)
    B, T, D, H, theta = 2, 7, 24, 3, 10000.0
    block = Block(D, H, 40, dropout=0.0).double().eval()
    for p in block.parameters():
        torch.nn.init.normal_(p, std=0.3)
    x = torch.randn(B, T, D, dtype=torch.float64)

    def norm(x, weight):
        return weight * x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()

    def turned(vector, position):
        half = len(vector) // 2
        out = torch.zeros_like(vector)
        for i in range(half):
            angle = position * theta ** (-2 * i / len(vector))
            a, b = vector[i], vector[i + half]
            out[i] = a * math.cos(angle) - b * math.sin(angle)
            out[i + half] = b * math.cos(angle) + a * math.sin(angle)
        return out

    qkv = norm(x, block.input_layernorm.weight) @ block.self_attn.qkv_proj.weight.T
    attended = torch.zeros_like(x)
    for b in range(B):
        for h in range(H):
            q, k, v = (qkv[b, :, part * D + h * D // H : part * D + (h + 1) * D // H] for part in range(3))
            q = torch.stack([turned(q[t], t) for t in range(T)])
            k = torch.stack([turned(k[t], t) for t in range(T)])
            for t in range(T):
                share = torch.softmax(k[: t + 1] @ q[t] / math.sqrt(D // H), dim=0)
                attended[b, t, h * D // H : (h + 1) * D // H] = share @ v[: t + 1]
    y = x + attended @ block.self_attn.o_proj.weight.T
    gate, up = (norm(y, block.post_attention_layernorm.weight) @ block.mlp.gate_up_proj.weight.T).split(
        40, dim=-1
    )
    y = y + (up * gate * torch.sigmoid(gate)) @ block.mlp.down_proj.weight.T

    rotary = tuple(table.double() for table in rotary_table(torch.arange(T), D // H, theta))
    torch.testing.assert_close(block(x, rotary, is_causal=True), y, atol=1e-6, rtol=1e-6)


def test_hidden_states_do_not_depend_on_what_is_played_later_by_gradient(model):
    batch = random_batch(B=2)
    played = {name: batch[name].clone().requires_grad_() for name in ("onset", "vel", "timeoffset")}
    hidden = hidden_states(model, batch | played, condition_from=batch)
    for t in (0, 15, 16, 40):
        gradients = torch.autograd.grad(hidden[:, t].sum(), list(played.values()), retain_graph=True)
        for gradient in gradients:
            assert (gradient[:, t:] == 0).all()
        if t:  # timing through the decoder's input alone; onsets and velocities through the budget too
            assert all((gradient[:, t - 1] != 0).any() for gradient in gradients)


def test_changing_a_bar_leaves_the_bars_before_bit_identical(model):
    batch = random_batch()
    other = random_batch(seed=1)
    changed = {
        name: torch.cat((batch[name][:, :32], other[name][:, 32:]), 1)
        for name in ("onset", "vel", "timeoffset")
    }
    before, after = hidden_states(model, batch), hidden_states(model, batch | changed, condition_from=batch)
    assert torch.equal(before[:, :33], after[:, :33])
    assert not torch.allclose(before[:, 33:], after[:, 33:])


def test_a_layer_is_told_by_addition_and_where_asked_by_scale_as_well():
    x, told = torch.randn(2, 8), torch.randn(2, 16)
    torch.testing.assert_close(modulate(x, told[:, :8]), x + told[:, :8])
    torch.testing.assert_close(modulate(x, told), x * (1 + told[:, 8:]) + told[:, :8])


def test_attention_looks_no_further_back_than_the_window(tiny_config):
    config = tiny_config.model_copy(deep=True)
    config.Model.Decoder.window, config.Model.Decoder.n_layer = 4, 2
    model = small_model(config)
    embedded = torch.randn(1, 20, config.Model.Decoder.d_model, requires_grad=True)
    modulation = torch.zeros(1, 20, 2, model.decoder.d_modulation)
    gradient = (
        torch.autograd.grad(model.decoder(embedded, modulation)[:, 19].sum(), embedded)[0].abs().sum(-1)[0]
    )
    assert (gradient[19 - 6 :] > 0).all() and (
        gradient[: 19 - 6] == 0
    ).all()  # two layers of three steps back


def test_what_lies_outside_the_mask_changes_nothing(model):
    batch = random_batch()
    batch["mask"][1:, 48:] = False
    other = random_batch(seed=5)
    changed = {}
    for name, tensor in batch.items():
        if name != "mask":
            changed[name] = tensor.clone()
            changed[name][1:, 48:] = other[name][1:, 48:]
    plain, padded = model(batch), model(batch | changed)
    for name in ("onset_nats", "velocity_nats", "offset_nats"):
        torch.testing.assert_close(plain[name], padded[name], rtol=1e-5, atol=1e-4)
    heard = plain["bars"]
    torch.testing.assert_close(plain["kl"][heard], padded["kl"][heard], rtol=1e-5, atol=1e-4)
    assert plain["steps"] == padded["steps"] == 64 + 2 * 48 and torch.equal(heard, padded["bars"])
    assert count_tokens(batch, GRID) == {"steps": 64 + 2 * 48, "bars": 4 + 2 * 3} and heard.sum() == 4 + 2 * 3
    assert plain["hits"] == padded["hits"] == batch["onset"][batch["mask"]].sum()


@pytest.mark.parametrize("name", [name for name, control in CONTROLS.items() if not control.optional])
def test_every_control_is_heard_and_unset_is_something_else(model, name):
    batch = random_batch()
    unset = torch.full_like(batch[name], 18 if name == "style" else math.nan)
    other = (batch[name] + 1) % 17 if name == "style" else batch[name] + 0.3
    base = hidden_states(model, batch)
    for value in (unset, other):
        assert not torch.allclose(base, hidden_states(model, batch | {name: value}), atol=1e-3)
    assert torch.isfinite(hidden_states(model, batch | {name: unset})).all()


def test_each_voice_can_be_unset_for_itself(model):
    batch = random_batch()
    states = [hidden_states(model, batch)]
    for v in range(9):
        instrument = batch["instrument"].clone()
        instrument[..., v] = math.nan
        states.append(hidden_states(model, batch | {"instrument": instrument}))
    assert all(not torch.allclose(a, b) for i, a in enumerate(states) for b in states[:i])


def test_rhythm_is_heard_through_context_through_latent_or_not_at_all(model):
    batch, other = random_batch(), random_batch(seed=9)
    swapped = {name: other[name] for name in ("rhythm_onset", "rhythm_vel", "rhythm_timeoffset")}
    off = torch.zeros_like(batch["use_context"])
    for context, latent, heard in (
        (True, True, True),
        (True, False, True),
        (False, True, True),
        (False, False, False),
    ):
        use = {"use_context": off | context, "use_latent": off | latent}
        same = torch.allclose(
            hidden_states(model, batch | use), hidden_states(model, batch | swapped | use), atol=1e-5
        )
        assert same is not heard


def test_velocity_and_offset_heads_read_the_tap_where_it_may_be_heard(model):
    batch = random_batch()
    rhythm = [batch[f"rhythm_{name}"] for name in ("onset", "vel", "timeoffset")]
    heard = batch["use_context"].clone()
    heard[:, 20:] = False
    read = model.tap(rhythm, heard)
    nothing = model.tap.velocity.weight[0] + model.tap.offset.weight[0]
    tapped = (rhythm[0] > 0).any(-1) & heard
    assert tapped.any() and not tapped[:, :20].all()
    assert (read[~tapped] == nothing).all() and (read[tapped] != nothing).any(-1).all()
    louder = model.tap((rhythm[0], (rhythm[1] + 0.3).clamp(max=1) * rhythm[0], rhythm[2]), heard)
    later = model.tap((rhythm[0], rhythm[1], (rhythm[2] + 0.2).clamp(max=0.49) * rhythm[0]), heard)
    assert not torch.equal(louder, read) and not torch.equal(later, read)
    unknown = model.tap(
        (rhythm[0], rhythm[1] * 0, rhythm[2]), heard
    )  # mask_velocity: a tap of unknown loudness
    torch.testing.assert_close(
        unknown[tapped] - model.tap.velocity.weight[0],
        read[tapped]
        - model.tap.velocity(velocity_to_bin(rhythm[1].sum(-1), model.velocity_bins) + 1)[tapped],
    )


def test_the_encoders_guess_knows_the_rhythm_and_nothing_of_the_controls(model):
    batch, other = random_batch(), random_batch(seed=5)
    guess = model(batch)["marginal_nats"]
    assert guess > 0
    assert torch.equal(model(batch | controls_of(other))["marginal_nats"], guess)
    tap = {name: other[name] for name in ("rhythm_onset", "rhythm_vel", "rhythm_timeoffset")}
    assert not torch.equal(model(batch | tap)["marginal_nats"], guess)
    everything, nowhere = ~batch["known_onset"], batch["use_context"] & False
    assert model(batch | {"known_onset": everything, "known_vel": everything})["marginal_nats"] == 0
    assert model(batch | {"use_context": nowhere, "use_latent": nowhere})["marginal_nats"] == 0


def test_training_draws_velocity_and_offset_from_the_tap_as_sampling_does(model):
    """The tap's tokens are in their loss and in no other."""
    batch, other = random_batch(), copy.deepcopy(model)
    other.tap.velocity.weight.data.add_(torch.randn_like(other.tap.velocity.weight))
    ours, theirs = model(batch), other(batch)
    assert ours["onset_nats"] == theirs["onset_nats"] and ours["marginal_nats"] == theirs["marginal_nats"]
    assert ours["velocity_nats"] != theirs["velocity_nats"] and ours["offset_nats"] != theirs["offset_nats"]


def test_the_encoders_guess_learns_from_its_own_loss_alone(model):
    model.zero_grad()
    batch = random_batch()
    model(batch)["onset_nats"].backward()
    assert model.marginal_head.weight.grad is None and model.encoder.norm.weight.grad.any()
    model(batch)["marginal_nats"].backward()
    assert model.marginal_head.weight.grad.any()
    model.zero_grad()


def test_encoder_sees_known_cells_and_no_others(model):
    batch, other = random_batch(), random_batch(seed=3)
    changed = {name: other[name] for name in ("onset", "vel", "timeoffset")}

    def context(known_onset, known_vel, rolls):
        rhythm = tuple(batch[f"rhythm_{name}"] for name in ("onset", "vel", "timeoffset"))
        known = tuple(rolls[name] for name in ("onset", "vel", "timeoffset"))
        masks = (known_onset, known_vel, batch["mask"], batch["use_context"], batch["use_latent"])
        return model.encode(rhythm, known, *masks, GRID)[0]

    nothing, everything = batch["known_onset"], ~batch["known_onset"]
    assert torch.equal(context(nothing, nothing, batch), context(nothing, nothing, changed))
    assert not torch.allclose(context(everything, nothing, batch), context(everything, nothing, changed))
    only_vel = batch | {"vel": other["vel"]}
    assert torch.equal(context(everything, nothing, batch), context(everything, nothing, only_vel))
    assert not torch.allclose(
        context(everything, everything, batch), context(everything, everything, only_vel)
    )


def test_known_cells_count_in_no_loss(model):
    batch = random_batch()
    everything = torch.ones_like(batch["known_onset"])
    figures = model(batch | {"known_onset": everything, "known_vel": everything})
    assert figures["onset_nats"] == figures["velocity_nats"] == figures["offset_nats"] == figures["hits"] == 0


def test_budget_counts_what_is_left(model):
    """Bar one: twelve hits asked, of which two are kicks; a kick at steps 0 and 4, a snare at step 4."""
    onset = torch.zeros(1, 32, 9)
    onset[0, 0, 0] = onset[0, 4, 0] = onset[0, 4, 1] = 1
    vel = onset * 0.8
    mean, std = FACTOR["density"]
    density = torch.full((1, 32), (12 / 144 - mean) / std)
    intensity = torch.full((1, 32), (0.6 - FACTOR["intensity"][0]) / FACTOR["intensity"][1])
    instrument = torch.full((1, 32, 9), math.nan)
    instrument[..., 0] = 2 / 16
    controls = {"density": density, "intensity": intensity, "instrument": instrument}
    budget, grid = model.budget, model.grid(32)
    index = grid.on("cpu")
    played = grid.sums_before(onset), grid.sums_before(vel)

    def features_of(controls):
        return budget.features(budget.targets(controls, index.place, index.length), *played)[0]

    features = features_of(controls)
    hits_left, per_step, deficit, _, needed, has, left = features[:, :7].T
    for t, hits, kicks in ((0, 12, 2), (1, 11, 1), (4, 11, 1), (5, 9, 0), (15, 9, 0), (16, 12, 2)):
        assert hits_left[t].item() * 8 == pytest.approx(hits, abs=1e-4)
        assert per_step[t].item() == pytest.approx(hits / (16 - t % 16), abs=1e-4)
        assert features[t, 7].item() * 4 == pytest.approx(kicks, abs=1e-4)
        assert (features[t, 8:16] == 0).all()  # voices that nobody asked for
    assert deficit[5].item() == pytest.approx(3 * 0.6 - 3 * 0.8, abs=1e-4)
    assert needed[5].item() == pytest.approx((12 * 0.6 - 3 * 0.8) / 9, abs=1e-4)
    assert (has == 1).all() and left[3].item() == pytest.approx(13 / 16)
    unset = features_of(controls | {"density": density * math.nan})
    assert (unset[:, [0, 1, 4, 5]] == 0).all() and (unset[:, 2] == features[:, 2]).all()


def test_one_batch_is_learnt_by_heart(tiny_config):
    model = small_model(tiny_config)
    batch = random_batch(B=4, T=16)
    training = tiny_config.Training.model_copy(update={"learning_rate": 1e-2, "weight_decay": 0.0})
    optimizer = make_optimizer(model, training)
    model.train()
    for _ in range(100):
        optimizer.zero_grad()
        figures = model(batch)
        training_loss(figures, count_tokens(batch, model.grid(16)), LOSS_WEIGHT, 0.0, 0.0).backward()
        optimizer.step()
    figures = model.eval()(batch)
    assert figures["onset_nats"] / figures["steps"] < 0.15
    assert figures["velocity_nats"] / figures["hits"] < 0.5 and figures["offset_nats"] / figures["hits"] < 0.5


def test_free_bits_cost_nothing_and_more_does():
    """In the one bar that was heard; each unit has its own."""
    figures = dict.fromkeys(
        ("onset_nats", "velocity_nats", "offset_nats", "marginal_nats"), torch.tensor(0.0)
    )
    figures["bars"] = torch.tensor([[True, False]])

    def loss(units):
        figures["kl"] = torch.tensor([[units, [9.0, 9.0]]])
        return training_loss(figures, {"steps": 32, "bars": 1}, LOSS_WEIGHT, 1.0, 0.5).item()

    assert loss([0.0, 0.0]) == loss([0.5, 0.3]) == pytest.approx(1.0)
    assert loss([3.0, 0.0]) == pytest.approx(3.0 + 0.5)


def test_losses_of_pieces_add_up_to_the_loss_of_the_batch(model):
    batch = random_batch(B=4)
    batch["mask"][2:, 32:] = False  # pieces of unequal weight
    batch["noise"] = torch.randn(4, 4, model.latent.bias.numel() // 2)
    tokens = count_tokens(batch, GRID)

    def loss(rows):
        return training_loss(
            model({name: tensor[rows] for name, tensor in batch.items()}), tokens, LOSS_WEIGHT, 1.0, 0.1
        )

    whole = loss(slice(0, 4))
    torch.testing.assert_close(loss(slice(0, 1)) + loss(slice(1, 2)) + loss(slice(2, 4)), whole)
    batch["noise"] = -batch["noise"]
    assert loss(slice(0, 4)) != whole


def test_latent_is_a_mean_over_the_valid_steps_that_tells_them_apart():
    torch.manual_seed(0)
    latent = BarLatent(6, 3, 16)
    with torch.no_grad():
        latent.fold[:] = torch.randn(1, 6, 6) * 0.1  # the same for all places: a plain mean
    two, one = BarGrid.four_four(32, 4), BarGrid.four_four(16, 4)
    hidden = torch.randn(1, 1, 6).repeat(1, 32, 1)
    mask = torch.ones(1, 32, dtype=torch.bool)
    mask[:, 20:] = False
    hidden[:, 20:] = 9.0
    mu, logvar, bars = latent(hidden, mask, two)
    torch.testing.assert_close(mu[:, 0], mu[:, 1])
    torch.testing.assert_close(logvar[:, 0], logvar[:, 1])
    assert bars.all() and not latent(hidden, mask & False, two)[2].any()
    order = torch.randn(1, 16, 6)
    everything = torch.ones(1, 16, dtype=torch.bool)
    torch.testing.assert_close(latent(order, everything, one)[0], latent(order.flip(1), everything, one)[0])
    latent = BarLatent(6, 3, 16)
    assert not torch.allclose(
        latent(order, everything, one)[0], latent(order.flip(1), everything, one)[0], atol=0.05
    )


def test_model_needs_the_statistics(tiny_config):
    with pytest.raises(ValueError, match="normalize_factor.*preprocessing"):
        DrumVAE(tiny_config.to_dict())


def test_chain_and_budget_can_be_left_out(tiny_config):
    config = tiny_config.model_copy(deep=True)
    config.Model.Output.onset_chain = False
    config.Model.Decoder.condition_params.remaining_budget = False
    model, batch = small_model(config), random_batch()
    hidden = hidden_states(model, batch)
    assert torch.equal(model.onset_head(hidden, batch["onset"]), model.onset_head(hidden, 1 - batch["onset"]))
    assert not any("budget" in name for name in model.state_dict())
    assert torch.isfinite(sample(model, *sampling_inputs(batch), generator=torch.Generator())[0]).all()
