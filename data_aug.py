"""From the cache to batches: the dataset, its augmentations and what the encoder gets to see.

A batch is made as a whole, in numpy over (B, T, V), in this order:

1. windows are gathered and padded                                  (collate)
2. the drums are augmented: voices, time, swing, velocities         (vary_target)
3. the controls are measured on the augmented drums                 (labels)
4. a rhythm is taken from them and partly masked                    (take_rhythm)
5. a task shows some of the drums to the encoder                    (known_cells)
6. some controls, the context or the latent are unset               (drop_controls, drop_rhythm)
7. a rhythm may be louder or softer than the intensity control      (shift_loudness)

Validation and test skip 2, 5, 6 and 7; their rhythm is the loudest hit of every step.

B windows, T = clip_bar * S steps, S = 4 * down_sample_tpq steps a bar, V = 9 voices.
"""

import numpy as np
import torch
from torch.utils.data import Dataset

from model.bars import LONGEST_BAR, BarGrid
from model.batch_bars import BatchGrid
from model.controls import CONTROLS, PHRASE, UNSET_PHRASE, controls_of
from model.heads import hit_index
from model.loss import count_tokens
from utils.corpus import augment, rhythms
from utils.corpus.attributes import bar_attributes
from utils.corpus.cache import decode, grid_of, windows
from utils.corpus.drops import RHYTHM_KEYS, drop_controls, drop_rhythm, shift_loudness
from utils.corpus.meters import SILENT, change_meter
from utils.corpus.tasks import known_cells
from utils.corpus.vary import simplify, vary_target
from utils.midi.drums import N_VOICES, RHYTHM_CHANNEL

ABOUT_RHYTHM = (*RHYTHM_KEYS, "rhythm_is", "pads")
_ORDER, _BATCH, _NOISE = 0, 1, 2  # tags of the streams of random numbers


