"""Takes: the best of several, no two alike; a musician's one call; what a notebook shows of one."""

import base64
import re
import warnings

import numpy as np
import pretty_midi
import pytest
import torch

import inference_bar_control as inference
from inference_bar_control import (
    Take,
    generate,
    generate_control_params,
    humanise,
    infill,
    play,
    process_midi,
    vary,
)
from model.bars import BarGrid
from tests.helpers.inference_helpers import save_tiny_checkpoint, write_midi
from tests.helpers.model_batches import random_batch
from utils import get_model
from utils.midi.sound import SOUNDFONT
from utils.playing import takes
from utils.playing.receipt import ROUNDS, best_takes, distance_from_request, likeness_to_others
from utils.playing.request import GUIDANCE, TEMPERATURES
from utils.playing.takes import takes_of
from utils.playing.wishes import ask

BAR = BarGrid.four_four(16, 4)


def taken(*kicks, steps=16):
    """Takes, a roll of onsets, vel, timeoffset (N, T, 9) each, that hit so many kicks from the first step
    on."""
    onset = torch.zeros(len(kicks), steps, 9)
    for take, number in zip(onset, kicks):
        take[:number, 0] = 1
    return onset, 0.5 * onset, 0 * onset


def counted(rolls):
    return rolls[0].sum((1, 2)).tolist()


# ---- the best of several


def test_those_that_come_nearest_to_what_was_asked_stand_first():
    best = best_takes(
        lambda n: taken(3, 9, 5, 8, 16, 6)[:3], 3, 6, ask(1, hits_per_bar=6), torch.zeros(0, 9), BAR
    )
    assert counted(best) == [6, 5, 8] and all(roll.shape == (3, 16, 9) for roll in best)
    assert torch.equal(best[1], 0.5 * best[0])


def test_hits_velocity_and_voices_weigh_the_same():
    asked = ask(1, hits_per_bar=4, velocity=127, voices={"kick": 4, "snare": 1})
    first, _ = distance_from_request([roll[0] for roll in taken(5)], asked, torch.zeros(0, 9), BAR)
    assert first == pytest.approx(np.mean([1 / 4, 1 / 2, (1 / 4 + 1) / 2]))


def test_between_equals_the_rhythm_decides_and_then_the_order_of_playing():
    onset = torch.zeros(4, 16, 9)
    onset[0, [0, 1], 0] = onset[1, [0, 8], 0] = onset[2, [0, 8], 1] = onset[3, [0, 8, 9], 0] = 1
    rhythm = torch.zeros(16, 9)
    rhythm[[0, 8], 3] = 1
    rolls = onset, onset, 0 * onset
    best = best_takes(lambda n: rolls, 4, 4, ask(1, hits_per_bar=2), rhythm, BAR)
    assert torch.equal(best[0], onset[[1, 2, 0, 3]])
    onset = torch.zeros(4, 16, 9)
    onset[0, 0, 0] = onset[1, [0, 3, 8], 0] = onset[2, [0, 3], 0] = onset[3, [0, 8], 0] = 1
    unasked = best_takes(lambda n: (onset, onset, 0 * onset), 4, 4, ask(1), rhythm, BAR)
    assert torch.equal(unasked[0], onset[[3, 1, 0, 2]])  # taps missed and hits off the taps count the same


def test_takes_that_are_alike_are_one_and_more_are_played_until_there_are_enough():
    rounds = iter([taken(4, 4, 4), taken(4, 2, 2), taken(9, 9, 9)])
    assert counted(best_takes(lambda n: next(rounds), 2, 3, ask(1), torch.zeros(0, 9), BAR)) == [4, 2]
    assert counted(next(rounds)) == [9, 9, 9]
    onset, vel, timeoffset = taken(4, 4)
    vel[1] *= 0.5
    assert torch.equal(
        best_takes(lambda n: (onset, vel, timeoffset), 1, 2, ask(1), torch.zeros(0, 9), BAR)[1], vel[:1]
    )


def test_too_few_different_takes_are_told():
    played = []
    with pytest.warns(UserWarning, match=f"of {2 * ROUNDS} takes only 1 differ, 2 were asked for"):
        best = best_takes(lambda n: played.append(n) or taken(4, 4), 2, 2, ask(1), torch.zeros(0, 9), BAR)
    assert counted(best) == [4] and played == [2] * ROUNDS


