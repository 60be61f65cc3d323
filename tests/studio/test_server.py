"""The studio's server: what it plays, what it refuses, and that no message and no page troubles another."""

import base64
import json
import random
import shlex

import pytest
import torch
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

import inference_bar_control as inference
from inference_bar_control import Jam, Take, drums_from_midi, play
from tests.helpers.inference_helpers import save_tiny_checkpoint
from utils.playing.arguments import JOBS
from utils.studio.app import MOST_BODY
from utils.studio.notes import hits_of, rolls_of

TAPS = {"hits": [[0, 0, 100, 0], [4, 1, 90, 9], [10, 0, 70, -20], [20, 1, 127, 0]], "steps": 32, "tempo": 96}
GROOVE = {
    "hits": [[0, 0, 100, -3], [4, 1, 90, 59], [8, 0, 1, -60], [12, 1, 127, 0], [16, 2, 64, 5]],
    "steps": 32,
}
JAM = "ws://127.0.0.1:8765/api/jam"
START = {"type": "start", "rhythm": TAPS | {"tempo": None}, "fields": {"seed": 4, "style": "funk"}}


@pytest.fixture(scope="module")
def client(app):
    with TestClient(app, base_url="http://127.0.0.1:8765", raise_server_exceptions=False) as client:
        yield client


def plays(client, message):
    answer = client.post("/api/play", json=message)
    assert answer.status_code == 200, answer.text
    return answer.json()["takes"]


def test_hits_are_what_a_file_holds(client, tmp_path):
    file = client.post("/api/save/mid", json={"drums": GROOVE, "fields": {"tempo": 90, "lead_in": True}})
    (tmp_path / "a.mid").write_bytes(file.content)
    read = drums_from_midi(tmp_path / "a.mid")
    assert [[step - 16, *rest] for step, *rest in hits_of(read)] == GROOVE["hits"]
    there = rolls_of({"hits": [[s + 16, *rest] for s, *rest in GROOVE["hits"]], "steps": 48}, "drums")
    assert all(torch.equal(a[:, :40], b[:, :40]) for a, b in zip(read, there))


@pytest.mark.parametrize("job", JOBS)
def test_every_job_is_what_play_does(client, model, job):
    fields = {"tap": {"bars": 2}, "add": {"voices_anew": ["ride"]}, "infill": {"bars_anew": "2"}}.get(job, {})
    fields |= {"continue": {"bars": 1}, "interpolate": {"bars": 3}}.get(job, {}) | {"job": job, "seed": 3}
    message = {"fields": fields | {"hits_per_bar": [None, 12], "tempo": 90}}
    notes = {} if job == "tap" else {"drums": GROOVE} | ({"second": GROOVE} if job == "interpolate" else {})
    (take,) = plays(client, message | notes)
    own = play(
        model=model, **message["fields"], **{name: rolls_of(part, name) for name, part in notes.items()}
    )
    assert take["hits"] == hits_of(own) and take["receipt"]["seed"] == 3
    assert sum(take["bars"]) == take["steps"] == own.onset.shape[1]


