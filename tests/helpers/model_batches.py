"""Models and batches that the tests of the model share."""

import torch

from model.controls import UNSET_KIND, UNSET_STYLE, controls_of
from model.decoding import capture
from model.decoding.cpu_steps import CpuDecoding
from model.decoding.sampling import sample
from model.decoding.steps import Decoding
from model.decoding.streaming import Stream
from model.model import DrumVAE
from utils.midi.drums import N_VOICES, RHYTHM_CHANNEL

FACTOR = {"density": [0.13, 0.043], "intensity": [0.57, 0.14]}


def small_model(config, seed=0, longest_bar=None):
    """An untrained model in eval mode, its zero-initialised parts stirred so that every path is felt."""
    config = config.to_dict()
    config["Model"]["longest_bar"] = longest_bar or config["Model"]["longest_bar"]
    config["Data"]["normalize_factor"] = FACTOR
    torch.manual_seed(seed)
    model = DrumVAE(config)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model.eval()


def random_batch(B=3, T=64, seed=0):
    """A batch of random drums with all controls given, the tap heard, and nothing known."""
    g = torch.Generator().manual_seed(seed)
    onset = (torch.rand(B, T, N_VOICES, generator=g) < 0.2).float()
    vel = onset * torch.rand(B, T, N_VOICES, generator=g).clamp(min=0.01)
    timeoffset = onset * (torch.rand(B, T, N_VOICES, generator=g) - 0.5)
    batch = {"onset": onset, "vel": vel, "timeoffset": timeoffset}
    loudest = vel.argmax(-1, keepdim=True)
    for name in ("onset", "vel", "timeoffset"):
        roll = torch.zeros(B, T, N_VOICES)
        roll[..., RHYTHM_CHANNEL] = batch[name].gather(-1, loudest).squeeze(-1)
        batch[f"rhythm_{name}"] = roll
    nothing = torch.zeros(B, T, N_VOICES, dtype=torch.bool)
    steps = torch.ones(B, T, dtype=torch.bool)

    def per_bar(*shape):
        return torch.rand(B, -(-T // 16), *shape, generator=g).repeat_interleave(16, dim=1)[:, :T]

    return batch | {
        "known_onset": nothing,
        "known_vel": nothing.clone(),
        "mask": steps,
        "use_context": steps.clone(),
        "use_latent": steps.clone(),
        "density": per_bar() * 2 - 1,
        "intensity": per_bar() * 2 - 1,
        "instrument": per_bar(N_VOICES) * 0.5,
        "style": torch.randint(0, UNSET_STYLE, (B, 1), generator=g).expand(B, T).clone(),
        "rhythm_is": torch.full((B, T), UNSET_KIND),
        "pads": torch.zeros(B, T, dtype=torch.long),
    }


def random_rolls(T):
    """The drums of such a batch: onset, vel, timeoffset (1, T, V)."""
    batch = random_batch(B=1, T=T)
    return [batch[name] for name in ("onset", "vel", "timeoffset")]


def whole_and_bar_by_bar(model, batch, **told):
    """The onsets that a model plays to a batch of two bars of 4/4, told more of the rhythm, whole and by a
    Stream, which must be the same."""
    rhythm, controls = (
        [batch[f"rhythm_{name}"] for name in ("onset", "vel", "timeoffset")],
        controls_of(batch),
    )
    dials = {"guidance": 2.0, "precision": torch.float32}
    chance = torch.Generator().manual_seed(1)
    whole = sample(model, rhythm, controls, batch["mask"], generator=chance, **told, **dials)
    stream = Stream(model, generator=torch.Generator().manual_seed(1), **dials)
    stream.set_rhythm(rhythm, **told)
    halves = slice(16), slice(16, None)
    bars = [stream.bar({name: x[:, half] for name, x in controls.items()}) for half in halves]
    assert torch.equal(torch.cat([bar[0] for bar in bars], 1), whole[0])
    return whole[0]


def hidden_states(model, batch, condition_from=None, grid=None):
    """The decoder's hidden states (B, T, D) over a batch, under the condition of another if given."""
    source = batch if condition_from is None else condition_from
    controls, grid = controls_of(source), grid or model.grid_of(source)
    known = tuple(source[name] for name in ("onset", "vel", "timeoffset"))
    rhythm = tuple(source[f"rhythm_{name}"] for name in ("onset", "vel", "timeoffset"))
    context, mu, _, _ = model.encode(
        rhythm,
        known,
        source["known_onset"],
        source["known_vel"],
        source["mask"],
        source["use_context"],
        source["use_latent"],
        grid,
    )
    condition = model.condition(context, mu, source["use_context"], source["use_latent"], controls, grid)
    return model.decode(batch["onset"], batch["vel"], batch["timeoffset"], condition, controls, grid)


def sampling_inputs(batch):
    """What `sample` takes first: rhythm, controls, mask."""
    rhythm = [batch[f"rhythm_{name}"] for name in ("onset", "vel", "timeoffset")]
    return rhythm, controls_of(batch), batch["mask"]


def streamed(model, batch, guidance=2.0):
    """The Stream that has played the batch, bars of 4/4, once it was seen to play what `sample` plays."""
    rhythm, controls, mask = sampling_inputs(batch)
    B, T = mask.shape
    dials = {"guidance": guidance, "precision": torch.float32}
    whole = sample(model, rhythm, controls, mask, generator=torch.Generator().manual_seed(1), **dials)
    stream = Stream(model, B, generator=torch.Generator().manual_seed(1), **dials)
    stream.set_rhythm(rhythm)
    bars = [stream.bar({name: x[:, n : n + 16] for name, x in controls.items()}) for n in range(0, T, 16)]
    assert all(torch.equal(torch.cat(roll, 1), all_of_it) for roll, all_of_it in zip(zip(*bars), whole))
    return stream


def record_steps(monkeypatch, compiled=True):
    """A list that gets copies of the hidden states (rows, D) of every step from here on, view after view."""
    states = []

    def recorded(step):
        return lambda *arguments: states.append(step(*arguments).clone()) or states[-1]

    if not compiled:
        monkeypatch.setattr(capture, "COMPILED", ())
    for kind in (Decoding, CpuDecoding):
        monkeypatch.setattr(kind, "step", recorded(kind.step))
    return states