def test_takes_of_known_hits_differ_by_what_a_midi_file_holds():
    onset, vel, timeoffset = taken(4, 4, 4)
    vel[1] += 0.001 * onset[1]
    timeoffset[2] -= 0.25 * onset[2]
    rolls = onset, vel, timeoffset
    best = best_takes(lambda n: rolls, 2, 3, ask(1), torch.zeros(0, 9), BAR, onsets_known=True)
    assert torch.equal(best[2], timeoffset[[0, 2]])


def test_the_most_typical_take_is_best_where_no_numbers_are_asked():
    onset = torch.zeros(3, 16, 9)
    onset[0, [2, 3, 6], 1] = onset[1, [0, 4, 8], 0] = onset[2, [0, 4, 8, 12], 0] = 1
    likeness = [0, 6 / 7 / 2, 6 / 7 / 2]
    assert likeness_to_others(onset) == pytest.approx(likeness)
    assert likeness_to_others(onset[:1]) == [0] and likeness_to_others(0 * onset) == [0] * 3
    onset[2, 12, 0], onset[2, 8, 0] = 0, 0  # two of the second's three hits
    onset = torch.cat((onset, onset[1:2]))
    onset[3, 12, 0] = 1  # and the second's three and another
    rolls, silence = (onset, onset, 0 * onset), torch.zeros(0, 9)

    def first(asked, **how):
        return best_takes(lambda n: rolls, 1, 4, asked, silence, BAR, **how)[0][0]

    assert torch.equal(first(ask(1), typical=True), onset[1])
    assert torch.equal(first(ask(1, hits_per_bar=2), typical=True), onset[2])  # the nearest


def test_best_of_is_of_what_generate_plays_and_leaves_its_default_alone(model):
    asked = generate_control_params([0], [1.0], 32, "left")
    how = dict(intensity=None, instrument=None, style=None, masks=None, seq_len=32, model=model, seed=3)
    eight = generate(None, None, None, asked, num_samples=8, **how)
    best = generate(None, None, None, asked, best_of=8, **how)
    wish = 32 * 9 * (0.125 + 0.05)
    errors = [sum(abs(bar.sum() - wish / 2).item() for bar in onset.split(16)) for onset in eight[0]]
    assert best[0].shape == (1, 32, 9) and torch.equal(best[0][0], eight[0][int(np.argmin(errors))])
    three = generate(None, None, None, asked, best_of=8, num_samples=3, **how)
    assert all(torch.equal(roll[0], one[0]) for roll, one in zip(three, best))
    assert {onset.numpy().tobytes() for onset in three[0]} == {
        eight[0][i].numpy().tobytes() for i in np.argsort(errors, kind="stable")[:3]
    }
    assert len(generate(None, None, None, asked, best_of=1, num_samples=8, **how)[0]) == 8
    one, plain = (generate(None, None, None, asked, **how, **more) for more in ({"best_of": 1}, {}))
    assert all(torch.equal(a, b) for a, b in zip(one, plain))


def test_the_rhythm_decides_only_where_it_is_followed_hit_by_hit(model, monkeypatch):
    heard = []
    monkeypatch.setattr(
        "utils.playing.generate.best_takes",
        lambda draw, n, best_of, asked, rhythm, *_, **how: heard.append(len(rhythm)) or draw(n),
    )
    rhythm = [roll[:, :16] for roll in random_batch(B=1, T=16).values()][:3]
    for follow in ("literal", "loose", "free"):
        generate(*rhythm, None, None, None, None, None, 32, model=model, follow=follow, best_of=2)
    generate(None, None, None, None, None, None, None, None, 32, model=model, best_of=2)
    assert heard == [16, 0, 0, 0]


def test_best_of_goes_through_the_jobs(model, drums):
    bars = infill(drums, bars=1, density=[2.0] * 32, model=model, seed=1, num_samples=2, best_of=6)[0]
    more, fewer = bars[:, 16:].sum((1, 2)).tolist()
    assert abs(more - 144 * 0.225) <= abs(fewer - 144 * 0.225) and torch.equal(
        bars[:, :16], drums[0][:, :16].expand(2, 16, 9)
    )
    played = humanise(drums, model=model, seed=1, num_samples=3, best_of=3)
    assert len({vel.numpy().tobytes() for vel in played[1]}) == len(played[0]) == 3
    with pytest.warns(UserWarning, match="only 1 differ, 2 were asked for") as warned:
        assert len(vary(drums, 0, model=model, seed=1, num_samples=2, best_of=1)[0]) == 1
    assert warned[0].filename == __file__


