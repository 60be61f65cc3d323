"""Drawing is the model that was trained, step by step: same numbers, and it does as it is told."""

import copy

import pytest
import torch

from data_aug import unset_controls
from model.decoding.guide import Guide
from model.decoding.sampling import encode, sample
from model.heads import offset_to_bin, velocity_to_bin
from tests.helpers.model_batches import (
    hidden_states,
    random_batch,
    record_steps,
    sampling_inputs,
    small_model,
)


@pytest.fixture(scope="module")
def model(tiny_config):
    return small_model(tiny_config)


@pytest.mark.parametrize("T", [64, 96])
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("film", [False, True])
def test_cached_steps_give_the_hidden_states_of_the_full_forward(tiny_config, T, compiled, film, monkeypatch):
    """With padding, with guidance's doubled batch, and past the attention window."""
    config = tiny_config.model_copy(deep=True)
    config.Model.Decoder.condition_params.film = film
    model = small_model(config)
    batch = random_batch(T=T)
    batch["mask"][1, 48:] = False
    for name in ("onset", "vel", "timeoffset"):
        batch[name] = batch[name] * batch["mask"].unsqueeze(-1)
    cached = record_steps(monkeypatch, compiled)
    everything = torch.ones_like(batch["known_onset"])
    rolls = {name: batch[name] for name in ("onset", "vel", "timeoffset")}
    known = rolls | {"known_onset": everything, "known_vel": everything}
    how = {"guidance": 2.0, "generator": torch.Generator(), "precision": torch.float32}
    played = sample(model, *sampling_inputs(batch), known=known, **how)
    for roll, name in zip(played, rolls):
        assert torch.equal(roll, batch[name])

    with torch.no_grad():
        full = batch | {"known_onset": everything, "known_vel": everything}
        given, unset = hidden_states(model, full), hidden_states(model, unset_controls(full))
    torch.testing.assert_close(torch.stack(cached, dim=1), torch.cat((given, unset)), atol=1e-5, rtol=1e-5)


def test_from_a_fresh_bar_on_nothing_depends_on_the_bars_before_it(model):
    batch = random_batch(T=64)
    silent = torch.zeros_like(batch["onset"], dtype=torch.bool)
    silent[:, :32] = True  # the first two bars

    def played(fresh, forbid):
        seed = torch.Generator().manual_seed(7)
        drums = sample(model, *sampling_inputs(batch), forbid=forbid, fresh=fresh, generator=seed)
        return drums[0]

    assert played((2,), None)[:, :32].any() and not played((2,), silent)[:, :32].any()
    assert torch.equal(played((2,), None)[:, 32:], played((2,), silent)[:, 32:])
    assert not torch.equal(played((), None)[:, 32:], played((), silent)[:, 32:])


def test_same_seed_same_drums_and_no_other_source_of_chance(model):
    batch = random_batch()
    draws = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        draws.append(sample(model, *sampling_inputs(batch), generator=torch.Generator().manual_seed(7)))
        assert torch.equal(torch.get_rng_state(), before)
    other = sample(model, *sampling_inputs(batch), generator=torch.Generator().manual_seed(8))
    assert all(torch.equal(a, b) for a, b in zip(*draws))
    assert not torch.equal(draws[0][0], other[0])


def test_onsets_start_from_the_encoders_guess_where_the_context_is_heard(model):
    batch, sure = random_batch(), copy.deepcopy(model)
    sure.marginal_head.bias.data[:] = 100.0 * torch.tensor([1, -1, -1, 1, -1, -1, -1, -1, -1])
    heard = batch["use_context"].clone()
    heard[:, 16:] = False
    onset, _, _ = sample(sure, *sampling_inputs(batch), use_context=heard, generator=torch.Generator())
    assert (onset[:, :16] == (sure.marginal_head.bias > 0)).all() and not (
        onset[:, 16:] == onset[:, :1]
    ).all()
    nats = sure(batch | {"onset": onset, "vel": onset * 0.5, "timeoffset": onset * 0, "mask": heard})[
        "onset_nats"
    ]
    assert nats < 1e-3  # the same in training