@pytest.mark.parametrize(
    "message",
    [
        {
            "rhythm": TAPS | {"name": "my taps.mid"},
            "fields": {"bars": 2, "hits_per_bar": [None, 9], "feel": 0.5},
        },
        {
            "drums": GROOVE | {"name": "take_1"},
            "fields": {"job": "infill", "voices_anew": ["snare", "ride"], "tempo": 90},
        },
        {
            "rhythm": TAPS,
            "drums": GROOVE,
            "fields": {"job": "infill", "bars_anew": "2", "style": "jazz=1+funk=2"},
        },
        {
            "fields": {
                "bars": 2,
                "num_samples": 2,
                "voices": {"kick": [None, 3]},
                "guidance": "style=3 voice=2",
            }
        },
    ],
    ids=["flags", "flags of a job", "python", "python, several"],
)
def test_the_command_line_makes_the_same_take(client, tiny_config, tmp_path, monkeypatch, message):
    takes = plays(client, message)
    command = takes[-1]["command"]
    monkeypatch.chdir(tmp_path)
    if "rhythm" in message:
        rhythm = client.post("/api/save/rhythm", json={"rhythm": message["rhythm"]}).content
        (tmp_path / ("my_taps.mid" if "name" in message["rhythm"] else "taps.mid")).write_bytes(rhythm)
    if "drums" in message:
        (tmp_path / f"{message['drums'].get('name', 'drums')}.mid").write_bytes(
            client.post("/api/save/mid", json={"drums": GROOVE, "fields": {"tempo": 90}}).content
        )
    program, *words = shlex.split(command)
    assert program == "python"
    if words[0] == "-c":
        exec(words[1], {})
        made = [*tmp_path.glob("take*.mid")]
    else:
        checkpoint = save_tiny_checkpoint(tiny_config, tmp_path / "tiny.pt")
        more = ["--checkpoint", str(checkpoint), "--device", "cpu", "--out", "out", "--no-plot"]
        assert inference.main(inference.parse_arguments(words[1:] + more)) == 0
        made = [*(tmp_path / "out").glob("*.mid")]
    assert len(made) == len(takes)
    # the very first beat holds no hit that is early
    late = [
        [step, voice, velocity, max(ticks, 0) if step == 0 else ticks]
        for step, voice, velocity, ticks in takes[-1]["hits"]
    ]
    assert hits_of(drums_from_midi(max(made))) == late


def test_a_file_is_heard_and_its_tracks_are_kept(client, repository):
    data = (repository / "examples" / "bass_line.mid").read_bytes()
    heard = client.post("/api/hear?name=../my bass.mid", content=data).json()
    assert heard["name"] == "my_bass.mid" and heard["is"] == "part" and heard["tempo"] == 96
    assert [track["name"] for track in heard["tracks"]] == ["bass"] and len(heard["hits"]) == 27
    file = {"name": "my bass.mid", "data": base64.b64encode(data).decode()}
    saved = client.post(
        "/api/save/mid", json={"drums": GROOVE, "rhythm": file, "fields": {"keep_tracks": True}}
    )
    tracks = client.post("/api/hear?name=x", content=saved.content).json()["tracks"]
    assert [track["name"] for track in tracks] == ["bass", "Drums"]
    (take,) = plays(client, {"rhythm": file, "fields": {"track": 1, "bars": 1}})
    assert take["command"].startswith(
        "python inference_bar_control.py --rhythm my_bass.mid --track 1 --bars 1"
    )


@pytest.mark.parametrize("meter, bars", [(None, [12] * 3), ("2/4", [8] * 4)])
def test_a_file_at_another_tempo_keeps_its_meter(client, model, tmp_path, meter, bars):
    taps = rolls_of({"hits": [[step, 0, 90, 0] for step in range(0, 24, 6)], "steps": 24}, "taps")
    Take(taps, model=model, tempo=100, meter="3/4").save(tmp_path / "waltz.mid")
    rhythm = {"name": "waltz.mid", "data": base64.b64encode((tmp_path / "waltz.mid").read_bytes()).decode()}
    fields = {"tempo": 150} | ({"meter": meter} if meter else {})
    saved = client.post("/api/save/mid", json={"drums": GROOVE, "rhythm": rhythm, "fields": fields})
    heard = client.post("/api/hear?name=x", content=saved.content).json()
    assert heard["tempo"] == 150 and heard["bars"] == bars