@pytest.mark.parametrize("best_of", [0, 1.5, "8"])
def test_a_best_of_that_makes_no_sense(model, best_of):
    with pytest.raises(ValueError, match=f"best_of: {best_of!r}"):
        generate(*[None] * 8, 16, model=model, best_of=best_of)


# ---- a take


def test_play_takes_a_musicians_wishes_and_gives_a_take(model, tmp_path, monkeypatch):
    song = write_midi(tmp_path / "song.mid", {"bass": [(quarter, 40, 90) for quarter in range(12)]}, tempo=90)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        take = play(
            song,
            hits_per_bar=[10, 30],
            voices={"kick": 3},
            forbid="crash",
            style="funk",
            model=model,
            best_of=4,
        )
    assert (
        take.onset.shape == take.vel.shape == take.time.shape == (1, 48, 9) and not take.onset[..., 6].any()
    )
    asked, dials = take.receipt.asked, take.receipt.dials
    assert (
        asked["density"].tolist() == [10, 10, 30]
        and asked["style"].tolist() == [16] * 3
        and take.bpm() == "90"
    )
    assert dials == {"temperature": TEMPERATURES, "guidance": GUIDANCE, "follow": "literal", "best_of": 4}
    again = play(
        str(song),
        hits_per_bar=[10, 30],
        voices={"kick": 3},
        forbid="crash",
        style="funk",
        model=model,
        best_of=4,
        seed=take.receipt.seed,
    )
    assert (
        all(torch.equal(a, b) for a, b in zip(take, again)) and again.receipt.table() == take.receipt.table()
    )
    rolls = [roll[:, :16] for roll in process_midi(song)]
    two = play(rolls, num_samples=2, bars=2, tempo=77, model=model, seed=1)
    assert (
        [one.name for one in two] == ["take_1", "take_2"]
        and two[0].onset.shape == (1, 32, 9)
        and two[0].bpm() == "77"
    )
    assert (two[0].receipt.tap["tapped"], two[0].receipt.tap["hits"]) == (4, two[0].onset[:, :16].sum())
    monkeypatch.setattr("utils.playing.generate.sample", lambda *_, **__: pytest.fail("it played"))
    with pytest.raises(ValueError, match="bars: None"):
        play(model=model)
    with pytest.raises(ValueError, match="keep_tracks: True"):
        play(song, tempo=100, keep_tracks=True, model=model)


