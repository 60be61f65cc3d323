"""Beats by name: what they ask, what wins over them, and what the shipped drummer makes of one."""

import re

import numpy as np
import pytest

from inference_bar_control import play, read_song
from tests.conftest import REPOSITORY
from utils.get_model import load_model
from utils.midi.drums import VOICES
from utils.playing.beats import all_beats, read_beat
from utils.playing.command import read_controls
from utils.playing.groove import groove_of
from utils.playing.request import Dials, Request

INTRO = {"name": "intro", "bars": 4, "hits_per_bar": {"from": 4, "to": 12}, "forbid": ["crash", "ride"]}


def dials(request):
    return request.follow, request.guidance, request.temperature


def test_the_page_has_a_row_for_every_beat():
    page = (REPOSITORY / "docs" / "playing.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \|", page, re.M)
    assert rows == list(all_beats()) and len(rows) > 10


def test_a_beat_asks_and_what_is_asked_beside_it_wins():
    plain = Request(beat="Rock")
    assert dials(plain) == ("loose", 3.5, 0.8) and plain.style == "rock"
    assert {"kick": 4, "snare": 2, "closed_hat": 8, "ride": 0}.items() <= plain.voices.items()
    mine = Request(
        beat="rock", voices={"hat": 16, "ride": None}, style="funk", follow="literal", temperature=1
    )
    assert dials(mine) == ("literal", 3.5, 1) and mine.style == "funk"
    asked = mine.asked(load_model(REPOSITORY / "checkpoints" / "drummer.pt").grid(16))[0]["instrument"][0]
    assert asked[[0, 1, 2]].tolist() == [4, 2, 16] and np.isnan(asked[VOICES.index("ride")])
    assert dials(Request()) == (Dials.follow, Dials.guidance, Dials.temperature)
    around = Request(beat="rock", job="infill", bars_anew=1)
    assert around.follow == "literal"  # beside known drums there is no other way


def test_an_unknown_beat_lists_the_known_ones_and_a_file_holds_one(tmp_path):
    with pytest.raises(ValueError, match=r"beat: unknown beat 'rok'; did you mean rock\? .*jazz"):
        Request(beat="rok")
    mine = tmp_path / "mine.yaml"
    mine.write_text("voices: {kick: 5, hh: 16}\nfollow: 0.5\nabout: mine\n")
    assert read_beat(mine) == {"voices": {"kick": 5, "hh": 16}, "follow": 0.5}
    mine.write_text("voices: {kick: 50}\n")
    with pytest.raises(ValueError, match="mine.yaml.*voices: kick: 50"):
        read_beat(mine)
    (tmp_path / "controls.yaml").write_text("beat: jazz\nvelocity: 50\n")
    assert read_controls(tmp_path / "controls.yaml") == {"beat": "jazz", "velocity": 50}


def test_sections_of_a_song_have_beats():
    verse = {"name": "verse", "bars": 2, "beat": "rock", "voices": {"kick": 6}}
    song = read_song({"sections": [INTRO, verse, verse | {"name": "two"}, {"bars": 2, "beat": "jazz"}]})
    kicks = song.asked["instrument"][:, 0]
    assert np.isnan(kicks[:4]).all() and kicks[4:].tolist() == [6, 6, 6, 6, 1, 1]
    assert song.dials == {"follow": "loose", "guidance": 3.5, "temperature": 0.8} and song.fresh == (4, 8)
    assert dials(Request(song={"sections": [verse]}, follow="free")) == ("free", 3.5, 0.8)


def test_where_no_rhythm_is_heard_a_style_gets_the_best_of_several_takes(repository):
    """The shipped drummer; of single takes some have no backbeat at all."""
    model, about = load_model(repository / "checkpoints" / "drummer.pt"), {"bars": 4, "seed": 13}
    one, best = (play(style="rock", best_of=n, model=model, **about).receipt for n in (1, None))
    assert best.groove["backbeat"] > 0.8 > one.groove["backbeat"] and best.dials["best_of"] == 8
    assert "best_of" not in play(model=model, **about).receipt.dials
    bass = repository / "examples" / "bass_line.mid"
    assert "best_of" not in play(bass, style="rock", rhythm_is="drums", model=model, **about).receipt.dials
    part = play(bass, style="rock", model=model, **about).receipt
    assert "temperature 0.85 for onsets, 0.6 for velocity, 1 for timing" in part.origin()


def test_a_beat_is_a_beat_also_after_a_sparse_intro(repository):
    """The shipped drummer on the bass line of the examples, which it follows off the beat by itself."""
    model = load_model(repository / "checkpoints" / "drummer.pt")
    song = {"sections": [INTRO, {"name": "verse", "bars": 4, "beat": "rock"}], "rhythm": "loop"}
    takes = play(repository / "examples" / "bass_line.mid", song=song, num_samples=2, seed=1, model=model)
    verses = [groove_of(take.onset[0, 64:], model.grid(64), np.full(4, 18)) for take in takes]
    assert np.mean([verse["backbeat"] for verse in verses]) > 0.8
    assert all(verse["timekeeper"] == 1 and verse["likeness"] > 0.7 for verse in verses)
