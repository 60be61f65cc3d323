"""Drums without end: drawn as in `sample`, a bar at a time, to a rhythm that comes round again.

Shapes: B batch, T steps of the rhythm, S steps of a bar, V voices (9), R rules.
"""

import torch

from model.controls import CONTROLS, N_VOICES, PHRASE
from model.decoding.capture import fresh
from model.decoding.guide import Guide
from model.decoding.sampling import (
    UNIFORMS_PER_VOICE,
    build_conditioning,
    encode_rhythm,
    given_controls,
    with_history,
)
from model.decoding.steps import inference


class Stream:
    """Plays bar after bar. It keeps the decoder's window and the few bars that the
    model looks back to, so it can go on for days."""

    def __init__(
        self, model, batch_size=1, temperature=1.0, guidance=1.0, follow=1.0, generator=None, precision=None
    ):
        """temperature > 0, guidance, follow, generator and precision as in `sample`. The model should be in
        eval mode; `set_rhythm` comes before the first bar. `follow` may be set anew, for the next bars."""
        self.model, self.batch_size, self.generator = model, batch_size, generator
        self.guidance, self.follow = guidance, follow
        self.temperature, self.precision = temperature, precision
        self.guide = Guide(guidance, follow, given=())
        self.past = []  # the bars that the model looks back to
        self.n_played = 0  # bars
        self.decoding = fresh(model, batch_size, self.guide, temperature, precision)

    @inference
    def set_rhythm(
        self, rhythm, use_context=True, use_latent=True, known=None, rhythm_is=None, grid=None, pads=None
    ):
        """From the next bar on play to this rhythm, from its first bar, over and over: onset, vel, timeoffset
        (B, T, V), whole bars; None: to no rhythm. use_context, use_latent: whether a step may use the
        context, and its bar's latent, one bool or (T,) of them. known: as in `sample`, of as many steps as
        the rhythm. rhythm_is (B, T) long: what it is, see RHYTHM_KINDS; None: unset. grid: the BarGrid of its
        steps; None: bars of 4/4. pads (B, T) long: see PADS; None: unset."""
        if rhythm is None:
            n_steps = (grid or self.model.grid(1).whole()).n_steps
            silence = self.model.decoder.start.new_zeros(self.batch_size, n_steps, N_VOICES)
            rhythm, use_context, use_latent = (silence.float(),) * 3, False, False
        steps = torch.ones(rhythm[0].shape[:2], dtype=torch.bool, device=rhythm[0].device)
        use_context = steps & use_context & bool(self.follow)
        self.grid = grid or self.model.grid(steps.shape[1])
        heard = rhythm, steps, use_context, steps & use_latent, self.grid, known
        self.encoded = encode_rhythm(self.model, *heard, rhythm_is=rhythm_is, pads=pads)
        self.next_bar = 0

    def next_grid(self):
        """The BarGrid of the next bar."""
        return self.grid.cut(self.next_bar, self.next_bar + 1)

    @inference
    def bar(self, controls, forbid=None, limit=None):
        """The next bar: controls {name: values} of its S steps as in `sample`, forbid (B, S, V) bool, limit
        (B, S, R, V) -> onset, vel, timeoffset, float32 (B, S, V)."""
        self.adapt_guide(controls)
        bar, steps = self.next_grid(), self.grid.steps_of(self.next_bar)
        self.next_bar = (self.next_bar + 1) % self.grid.n_bars
        encoded = {name: x[:, steps] for name, x in self.encoded.items()}
        encoded |= {name: rule for name, rule in (("forbid", forbid), ("limit", limit)) if rule is not None}
        if "phrase" in encoded:  # the phrase goes on, however often the rhythm comes round
            encoded["phrase"] = torch.full_like(encoded["phrase"], self.n_played % PHRASE)
        self.n_played += 1
        conditioning = build_conditioning(self.model, encoded, controls, self.guide, bar)
        shape = self.batch_size, bar.n_steps, N_VOICES, UNIFORMS_PER_VOICE
        device = encoded["mask"].device
        uniform = torch.rand(shape, generator=self.generator, device=device, dtype=torch.float32)
        conditioning = with_history(self.model, conditioning, self.past, self.guide)
        drums = self.decoding.bar(conditioning, uniform)
        if self.model.looks_back:
            self.past = [*self.past, drums][-self.model.looks_back :]
        return drums

    def adapt_guide(self, controls):
        """Have the views that `follow` needs, and one for every control that these set. A new view starts
        from what the nearest view has seen; the views of a control stay once it was set, for they have seen
        what the others have not."""
        before, played = self.guide, self.decoding
        more = given_controls(controls) if len(before.given) < len(CONTROLS) else ()
        self.guide = Guide(self.guidance, self.follow, before.given.union(more))
        if self.guide != before:
            self.decoding = fresh(self.model, self.batch_size, self.guide, self.temperature, self.precision)
            self.decoding.adopt(played)