def test_drawn_velocities_and_offsets_read_the_tap(model):
    """Its tokens reach them, and nothing else of the step, unless the context is unset."""
    batch, other = random_batch(B=64), copy.deepcopy(model)
    with torch.no_grad():
        other.tap.velocity.weight.add_(5 * torch.randn_like(other.tap.velocity.weight))
    step = {name: tensor[:, :1] for name, tensor in batch.items()}

    def draw(model, use_context):
        generator = torch.Generator().manual_seed(0)
        return sample(
            model, *sampling_inputs(step), use_context=step["use_context"] & use_context, generator=generator
        )

    heard, heard_otherwise = draw(model, True), draw(other, True)
    assert torch.equal(heard[0], heard_otherwise[0]) and heard[0].any()
    assert not torch.equal(heard[1], heard_otherwise[1]) and not torch.equal(heard[2], heard_otherwise[2])
    with torch.no_grad():
        other.tap.velocity.weight[0] = model.tap.velocity.weight[0]  # what stands for an unheard tap
    for unheard, unheard_otherwise in zip(draw(model, False), draw(other, False)):
        assert torch.equal(unheard, unheard_otherwise)


def test_a_hit_with_the_taps_own_tokens_is_the_tap_itself(model):
    """Which happens wherever the tables say: repeat the tap. Others lie anywhere in their bins."""
    batch, copying = random_batch(), copy.deepcopy(model)
    wanted = [
        (copying.hit_head.velocity, velocity_to_bin, "vel"),
        (copying.hit_head.offset, offset_to_bin, "timeoffset"),
    ]
    step = {name: tensor[:1, :1] for name, tensor in batch.items()}
    for head, to_bin, name in wanted:
        head.voice_bias.data[:] = 0
        head.voice_bias.data[:, to_bin(step[f"rhythm_{name}"].sum(), model.velocity_bins)] = 100
    copying.onset_head.base.bias.data[:] = 10
    rolls = sample(copying, *sampling_inputs(step), generator=torch.Generator().manual_seed(1))
    deaf = sample(
        copying,
        *sampling_inputs(step),
        use_context=step["use_context"] & False,
        use_latent=step["use_latent"],
        generator=torch.Generator().manual_seed(1),
    )
    for roll, other, (_, _, name) in zip(rolls[1:], deaf[1:], wanted):
        assert rolls[0].any() and (roll[rolls[0] > 0] == step[f"rhythm_{name}"].sum()).all()
        assert not (other[deaf[0] > 0] == step[f"rhythm_{name}"].sum()).any()


def test_known_cells_come_back_as_they_are(model):
    batch = random_batch()
    g = torch.Generator().manual_seed(3)
    known_onset = torch.rand(batch["onset"].shape, generator=g) < 0.5
    known_vel = known_onset & (torch.rand(batch["onset"].shape, generator=g) < 0.5)
    known = {name: batch[name] for name in ("onset", "vel", "timeoffset")}
    known |= {"known_onset": known_onset, "known_vel": known_vel}
    onset, vel, timeoffset = sample(model, *sampling_inputs(batch), known=known, generator=g)
    assert torch.equal(onset[known_onset], batch["onset"][known_onset])
    assert torch.equal(vel[known_vel], batch["vel"][known_vel])
    assert torch.equal(timeoffset[known_vel], batch["timeoffset"][known_vel])
    assert not torch.equal(onset, batch["onset"]) and not torch.equal(
        vel[known_onset], batch["vel"][known_onset]
    )


def test_forbidden_and_masked_cells_are_silent(model):
    batch = random_batch()
    batch["mask"][:, 40:] = False
    forbid = torch.zeros_like(batch["known_onset"])
    forbid[:, 8:24, 2] = True
    onset, vel, timeoffset = sample(
        model, *sampling_inputs(batch), forbid=forbid, generator=torch.Generator()
    )
    for roll in (onset, vel, timeoffset):
        assert (roll[:, 40:] == 0).all() and (roll[:, 8:24, 2] == 0).all()
    assert onset[:, :8, 2].any() or onset[:, 24:40, 2].any()


