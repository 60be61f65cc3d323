"""From a request to takes: what is heard of its files, how it is laid out for the model, what is played."""

import os
from pathlib import Path

import numpy as np
import torch

from utils.checks import ArgumentError
from utils.device import on_cpu
from utils.get_model import given_model, last_model_or_shipped
from utils.midi.hearing import drums_from_midi, hear, process_midi
from utils.midi.read import MAX_BARS
from utils.playing.arguments import JOBS
from utils.playing.controls import Bars, to_model_units
from utils.playing.generate import Told, draw
from utils.playing.jobs import LAYOUTS, plan_layout
from utils.playing.request import Request, with_arguments_of
from utils.playing.rests import in_words, unasked
from utils.playing.rolls import drum_rolls
from utils.playing.takes import check_written, takes_of


@on_cpu
@with_arguments_of(Request)
def play(rhythm=None, *, num_samples=None, model=None, **asked):
    """Play drums to a rhythm.

        take = play("rhythm.mid", hits_per_bar=[12, 18, 18, 26], voices={"kick": 4}, style="funk")

    rhythm: a MIDI file; or three rolls, as process_midi gives them; or None.
    hits_per_bar, velocity (1 to 127), voices (a dict, name -> hits per bar), style, steady (percent of the
        hits that are as in the bar before; for models that know it), swing (a ratio, see `generate`): one
        value for all bars or several, a list or text with commas, stretched evenly over the bars; None or "-"
        leaves bars to the model. forbid: names of voices that never sound.
    bars: how many to play, of 4/4; None: as many as the rhythm has. Without a rhythm it must be given.
    song: in place of all these a song, a YAML file or a dict as read_song takes it.
    job: what is done, a name out of JOBS; all but "tap" are done to the drums in `rhythm` or to `drums`,
        three rolls. voices_anew, bars_anew (counted from 1: "2,5-7"), strength, second (a MIDI file or
        rolls): as the job needs them.
    rhythm_is: what the rhythm is, see `generate`; None: as the file tells, of which most notes are drums, or
        one or two pitches that are struck (hands), or neither (a part).
    track, kit_in: how the file is heard, see process_midi. kit_out, keep_tracks, lead_in, count_in: how the
        take is written, see convert_to_midi. tempo: beats per minute; None: tempo map and meters of the file,
        or 120. Where the model hears no timing, it plays the tighter, in steps, the slower it is. soundfont:
        a .sf2 file for the sound of the take.
    model: None: the one built last or, where there is none, that of checkpoints/drummer.pt. seed: the same
        one gives the same drums; None: a new one, which is on the receipt.
    num_samples: None: one Take is returned; a number: a list of so many, the one that obeys best first, no
        two alike. best_of: of how many they are the best. What else `generate` takes by keyword is as there.

    Where a rhythm begins with a bar of silence or more, the drums wait for its first note. To drums and hands
    that are followed literally they also rest where these do, for a bar or more; to a part they go on, unless
    stops=True, which makes them rest where no note of it sounds.

    Raises ValueError naming the argument, the value and the rule.
    """
    model = last_model_or_shipped() if model is None else given_model(model)
    request = Request(rhythm=rhythm, num_samples=1 if num_samples is None else num_samples, **asked)
    takes = perform(request, model)
    return takes[0] if num_samples is None else takes


def perform(request, model, say=lambda line: None):
    """The Takes of a request, the best first. say: is given, line by line, how the input was taken, when all
    is checked and nothing is played yet. Raises ArgumentError, or ValueError naming a file."""
    written = {"tempo": request.tempo, "source": request.file if request.tempo is None else None}
    written |= {name: getattr(request, name) for name in ("keep_tracks", "lead_in", "count_in")}
    check_written(request.kit_out, request.soundfont, **written)
    heard = Heard(request, model.steps_per_bar)
    plan, asked, steps = lay_out(request, heard, model)
    for line in heard.lines(request, steps, model.steps_per_bar, model.told_kind):
        say(line)
    if quiet := in_words(plan.silent, plan.grid):
        say(f"  the drums rest with the rhythm in bars {quiet}")
    name = "take" if request.file is None else Path(request.file).stem
    about = {"asked": asked, "rhythm": heard.rhythm, "model": model, "seed": request.seed}
    about |= {"dials": request.turned() | ({} if request.job == "tap" else {"job": request.job})}
    if request.job != "tap" and plan.inputs["known"] is not None:
        about["anew"] = ~plan.inputs["known"]["known_onset"][:steps]
    if request.laid_song is not None:
        about["sections"] = request.laid_song.sections
    rolls = [roll[:, :steps] for roll in draw(plan)]
    return takes_of(rolls, name, kit=request.kit_out, soundfont=request.soundfont, **about, **written)


