"""Rhythms that people bring: the definitions on drums written by hand, the part, the command."""

import json
from dataclasses import replace
from types import SimpleNamespace

import mido
import numpy as np
import pytest

from evaluate import main
from tests.helpers.evaluation_windows import CLOSED, KICK, OPEN, RIDE, SNARE, values
from tests.helpers.inference_helpers import build_tiny_model
from tests.helpers.midi_files import midi_bytes, note, write, zipped
from utils.evaluation import brought
from utils.evaluation.parts import BROUGHT, PARTS
from utils.evaluation.player import Player

STEP = 120  # ticks


def rock(bars, extra=()):
    """Kick on one and three, snare on two and four, closed hats on the eighths; extra: (step, key)."""
    hits = [(16 * bar + step, key) for bar in range(bars) for step, key in ROCK]
    return [event for step, key in (*hits, *extra) for event in note(step * STEP, key)]


ROCK = [(0, 36), (8, 36), (4, 38), (12, 38), *((step, 42) for step in range(0, 16, 2))]


def bass(steps):
    return [event for step in steps for event in note(step * STEP, 40, length=STEP * 3, channel=0)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two patterns and their taps, two songs. Of the first song the bass rests in its second bar, and congas
    play along."""

    def song(rhythm, drums):
        title = mido.MetaMessage("track_name", name="rhythm")
        return midi_bytes([(0, title), *rhythm], drums)

    struck = [event for step in (0, 8, 20, 24) for event in note(step * STEP, 60, channel=0)]
    congas = [(step, 63) for step in range(1, 48, 2)]
    files = {
        "songs/a.mid": song(bass([0, 6, 32, 40]), rock(3, congas)),
        "songs/b.mid": song(bass([0, 16]), rock(2)),
    }
    for pattern, drums in (("00", rock(2)), ("01", rock(2, [(14, 46)]))):
        files[f"taps/{pattern}/drums.mid"] = midi_bytes(drums)
        files[f"taps/{pattern}/simple_1.mid"] = midi_bytes(struck)
    return write(tmp_path_factory.mktemp("rhythms"), files)


@pytest.fixture(scope="module")
def groups(folder):
    return brought.read_rhythms(folder)


def scores(groups, group, played):
    """{row: {metric: value}} of a group, to each of whose rhythms `played` gives (N, n, 16, 9)."""
    rhythms = groups[group]
    found = brought.rows({group: rhythms}, {rhythm.name: played(rhythm) for rhythm in rhythms})
    return {row: values(BROUGHT, sums) for row, sums in found[group].items()}


def test_a_set_is_read_by_its_names(groups, folder):
    assert {group: len(rhythms) for group, rhythms in groups.items()} == {
        "own hits": 2,
        "simple": 2,
        "songs": 2,
    }
    assert [rhythm.bars.tolist() for rhythm in groups["songs"]] == [[0, 2], [0, 1]]  # in which both sound
    assert groups["songs"][0].real.sum() == 2 * len(ROCK)  # no congas
    assert groups["simple"][0].struck.sum(1).tolist() == [2, 2]
    assert len(brought.read_rhythms(folder, 1)["songs"]) == 1
    write(folder / "other", {"taps/00/loud_1.mid": b""})
    with pytest.raises(ValueError, match="taps/00/loud_1.mid: no name that a set of rhythms has"):
        brought.read_rhythms(folder / "other")
    (folder / "other/taps/00/loud_1.mid").unlink()


def test_the_real_drums_are_perfect_and_so_is_a_rock_beat_to_a_rock_song(groups):
    found = scores(groups, "songs", lambda rhythm: np.stack([rhythm.real, rhythm.real & False]))
    for row in ("real", "rock beat"):
        same = {
            name: found[row][name] for name in ("F1", "hits / real", "backbeat", "bars with a timekeeper")
        }
        assert set(same.values()) == {1}, row
    # of its hits the bass strikes: in a, kick, hat (and hat) of bar 0, kick and hat twice in bar 2
    assert found["real"]["hits off the rhythm"] == pytest.approx((1 - 7 / 24 + 1 - 4 / 24) / 2)
    assert found["one take"]["F1"] == 0.5 == found["one take"]["hits / real"]  # the second take is silent
    assert found["one take"]["files that tell their kind"] == 1
    assert found["consensus"]["F1"] == 1  # one of two takes is enough, as the other song says
    assert found["rock beat, kick on the rhythm"]["hits / real"] < 1
    assert found["real"]["likeness to the bar before"] == 1  # in b; the bars of a don't touch


def test_habits_of_a_song(groups):
    song = groups["songs"][1]

    def habits(*hits):
        onset = np.zeros((1, 2, 16, 9), bool)
        for bar, step, voice in hits:
            onset[0, bar, step, voice] = True
        return {name: habit(onset, song) for name, habit in brought.HABITS.items()}

    hats = [(0, 0, CLOSED), (0, 4, OPEN), (0, 8, RIDE)]
    found = habits(*hats, (0, 12, SNARE), (1, 0, CLOSED), (1, 3, KICK))
    assert list(found.values()) == pytest.approx([1 / 4, 0, 2 / (4 + 2), 4 / 6])
    apart = groups["songs"][0]  # its scored bars don't touch
    assert np.isnan(brought.likeness(apart.real[None], apart))
    assert habits(*hats, (0, 12, RIDE))["bars with a timekeeper"] == 1 / 2
    assert habits(*hats, (0, 8, CLOSED))["bars with a timekeeper"] == 0  # two of them on one step are one


def test_a_pattern_counts_by_its_hits_and_a_song_as_one(groups):
    one, other = groups["songs"]
    found = scores(groups, "songs", lambda rhythm: rhythm.real[None] & (rhythm is other))
    assert found["one take"]["F1"] == 1 / 2  # whatever the songs' lengths
    found = scores(groups, "own hits", lambda rhythm: rhythm.real[None] & (rhythm.pattern == "00"))
    assert found["one take"]["F1"] == pytest.approx(2 * 24 / (24 + 24 + 25))


def test_how_many_takes_must_agree_is_learnt_from_the_others_of_the_kind(groups):
    one, other = groups["songs"]
    takes = np.stack([one.real, one.real & False]), np.stack([other.real, other.real | True])
    played = {one.name: takes[0], other.name: takes[1]}  # by themselves: one take, two takes
    first, second = brought.consensus([one, other], [one, other], played)
    assert not first.any() and second.all()
    one, other = (
        replace(rhythm, group=group) for rhythm, group in zip(groups["own hits"], ("simple", "complex"))
    )
    played = {one.name: np.stack([one.real, one.real & False])}
    played[other.name] = np.stack([other.real, other.real | True])
    found = brought.rows({"simple": [one], "complex": [other]}, played)  # two groups, both of hands
    assert not found["simple"]["consensus"]["cells"][..., 1].any()


def test_the_part_plays_each_rhythm_as_what_it_is(folder, tiny_config, monkeypatch, tmp_path):
    monkeypatch.setenv("RHYTHMS_ZIP", str(zipped(folder, tmp_path / "rhythms.zip")))
    config = tiny_config.model_copy(deep=True)
    config.Model.rhythm_is = True
    play, asked = brought.play, []

    def noted(path, **more):
        asked.append((path.parent.name, path.stem, *map(more.get, ("rhythm_is", "num_samples", "bars"))))
        return play(path, **more)

    monkeypatch.setattr(brought, "play", noted)
    player = Player(build_tiny_model(config), 2, 0)
    sets = SimpleNamespace(n_windows=None)
    figures = PARTS["brought"].figures(player, sets)["brought"]
    assert ("00", "drums", "drums", 2, 2) in asked and ("01", "simple_1", "hands", 2, 2) in asked
    assert ("songs", "a", "part", 2, 3) in asked and len(asked) == 6
    assert 0 < figures["songs"]["one take"]["F1"]["value"] < 1
    assert PARTS["brought"].figures(player, sets)["brought"] == figures


def test_takes_come_again_where_no_so_many_differ(groups, tiny_config, monkeypatch):
    """A surely played pattern may have fewer different takes than are scored."""
    model, rhythm = build_tiny_model(tiny_config), groups["simple"][0]
    play = brought.play
    monkeypatch.setattr(brought, "play", lambda *about, **more: play(*about, **more)[:2])
    first, second, third = brought.takes(Player(model, 3, 0), rhythm, 3, 0)
    assert (third == first).all() and (second != first).any()


def test_anybodys_folders_are_scored_by_the_same_definitions(folder, groups, monkeypatch, tmp_path, capsys):
    def run(*folders, status=0):
        given = ["--midi", *map(str, folders), "--json", str(tmp_path / "midi.json")]
        assert main(given) == status
        said = capsys.readouterr()
        return json.loads((tmp_path / "midi.json").read_text()) if status == 0 else said.err

    monkeypatch.delenv("RHYTHMS_ZIP", raising=False)
    assert "--midi: RHYTHMS_ZIP names no zip" in run(folder, status=2)
    monkeypatch.setenv("RHYTHMS_ZIP", str(folder / "none.zip"))
    assert "none.zip, which is neither a zip nor a folder" in run(folder, status=2)
    monkeypatch.setenv("RHYTHMS_ZIP", str(folder))
    silent = midi_bytes(note(0, 63))
    songs = {f"{rhythm.name}.mid": rhythm.path.read_bytes() for rhythm in groups["songs"]}
    good, poor = write(tmp_path / "good", songs), write(tmp_path / "poor", dict.fromkeys(songs, silent))
    found = run(good)["brought"]["brought"]
    assert set(found) == {"songs"} and found["songs"]["one take"]["F1"]["value"] == 1
    assert "consensus" not in found["songs"]
    found = run(good, poor)
    assert found["brought"]["brought"]["songs"]["one take"]["F1"]["value"] == 0.5
    assert found["brought"]["brought"]["songs"]["consensus"]["F1"]["value"] == 1
    assert {goal["goal"]: goal["met"] for goal in found["goals"]}["F1, songs, consensus"]
    (poor / "songs/b.mid").unlink()
    assert "songs/b.mid" in run(good, poor, status=2)
    assert "no file is named as a rhythm" in run(tmp_path / "nothing", status=2)
