"""From a request to takes: what is heard of its files, how it is laid out for the model, what is played."""

import os
from math import ceil
from pathlib import Path

import numpy as np
import torch

from model.controls import CONTROLS
from utils.checks import ArgumentError, counted, whole
from utils.device import on_cpu
from utils.get_model import given_model
from utils.midi.find_drums import drum_notes
from utils.midi.hearing import drums_of, hear, rhythm_of
from utils.midi.read import read_midi
from utils.midi.shift import moved
from utils.midi.timeline import MAX_BARS, Timeline
from utils.midi.tracks import ALL
from utils.playing.arguments import JOBS
from utils.playing.bar_lines import BarLines
from utils.playing.controls import Bars, to_model_units
from utils.playing.generate import Told, draw
from utils.playing.jobs import LAYOUTS, plan_layout
from utils.playing.request import Request, with_arguments_of
from utils.playing.rests import in_words, unasked
from utils.playing.rolls import MAX_RHYTHM_STEPS, beat_of, drum_rolls
from utils.playing.swing import HEARD
from utils.playing.takes import check_written, takes_of
from utils.playing.wishes import WISHES


@on_cpu
@with_arguments_of(Request)
def play(rhythm=None, *, num_samples=None, model=None, **asked):
    """Play drums to a rhythm.

        take = play("rhythm.mid", hits_per_bar=[12, 18, 18, 26], voices={"kick": 4}, style="funk")

    rhythm: a MIDI file; or three rolls, as process_midi gives them; or None.
    hits_per_bar, velocity (1 to 127), voices (a dict, name -> hits per bar), style, steady (percent of the
        hits that are as in the bar before; for models that know it), swing (a ratio, see `generate`): wishes,
        one value for all bars or several, a list or text with commas, stretched evenly over the bars; None or
        "-" leaves a bar to the model. forbid: names of voices that never sound.
    bars: how many to play; None: as many as the rhythm has. Needed without a rhythm.
    meter: the meter of the bars in place of the file's, or of 4/4: "3/4", or a list with one for each bar;
        the last one goes on. pickup: the steps of a short bar before them. All arguments count these bars.
    song: a song in place of all these, a YAML file or a dict as read_song takes it.
    beat: the name of a beat, a mix of wishes and dials from utils/playing/beats.yaml, or a YAML file with
        one. Your other arguments win over it.
    job: a name from JOBS; all but "tap" work on the drums in `rhythm` or on `drums`, three rolls.
        voices_anew, bars_anew (counted from 1: "2,5-7"), strength, second (a MIDI file or rolls): as the job
        needs them.
    rhythm_is: the kind of the rhythm, see `generate`. None: the file decides. If most of its notes are drums,
        it is drums; if it strikes one or two pitches, hands; otherwise a part.
    track, kit_in: how to hear the file, see process_midi. shift: sixteenths by which all of the file is moved
        first: -1 for a file that is one late. kit_out, keep_tracks, replace_drums, lead_in, count_in: how to
        write the take, see convert_to_midi; a job replaces the drums of its file. tempo: beats per minute;
        None: tempo map and meters of the file, or 120. If the model hears no timing, its own is tighter, in
        steps, at a slow tempo. soundfont: a .sf2 file for the sound of the take.
    model: None: the one built last or, without one, that of checkpoints/drummer.pt. seed: the same seed gives
        the same drums; None: a new one, which the receipt names.
    num_samples: None returns one Take; a number returns a list of so many, the best first, no two alike.
        best_of: how many takes are played. All other keyword arguments are those of `generate`.

    If a rhythm begins with a bar of silence or more, the drums wait for its first note. With drums and hands
    that are followed literally they also rest where these rest, for a bar or more. With a part they go on;
    stops=True makes them rest where no note of it sounds.

    If a rhythm clearly swings, drums that do not answer it swing likewise, and the receipt says so. swing="-"
    turns this off, and so do timing=0 and a feel of timing below 1.

    Raises ValueError naming the argument, the value and the rule.
    """
    model = given_model(model)
    request = Request(rhythm=rhythm, num_samples=1 if num_samples is None else num_samples, **asked)
    takes = perform(request, model)
    return takes[0] if num_samples is None else takes