def test_play_takes_the_shipped_checkpoint_where_no_model_was_built(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(get_model, "_last_model", None)
    monkeypatch.setattr(get_model, "SHIPPED", save_tiny_checkpoint(tiny_config, tmp_path / "shipped.pt"))
    get_model._last_model = None  # that was built for the file
    assert play(bars=1).receipt.checkpoint["file"] == "shipped.pt"


def test_a_take_is_saved_with_its_kit_and_tempo_and_goes_where_drums_go(model, drums, tmp_path):
    rolls = [torch.cat((roll, roll)) for roll in infill(drums, bars=1, model=model, seed=3)]
    first, second = takes_of(rolls, model=model, seed=3, tempo=75, kit="roland_td", asked={"style": "jazz"})
    assert (first.name, second.name) == ("take_1", "take_2") and first.receipt.table().endswith(
        f"checkpoint in memory (SHA-256 {second.receipt.checkpoint['sha256']})"
    )
    notes = first.save(tmp_path / "take.mid")
    midi = first.pretty_midi()
    assert len(notes) == len(midi.instruments[0].notes) == first.onset.sum() and midi.get_tempo_changes()[1][
        0
    ] == pytest.approx(75)
    assert {note.pitch for note in midi.instruments[0].notes} >= {48, 45} and isinstance(
        midi, pretty_midi.PrettyMIDI
    )
    assert torch.equal(infill(first, bars=0, model=model)[0][:, 16:], first.onset[:, 16:])
    assert (
        inference.convert_to_midi(*second, inference.inverse_mapping, tmp_path / "plain.mid").shape
        == notes.shape
    )
    assert "2 bars" in repr(first) and "seed 3" in repr(first)


@pytest.mark.parametrize(
    "arguments, named",
    [
        (dict(drums=[torch.zeros(2, 16, 9)] * 3), "drums: onset: shape"),
        (dict(asked={"density": [1.0]}), "density: 1 steps"),
        (dict(rhythm=[torch.zeros(16, 8)] * 3), "rhythm: onset: shape"),
        (dict(kit="rolland_td"), "did you mean roland_td"),
    ],
)
def test_a_take_of_what_is_none_says_so(model, arguments, named):
    with pytest.raises(ValueError, match=named):
        Take(**{"drums": [torch.zeros(1, 16, 9)] * 3, "model": model} | arguments)


def test_a_notebook_shows_picture_table_and_player(model, drums):
    take = Take(drums, name="<odd>", model=model, asked={"density": [0.0] * 32}, seed=5)
    page = take._repr_html_()
    picture, sound = (
        base64.b64decode(text) for text in re.findall(r'src="data:[a-z/]+;base64,([^"]+)"', page)
    )
    assert picture.startswith(b"\x89PNG") and sound.startswith(b"RIFF") and page.count("<audio controls") == 1
    assert "&lt;odd&gt;" in page and "<odd>" not in page and "seed 5, checkpoint in memory" in page


def test_the_sound_of_a_take_has_the_keys_of_general_midi_or_of_the_kit_with_a_soundfont(
    model, drums, tmp_path, monkeypatch
):
    heard = []
    monkeypatch.setattr(takes, "render", lambda midi, _, soundfont: heard.append((pitches(midi), soundfont)))
    (tmp_path / "kit.yaml").write_text("kick: 24\n")
    for soundfont in (None, SOUNDFONT):
        Take(drums, model=model, kit=tmp_path / "kit.yaml", soundfont=soundfont).wav(tmp_path / "take.wav")
    (general, none), (own, given) = heard
    assert (none, given) == (None, SOUNDFONT) and 36 in general and 24 not in general
    assert own == {24 if pitch == 36 else pitch for pitch in general}


def pitches(midi):
    return {note.pitch for note in pretty_midi.PrettyMIDI(str(midi)).instruments[0].notes}


def test_a_song_says_how_long_it_is_and_what_is_asked(model, tmp_path):
    rhythm = write_midi(tmp_path / "two_beats.mid", {"bass": [(quarter, 40, 90) for quarter in range(2)]})
    sections = [{"name": "a", "bars": 2, "hits_per_bar": 9}, {"name": "b", "bars": 1, "forbid": "kick"}]
    take = play(rhythm, song={"sections": sections, "rhythm": "loop"}, model=model, seed=1)
    assert take.onset.shape == (1, 48, 9) and not take.onset[0, 32:, 0].any()
    assert take.receipt.asked["density"][:2].tolist() == [9, 9] and take.receipt.asked["instrument"][2, 0] < 0
    assert (take.rhythm[0][0, :, 3] > 0).nonzero().flatten().tolist() == [0, 4, 16, 20, 32, 36]
    assert play(song={"sections": sections}, model=model, seed=1).rhythm is None
    with pytest.raises(ValueError, match="^bars: 4; it does not go with song"):
        play(rhythm, song={"sections": sections}, bars=4, model=model)
    with pytest.raises(ValueError, match="^song: section a: bars: 0"):
        play(rhythm, song={"sections": [{"name": "a", "bars": 0}]}, model=model)


def test_the_picture_of_a_song_names_its_sections_and_that_of_a_job_marks_what_is_new(model, drums):
    sections = [{"name": "verse", "bars": 1}, {"name": "end", "bars": 1}]
    song = play(song={"sections": sections}, model=model, seed=1).plot()
    assert [text.get_text() for text in song.axes[0].texts][-2:] == ["verse", "end"]
    new = play(drums=drums, job="infill", bars_anew="2", model=model, seed=1)
    assert new.onset[0, 16:].any()
    marked = [text.get_text() for text in new.plot().legends[0].texts]
    assert "played anew" in marked and "played anew" not in [
        text.get_text() for text in song.legends[0].texts
    ]