class DrumBatches(Dataset):
    """Item n is a whole batch (see `make_batch` for what is in it).

    cache: utils.corpus.cache.Cache; split: "train", "validation" or "test"; data: the config's Data.
    hop_bars: bars between the starts of two windows, data.hop_size where None. longest_bar: windows with a
    longer bar are left out. A window has as many whole bars as the steps of clip_bar bars of 4/4 hold.

    With augment=True, n counts on over the epochs without end: epoch n // len(self) has its own
    order, every batch is full (the last of an epoch is filled from the epoch's beginning), and
    the batch depends on (seed, n) alone. So any number of workers gives the same batches, and a
    run resumes at any n:
        DataLoader(batches, batch_size=None, sampler=range(start, stop), num_workers=k)
    From batch plain_from on, the drums and the rhythm are no longer augmented; halves, tasks, drops and
    the loudness of the rhythm still do. With augment=False the windows come in order, once, plain; the last
    batch may be short.
    """

    def __init__(
        self,
        cache,
        split,
        data,
        batch_size,
        seed=0,
        augment=True,
        hop_bars=None,
        plain_from=None,
        longest_bar=LONGEST_BAR,
    ):
        self.cache, self.data, self.batch_size = cache, data, batch_size
        self.seed, self.augment, self.plain_from, self.longest_bar = seed, augment, plain_from, longest_bar
        self.n_steps = BarGrid.four_four_bars(data.clip_bar, data.down_sample_tpq).n_steps
        hop_bars = data.hop_size if hop_bars is None else hop_bars
        hop = BarGrid.four_four_bars(hop_bars, data.down_sample_tpq)
        self.start, self.length = windows(cache, split, self.n_steps, hop.n_steps, longest_bar=longest_bar)
        if len(self.start) == 0:
            raise ValueError(f"split {split!r} of the cache has no windows: a split needs at least one file")
        file_starts = np.array([file["start"] for file in cache.files])
        by_start = np.argsort(file_starts)
        self.file = by_start[np.searchsorted(file_starts[by_start], self.start, side="right") - 1]
        self.style = np.array([file["style"] for file in cache.files], np.int64)[self.file]
        self.bpm = np.array([file["bpm"] for file in cache.files], float)[self.file]
        self._epoch, self._order = None, None
        self.beats = self._find_beats() if augment and data.part.beats and data.rhythm_source.part else ()

    def __len__(self):
        return -(-len(self.start) // self.batch_size)

    def __getitem__(self, n):
        if n < 0 or (n >= len(self) and not self.augment):
            raise IndexError(f"batch {n} of {len(self)}")
        chosen, kind = self._windows_of(n), None
        rng = np.random.default_rng([self.seed, n, _BATCH]) if self.augment else None
        if self.augment:
            kind = rhythms.draw_kinds(len(chosen), self.data.rhythm_source, rng)
        if kind is not None and len(self.beats):
            rows = np.flatnonzero((kind == rhythms.PART) & (rng.random(len(kind)) < self.data.part.beats))
            chosen = chosen.copy()
            chosen[rows] = rng.choice(self.beats, len(rows))
        varied = self.augment and (self.plain_from is None or n < self.plain_from)
        clips, grids, phrases = zip(*(self._clip(window, rng if varied else None) for window in chosen))
        *rolls, mask = collate(clips, self.n_steps)
        rolls, style, bpm = [*rolls, np.stack(phrases)], self.style[chosen], self.bpm[chosen]
        if self.augment and rng.random() < self.data.halves:
            *rolls, mask, grids = augment.halves(rolls, mask, grids)
            style, bpm = style.repeat(2), bpm.repeat(2)
            kind = None if kind is None else kind.repeat(2)
        *rolls, phrase = rolls
        factor = self.cache.normalize_factor
        return make_batch(*rolls, mask, style, self.data, factor, rng, varied, grids, bpm, phrase, kind)

    def _find_beats(self):
        """The windows, whole and 4/4, whose drums are a beat."""
        simple = np.array([not file.get("bars") for file in self.cache.files])[self.file]
        whole = np.flatnonzero((self.length == self.n_steps) & simple)
        found = []
        for some in np.array_split(whole, len(whole) // 1024 + 1):
            vel = np.stack([self.cache.vel[start : start + self.n_steps] for start in self.start[some]])
            found.append(some[augment.is_beat(vel.astype(np.float32))])
        return np.concatenate(found)

    def _clip(self, window, rng):
        """The hits of a window as the cache stores them, vel and offset (t, V), the BarGrid of a window's
        n_steps: its own bars, and others after them; and their place in the phrase (n_steps,), where the
        performance is a beat and the bars are in their order."""
        chance = self.data.augmentation
        steps = slice(self.start[window], self.start[window] + self.length[window])
        file = self.cache.files[self.file[window]]
        own, start = grid_of(file), steps.start - file["start"]
        first, last = np.searchsorted(own.lines, (start, start + self.length[window]))
        grid = own.cut(first, last).up_to(self.n_steps)
        phrase = (first + grid.index.bar) % PHRASE
        unknown = np.full_like(phrase, UNSET_PHRASE)
        phrase = unknown if file["beat_type"] == "fill" else phrase
        if rng is not None and rng.random() < chance.bar_shuffle:
            steps, phrase = self._shuffled(steps, own, grid, file["start"], rng), unknown
        if rng is not None and chance.meter and rng.random() < chance.meter and not file.get("bars"):
            return *self._in_another_meter(steps, start + self.length[window], file, rng), unknown
        return (self.cache.vel[steps], self.cache.offset[steps]), grid, phrase

    def _shuffled(self, steps, theirs, mine, start, rng):
        """The steps with about half of the bars replaced by others of the performance, of equal meter."""
        steps = np.arange(steps.start, steps.stop)
        n_bars = int(mine.index.bar[len(steps) - 1]) + 1
        others = np.flatnonzero(rng.random(n_bars) < 0.5)
        for bar, other in zip(others, rng.integers(0, theirs.n_bars, len(others))):
            here, there = mine.steps_of(bar), theirs.steps_of(other)
            if mine.beats[bar] == theirs.beats[other] and here.stop <= len(steps):
                steps[here] = start + np.arange(there.start, there.stop)
        return steps

    def _in_another_meter(self, steps, stop, file, rng):
        """The hits and the BarGrid of a window of 4/4 in another meter. What it then lacks in length comes
        from the bars after it, from step `stop` of the performance on."""
        steps = np.arange(steps.start, steps.stop) if isinstance(steps, slice) else steps
        more = np.arange(stop, min(stop + self.n_steps, file["n_steps"]))
        steps = np.concatenate((steps, file["start"] + more))
        there, beats = change_meter(self.cache.vel[steps], self.n_steps, rng, self.longest_bar)
        sounds = (there != SILENT)[:, None]
        rolls = self.cache.vel[steps[there]], self.cache.offset[steps[there]]
        clip = tuple(np.where(sounds, roll, roll.dtype.type(0)) for roll in rolls)
        return clip, BarGrid.of_beats(beats).up_to(self.n_steps)

    def grid(self, n_steps):
        """The BarGrid of so many steps of 4/4."""
        return BarGrid.four_four(n_steps, self.data.down_sample_tpq)

    def _windows_of(self, n):
        epoch, within = divmod(n, len(self))
        place = np.arange(within * self.batch_size, (within + 1) * self.batch_size)
        if not self.augment:
            return place[place < len(self.start)]
        if epoch != self._epoch:
            rng = np.random.default_rng([self.seed, epoch, _ORDER])
            self._epoch, self._order = epoch, rng.permutation(len(self.start))
        return self._order[place % len(self.start)]

    def names_of(self, n):
        """The names of the performances that the windows of batch n are of, sorted."""
        return sorted({self.cache.files[index]["name"] for index in self.file[self._windows_of(n)]})


class Pieces(Dataset):
    """Item n: what one process trains on of batch n, and what to divide its loss by.

    A batch is cut into n_processes * n_each pieces of equal size, none shared; `rank` (from 0) gets n_each of
    them, one after the other. Every process makes the whole batch, so that it is the same however it is cut.
    A piece has the noise of its latents with it, d_latent numbers a bar, and where its hits are (see
    DrumVAE.forward).

    Returns the pieces (a list of batches) and the count_tokens of the whole batch.
    """

    def __init__(self, batches, d_latent, n_each=1, rank=0, n_processes=1):
        self.batches, self.d_latent = batches, d_latent
        self.n_pieces = n_processes * n_each
        assert batches.batch_size % self.n_pieces == 0, "the batch must be cut evenly"
        self.mine = range(rank * n_each, (rank + 1) * n_each)

    def __getitem__(self, n):
        batch = self.batches[n]
        rng = np.random.default_rng([self.batches.seed, n, _NOISE])
        n_windows, n_steps = batch["mask"].shape
        grid = BatchGrid.in_batch(batch) or self.batches.grid(n_steps)
        shape = n_windows, grid.n_bars, self.d_latent
        batch["noise"] = torch.from_numpy(rng.standard_normal(shape, np.float32))
        tokens = count_tokens(batch, grid)
        size = n_windows // self.n_pieces
        rows = [slice(k * size, (k + 1) * size) for k in self.mine]
        pieces = [{name: tensor[here] for name, tensor in batch.items()} for here in rows]
        return [piece | hit_index(piece["onset"]) for piece in pieces], tokens


def collate(clips, n_steps):
    """Pads clips to n_steps: (vel, offset, mask), each (B, n_steps, V), mask (B, n_steps) bool.

    clips: pairs as the cache stores them, vel (t, V) uint8 MIDI velocity and offset (t, V) int16
    in 1/65536 of a step, 1 <= t <= n_steps. Out: float32 in [0, 1] and [-0.5, 0.5); the mask is
    False on the padding.
    """
    vel = np.zeros((len(clips), n_steps, N_VOICES), np.uint8)
    offset = np.zeros((len(clips), n_steps, N_VOICES), np.int16)
    for row, (clip_vel, clip_offset) in enumerate(clips):
        if not 1 <= len(clip_vel) <= n_steps:
            raise ValueError(f"clip {row} has {len(clip_vel)} steps; the window takes 1 to {n_steps}")
        vel[row, : len(clip_vel)] = clip_vel
        offset[row, : len(clip_offset)] = clip_offset
    length = np.array([len(clip_vel) for clip_vel, _ in clips])
    mask = np.arange(n_steps) < length[:, None]
    _, vel, offset = decode(vel, offset)
    return vel, offset, mask


def make_batch(
    vel,
    offset,
    mask,
    style,
    data,
    normalize_factor,
    rng=None,
    varied=True,
    grids=None,
    bpm=None,
    phrase=None,
    kind=None,
):
    """A batch, as a dict of tensors, from padded windows; plain where rng is None.

    With varied=False the drums are as they were played and the rhythm is whole; tasks, drops and
    shift_loudness stay, and rhythms of hands and parts. bpm (B,): the tempo, for the timing of hands and
    parts; None: a usual one.

    vel, offset (B, T, V) and mask (B, T) as collate gives them, style (B,) int64 ids: they become the
    batch and may be changed in place. data: the config's Data. grids: the BarGrid of each window; None: 4/4.
    phrase (B, T): see DrumVAE.phrase_of_steps; None: not known. kind (B,): what each window's rhythm is;
    None: it is drawn.

    onset, vel, timeoffset (B, T, V) float32      what is played: the target
    rhythm_onset, rhythm_vel, rhythm_timeoffset   the same shape; the input, in channel 3
    rhythm_is (B, T) int64                        its kind, a number of RHYTHM_KINDS; UNSET_KIND = unset
    pads (B, T) int64                             of hands: on which pad each tap is, see PADS
    phrase (B, T) int64                           which of the PHRASE bars of a phrase; UNSET_PHRASE = unset
    known_onset, known_vel (B, T, V) bool         cells of the target that the encoder may see:
                                                  whether there is a hit; its velocity and timing
    mask (B, T) bool                              True = a valid step
    density, intensity (B, T) float32             z-score of the step's bar, NaN = unset
    instrument (B, T, V) float32                  share of the bar's steps, NaN = unset
    style (B, T) int64                            STYLE_NONE = unset
    use_context, use_latent (B, T) bool           False = unset at that step
    bar_index, bar_table                          only where a window is not 4/4: see model.batch_bars
    """
    grid = BarGrid.four_four(vel.shape[1], data.down_sample_tpq)
    four_four = np.array([own == grid for own in grids or [grid] * len(vel)])
    if not four_four.all():
        grid = BatchGrid.of(grids)
    varied = varied and rng is not None
    if kind is None and rng is not None:
        kind = rhythms.draw_kinds(len(vel), data.rhythm_source, rng)
    phrase = np.full(mask.shape, UNSET_PHRASE) if phrase is None else phrase
    if varied:
        changed = vary_target(vel, offset, mask, style, data.augmentation, rng, four_four)
        phrase[changed] = UNSET_PHRASE
    if kind is not None:
        phrase[simplify(vel, offset, mask, kind, data.part, rng, four_four)] = UNSET_PHRASE
    batch = {"onset": (vel > 0).astype(np.float32), "vel": vel, "timeoffset": offset, "mask": mask}
    batch |= labels(vel, style, grid, normalize_factor)
    batch["phrase"] = phrase.astype(np.int64)
    with_pads = data.drop.pads < 1
    made = None if kind is None else rhythms.draw(kind, vel, offset, mask, grid, bpm, rng, with_pads)
    pads = np.zeros(mask.shape, np.int64) if made is None else made.pads
    kind = np.full(len(vel), rhythms.DRUMS) if kind is None else kind
    batch["rhythm_is"] = np.repeat(kind[:, None], vel.shape[1], 1)
    if varied:
        batch |= rhythm_rolls(*take_rhythm(vel, offset, mask, data, rng, made))
    else:
        rhythm = augment.loudest(vel, offset)
        rhythm = rhythm if made is None else made.over(*rhythm)
        batch |= rhythm_rolls(rhythm[0] > 0, *rhythm)
    batch["pads"] = np.where(batch["rhythm_onset"][..., RHYTHM_CHANNEL] > 0, pads, 0)
    if rng is None:
        batch |= {name: np.zeros(vel.shape, bool) for name in ("known_onset", "known_vel")}
        batch |= {name: np.ones(mask.shape, bool) for name in ("use_context", "use_latent")}
    else:
        batch |= known_cells(vel, mask, grid, data.task, rng)
        drop_rhythm(batch, grid, data, rng)
        drop_controls(batch, data.drop, rng)
        shift_loudness(batch, data.augmentation, rng)
    if not four_four.all():
        batch |= grid.as_batch()
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in batch.items()}


# ------------------------------------------------------------------------- the stages of a batch


def labels(vel, style, grid, normalize_factor):
    """The values of all controls that describe the drums, per step: {name: values}."""
    batch = {}
    for name, quantity in bar_attributes((vel > 0).astype(np.float32), vel, grid).items():
        values = CONTROLS[name].normalize(quantity, normalize_factor)
        batch[name] = grid.spread(values).astype(np.float32)
    return batch | {"style": np.repeat(style[:, None], vel.shape[1], 1)}


def take_rhythm(vel, offset, mask, data, rng, made=None):
    """The rhythm that the encoder reads: (onset bool, vel, offset), each (B, T), partly masked.

    It comes from the voices of Data.rhythm_source, or was made (see utils.corpus.rhythms.Made), and is
    changed and masked by Data.augmentation. The drums stay as they are.
    """
    chance, (n_rows, n_steps) = data.augmentation, mask.shape
    voices = augment.heard_voices(rng, dict(data.rhythm_source), n_rows)  # of hands and parts: all
    rhythm_vel, rhythm_offset = augment.loudest(vel, offset, voices)
    if made is not None:
        rhythm_vel, rhythm_offset = made.over(rhythm_vel, rhythm_offset)

    def happens(probability):
        return rng.random((n_rows, 1)) < probability

    jitter = rng.normal(0, chance.timing_jitter_std, mask.shape).astype(np.float32)
    jitter *= happens(chance.timing_jitter)
    rhythm_offset = augment.inside(rhythm_offset + jitter)
    single = happens(chance.mask_steps) & (rng.random(mask.shape) < chance.mask_steps_share)
    length = mask.sum(1)
    span = augment.between(*augment.random_span(rng, length, 1, length // 2), n_steps)
    span &= happens(chance.mask_span)

    onset = (rhythm_vel > 0) & ~single & ~span
    level = rng.uniform(*chance.flat_velocity_range, (n_rows, 1)).astype(np.float32)
    rhythm_vel = np.where(happens(chance.flat_velocity), level, rhythm_vel)
    rhythm_vel = np.where(onset & ~happens(chance.mask_velocity), rhythm_vel, np.float32(0))
    rhythm_offset = np.where(onset & ~happens(chance.mask_offset), rhythm_offset, np.float32(0))
    return onset, rhythm_vel, rhythm_offset


def rhythm_rolls(*rhythm):
    """The three rolls (B, T, V) that hold a rhythm (onset, vel, offset), each (B, T), in channel 3."""
    rolls = {}
    for name, part in zip(RHYTHM_KEYS, rhythm):
        rolls[name] = np.zeros((*part.shape, N_VOICES), np.float32)
        rolls[name][..., RHYTHM_CHANNEL] = part
    return rolls


# ------------------------------------------------------------------------- batches made of batches


def unset_controls(batch):
    """A copy of the batch with all controls unset everywhere."""
    controls = controls_of(batch)
    return batch | {name: torch.full_like(x, CONTROLS[name].unset_in(x)) for name, x in controls.items()}


def swap_rhythm(batch, other=None):
    """A copy of the batch in which each window has another's rhythm.

    other (B,) int: whose; the one before it where None, which is often of the same performance.
    """
    if other is None:
        other = torch.arange(len(batch["mask"])).roll(1)
    return {**batch, **{name: batch[name][other] for name in ABOUT_RHYTHM}}
