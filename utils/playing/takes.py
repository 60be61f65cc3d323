"""A take: drums that were played, to hear, to see and to keep, with the receipt of what was asked."""

import base64
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from model.controls import CONTROLS
from utils.checks import ArgumentError, check_keys, counted, file_name, within
from utils.get_model import given_model
from utils.midi.drums import N_VOICES, inverse_mapping
from utils.midi.kits import kit_out as pitches_of
from utils.midi.read import read_midi
from utils.midi.sound import check_soundfont, render
from utils.midi.timeline import Timeline
from utils.midi.write import early_hits, roll_to_midi
from utils.playing.bar_lines import BarLines
from utils.playing.controls import Bars, read_curves
from utils.playing.receipt import Receipt
from utils.playing.rolls import drum_rolls, read_steps


class Take:
    """One version of drums, and where it comes from. A notebook shows its picture, its table and a player.

    onset, vel, time: float32 (1, T, 9) on the CPU. A take goes where drums go: infill(take, bars=1),
    convert_to_midi(*take, inverse_mapping, path). receipt: a Receipt. rhythm: three rolls, or None.

        take = Take(infill(drums, bars=1, density=curve, seed=3), asked={"density": curve}, seed=3)
    """

    def __init__(
        self,
        drums,
        *,
        asked=None,
        rhythm=None,
        model=None,
        seed=None,
        dials=None,
        name="take",
        tempo=None,
        source=None,
        keep_tracks=False,
        replace_drums=False,
        lead_in=False,
        count_in=False,
        kit=None,
        meter=None,
        soundfont=None,
        sections=None,
        anew=None,
    ):
        """drums: three rolls (1, T, 9), as generate and the jobs return them; of several, see takes_of.
        asked: what was asked of them: Bars, as utils.playing.controls.ask gives them, or a dict of density,
        intensity, instrument, style and masks as generate takes them; None: nothing. rhythm: the three rolls
        that were heard.
        model, seed: with which they were drawn; model: default: the one built last. dials: what else is to be
        on the receipt, name -> value. name: the title. tempo, source, keep_tracks, replace_drums, lead_in,
        count_in: as for convert_to_midi; kit: a name or a YAML file, see utils/midi/kits.py; soundfont: a
        .sf2 file for wav and the player, None: a General MIDI one. sections: of a song, [(name, bars)]; anew:
        the cells that a job played anew, (T, 9) bool; the picture shows both. meter: as for generate, or a
        Timeline, whose bars they are; None: those of the source, or 4/4. Raises ValueError.
        """
        model, rolls = given_model(model), drum_rolls(drums, any_length=True)
        heard = None if rhythm is None else drum_rolls(rhythm, "rhythm", any_length=True)
        self.onset, self.vel, self.time = (roll[None] for roll in rolls)
        self.rhythm, self.name = heard and [roll[None] for roll in heard], name
        self._midi = {"tempo": tempo, "source": source, "keep_tracks": keep_tracks}
        self._midi |= {"lead_in": lead_in, "count_in": count_in, "replace_drums": replace_drums}
        self._shown = {"sections": sections, "anew": anew}
        self._pitches, self._soundfont = pitches_of(kit), soundfont
        if meter is None and source is not None:
            meter = Timeline.of(read_midi(source))
        lines = BarLines.in_meter(model, meter)
        self._midi["meters"] = lines.timeline
        check_written(kit, soundfont, **self._midi)
        grid = lines.of_steps(len(rolls[0]))
        for argument, value in (("asked", asked), ("dials", dials)):
            if not isinstance(value, (dict, type(None))):
                found = f"of type {type(value).__name__}"
                raise ArgumentError(argument, value, "it must be a dict, name -> value", found)
        if asked is not None and not isinstance(asked, Bars):
            with within("asked"):
                check_keys(asked, [*CONTROLS, "masks"], "control")
            *_, asked = read_curves(asked, asked.get("masks"), grid, model.normalize_factor)
        self.receipt = Receipt(rolls, asked, model, heard, seed, dials, grid)

    def __iter__(self):
        return iter((self.onset, self.vel, self.time))

    def __repr__(self):
        hits, origin = int(self.onset.sum()), ", ".join(self.receipt.origin())
        return f"<{self.name}: {counted(self.receipt.grid, 'bar')}, {counted(hits, 'hit')}, {origin}>"

    def bpm(self):
        """The tempo, as text: "96", or "90 to 120" where it changes."""
        source, tempo = self._midi["source"], self._midi["tempo"]
        return f"{tempo or 120:g}" if source is None else Timeline.of(read_midi(source)).bpm()

    def save(self, path):
        """Write the MIDI file. Returns its hits, as convert_to_midi does."""
        path = file_name(path, "path")
        return self._write(path, self._pitches)

    def _write(self, path, pitches):
        return roll_to_midi(*(roll[0].numpy() for roll in self), pitches, path, **self._midi)

    def pretty_midi(self):
        """The MIDI file as a pretty_midi.PrettyMIDI."""
        from pretty_midi import PrettyMIDI  # for those who ask for it alone

        with TemporaryDirectory() as folder:
            self.save(path := Path(folder) / "take.mid")
            return PrettyMIDI(str(path))

    def wav(self, path):
        """Write the sound of the MIDI file, see render; drums on the keys of the kit for a soundfont of your
        own, else on those of General MIDI. Raises ValueError."""
        path, kit = file_name(path, "path"), None if self._soundfont is None else self._pitches
        with TemporaryDirectory() as folder:
            self._write(midi := Path(folder) / "take.mid", kit or inverse_mapping)
            render(midi, path, self._soundfont)

    def early_hits(self):
        """How many hits ahead of the very first beat are put on it, for want of a lead-in."""
        if self._midi["lead_in"] or self._midi["count_in"]:
            return 0
        return early_hits(self.onset[0], self.time[0])

    def plot(self, path=None, overview=False):
        """The picture, a matplotlib Figure: rhythm, drums, asked and got. path: of a PNG to write, or None.
        overview: a strip of all bars alone, which otherwise stands above more than two lines of bars."""
        from utils.playing.plots import draw_result  # matplotlib is for those who look

        path = path if path is None else file_name(path, "path")
        rhythm = self.rhythm and [roll[0] for roll in self.rhythm]
        title = f"{self.name}   {self.bpm()} bpm"
        drums = [roll[0] for roll in self]
        return draw_result(path, drums, rhythm, self.receipt, title, overview=overview, **self._shown)

    def _repr_html_(self):
        with TemporaryDirectory() as folder:
            self.plot(png := Path(folder) / "take.png")
            source, name = f"data:image/png;base64,{_text(png)}", escape(self.name)
            picture = f'<img style="max-width: 100%" alt="{name}" src="{source}">'
            self.wav(wav := Path(folder) / "take.wav")
            player = f'<audio controls src="data:audio/wav;base64,{_text(wav)}"></audio>'
        return f"<div>{picture}<pre>{escape(self.receipt.table())}</pre>{player}</div>"