@pytest.mark.parametrize(
    "message, said",
    [
        ("{", "a message must be JSON"),
        ("[" * 100000, "a message must be JSON"),
        ('{"fields": {"bars": NaN}}', "a message must be JSON"),
        ([], "message: it must be a dict"),
        ({"field": {}}, "message: it must be a dict"),
        ({"fields": []}, "fields: they must be a dict"),
        ({"fields": {"bars": 129}}, "bars: 129; it must be a whole number, 1 or more, 128 at most"),
        ({"fields": {"bars": 1, "best_of": 1000}}, "best_of: 1000"),
        ({"fields": {"bars": 1, "rhythm": "/etc/passwd"}}, "unknown field 'rhythm'"),
        ({"fields": {"bars": 1, "kit_out": "/etc/passwd"}}, "kit_out: '/etc/passwd'; it must be one of gm"),
        ({"fields": {"song": "/etc/passwd"}}, "song: it must be a dict"),
        ({"fields": {"song": {"sections": [{"name": "a", "bars": 200}]}}}, "200 bars; on this page 128"),
        ({"fields": {"bars": 1, "temperature": "hot"}}, "temperature: 'hot'; it must be a number"),
        ({"fields": {"bars": 1, "style": "fonk"}}, "did you mean funk"),
        ({"fields": {}}, "bars: it must say how many bars are played"),
        ({"rhythm": {"data": "?", "name": "a"}, "fields": {"bars": 1}}, "its data must be base64"),
        ({"rhythm": {"data": "AAAA", "name": "a"}, "fields": {"bars": 1}}, "a.mid: not a readable MIDI file"),
        ({"rhythm": TAPS | {"steps": 10**9}, "fields": {"bars": 1}}, "steps: 1000000000; it must be"),
        ({"rhythm": TAPS | {"hits": [[0, 9, 1, 0]]}, "fields": {"bars": 1}}, "hits: each must be"),
        ({"drums": GROOVE | {"steps": 8}, "fields": {"job": "vary"}}, "a hit is past the last of 8 steps"),
    ],
    ids=lambda part: str(part)[:40],
)
def test_what_is_wrong_is_one_sentence(client, message, said):
    text = message if isinstance(message, str) else json.dumps(message)
    answer = client.post("/api/play", content=text)
    assert answer.status_code == 400
    assert said in answer.json()["error"] and "/tmp" not in answer.json()["error"]


def test_too_much_is_refused(client):
    answer = client.post("/api/hear", content=b"x" * (MOST_BODY + 1))
    assert answer.status_code == 413 and "at most 8 MiB" in answer.json()["error"]
    answer = client.post("/api/hear?name=big.mid", content=b"x" * ((8 << 20) + 1))
    assert (
        answer.status_code == 400
        and "big.mid" in answer.json()["error"]
        and "8 MiB" in answer.json()["error"]
    )


OWN = {"host": "127.0.0.1:8765", "origin": "http://127.0.0.1:8765"}


@pytest.mark.parametrize(
    "headers, is_own",
    [
        (OWN, True),
        ({"host": "localhost:1"}, True),
        (OWN | {"host": "studio.example:8765"}, False),
        (OWN | {"origin": "http://studio.example"}, False),
        (OWN | {"origin": "http://127.0.0.1:9999"}, False),
        (OWN | {"origin": "null"}, False),
        ({"host": "127.0.0.1.studio.example"}, False),
        ({"host": "[::1"}, False),
    ],
    ids=str,
)
def test_pages_of_other_sites_are_turned_away(client, headers, is_own):
    assert client.get("/", headers=headers).status_code == (200 if is_own else 403)
    assert client.post("/api/play", headers=headers, content="{").status_code == (400 if is_own else 403)
    if is_own:
        with client.websocket_connect(JAM, headers=headers):
            return
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(JAM, headers=headers):
        pass


# ---- jams


def bars(socket, n, first=0, **more):
    for number in range(first, first + n):
        socket.send_json({"type": "bar", "number": number} | more)
        answer = socket.receive_json()
        assert answer["type"] == "bar" and answer["number"] == number, answer
        yield answer["hits"]


def test_a_jam_is_the_jam_of_the_library_and_a_bad_message_leaves_it(client, model):
    own = Jam(*rolls_of(TAPS, "rhythm"), style="funk", model=model, seed=4)
    with client.websocket_connect(JAM) as socket:
        socket.send_json({"type": "bar", "number": 0})
        assert "a jam begins with start" in socket.receive_json()["error"]
        socket.send_json(START)
        assert socket.receive_json() == {"type": "started", "seed": 4}
        assert [*bars(socket, 2)] == [hits_of(next(own)) for _ in range(2)]
        for bad in (
            {"type": "bar", "number": 2, "fields": {"style": "fonk"}},
            {"type": "bar"},
            {"type": "dance"},
        ):
            socket.send_json(bad)
            assert socket.receive_json()["type"] == "error"
        assert [*bars(socket, 1, 2)] == [hits_of(next(own))]
        own.change(density=None, style="jazz", at_most=1, rhythm=None)
        changed = {"rhythm": None, "fields": {"style": "jazz", "at_most": "1"}}
        assert [*bars(socket, 3, 3, **changed)] == [hits_of(next(own)) for _ in range(3)]


