"""Drums without end: the same drawing as in `sample`, a bar at a time, to a rhythm that comes round again.

Shapes: B batch, T steps of the rhythm (whole bars), V voices (9), S steps in a bar.
"""

import torch

from model.decoding.capture import fresh
from model.decoding.sampling import UNIFORMS_PER_VOICE, build_conditioning, encode_rhythm, given_controls
from model.decoding.steps import CONTROLS, Guide
from model.model import N_VOICE


class Stream:
    """Plays bar after bar. It looks back over the decoder's window and keeps nothing else, so it can go on for days."""

    def __init__(
        self, model, batch_size=1, temperature=1.0, guidance=1.0, follow=1.0, generator=None, precision=None
    ):
        """temperature > 0, guidance, follow, generator and precision as in `sample`. The model should be in eval mode;
        `set_rhythm` comes before the first bar."""
        self.model, self.batch_size, self.generator = model, batch_size, generator
        self.guidance, self.follow = guidance, follow
        self.temperature, self.precision = temperature, precision
        self.guide = Guide(guidance, follow, given=())
        self.decoding = fresh(model, batch_size, self.guide, temperature, precision)

    @torch.no_grad()
    def set_rhythm(self, rhythm, use_context=True, use_latent=True, known=None):
        """From the next bar on play to this rhythm, from its first bar, over and over: onset, vel, timeoffset (B, T, V),
        T whole bars; None: to nothing. use_context, use_latent: whether it is heard hit by hit, and its gist, one bool or
        (T,) of them. known: as in `sample`, of as many steps as the rhythm."""
        if rhythm is None:
            silence = self.model.decoder.start.new_zeros(self.batch_size, self.model.steps_per_bar, N_VOICE)
            rhythm, use_context, use_latent = (silence.float(),) * 3, False, False
        steps = torch.ones(rhythm[0].shape[:2], dtype=torch.bool, device=rhythm[0].device)
        use_context = steps & use_context & bool(self.follow)
        self.heard = encode_rhythm(self.model, rhythm, steps, use_context, steps & use_latent, known)
        self.next_step = 0

    @torch.no_grad()
    def bar(self, density, intensity, instrument, style, forbid=None, limit=None):
        """The next bar: controls of its S steps as in `sample`, forbid (B, S, V) bool, limit (B, S, R, V) -> onset, vel,
        timeoffset, float32 (B, S, V)."""
        controls = density, intensity, instrument, style
        self.guided_by(controls)
        S = self.model.steps_per_bar
        heard = {name: x[:, self.next_step : self.next_step + S] for name, x in self.heard.items()}
        self.next_step = (self.next_step + S) % self.heard["mask"].shape[1]
        heard |= {name: rule for name, rule in (("forbid", forbid), ("limit", limit)) if rule is not None}
        told = build_conditioning(self.model, heard, controls, self.guide)
        shape = self.batch_size, S, N_VOICE, UNIFORMS_PER_VOICE
        return self.decoding.bar(told, torch.rand(shape, generator=self.generator, device=density.device))

    def guided_by(self, controls):
        """Be ready for these controls: a row for each view that they need. A view that is new saw until now what another
        did; once a control was given its rows stay, as they have seen what the others have not."""
        if len(self.guide.given) == len(CONTROLS):
            return
        before, played = self.guide, self.decoding
        self.guide = Guide(self.guidance, self.follow, before.given.union(given_controls(controls)))
        if self.guide != before:
            self.decoding = fresh(self.model, self.batch_size, self.guide, self.temperature, self.precision)
            self.decoding.go_on_from(played)