def takes_of(drums, name="take", **about):
    """Takes NAME_1, NAME_2, ... of the versions of drums, three rolls (N, T, 9). about: as for Take."""
    versions = zip(*(torch.as_tensor(roll).cpu().split(1) for roll in drums))
    return [Take(drums, name=f"{name}_{number}", **about) for number, drums in enumerate(versions, start=1)]


def convert_to_midi(
    onset,
    vel,
    time,
    inverse_mapping,
    path,
    *,
    tempo=None,
    source=None,
    keep_tracks=False,
    replace_drums=False,
    lead_in=False,
    count_in=False,
    meter=None,
):
    """Write one version of the drums to a MIDI file: channel 10, tempo, meter, 480 ticks per quarter.

    onset, vel, time: (1, T, 9) or (T, 9). inverse_mapping: voice index -> MIDI pitch; utils.midi.kits.kit_out
    gives those of other kits. tempo: beats per minute, 120 if None. source: the MIDI file of the rhythm,
    which gives tempo map and meter (tempo must then be None). keep_tracks writes its tracks beside the drums;
    replace_drums does so without its own drums, or without the track that it names. meter: another one, or
    one for each bar, as in generate; without a source None is 4/4. lead_in: everything begins a bar later, so
    that hits before the first beat stay there; otherwise they are moved onto it. count_in: the closed hat
    clicks on the beats of the bar before the drums begin; if they begin in the first bar, everything begins a
    bar later. The file appears whole or not at all.

    Returns a structured array of the hits in the order of time: `time` and `duration` in seconds, `pitch`,
    `velocity` (1 to 127). Raises ValueError naming the argument or the file.
    """
    path, named = file_name(path, "path"), {"onset": onset, "vel": vel, "time": time}
    rolls = [read_steps(roll, name, N_VOICES).numpy() for name, roll in named.items()]
    written = {"source": source, "keep_tracks": keep_tracks, "lead_in": lead_in, "count_in": count_in}
    written["replace_drums"] = replace_drums
    if meter is not None:
        written["meters"] = Timeline().in_meter(meter)
    return roll_to_midi(*rolls, inverse_mapping, path, tempo, **written)


def check_written(kit=None, soundfont=None, **written):
    """Raise, before anything is played, what writing a take would raise for these arguments of Take."""
    check_soundfont(soundfont)
    roll_to_midi(*np.zeros((3, 0, N_VOICES)), pitches_of(kit), **written)


def _text(path):
    return base64.b64encode(path.read_bytes()).decode()
