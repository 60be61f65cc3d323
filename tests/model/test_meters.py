"""Bars of any meter in the model: rows with bars of their own, and weights that learnt 4/4 alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.bars import BarGrid
from model.batch_bars import BatchGrid
from model.controls import CONTROLS
from model.decoding import capture
from model.decoding.sampling import sample
from model.decoding.streaming import Stream
from model.loss import count_tokens
from model.model import DrumVAE
from tests.helpers.model_batches import hidden_states, random_batch, sampling_inputs, small_model
from utils.checkpoints import load_weights

T = 44
GRIDS = [
    BarGrid.of(["3/4", "6/8", "5/8", "3/4"], T),  # the last bar is cut short
    BarGrid.of("4/4", T),
    BarGrid.of([32, "12/8"], T),
]


@pytest.fixture(scope="module")
def model(tiny_config):
    return small_model(tiny_config, longest_bar=32)


def mixed_batch():
    batch = random_batch(B=3, T=T)
    tensors = {name: torch.from_numpy(array) for name, array in BatchGrid.of(GRIDS).as_batch().items()}
    return batch | tensors


def row_of(batch, row):
    return {name: x[row : row + 1] for name, x in batch.items()}


grids = st.lists(st.lists(st.integers(2, 32), min_size=1, max_size=5), min_size=1, max_size=4)


@settings(max_examples=60)
@given(grids, st.booleans(), st.integers(1, 70))
def test_each_row_of_a_batch_has_the_bars_of_its_own_grid(bars, as_tensors, n_steps):
    rows = [BarGrid.of(lengths, n_steps) for lengths in bars]
    grid, x = BatchGrid.of(rows), np.random.default_rng(0).random((len(rows), n_steps, 2))
    if as_tensors:
        x = torch.from_numpy(x)
        keys = {name: torch.from_numpy(array) for name, array in grid.as_batch().items()}
        grid = BatchGrid.in_batch(keys | {"onset": x})
    assert [own.lengths for own in grid.rows()] == [own.lengths for own in rows]
    assert all(mine is own for mine, own in zip(grid.rows(), rows) if own.missing == 0)
    by_bar, sums, before = grid.by_bar(x), grid.sums(x), grid.sums_before(x)
    spread, steps = grid.spread(sums), grid.by_step(by_bar)
    np.testing.assert_array_equal(steps, x)
    for row, own in enumerate(rows):
        n, longest = own.n_bars, own.longest
        mine = x[row : row + 1]
        np.testing.assert_array_equal(by_bar[row, :n, :longest], own.by_bar(mine)[0])
        assert not by_bar[row, n:].any() and not by_bar[row, :, longest:].any()
        np.testing.assert_allclose(sums[row, :n], own.sums(mine)[0], rtol=1e-12)
        np.testing.assert_allclose(before[row], own.sums_before(mine)[0], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(spread[row], own.spread(own.sums(mine))[0], rtol=1e-12)
        for ours, theirs in zip(grid.index, own.index):
            np.testing.assert_array_equal(ours[row], theirs)
    if not as_tensors:
        numbers = np.arange(len(rows)) % 3
        within = grid.bars_within(np.full(len(rows), n_steps // 2))
        for row, own in enumerate(rows):
            assert within[row] == own.bars_within(n_steps // 2)
            assert numbers[row] > own.n_bars or grid.line(numbers)[row] == own.line(numbers[row])
            assert grid.lengths[row, : own.n_bars].tolist() == list(own.lengths)


def test_a_row_is_read_alike_among_rows_of_other_meters_and_alone(model):
    batch = mixed_batch()
    together = hidden_states(model, batch)
    for row, grid in enumerate(GRIDS):
        alone = hidden_states(model, row_of(batch, row), grid=grid)
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-5)


def test_a_batch_of_several_meters_is_learnt_from_row_by_row(model):
    batch = mixed_batch()
    whole = model(batch)
    rows = [model(row_of(batch, row)) for row in range(3)]
    for name in ("onset_nats", "velocity_nats", "offset_nats", "marginal_nats", "steps", "hits"):
        torch.testing.assert_close(whole[name], sum(row[name] for row in rows), rtol=1e-4, atol=1e-3)
    n_bars = [grid.n_bars for grid in GRIDS]
    assert whole["bars"].sum(1).tolist() == n_bars
    assert count_tokens(batch, model.grid_of(batch)) == {"steps": 3 * T, "bars": sum(n_bars)}
    model.zero_grad()
    whole["onset_nats"].backward()
    for part in (model.encoder.meter, model.condition.meter):
        assert all(p.grad.abs().sum() > 0 for p in part.parameters())
    model.zero_grad()


def test_four_four_with_bars_of_its_own_is_four_four(model):
    batch = random_batch(B=2, T=T)
    own = BatchGrid.of([GRIDS[1]] * 2).as_batch()
    told = batch | {name: torch.from_numpy(array) for name, array in own.items()}
    torch.testing.assert_close(hidden_states(model, told), hidden_states(model, batch), rtol=1e-5, atol=1e-5)


def test_the_model_tells_three_four_from_six_eight(model):
    batch = random_batch(B=1, T=24)
    waltz, jig = (hidden_states(model, batch, grid=BarGrid.of(meter, 24)) for meter in ("3/4", "6/8"))
    assert ((waltz - jig).abs().amax(-1) > 1e-4).all()


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("compiled", [True, False])
def test_played_step_by_step_it_hears_what_it_learnt_from(model, grid, compiled, monkeypatch):
    """The onsets drawn are those that the logits of the whole pass give with the same chance."""
    from tests.helpers.model_batches import record_steps

    states = record_steps(monkeypatch, compiled)
    batch = random_batch(B=1, T=T, seed=3)
    generator = torch.Generator().manual_seed(1)
    drums = sample(model, *sampling_inputs(batch), generator=generator, precision=torch.float32, grid=grid)
    played = batch | dict(zip(("onset", "vel", "timeoffset"), drums))
    source = batch | {"onset": torch.zeros_like(batch["onset"])}
    torch.testing.assert_close(
        torch.stack(states, 1),
        hidden_states(model, played, condition_from=source, grid=grid),
        rtol=1e-3,
        atol=1e-3,
    )


@pytest.mark.parametrize("grid", GRIDS)
def test_compiled_and_plain_decoding_and_a_stream_draw_the_same(model, grid, monkeypatch):
    batch = random_batch(B=2, T=T, seed=4)

    def drawn():
        generator = torch.Generator().manual_seed(2)
        options = {"generator": generator, "precision": torch.float32, "grid": grid}
        return sample(model, *sampling_inputs(batch), guidance=1.5, **options)

    compiled = drawn()
    monkeypatch.setattr(capture, "COMPILED", ())
    for one, other in zip(compiled, drawn()):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    rhythm, controls, _ = sampling_inputs(batch)
    stream = Stream(
        model, 2, guidance=1.5, generator=torch.Generator().manual_seed(2), precision=torch.float32
    )
    n_whole = grid.n_bars - (grid.missing > 0)
    whole = grid.cut(0, n_whole)
    stream.set_rhythm([roll[:, : whole.n_steps] for roll in rhythm], grid=whole)
    bars = [stream.bar({name: x[:, here] for name, x in controls.items()}) for here in whole.bars()]
    again = sample(
        model,
        [roll[:, : whole.n_steps] for roll in rhythm],
        {name: x[:, : whole.n_steps] for name, x in controls.items()},
        batch["mask"][:, : whole.n_steps],
        guidance=1.5,
        generator=torch.Generator().manual_seed(2),
        precision=torch.float32,
        grid=whole,
    )
    for one, other in zip((torch.cat(roll, 1) for roll in zip(*bars)), again):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_weights_of_four_four_play_it_as_before_in_a_model_of_longer_bars(tiny_config, capsys):
    before = small_model(tiny_config, longest_bar=16)
    after = DrumVAE(before.config | {"Model": before.config["Model"] | {"longest_bar": 32}}).eval()
    load_weights(after, before.state_dict(), "drummer.pt")
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and said.startswith(
        "drummer.pt: bars of up to 16 steps become bars of up to 32"
    )
    batch = random_batch(B=2, T=48)
    assert torch.equal(hidden_states(before, batch), hidden_states(after, batch))
    drawn = [
        sample(
            m, *sampling_inputs(batch), generator=torch.Generator().manual_seed(0), precision=torch.float32
        )
        for m in (before, after)
    ]
    for one, other in zip(*drawn):
        assert torch.equal(one, other)
    for meter in ("3/4", "7/8", "5/4", [32]):  # what it never heard it can play
        grid = BarGrid.of(meter, 40)
        short = {name: x[:, :40] for name, x in batch.items()}
        drums = sample(after, *sampling_inputs(short), generator=torch.Generator().manual_seed(0), grid=grid)
        assert drums[0].shape == (2, 40, 9) and drums[0].sum() > 10


def test_new_places_go_on_as_the_second_half_of_the_bar(tiny_config):
    short, long = small_model(tiny_config, longest_bar=16), small_model(tiny_config, longest_bar=32)
    load_weights(long, short.state_dict(), "a.pt")
    for new, old in ((16, 8), (23, 15), (24, 8), (31, 15)):
        assert torch.equal(long.encoder.position.weight[new], short.encoder.position.weight[old])
        assert torch.equal(long.latent.fold[new], short.latent.fold[old])
        d = long.condition.d_control
        assert torch.equal(
            long.condition.unfold.weight[new * d : (new + 1) * d],
            short.condition.unfold.weight[old * d : (old + 1) * d],
        )


def test_weights_of_longer_bars_do_not_fit_a_model_of_shorter_ones(tiny_config):
    short, long = small_model(tiny_config, longest_bar=16), small_model(tiny_config, longest_bar=32)
    with pytest.raises(ValueError, match="a.pt: the weights do not fit"):
        load_weights(short, long.state_dict(), "a.pt")


def test_controls_are_measured_over_a_bar_s_own_steps():
    onset = np.zeros((3, T, 9), np.float32)
    onset[:, ::2, 0] = 1
    grid = BatchGrid.of(GRIDS)
    for name in ("density", "instrument"):
        got = CONTROLS[name].measure(onset, onset, grid)
        for row, own in enumerate(GRIDS):
            np.testing.assert_array_equal(
                got[row, : own.n_bars], CONTROLS[name].measure(onset[row], onset[row], own)
            )