def test_length_may_end_within_a_bar(model):
    batch = {name: tensor[:, :20] for name, tensor in random_batch().items()}
    onset, _, _ = sample(model, *sampling_inputs(batch), generator=torch.Generator())
    assert onset.shape == (3, 20, 9) and onset.any()


def test_guidance_of_one_is_none_at_all_and_more_changes_the_drums(model):
    batch = random_batch()
    draw = [
        sample(model, *sampling_inputs(batch), guidance=g, generator=torch.Generator().manual_seed(1))[0]
        for g in (1.0, 3.0)
    ]
    assert not torch.equal(*draw)
    logits = torch.tensor([[1.0], [3.0]])
    assert Guide(1.0).blend(logits).equal(logits) and Guide(2.0).blend(logits).item() == 3.0 + 2.0 * (
        1.0 - 3.0
    )


def test_guidance_of_nothing_asked_costs_no_second_row(model, monkeypatch):
    unset, states = unset_controls(random_batch()), record_steps(monkeypatch)
    for name in (None, *model.controls):
        asked = unset | ({} if name is None else {name: random_batch()[name]})
        sample(model, *sampling_inputs(asked), guidance=3.0, generator=torch.Generator().manual_seed(1))
        assert {len(state) for state in states} == {3 if name is None else 6}, name
        states.clear()


def test_samples_of_a_rhythm_that_is_heard_once_are_those_of_one_heard_each_time(model, monkeypatch):
    batch = random_batch()
    batch["known_onset"][:, :8] = batch["known_vel"][:, :8] = True
    encode, heard = type(model).encode, []
    monkeypatch.setattr(
        type(model), "encode", lambda self, *args: heard.append(len(args[0][0])) or encode(self, *args)
    )

    def play(n, again):
        rows = {name: x.repeat_interleave(again, dim=0) for name, x in batch.items()}
        rules = {"forbid": rows["rhythm_onset"] > 0, "limit": torch.full((3 * again, 64, 1, 9), 2)}
        known = {name: rows[name] for name in ("onset", "vel", "timeoffset", "known_onset", "known_vel")}
        return sample(
            model,
            *sampling_inputs(rows),
            known=known,
            **rules,
            num_samples=n,
            guidance=2.0,
            generator=torch.Generator().manual_seed(1),
        )

    together, apart = play(4, 1), play(1, 4)
    assert heard == [3, 12] and together[0].shape == (12, 64, 9)
    assert torch.equal(together[0], apart[0]) and not torch.equal(together[0][0], together[0][1])
    for a, b in zip(together[1:], apart[1:]):
        torch.testing.assert_close(a, b)


def encoded(model, batch, bars=None):
    """The context and the latents of a batch, or of some of its bars alone (first, last), and all sizes that
    were heard."""
    here = slice(None) if bars is None else slice(16 * bars[0], 16 * bars[1])
    rhythm = [batch[f"rhythm_{name}"][:, here] for name in ("onset", "vel", "timeoffset")]
    names = ("onset", "vel", "timeoffset", "known_onset", "known_vel", "mask", "use_context", "use_latent")
    cells = {name: batch[name][:, here] for name in names}
    grid = model.grid(cells["mask"].shape[1])
    return encode(model, rhythm, *(cells.pop(name) for name in names[5:]), grid, known=cells)


