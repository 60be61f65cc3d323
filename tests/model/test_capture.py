"""What a GPU is given: a bar of steps that never ask it anything, read from and written to tensors that
stay."""

import contextlib
import copy
import pickle

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model.bars import BarGrid
from model.controls import controls_of
from model.decoding import capture, steps
from model.decoding.capture import KEPT, CapturedDecoding, begin, on_device
from model.decoding.guide import Guide
from model.decoding.sampling import UNIFORMS_PER_VOICE, build_conditioning, encode_rhythm, sample
from model.decoding.steps import Decoding
from tests.helpers.model_batches import random_batch, sampling_inputs, small_model


@pytest.fixture(scope="module")
def model(tiny_config):
    return small_model(tiny_config)


FOUR = [slice(0, 16), slice(16, 32), slice(32, 40)]


def drawn(decoding, model, batch, guide, seed=5, grid=None):
    names = ("mask", "use_context", "use_latent")
    with torch.no_grad():
        rhythm = tuple(batch[f"rhythm_{name}"] for name in ("onset", "vel", "timeoffset"))
        bars = FOUR if grid is None else list(grid.bars())
        grid = grid or model.grid(batch["mask"].shape[1])
        heard = encode_rhythm(model, rhythm, *(batch[name] for name in names), grid)
        told = build_conditioning(model, heard, controls_of(batch), guide, grid)
        uniform = torch.rand(
            len(batch["mask"]), 64, 9, UNIFORMS_PER_VOICE, generator=torch.Generator().manual_seed(seed)
        )
        played = [
            decoding.bar({name: x[:, bar] for name, x in told.items()}, uniform[:, bar]) for bar in bars
        ]
    return [torch.cat(roll, 1) for roll in zip(*played)]


@pytest.mark.parametrize(
    "guide",
    [Guide(1.0), Guide(2.0), Guide({"density": 1.5, "intensity": 1.5, "instrument": 2.0, "style": 3.0}, 0.5)],
    ids=["", "two rows", "eight rows"],
)
def test_captured_steps_play_what_plain_steps_play(model, pretended_gpu, guide):
    """A second piece, after another, included; a bar's graph serves all bars of its kind."""
    arguments = model, 3, guide, 1.0, torch.float32
    captured = CapturedDecoding(*arguments)
    for seed in (5, 6):
        batch = random_batch(seed=seed)
        expected = drawn(Decoding(*arguments), model, batch, guide, seed)
        captured.restart()
        for a, b in zip(expected, drawn(captured, model, batch, guide, seed)):
            assert torch.equal(a, b)
    assert len(pretended_gpu) == 2  # of sixteen steps and of eight


def test_captured_bars_of_many_meters_are_those_of_plain_steps(tiny_config, pretended_gpu):
    model, guide = small_model(tiny_config, longest_bar=32), Guide(2.0)
    arguments = model, 3, guide, 1.0, torch.float32
    grid = BarGrid.of(["3/4", "6/8", "5/8", "4/4", "7/8"])
    batch = random_batch(T=grid.n_steps)
    expected = drawn(Decoding(*arguments), model, batch, guide, grid=grid)
    for a, b in zip(expected, drawn(CapturedDecoding(*arguments), model, batch, guide, grid=grid)):
        assert torch.equal(a, b)
    assert len(pretended_gpu) == 4  # 3/4 and 6/8 have as many steps


def test_a_bar_asks_its_device_nothing(model):
    """On the meta device there is nothing to ask: a look at a value is an error there."""
    batch = {name: x.to("meta") for name, x in random_batch().items()}
    nowhere = copy.deepcopy(model).to("meta")
    with torch.no_grad():
        decoding = Decoding(nowhere, 3, Guide(2.0), 1.0, torch.bfloat16)
        rhythm = tuple(batch[f"rhythm_{name}"] for name in ("onset", "vel", "timeoffset"))
        known = {name: batch[name] for name in ("onset", "vel", "timeoffset", "known_onset", "known_vel")}
        grid = nowhere.grid(batch["mask"].shape[1])
        steps = batch["mask"], batch["use_context"], batch["use_latent"]
        heard = encode_rhythm(nowhere, rhythm, *steps, grid, known)
        heard["forbid"] = batch["known_onset"]
        told = build_conditioning(nowhere, heard, controls_of(batch), Guide(2.0), grid)
        rolls = decoding.bar(
            {name: x[:, :16] for name, x in told.items()},
            torch.rand(3, 16, 9, UNIFORMS_PER_VOICE, device="meta"),
        )
    assert all(roll.shape == (3, 16, 9) and roll.dtype == torch.float32 for roll in rolls)


class Made(TorchDispatchMode):
    """The devices of all tensors that are made."""

    def __init__(self):
        super().__init__()
        self.devices = set()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        made = function(*arguments, **(options or {}))
        self.devices |= {x.device.type for x in tree_leaves(made) if torch.is_tensor(x)}
        return made


def test_positions_are_made_where_the_model_is(model):
    """Not on the CPU and copied from there, for which a GPU would be waited for at every bar."""
    decoder = copy.deepcopy(model.decoder).to("meta")
    with Made() as made:
        decoder.positions(16, 16)
    assert made.devices == {"meta"}


def test_graphs_are_kept_from_call_to_call_and_read_the_weights_as_they_are(model, pretended_gpu):
    model = copy.deepcopy(model)
    first = begin(model, 2, Guide(1.0), 1.0)
    first.position = 16
    assert begin(model, 2, Guide(1.0), 1.0) is first and first.position == 0
    assert begin(model, 2, Guide(1.5), 1.0) is not first and begin(model, 2, Guide(1.0), 1.0) is first
    for temperature in range(2, KEPT + 2):
        begin(model, 2, Guide(1.0), float(temperature))
    assert len(model.captured) == KEPT
    latest = begin(model, 2, Guide(1.0), float(KEPT + 1))
    with torch.no_grad():
        model.decoder.start.add_(1.0)
    assert begin(model, 2, Guide(1.0), float(KEPT + 1)) is latest
    assert torch.equal(latest.x[0], model.decoder.start)
    assert not copy.deepcopy(model).captured and not pickle.loads(pickle.dumps(model)).captured


