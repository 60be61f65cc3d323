"""A take: drums that were played, to hear, to see and to keep, with the receipt of what was asked; and `play`, which
takes a musician's wishes and gives a take."""

import base64
import inspect
import os
from html import escape
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from utils.checks import drum_rolls, file_name, three, whole
from utils.get_model import given_model, last_model_or_shipped
from utils.midi.drums import N_VOICES
from utils.midi.hearing import heard_notes, process_midi, steps_to_play
from utils.midi.kits import kit_out as pitches_of
from utils.midi.read import read_midi
from utils.midi.sound import render
from utils.midi.timeline import Timeline
from utils.midi.write import roll_to_midi
from utils.playing.controls import Bars, ask, check_keys, from_model_units, laid_controls, to_model_units
from utils.playing.generate import check_keywords, generate
from utils.playing.receipt import Receipt
from utils.playing.song import read_song

DIALS = ("temperature", "guidance", "follow", "lock", "at_most", "playable", "num_samples", "best_of")


class Take:
    """One version of drums, and where it comes from. In a notebook it shows its picture, its table and a player.

    onset, vel, time: float32 (1, T, 9) on the CPU. A take goes where drums go: infill(take, bars=1), gist(take),
    convert_to_midi(*take, inverse_mapping, path). receipt: utils.playing.receipt.Receipt. rhythm: three rolls, or None.

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
        lead_in=False,
        kit=None,
    ):
        """drums: three rolls (1, T, 9), as generate and the jobs return them; of several versions, see takes_of.
        asked: what was asked of them: Bars, as utils.playing.controls.ask gives them, or a dict of density, intensity,
        instrument, style and masks as generate takes them; None: nothing. rhythm: the three rolls that were heard.
        model, seed: with which they were drawn; model: default: the one built last. dials: what else is to be on the
        receipt, name -> value. name: what the picture is called. tempo, source, keep_tracks, lead_in: as for
        convert_to_midi; kit: a name or a YAML file, see utils/midi/kits.py. Raises ValueError naming the argument.
        """
        model = given_model(model)
        rolls = drum_rolls(drums, any_length=True)
        self.onset, self.vel, self.time = (roll[None] for roll in rolls)
        self.rhythm = (
            None if rhythm is None else [roll[None] for roll in drum_rolls(rhythm, "rhythm", any_length=True)]
        )
        self.name, self.steps_per_bar = name, model.steps_per_bar
        self._midi = {"tempo": tempo, "source": source, "keep_tracks": keep_tracks, "lead_in": lead_in}
        self._pitches = pitches_of(kit)
        check_written(kit, **self._midi)
        if asked is not None and not isinstance(asked, Bars):
            unset = dict.fromkeys(("density", "intensity", "instrument", "style", "masks"))
            if not isinstance(asked, dict):
                raise ValueError(
                    f"asked: of type {type(asked).__name__}; it must be Bars, or a dict of what generate was asked"
                )
            check_keys(asked, unset, "asked: ", "control")
            curves = laid_controls(
                **unset | asked, seq_len=len(rolls[0]), normalize_factor=model.normalize_factor
            )
            asked = from_model_units(*curves, model.normalize_factor, model.steps_per_bar)
        if not isinstance(dials, (dict, type(None))):
            raise ValueError(f"dials: of type {type(dials).__name__}; it must be a dict, name -> value")
        heard = None if rhythm is None else [roll[0] for roll in self.rhythm]
        self.receipt = Receipt.of(rolls, asked, model, heard, seed, dials)

    def __iter__(self):
        return iter((self.onset, self.vel, self.time))

    def __repr__(self):
        hits, steps = int(self.onset.sum()), self.onset.shape[1]
        return f"<{self.name}: {steps / self.steps_per_bar:g} bars, {hits} hits, {', '.join(self.receipt.origin())}>"

    def bpm(self):
        """The tempo, as text: "96", or "90 to 120" where it changes."""
        if self._midi["source"] is not None:
            return Timeline.of(read_midi(self._midi["source"])).bpm()
        return f"{120 if self._midi['tempo'] is None else self._midi['tempo']:g}"

    def save(self, path):
        """Write the MIDI file. Returns its hits, as convert_to_midi does."""
        path = file_name(path, "path")
        return roll_to_midi(*(roll[0].numpy() for roll in self), self._pitches, path, **self._midi)

    def pretty_midi(self):
        """The MIDI file as a pretty_midi.PrettyMIDI."""
        from pretty_midi import PrettyMIDI  # for those who ask for it alone

        with TemporaryDirectory() as folder:
            self.save(path := Path(folder) / "take.mid")
            return PrettyMIDI(str(path))

    def wav(self, path):
        """Write the sound. Raises ValueError, which says what to install, where FluidSynth is not there."""
        with TemporaryDirectory() as folder:
            self.save(midi := Path(folder) / "take.mid")
            render(midi, path)

    def plot(self, path=None):
        """The picture, a matplotlib Figure: rhythm, piano roll, asked and got. Written to `path`, a PNG, where given."""
        from utils.playing.plots import draw_result  # matplotlib is for those who look

        path = path if path is None else file_name(path, "path")
        return draw_result(
            path,
            [roll[0] for roll in self],
            self.rhythm and [roll[0] for roll in self.rhythm],
            self.receipt,
            self.steps_per_bar,
            f"{self.name}   {self.bpm()} bpm",
        )

    def _repr_html_(self):
        self.plot().savefig(png := BytesIO(), format="png")
        return (
            f'<div><img style="max-width: 100%" alt="{escape(self.name)}" src="data:image/png;base64,{_text(png.getvalue())}">'
            f"<pre>{escape(self.receipt.table())}</pre>{self._player()}</div>"
        )

    def _player(self):
        with TemporaryDirectory() as folder:
            try:
                self.wav(path := Path(folder) / "take.wav")
            except ValueError as error:
                return f"<p>{escape(str(error))}</p>"
            return f'<audio controls src="data:audio/wav;base64,{_text(path.read_bytes())}"></audio>'


def takes_of(drums, name="take", **about):
    """A list of takes, named NAME_1, NAME_2, ..., of the versions of drums, three rolls (N, T, 9). about: as for Take."""
    versions = zip(*(torch.as_tensor(roll).cpu().split(1) for roll in drums))
    return [
        Take(version, name=f"{name}_{number}", **about) for number, version in enumerate(versions, start=1)
    ]


def play(
    rhythm=None,
    *,
    hits_per_bar=None,
    velocity=None,
    voices=None,
    forbid=(),
    style=None,
    bars=None,
    song=None,
    track=None,
    kit_in=None,
    kit_out=None,
    tempo=None,
    keep_tracks=False,
    lead_in=False,
    model=None,
    seed=None,
    num_samples=None,
    best_of=1,
    **playing,
):
    """Play drums to a rhythm.

        take = play("rhythm.mid", hits_per_bar=[12, 18, 18, 26], voices={"kick": 4}, forbid="ride", style="funk")

    rhythm: a MIDI file; or three rolls, as process_midi gives them; or None.
    hits_per_bar, velocity (1 to 127), voices (a dict, name -> hits per bar), style: one value for all bars or several, a
        list or text with commas, stretched evenly over the bars; None or "-" leaves bars to the model. forbid: names of
        voices that never sound.
    bars: how many to play, of 4/4; None: as many as the rhythm has. Without a rhythm it must be given.
    song: in place of all these a song, a YAML file or a dict as read_song takes it.
    track, kit_in: how the file is heard, see process_midi. kit_out, keep_tracks, lead_in: how the take is written, see
        convert_to_midi. tempo: beats per minute; None: tempo map and meters of the file, or 120.
    model: None: the one built last or, where there is none, that of checkpoints/drummer.pt. seed: the same one gives
        the same drums; None: a new one, which is on the receipt.
    num_samples: None: one Take is returned; a number: a list of so many, the one that obeys best first, no two alike.
        best_of: of how many they are the best. playing: what else `generate` takes by keyword.

    Raises ValueError naming the argument, the value and the rule.
    """
    model = last_model_or_shipped() if model is None else given_model(model)
    check_keywords(playing, [name for name in inspect.signature(play).parameters if name != "playing"])
    bar, file = model.steps_per_bar, rhythm if isinstance(rhythm, (str, os.PathLike)) else None
    wishes = {
        "hits_per_bar": hits_per_bar,
        "velocity": velocity,
        "voices": voices,
        "forbid": forbid,
        "style": style,
    }
    if song is not None:
        for name, value in {**wishes, "bars": bars}.items():
            if value is not None and not (isinstance(value, (str, list, tuple)) and not value):
                raise ValueError(
                    f"{name}: {value!r}; it does not go with song, which says how long it is and what is asked"
                )
        song = read_song(song)
        bars = len(song)
    for name, value in (("track", track), ("kit_in", kit_in)):
        if value is not None and file is None:
            raise ValueError(f"{name}: {value!r}; it goes with a MIDI file, and rhythm is none")
    rhythm = rhythm if rhythm is None or file is not None else three(rhythm, "rhythm")
    own_steps = 0
    if file is not None:
        midi, rhythm = read_midi(file), process_midi(file, track, bar // 4, kit=kit_in)
        own_steps, steps = steps_to_play(midi, heard_notes(midi, track, file), bar, bars, file)
    elif bars is None and rhythm is None:
        raise ValueError("bars: None; without a rhythm it must say how many bars are played")
    else:
        steps = (
            len(drum_rolls(rhythm, "rhythm", any_length=True)[0])
            if bars is None
            else whole(bars, "bars") * bar
        )
    written = {
        "tempo": tempo,
        "source": file if tempo is None else None,
        "keep_tracks": keep_tracks,
        "lead_in": lead_in,
    }
    check_written(kit_out, **written)
    asked = song.asked if song else ask(-(-steps // bar), **wishes)
    seed = new_seed() if seed is None else seed
    playing |= {"num_samples": 1 if num_samples is None else num_samples, "best_of": best_of}
    if song:
        rhythm = None if rhythm is None else song.rhythm(rhythm, bar, own_steps)
        arguments = song.arguments(rhythm or (None,) * 3, model, playing.get("follow", "literal"))
        drums = generate(**playing | arguments, seed=seed)
    else:
        controls = to_model_units(asked, model.normalize_factor, bar)
        rolls = (None,) * 3 if rhythm is None else rhythm
        drums = generate(*rolls, *controls, None, -(-steps // 4) * 4, model=model, seed=seed, **playing)
    takes = takes_of(
        [roll[:, :steps] for roll in drums],
        "take" if file is None else Path(file).stem,
        asked=asked,
        rhythm=rhythm,
        model=model,
        seed=seed,
        dials=dials_of(playing),
        kit=kit_out,
        **written,
    )
    return takes[0] if num_samples is None else takes


def check_written(kit=None, **written):
    """Raise, before anything is played, what writing a take would raise for these arguments of Take."""
    roll_to_midi(*np.zeros((3, 0, N_VOICES)), pitches_of(kit), **written)


def dials_of(playing):
    """The dials of a receipt, of what generate is given by keyword: those that are named DIALS, and are turned."""
    defaults = inspect.signature(generate).parameters
    dials = {name: playing.get(name, defaults[name].default) for name in DIALS}
    unturned = {"num_samples": 1, "best_of": 1, "playable": False}
    return {name: value for name, value in dials.items() if value is not None and value != unturned.get(name)}


def new_seed():
    """A seed by chance, short enough to be typed again."""
    return int.from_bytes(os.urandom(4), "big")


def _text(content):
    return base64.b64encode(content).decode()