def test_four_tabs_share_the_model_and_keep_their_seeds(client, model):
    """One of them leaves with a bar on its way, and a take is played beside them."""
    alone = Jam(*rolls_of(TAPS, "rhythm"), style="funk", model=model, seed=4)
    alone = [hits_of(next(alone)) for _ in range(4)]
    with client.websocket_connect(JAM) as a, client.websocket_connect(JAM) as b:
        for socket in (a, b):
            socket.send_json(START)
        with client.websocket_connect(JAM) as leaves:
            leaves.send_json(START)
            leaves.send_json({"type": "bar", "number": 0})
            for socket in (a, b):
                assert socket.receive_json()["type"] == "started"
                socket.send_json({"type": "bar", "number": 0})
        message = {"rhythm": TAPS, "fields": {"bars": 2, "seed": 1}}
        takes = [plays(client, message) for _ in range(2)]
        first = [socket.receive_json()["hits"] for socket in (a, b)]
        rest = [[*bars(socket, 3, 1)] for socket in (a, b)]
    assert takes[0] == takes[1]
    assert [[one, *more] for one, more in zip(first, rest)] == [alone, alone]


def mutated(value, draw):
    """The value with one of its parts replaced, dropped or doubled."""
    odd = [None, True, -1, 0, 2**70, 1e999, 0.5, "", "x", "1-9", [], {}, [[1]], {"a": 1}, [None, "x"], "funk"]
    if isinstance(value, dict) and value and draw.random() < 0.85:
        name = draw.choice([*value])
        way = draw.random()
        rest = {key: part for key, part in value.items() if key != name}
        return rest if way < 0.1 else value | {name: mutated(value[name], draw)}
    if isinstance(value, list) and value and draw.random() < 0.85:
        index = draw.randrange(len(value))
        new = [] if draw.random() < 0.1 else [mutated(value[index], draw)] * draw.choice([1, 1, 2])
        return [*value[:index], *new, *value[index + 1 :]]
    return draw.choice(odd)


def test_a_thousand_mutated_messages_end_nothing(client, caplog):
    draw = random.Random(1)
    fields = {"bars": 1, "hits_per_bar": [4], "voices": {"kick": 2}, "follow": 1, "guidance": {"style": 2}}
    fields |= {
        "seed": 3,
        "style": ["funk"],
        "forbid": ["ride"],
        "at_most": 3,
        "temperature": 1,
        "tempo": None,
    }
    tap = {"rhythm": TAPS, "fields": fields | {"num_samples": 1, "best_of": 2, "rhythm_is": "hands"}}
    job = {
        "drums": GROOVE,
        "fields": {"job": "infill", "bars_anew": "1", "voices_anew": ["kick"], "lock": ["snare"]},
    }
    save = {
        "drums": GROOVE,
        "rhythm": TAPS,
        "fields": {"kit_out": "gm", "lead_in": True, "keep_tracks": True},
    }
    for path, message in (("play", tap), ("play", job), ("save/mid", save)):
        assert client.post(f"/api/{path}", json=message).status_code == 200
    codes = []
    for number in range(750):
        path, message = (("play", tap), ("play", job), ("save/mid", save), ("save/mid", save))[number % 4]
        answer = client.post(f"/api/{path}", content=json.dumps(mutated(message, draw)))
        codes.append(answer.status_code)
        assert answer.status_code in (200, 400), answer.text
    with client.websocket_connect(JAM) as socket:
        socket.send_json(START)
        socket.receive_json()
        wishes = {name: fields[name] for name in ("hits_per_bar", "voices", "style", "forbid", "at_most")}
        for _ in range(250):
            message = {"type": "bar", "number": 1, "rhythm": TAPS, "fields": wishes}
            socket.send_text(json.dumps(mutated(message, draw)))
            codes.append(socket.receive_json()["type"])
        [*bars(socket, 1)]
    assert len(codes) == 1000 and min(codes.count(400), codes.count(200), codes.count("error")) > 50
    assert not caplog.records, caplog.text  # nothing that nobody foresaw
    assert plays(client, tap)
