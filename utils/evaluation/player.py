"""What a model plays to windows, under settings that say what it knows, in float32. One seed gives one result
on one kind of device."""

from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from data_aug import ABOUT_RHYTHM, RHYTHM_KEYS, swap_rhythm, unset_controls
from model.controls import UNSET_KIND, controls_of
from model.decoding.sampling import given_controls, sample
from utils.evaluation.sets import partners
from utils.playing.request import GUIDANCE, LIFT, OWN_FOLLOW, TEMPERATURES
from utils.training.metrics import to_device

BATCH = 128  # windows of four bars at once
SMALLEST_BATCH = 32  # however long the windows are
KNOWN = ("onset", "vel", "timeoffset", "known_onset", "known_vel")
FEW = 8  # samples of a window where single ones are scored
USUAL = (*TEMPERATURES, LIFT)  # the temperature at which `play` draws to a drummer's own hits
GREEDY = 1e-6  # temperature at which an onset is drawn where it is likelier than not


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
    """The cells (W, T, V) bool of one voice that the window plays, each in its turn, window by window."""
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


def onsets_known(windows):
    return unset_controls(windows.batch) | {"known_onset": torch.ones_like(windows.batch["known_onset"])}


def odd_beats(grid):
    """The steps (T,) of every other beat, from the second on."""
    return np.cumsum(grid.index.place_in_beat == 0) % 2 == 0


def thinned(windows):
    """The rhythm without its taps between every other beat and the next."""
    stays = ~odd_beats(windows.grid) | (windows.grid.index.place_in_beat == 0)
    batch, stays = unset_controls(windows.batch), torch.from_numpy(stays)[:, None]
    return batch | {name: batch[name] * stays for name in RHYTHM_KEYS}


def without_rhythm(batch):
    batch = batch | {name: torch.zeros_like(batch[name]) for name in RHYTHM_KEYS}
    unset = {"rhythm_is": torch.full_like(batch["rhythm_is"], UNSET_KIND)}
    return batch | unset | {"pads": torch.zeros_like(batch["pads"])}


def around(windows, job):
    """No rhythm, and every cell is known but those that are played anew."""
    known = torch.from_numpy(~ANEW[job](windows))
    return without_rhythm(unset_controls(windows.batch)) | {"known_onset": known, "known_vel": known}


# setting -> the batch that the model plays to
SETTINGS = {
    "given": lambda windows: windows.batch,  # true controls
    "unset": lambda windows: unset_controls(windows.batch),
    "density": lambda windows: unset_controls(windows.batch) | {"density": windows.batch["density"]},
    "onsets": onsets_known,
    "thinned": thinned,
    "swapped": lambda windows: swap_rhythm(
        unset_controls(windows.batch), torch.from_numpy(partners(windows.performance))
    ),
    "humanise": lambda windows: without_rhythm(onsets_known(windows)),
    **{job: partial(around, job=job) for job in ANEW},
}
MANY = ("unset", "density", "onsets", *ANEW)  # settings whose samples are also taken together


class Player:
    """What a model plays to windows, each thing once. player(windows, setting): onset, vel, timeoffset, each
    (N, W, T, V). setting: of SETTINGS; its N is `samples` or, for settings outside MANY, at most FEW.
    temperature: as of `sample`; GREEDY draws one sample. guidance: as of utils.playing.generate.generate.
    beside: another model, that the likelihoods of the part `meters` are compared with, or None."""

    def __init__(self, model, samples, seed, guidance=GUIDANCE, beside=None):
        self.model, self.samples, self.seed, self.guidance = model, samples, seed, guidance
        self.beside = beside
        self._played = {}

    def __call__(self, windows, setting, temperature=USUAL):
        greedy = temperature == GREEDY
        title = f"{windows.name}, {setting}" + ", greedy" * greedy
        if title not in self._played:
            samples = 1 if greedy else self.samples if setting in MANY else min(self.samples, FEW)
            self._played[title] = self.play(SETTINGS[setting](windows), samples, title, temperature)
        return self._played[title]

    def play(self, batch, samples, title, temperature=USUAL, grid=None, guidance=None):
        """Drums drawn to the batch's rhythms, controls, known cells: three rolls, (samples, W, T, V). grid:
        the bars of each window, of 4/4 for None. guidance: None: the player's, the same for all controls."""
        device = next(self.model.parameters()).device
        generator = torch.Generator(device).manual_seed(self.seed)
        dials = dict(
            num_samples=samples,
            temperature=temperature,
            guidance=self.guidance if guidance is None else guidance,
            generator=generator,
        )
        known = KNOWN if batch["known_onset"].any() else ()
        # as `play` does it to a drummer's own hits
        dials["follow"] = 1.0 if known or given_controls(controls_of(batch)) else OWN_FOLLOW
        batch = {name: batch[name] for name in (*ABOUT_RHYTHM, *controls_of(batch), "mask", *known)}
        played = []
        progress = tqdm(total=len(batch["mask"]), desc=title, unit="window", disable=None)
        for part in in_batches(batch, samples):
            part = to_device(part, device)
            rhythm, cells = [part[name] for name in RHYTHM_KEYS], {name: part[name] for name in known} or None
            model, asked, mask = self.model, controls_of(part), part["mask"]
            about = {name: part[name] for name in ("rhythm_is", "pads")} | {"known": cells, "grid": grid}
            rolls = sample(model, rhythm, asked, mask, precision=torch.float32, **about, **dials)
            played.append([roll.unflatten(0, (-1, samples)).cpu().numpy() for roll in rolls])
            progress.update(len(part["mask"]))
        progress.close()
        return tuple(np.concatenate(rolls).swapaxes(0, 1) for rolls in zip(*played))