@pytest.mark.parametrize("move", ["cpu", "half", "double"])
def test_a_model_that_moves_gives_up_its_graphs(model, pretended_gpu, move):
    model = copy.deepcopy(model)
    begin(model, 2, Guide(1.0), 1.0)
    assert model.captured
    getattr(model, move)()
    assert "captured" not in vars(model)


def test_graphs_are_made_on_the_models_own_device_in_a_stream_of_their_own(model, pretended_gpu, monkeypatch):
    batch, seen = random_batch(), []
    monkeypatch.setattr(torch.cuda, "device", lambda device: seen.append(device) or contextlib.nullcontext())
    monkeypatch.setattr(capture, "on_device", lambda device: torch.cuda.device(device))
    decoding = begin(model, 3, Guide(1.0), 1.0, torch.float32)
    drawn(decoding, model, batch, Guide(1.0))
    assert {*seen} == {model.decoder.start.device}
    streams, graphs = pretended_gpu.made["Stream"], pretended_gpu.made["graph"]
    assert [arguments for arguments, _ in streams] == [(model.decoder.start.device,)] * 2
    assert all(how["capture_error_mode"] == "thread_local" and "stream" in how for _, how in graphs)


def test_a_bar_runs_once_in_the_stream_before_it_is_captured(model, pretended_gpu, monkeypatch):
    """Libraries set themselves up in a first run, which can't be captured; and the state is as it was."""
    where, runs, run_bar = [], [], Decoding.run_bar

    def entered(name):
        @contextlib.contextmanager
        def manager(*_, **__):
            where.append(name)
            yield
            where.pop()

        return manager

    for name in ("stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, entered(name))
    monkeypatch.setattr(
        Decoding, "run_bar", lambda self, *a: runs.append((*where, self.x.clone())) or run_bar(self, *a)
    )
    model = copy.deepcopy(model)  # which keeps nothing yet
    drawn(begin(model, 3, Guide(1.0), 1.0, torch.float32), model, random_batch(), Guide(1.0))
    warm_up, captured, replayed = runs[:3]
    assert (warm_up[0], captured[0], len(replayed)) == ("stream", "graph", 1)
    assert torch.equal(warm_up[-1], replayed[-1])


def test_only_a_gpu_is_made_the_current_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device", lambda device: device)
    assert on_device(torch.device("cuda", 1)) == torch.device("cuda", 1)
    with on_device(torch.device("cpu")):
        pass


@pytest.mark.parametrize("capability, expected", [((7, 5), torch.float16), ((8, 0), torch.bfloat16)])
def test_a_gpu_multiplies_in_the_16_bits_that_it_has(monkeypatch, capability, expected):
    asked = []
    monkeypatch.setattr(
        torch.cuda, "get_device_capability", lambda device: asked.append(device) or capability
    )
    assert steps.half_precision(torch.device("cuda", 1)) == expected and asked == [torch.device("cuda", 1)]
    assert steps.half_precision(torch.device("cpu")) is None is steps.half_precision(torch.device("mps"))


@pytest.mark.parametrize("half, expected", [(torch.bfloat16, torch.bfloat16), (torch.float16, torch.float32)])
def test_encoder_and_condition_run_in_bfloat16_where_a_gpu_has_it(model, monkeypatch, half, expected):
    """Around the steps, which keep their own precision, and whatever autocast the user has set; for as good
    as the same drums."""
    model, batch, seen = copy.deepcopy(model), random_batch(), {}
    exact, decode = drawn_by_sample(model, batch), Decoding.bar
    monkeypatch.setattr(steps, "half_precision", lambda device: half)
    parts = model.encoder.layers[0].mlp, model.condition.mix, model.decoder.in_attention
    for name, part in zip(("encoder", "condition", "projection"), parts):
        part.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out.dtype}))
    monkeypatch.setattr(
        capture.CpuDecoding,
        "bar",
        lambda self, conditioning, *more: (
            seen.update({name: x.dtype for name, x in conditioning.items()})
            or decode(self, conditioning, *more)
        ),
    )
    for around in (contextlib.nullcontext(), torch.autocast("cpu", dtype=torch.float16)):
        with around:
            low = drawn_by_sample(model, batch)
        assert {seen[name] for name in ("encoder", "condition", "projection")} == {expected}
        assert {seen[name] for name in ("modulation", "onset_bias", "tap_tokens")} == {torch.float32}
        assert (exact[0] == low[0]).float().mean() > 0.97 and exact[0].sum() > 50
    half_model = copy.deepcopy(model).double()
    drawn_by_sample(half_model, batch)
    assert seen["encoder"] == torch.float64  # a model that is not in float32 keeps its own


def drawn_by_sample(model, batch):
    precision = model.decoder.start.dtype
    generator = torch.Generator().manual_seed(1)
    return sample(model, *sampling_inputs(batch), generator=generator, precision=precision)


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.int8])
def test_a_lower_precision_plays_much_the_same(model, precision):
    """The matrices alone, the rest in float32: hardly a token differs."""
    batch = {name: x[:1] for name, x in random_batch().items()}
    exact, low = (
        sample(model, *sampling_inputs(batch), generator=torch.Generator().manual_seed(1), precision=which)
        for which in (torch.float32, precision)
    )
    assert (exact[0] == low[0]).float().mean() > 0.97 and exact[0].sum() > 50
