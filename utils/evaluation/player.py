"""What a model plays to windows, under settings that say what it knows. One seed gives one result on one kind
of device; all is computed in float32."""

import numpy as np
import torch
from tqdm import tqdm

from data_aug import ABOUT_RHYTHM, RHYTHM_KEYS, swap_rhythm, unset_controls
from model.controls import CONTROLS, UNSET_KIND, controls_of
from model.decoding.sampling import sample
from utils.evaluation.sets import partners
from utils.playing.request import GUIDANCE
from utils.training.metrics import to_device

BATCH = 128  # windows of four bars at once
SMALLEST_BATCH = 32  # however long the windows are
KNOWN = ("onset", "vel", "timeoffset", "known_onset", "known_vel")
FEW = 8  # samples of a window where single ones are scored


def in_batches(batch, samples=1):
    """The batch in pieces of BATCH windows of four bars, or fewer that are longer or played several times."""
    n_windows, n_steps = batch["mask"].shape
    size = max(SMALLEST_BATCH, min(BATCH, BATCH * 64 // n_steps)) // samples or 1
    for start in range(0, n_windows, size):
        yield {name: tensor[start : start + size] for name, tensor in batch.items()}


# ------------------------------------------------------------------------- settings: what the model knows


def cells_of_bars(windows, bars):
    """The cells (W, T, V) bool of these bars, counted from 0."""
    return np.broadcast_to(np.isin(windows.grid.index.bar, bars)[:, None], windows.rolls[0].shape)


def one_voice(windows):
    """The cells (W, T, V) bool of one voice of each window, of those it plays: each in its turn, window by
    window."""
    plays = (windows.rolls[0] > 0).any(1)
    turn = np.arange(len(plays)) % np.maximum(plays.sum(1), 1)
    voice = (plays.cumsum(1) > turn[:, None]).argmax(1)
    return np.broadcast_to((np.arange(plays.shape[1]) == voice[:, None])[:, None], windows.rolls[0].shape)


# job -> which cells of the Windows of T4 are played anew, (W, T, V) bool
ANEW = {
    "infill": lambda windows: cells_of_bars(windows, (2,)),
    "add a voice": one_voice,
    "continue": lambda windows: cells_of_bars(windows, (2, 3)),
}


def unset(windows):
    return unset_controls(windows.batch)


def onsets_known(batch):
    return batch | {"known_onset": torch.ones_like(batch["known_onset"])}


def without_rhythm(windows):
    batch = unset(windows)
    batch = batch | {name: torch.zeros_like(batch[name]) for name in RHYTHM_KEYS}
    return batch | {"rhythm_is": torch.full_like(batch["rhythm_is"], UNSET_KIND)}


def around(windows, anew):
    """Every cell is known but the cells anew (W, T, V)."""
    known = torch.from_numpy(~anew)
    return without_rhythm(windows) | {"known_onset": known, "known_vel": known}


# setting -> the batch that the model plays to
SETTINGS = {
    "given": lambda windows: windows.batch,  # true controls
    "unset": unset,
    "density": lambda windows: unset(windows) | {"density": windows.batch["density"]},
    "onsets": lambda windows: onsets_known(unset(windows)),
    "swapped": lambda windows: swap_rhythm(unset(windows), torch.from_numpy(partners(windows.performance))),
    "humanise": lambda windows: onsets_known(without_rhythm(windows)),
    **{job: lambda windows, job=job: around(windows, ANEW[job](windows)) for job in ANEW},
}
MANY = ("unset", "density", "onsets", *ANEW)  # settings whose samples are also taken together


class Player:
    """What a model plays to windows, each thing played once.

    guidance: strength of the controls where any is set, see utils.playing.generate.generate. player(windows,
    setting): onset, vel, timeoffset, each (N, W, T, V), at temperature 1. setting: of SETTINGS; its N is
    `samples` or, for settings outside MANY, at most FEW. Below temperature 1 one sample is drawn.
    """

    def __init__(self, model, samples, seed, guidance=GUIDANCE):
        self.model, self.samples, self.seed, self.guidance = model, samples, seed, guidance
        self._played = {}

    def __call__(self, windows, setting, temperature=1.0):
        title = f"{windows.name}, {setting}" + (", greedy" if temperature < 1 else "")
        if title not in self._played:
            samples = 1 if temperature < 1 else self.samples if setting in MANY else min(self.samples, FEW)
            self._played[title] = self.play(SETTINGS[setting](windows), samples, title, temperature)
        return self._played[title]

    def play(self, batch, samples, title, temperature=1.0):
        """Drums drawn to the batch's rhythms, controls and known cells: onset, vel, timeoffset, (samples, W,
        T, V)."""
        device = next(self.model.parameters()).device
        known = KNOWN if batch["known_onset"].any() else ()
        batch = {name: batch[name] for name in (*ABOUT_RHYTHM, *CONTROLS, "mask", *known)}
        dials = {
            "num_samples": samples,
            "temperature": temperature,
            "guidance": self.guidance,
            "generator": torch.Generator(device).manual_seed(self.seed),
            "precision": torch.float32,
        }
        played = []
        progress = tqdm(total=len(batch["mask"]), desc=title, unit="window", disable=None)
        for part in in_batches(batch, samples):
            part = to_device(part, device)
            rhythm, cells = [part[name] for name in RHYTHM_KEYS], {name: part[name] for name in known} or None
            about = {"known": cells, "rhythm_is": part["rhythm_is"]}
            rolls = sample(self.model, rhythm, controls_of(part), part["mask"], **about, **dials)
            played.append([roll.unflatten(0, (-1, samples)).cpu().numpy() for roll in rolls])
            progress.update(len(part["mask"]))
        progress.close()
        return tuple(np.concatenate(rolls).swapaxes(0, 1) for rolls in zip(*played))