def perform(request, model, say=lambda line: None):
    """The Takes of a request, the best first. say: called with each line on how the input was read, when all
    is checked and nothing is played yet. Raises ArgumentError, or ValueError naming a file."""
    file = moved(request.file, request.shift) if request.shift else request.file
    written = {"tempo": request.tempo, "source": file if request.tempo is None else None}
    written |= {name: getattr(request, name) for name in ("keep_tracks", "lead_in", "count_in")}
    written["replace_drums"] = replaced_drums(request)
    check_written(request.kit_out, request.soundfont, **written)
    heard = Heard(request, model)
    plan, asked, grid = lay_out(request, heard, model)
    for line in heard.lines_on(request, grid, model.told_kind):
        say(line)
    if quiet := in_words(plan.silent, plan.grid):
        say(f"  the drums rest with the rhythm in bars {quiet}")
    if swing := plan.swing.in_words():
        say(f"  swing {swing}; --swing - plays it as drawn")
    name = "take" if request.file is None else Path(request.file).stem
    about = {"asked": asked, "rhythm": heard.rhythm, "model": model, "seed": request.seed}
    more = {"job": request.job, "beat": request.beat, "shift": request.shift}
    about["dials"] = request.turned(plan.grid.n_bars if plan.open else None, plan.loose)
    about["dials"] |= {word: more[word] for word in filter(request.is_given, more)}
    if swing:
        about["dials"] |= {"swing": swing}
    if request.job != "tap" and plan.inputs["known"] is not None:
        about["anew"] = ~plan.inputs["known"]["known_onset"][: grid.n_steps]
    if request.laid_song is not None:
        about["sections"] = request.laid_song.sections
    about |= {"kit": request.kit_out, "soundfont": request.soundfont, "meter": heard.lines.timeline}
    drums = [roll[:, : grid.n_steps] for roll in draw(plan, best_first=True)]
    return takes_of(drums, name, **about, **written)


def replaced_drums(request):
    """Which of the file's own drums the new ones replace, as roll_to_midi takes it: of a job those that it
    is given, else what the request says."""
    given = request.job != "tap" and request.drums is None and request.file is not None
    if not (given and request.keep_tracks):
        return request.replace_drums
    if request.track is not None:
        return request.track
    return True if drum_notes(read_midi(request.file)).any() else ALL