@pytest.mark.parametrize("bars", [17, 24, 25, 37])
def test_a_long_rhythm_is_heard_in_windows_of_which_the_middles_stay(model, bars, monkeypatch):
    batch = random_batch(B=2, T=16 * bars)
    batch["known_onset"][:, ::3] = batch["known_vel"][:, ::3] = True
    encode, sizes = type(model).encode, []
    monkeypatch.setattr(
        type(model), "encode", lambda self, *args: sizes.append(args[4].shape) or encode(self, *args)
    )
    context, latent = encoded(model, batch)
    assert context.shape[:2] == (2, 16 * bars) and latent.shape[:2] == (2, bars)
    assert set(sizes) == {(2, 256)} and len(sizes) == {17: 2, 24: 2, 25: 3, 37: 4}[bars]
    starts = [*range(0, bars - 16, 8), bars - 16]
    for bar in range(bars):
        start = next(start for start in starts if bar < start + 12 or start == starts[-1])
        alone = encoded(model, batch, (start, start + 16))
        assert torch.equal(
            context[:, 16 * bar : 16 * bar + 16], alone[0][:, 16 * (bar - start) : 16 * (bar - start) + 16]
        )
        assert torch.equal(latent[:, bar], alone[1][:, bar - start])


def test_up_to_sixteen_bars_are_heard_in_one_go(model, monkeypatch):
    batch = random_batch(B=2, T=256)
    rhythm = [batch[f"rhythm_{name}"] for name in ("onset", "vel", "timeoffset")]
    steps = batch["mask"], batch["use_context"], batch["use_latent"]
    nothing = batch["known_onset"]
    grid = model.grid(256)
    silence = [roll * 0 for roll in rhythm]
    with torch.no_grad():
        context, mu, _, _ = model.encode(rhythm, silence, nothing, nothing, *steps, grid)
    heard = encode(model, rhythm, *steps, grid)
    assert torch.equal(heard[0], context) and torch.equal(heard[1], mu)


def test_temperature_must_be_positive(model):
    with pytest.raises(ValueError, match="temperature: 0"):
        sample(model, *sampling_inputs(random_batch()), temperature=0)
    with pytest.raises(ValueError, match="temperature: \\(1, 1, 0\\)"):
        sample(model, *sampling_inputs(random_batch()), temperature=(1, 1, 0))


def test_onsets_velocity_and_timing_have_temperatures_of_their_own(model):
    """Where all onsets are known the first does not count; in the first step the onsets show it. The nearer
    to 0, the less do draws differ."""
    batch = random_batch()
    known = {name: batch[name] for name in ("onset", "vel", "timeoffset")}
    known |= {"known_onset": torch.ones_like(batch["known_onset"])}
    known |= {"known_vel": torch.zeros_like(batch["known_vel"])}

    def play(temperature, **more):
        chance = torch.Generator().manual_seed(1)
        return sample(model, *sampling_inputs(batch), temperature=temperature, generator=chance, **more)

    both = zip(play(0.5, known=known), play((3.0, 0.5, 0.5), known=known))
    assert all(torch.equal(mine, other) for mine, other in both)
    colder, three, warm = (play(temperature)[0][:, 0] for temperature in (0.1, (0.1, 1.0, 1.0), 1.0))
    assert torch.equal(colder, three) and not torch.equal(three, warm)
    hit = batch["onset"] > 0
    spread = [
        [roll[hit].std() for roll in play((1.0, *of), known=known)[1:]] for of in ((1.0, 1e-3), (1e-3, 1.0))
    ]
    (vel, still_offset), (still_vel, offset) = spread
    assert still_vel < vel / 2 and still_offset < offset / 2


def test_a_lift_makes_a_voice_likelier_and_a_fall_rarer(model):
    """So much that nothing is left to chance, for one voice each way; the others' first step stays."""
    chance = torch.Generator().manual_seed(1)
    lift = tuple(1e6 if v == 2 else -1e6 if v == 0 else 0.0 for v in range(9))
    onset, _, _ = sample(
        model, *sampling_inputs(random_batch()), temperature=(1.0, 1.0, 1.0, lift), generator=chance
    )
    there = sampling_inputs(random_batch())[2].float()
    assert torch.equal(onset[..., 2], there) and not onset[..., 0].any()
    assert 0 < onset[..., 1].mean() < 1