class Heard:
    """What is heard of a request's files and rolls: rhythm; drums, those that a job or a lock needs; second,
    those to which interpolate leads: each three rolls (1, T, 9), or None.

    file: the HeardFile, or None. own_steps: how many steps the rhythm has, up to the bar line on which its
    notes end; steps: how many are played to it.
    """

    def __init__(self, request, bar):
        file, song, is_tap = request.file, request.laid_song, request.job == "tap"
        bars = request.bars if song is None else len(song)
        self.rhythm, self.drums, self.second = request.rhythm, request.drums, request.second
        self.file, self.own_steps, held = None, 0, None
        how = {"down_sample_tpq": bar // 4, "kit": request.kit_in}
        if file is not None:
            self.file, self.rhythm = hear(file, request.track), process_midi(file, request.track, **how)
            self.own_steps = self.file.steps(bar // 4)
            held = [torch.from_numpy(self.file.held(self.rhythm[0].shape[1], bar // 4))[None, :, None]]
            if bars is None and self.own_steps > MAX_BARS * bar:
                last = -(-self.own_steps // bar)
                raise ValueError(f"{file}: its last note ends in bar {last}; at most {MAX_BARS} are played")
            if self.drums is None and not (is_tap and request.locked is None):
                self.file, self.drums = (
                    hear(file, request.track, True),
                    drums_from_midi(file, request.track, **how),
                )
        elif self.rhythm is not None:
            self.own_steps = len(drum_rolls(self.rhythm, "rhythm", any_length=True)[0])
            if self.drums is None and not is_tap:
                self.drums = self.rhythm
        self.steps = self.own_steps if bars is None else bars * bar
        if not is_tap and self.drums is None:
            rule = f"job {request.job} needs drums, in a file or as three rolls"
            raise ArgumentError("drums", None, rule)
        if is_tap and not self.steps:
            raise ArgumentError("bars", bars, "without a rhythm it must say how many bars are played")
        if isinstance(self.second, (str, os.PathLike)):
            self.second = drums_from_midi(self.second, **how)
        if song is not None and self.rhythm is not None:
            self.rhythm = song.rhythm(self.rhythm, bar, self.own_steps)
            held = held and song.rhythm(held, bar, self.own_steps)
        self.held = held and held[0][0, :, 0].numpy()

    def of_job(self, request, model):
        """The arguments of the job alone, as its layout takes them."""
        if request.job == "tap":
            return {"steps": -(-self.steps // 4) * 4}
        bars = model.grid(self.drums[0].shape[-2]).n_bars
        if request.bars_from_0 and max(request.bars_from_0) >= bars:
            rule = f"it must name bars, as 2,5-7, of the {bars} there are"
            raise ArgumentError("bars_anew", request.bars_anew, rule)
        read = vars(request) | {"bars_anew": request.bars_from_0, "second": self.second}
        own = {name: read[field] for name, field in JOBS[request.job].takes.items() if field != "lock"}
        return {name: value for name, value in own.items() if value is not None}

    @property
    def kind(self):
        """What the file says that the rhythm is; None without one."""
        return None if self.file is None else self.file.kind()

    def told(self, request, steps, bar, silent):
        """What is known of the rhythm, and of the tempo of so many steps: Told. bar: steps of one; silent:
        whether the rhythm is not heard."""
        bpm = None if request.tempo is None else np.full(steps, request.tempo)
        if bpm is None and self.file is not None:
            bpm = self.file.timeline.bpm_of(np.arange(steps) * 4 * self.file.timeline.tpq / bar)
        if silent:
            return Told(bpm=bpm)
        waits = request.job == "tap" and bool((torch.as_tensor(self.rhythm[0]) > 0).any())
        return Told(self.kind, self.held, bpm, waits)

    def lines(self, request, steps, bar, told_kind=False):
        """How the input was taken, in words. told_kind: whether the model is told what the rhythm is."""
        if self.file is None:
            return
        own = self.own_steps if request.job == "tap" else self.drums[0].shape[-2]
        length = f"{own / bar:g} bars at {self.file.timeline.bpm()} bpm; playing {steps / bar:g}"
        kind = f", heard as {request.rhythm_is or self.kind}" if told_kind and request.job == "tap" else ""
        yield f"{request.file}: {length}, seed {request.seed}{kind}"
        remarks = remarks_on(self.file.midi, self.file.timeline, request.laid_song, request.keep_tracks)
        yield from (f"  {remark}" for remark in (*self.file.remarks, *remarks))


def lay_out(request, heard, model):
    """A request in the model's terms: the Plan, the Bars it asks for, and how many steps are wanted."""
    bar, song, known, is_tap = model.steps_per_bar, request.laid_song, request.known, request.job == "tap"
    drums = None if heard.drums is None else drum_rolls(heard.drums)
    try:
        layout = LAYOUTS[request.job](drums, model, request, **heard.of_job(request, model))
    except ArgumentError as error:
        first, *rest = error.argument
        raise error.named(JOBS[request.job].takes.get(first, first), *rest) from None
    steps = heard.steps if is_tap else layout.steps
    asked = request.asked(-(-steps // bar))
    silent = heard.rhythm is None or (not is_tap and request.drums is None)  # it is the drums
    rhythm = (None,) * 3 if silent else heard.rhythm
    if song is None:
        curves = to_model_units(asked, model.normalize_factor, model.grid(asked.n_bars * bar))
    else:
        curves, known = song.curves(model), song.crashes(rhythm, model, request.follow) or known
    more = {"known": known, "latent": request.latent, "told": heard.told(request, layout.steps, bar, silent)}
    more |= {"swing": asked["swing"]}
    plan = plan_layout(request.job, layout, drums, model, request, rhythm, curves, **more)
    asked = Bars(asked | {"swing": plan.swing.ratio})
    return plan, unasked(asked, plan.silent, plan.grid), steps


def remarks_on(midi, timeline, song, keep_tracks):
    """What a listener should know about how the input was taken."""
    if song:
        yield f"bars of the sections: {song}"
    meters = {f"{numerator}/{denominator}" for _, numerator, denominator in timeline.meters} - {"4/4"}
    if meters:
        more = ", ..." * (len(meters) > 4)
        kept = f"its meter is {', '.join(sorted(meters)[:4])}{more}, and the MIDI file keeps it"
        yield f"{kept}; but the model, the controls and the table count bars of 4/4"
    if keep_tracks and midi.is_drum[midi.track].any():
        yield "its own drums are kept too, and sound beside the new ones"