class Heard:
    """What is heard of a request's files and rolls: rhythm; drums, those that a job or a lock needs; second,
    those to which interpolate leads: each three rolls (1, T, 9), or None.

    file: the HeardFile, or None; held, pads (T,): on which steps its notes sound, and on which of two pads
    its taps are. lines: the BarLines of what is played, those of the file unless meter or pickup say
    otherwise; second_lines: those of second. own_steps: how many steps the rhythm has, up to the bar line on
    which its notes end; steps: how many are played.
    """

    def __init__(self, request, model):
        is_tap, bars_of = request.job == "tap", {"pickup": request.pickup}
        bars_of["meter"] = BarLines.checked(model, request.meter)
        self.rhythm, self.drums, self.second = request.rhythm, request.drums, request.second
        self.file, self.held, self.pads, self.own_steps = None, None, None, 0
        self.lines = self.second_lines = BarLines(model, Timeline().in_meter(**bars_of))
        if request.file is not None:
            self._hear_file(request, model, bars_of | {"shift": request.shift})
        elif self.rhythm is not None:
            self.own_steps = len(drum_rolls(self.rhythm, "rhythm", any_length=True)[0])
            if self.drums is None and not is_tap:
                self.drums = self.rhythm
        if request.pickup is not None:
            whole(request.pickup, "pickup", most=self.lines.of_bars(2).lengths[1] - 1)
        if not is_tap and self.drums is None:
            rule = f"job {request.job} needs drums, in a file or as three rolls"
            raise ArgumentError("drums", None, rule)
        if isinstance(self.second, (str, os.PathLike)):
            second = hear(self.second, drums=True)
            self.second = drums_of(second, model.steps_per_beat, request.kit_in)
            self.second_lines = BarLines(model, second.timeline)
        self._measure(request.bars, request.laid_song, is_tap)

    def _hear_file(self, request, model, bars_of):
        how = model.steps_per_beat, request.kit_in
        self.file = hear(request.file, request.track, **bars_of)
        self.lines, self.own_steps = BarLines(model, self.file.timeline), self.file.steps(how[0])
        if request.bars is None and request.song is None and self.own_steps > MAX_RHYTHM_STEPS:
            last, most = ceil(self.file.timeline.bars_until(self.file.end)), f"at most {MAX_BARS} are played"
            raise ValueError(f"{request.file}: its last note ends in bar {last}; {most}")
        self.rhythm = rhythm_of(self.file, *how)
        self.held, self.pads = (
            of(self.rhythm[0].shape[1], how[0]) for of in (self.file.held, self.file.pads)
        )
        if self.drums is None and not (request.job == "tap" and request.locked is None):
            self.file = hear(request.file, request.track, True, **bars_of)
            self.drums = drums_of(self.file, *how)

    def _measure(self, n_bars, song, is_tap):
        """How many steps are played: of so many bars, or of a song, or as many as the rhythm has."""
        if song is not None:
            more = [] if self.held is None else [self.held, self.pads]
            more = [torch.from_numpy(steps)[None, :, None] for steps in more]
            rolls = None if self.rhythm is None else [*self.rhythm, *more]
            n_bars, (self.lines, rolls) = len(song), song.laid(self.lines, rolls, self.own_steps)
            self.rhythm = None if rolls is None else rolls[:3]
            self.held, self.pads = (steps[0, :, 0].numpy() for steps in rolls[3:]) if more else (None, None)
        self.steps = self.own_steps if n_bars is None else self.lines.of_bars(n_bars).n_steps
        if is_tap and not self.steps:
            raise ArgumentError("bars", n_bars, "without a rhythm it must say how many bars are played")
        if self.steps > MAX_RHYTHM_STEPS and n_bars is not None:
            rule = f"at most {MAX_RHYTHM_STEPS} sixteenths are played, {MAX_BARS} bars of 4/4"
            raise ArgumentError("song" if song else "bars", n_bars, rule, f"{self.steps} sixteenths")

    def of_job(self, request):
        """The arguments of the job alone, as its layout takes them."""
        if request.job == "tap":
            beat = beat_of(self.bars)
            return {"steps": -(-self.steps // beat) * beat}
        bars = self.lines.of_steps(self.drums[0].shape[-2]).n_bars
        if request.bars_from_0 and max(request.bars_from_0) >= bars:
            rule = f"it must name bars, as 2,5-7, of the {bars} there are"
            raise ArgumentError("bars_anew", request.bars_anew, rule)
        read = vars(request) | {"bars_anew": request.bars_from_0, "second": self.second}
        own = {name: read[field] for name, field in JOBS[request.job].takes.items() if field != "lock"}
        own |= {"second_lines": self.second_lines} if "second" in own else {}
        return {name: value for name, value in own.items() if value is not None}

    @property
    def bars(self):
        """The BarLines, where a file or the request says what they are; else None: whole beats of 4/4."""
        return self.lines if self.file is not None or self.lines.timeline != Timeline() else None

    @property
    def kind(self):
        """What the file says that the rhythm is; None without one."""
        return None if self.file is None else self.file.kind()

    def told(self, request, steps, silent):
        """What is known of the rhythm, and of the tempo of so many steps: Told. silent: whether the rhythm is
        not heard."""
        bpm = None if request.tempo is None else np.full(steps, request.tempo)
        if bpm is None and self.file is not None:
            ticks = np.arange(steps) * self.file.timeline.tpq / self.lines.model.steps_per_beat
            bpm = self.file.timeline.bpm_of(ticks)
        if silent:
            return Told(bpm=bpm)
        waits = request.job == "tap" and bool((torch.as_tensor(self.rhythm[0]) > 0).any())
        return Told(self.kind, self.held, bpm, waits, self.pads)

    def lines_on(self, request, grid, told_kind=False):
        """How the input was taken, in words. grid: the BarGrid of what is played. told_kind: whether the
        model is told what the rhythm is."""
        if self.file is None:
            return
        own = self.own_steps if request.job == "tap" else self.drums[0].shape[-2]
        own = BarLines(self.lines.model, self.file.timeline).of_steps(own)
        length = f"{counted(own, 'bar')} at {self.file.timeline.bpm()} bpm; playing {grid}"
        tell = told_kind and request.job == "tap"
        kind = f", heard as {request.rhythm_is or self.kind}" if tell else ""
        what = f", {self.file.what}" if self.file.what else ""
        yield f"{request.file}{what}: {length}, seed {request.seed}{kind}"
        yield from (f"  {remark}" for remark in (*self.file.remarks, *self._remarks(request, grid.n_steps)))

    def _remarks(self, request, n_steps):
        if request.laid_song:
            yield f"bars of the sections: {request.laid_song}"
        beat, longest = self.lines.model.steps_per_beat, self.lines.model.longest_bar
        meters = self.lines.timeline.meters_within(n_steps, beat)
        if meters != [(4, 4)]:
            yield f"meter: {meters_in_words(meters)}"
        if misfits := self.lines.misfits(n_steps):
            rule = f"2 to {longest} whole sixteenths long, as this model plays them"
            yield f"bars of {meters_in_words(misfits)} are read as the nearest that are {rule}"
        beside = request.keep_tracks and replaced_drums(request) is False
        if beside and self.file.midi.is_drum[self.file.midi.track].any():
            yield "its own drums are kept too, and sound beside the new ones; --replace-drums drops them"


def meters_in_words(meters):
    shown = [f"{numerator}/{denominator}" for numerator, denominator in meters[:5]]
    return ", ".join(shown + ["..."] * (len(meters) > 5))


def lay_out(request, heard, model):
    """A request in the model's terms: the Plan, the Bars it asks for, and the BarGrid of what is wanted."""
    known, is_tap = request.known, request.job == "tap"
    drums = None if heard.drums is None else drum_rolls(heard.drums, beat=beat_of(heard.bars))
    try:
        layout = LAYOUTS[request.job](drums, heard.lines, request, **heard.of_job(request))
    except ArgumentError as error:
        first, *rest = error.argument
        raise error.named(JOBS[request.job].takes.get(first, first), *rest) from None
    grid = heard.lines.of_steps(heard.steps if is_tap else layout.steps)
    asked, song = request.asked(grid)
    silent = heard.rhythm is None or (not is_tap and request.drums is None)  # it is the drums
    rhythm = (None,) * 3 if silent else heard.rhythm
    if song is None and not any(request.is_given(name) for name in WISHES if name != "swing"):
        curves = dict.fromkeys(CONTROLS)
    elif song is None:
        curves = to_model_units(asked, model.normalize_factor, grid.whole())
    else:
        curves = song.curves(grid, model.normalize_factor)
        known = song.crashes(rhythm, grid, request.follow) or known
    more = {"known": known, "latent": request.latent, "told": heard.told(request, layout.steps, silent)}
    swing = np.full(grid.n_bars, HEARD) if hears_swing(request, asked) else asked["swing"]
    more |= {"grid_of": heard.bars and heard.bars.of_steps, "swing": swing}
    plan = plan_layout(request.job, layout, drums, model, request, rhythm, curves, **more)
    if song is not None:
        plan = plan._replace(fresh=song.fresh, inputs=plan.inputs | {"phrase": song.phrase_of(plan.grid)})
        plan = plan._replace(parts=tuple(bars for _, bars in song.sections))
    elif is_tap and request.is_given("style") and plan.unheard:
        plan = plan._replace(parts=(plan.grid.n_bars,))
    asked = Bars(asked | {"swing": plan.swing.ratio})
    return plan, unasked(asked, plan.silent, plan.grid), grid


def hears_swing(request, asked):
    """Whether drums swing as their rhythm does where it plainly does: drums to a rhythm of which no swing is
    asked, and whose timing is wanted."""
    left_out = request.swing is None and np.isnan(asked["swing"]).all()
    return request.job == "tap" and left_out and request.timing != 0 and request.felt["timing"] == 1
