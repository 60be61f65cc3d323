"""The studio's page in a real browser, the system's Chromium; without one these tests are left out."""

import base64
import shutil
import socket
import threading
import time

import pytest
import uvicorn
from playwright.sync_api import sync_playwright

from inference_bar_control import Take, drums_from_midi
from utils.studio.jamming import Session
from utils.studio.notes import hits_of, rolls_of

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium: apt-get install chromium")
SWITCHES = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
SWITCHES += "--disable-component-update --disable-sync --autoplay-policy=no-user-gesture-required"
WIDTHS = {"wide": (1280, 900), "narrow": (390, 844)}
DROP = """([text, name]) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)), given = new DataTransfer();
    given.items.add(new File([bytes], name));
    document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: given, bubbles: true}));
}"""
DRAG = """() => {
    const given = new DataTransfer();
    document.getElementById("get-midi").dispatchEvent(new DragEvent("dragstart", {dataTransfer: given}));
    return given.getData("DownloadURL");
}"""
# What can be pressed or filled in and has no name for those who can't see it.
NAMELESS = """() => [...document.querySelectorAll("button, input, select, canvas, [role=slider]")].filter(
    (element) => !element.getAttribute("aria-label") && !element.labels?.length && !element.textContent.trim()
).map((element) => element.outerHTML)"""
# A MIDI output that keeps what it is sent, and an input, in place of the browser's.
MIDI = """
    const output = {id: "1", name: "module", sent: [], send(bytes) { this.sent.push([...bytes]); }};
    const input = {name: "pads"};
    const access = {inputs: new Map([["0", input]]), outputs: new Map([["1", output]])};
    navigator.requestMIDIAccess = async () => access;
    window.midi = {input, output};
"""


@pytest.fixture(scope="module")
def address(app):
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES.split())


@pytest.fixture
def page(browser, address):
    context = browser.new_context(viewport=dict(zip(("width", "height"), WIDTHS["wide"])))
    page, complaints = context.new_page(), []
    page.on("pageerror", lambda error: complaints.append(error))
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    elsewhere = []
    page.on("request", lambda request: elsewhere.append(request.url))
    page.goto(address)
    page.wait_for_selector("body.ready")
    yield page
    assert not [url for url in elsewhere if not url.startswith((address, "data:", "blob:"))]
    assert not [said for said in complaints if "the server responded with a status of 400" not in str(said)]
    assert page.locator("#error").is_hidden()
    context.close()


def work(page, what="work"):
    return page.evaluate(f"studio.store.{what}")


def until(page, condition):
    page.wait_for_function(f"() => {condition}")


def drop(page, path):
    page.evaluate(DROP, [base64.b64encode(path.read_bytes()).decode(), path.name])
    until(page, f"studio.store.work.rhythm?.name === '{path.name}'")


def test_from_taps_to_a_file(page, repository, tmp_path):
    # tapped to a count-in and a click
    page.fill("#tempo", "240")
    page.press("#tempo", "Tab")
    page.select_option("#tap-bars", "1")
    page.press("body", "r")
    until(page, "document.getElementById('count').textContent === 'bar 1'")
    for key in "fjf":
        page.keyboard.press(key)
        page.wait_for_timeout(130)
    until(page, "studio.store.work.rhythm")
    taps = work(page, "work.rhythm")
    assert [pad for _, pad, *_ in taps["hits"]] == [0, 1, 0] and taps["steps"] == 16 and taps["is"] == "hands"

    assert not page.evaluate(NAMELESS)

    # a file, and what is asked of its bars, drawn
    drop(page, repository / "examples" / "bass_line.mid")
    assert work(page)["tempo"] == 96 and work(page)["bars"] == 4
    box = page.locator("#lane-hits_per_bar").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.1, box["y"] + box["height"] * 0.7)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.4, steps=12)
    page.mouse.up()
    asked = work(page)["asked"]["hits_per_bar"]
    assert asked[3] is None and 0 < asked[0] < asked[1] < asked[2]
    assert page.locator("#lane-hits_per_bar .unset").count() == 1
    page.press("#lane-velocity .cell", "PageUp")
    assert work(page)["asked"]["velocity"][0] > 0 and page.locator("#lane-velocity .unset").count() == 3

    # played, and heard: the audio clock runs, and is given what the roll shows
    page.press("body", "g")
    until(page, "studio.store.take && studio.sound.scheduled.length > 20")
    take = work(page, "take")
    assert [bar["asked"]["hits"] for bar in take["receipt"]["bars"]] == asked
    heard = page.evaluate("studio.sound.scheduled.map(({time, voice, velocity}) => [time, voice, velocity])")
    begin = page.evaluate("studio.player.anchor.time")
    expected = sorted(
        [begin + max(step + ticks / 120, 0) * 15 / 96, voice, velocity]
        for step, voice, velocity, ticks in take["hits"]
    )
    assert page.evaluate("studio.sound.context.state") == "running"
    for given, wanted in zip(sorted(heard), expected):
        assert given == pytest.approx(wanted)
    page.press("body", " ")

    # edited with the mouse and the keys, and undone
    page.focus("#roll")
    page.keyboard.press("End")
    there = [hit[:2] for hit in take["hits"]]
    page.keyboard.press("Enter")
    edited = [hit[:2] for hit in work(page, "take")["hits"]]
    last = [63, 0]
    assert (last in edited) != (last in there) and work(page, "take")["edited"]
    roll = page.locator("#roll").bounding_box()
    hit = {step for step, voice in there if voice == 6}
    empty = next(step for step in range(1, 63) if not hit & {step - 1, step, step + 1})
    page.mouse.click(roll["x"] + (empty + 0.5) * roll["width"] / 64, roll["y"] + 26 + 34 + 14)
    assert [empty, 6] in [hit[:2] for hit in work(page, "take")["hits"]]
    for _ in range(2):
        page.click("#undo")
    assert work(page, "take")["hits"] == take["hits"]
    page.click("#redo")
    edited = work(page, "take")["hits"]

    # bar 2 again
    page.mouse.click(roll["x"] + roll["width"] * 0.3, roll["y"] + 10)
    page.click("#job-again")
    until(page, "studio.store.work.takes.length === 2")
    again = work(page, "take")["hits"]
    assert [hit for hit in again if not 16 <= hit[0] < 32] == [hit for hit in edited if not 16 <= hit[0] < 32]
    assert again != edited and "bars_anew='2-2'" in page.locator("#command").text_content()

    # what is downloaded is what is shown; and all is there after a reload
    until(page, "!document.querySelector('#get-midi.waiting')")
    dragged = page.evaluate(DRAG)
    assert dragged.startswith("audio/midi:take_2.mid:blob:")
    with page.expect_download() as download:
        page.click("#get-midi")
    download.value.save_as(tmp_path / "take.mid")
    on_the_beat = [
        [step, voice, vel, max(ticks, 0) if step == 0 else ticks] for step, voice, vel, ticks in again
    ]
    assert hits_of(drums_from_midi(tmp_path / "take.mid")) == on_the_beat
    page.wait_for_timeout(400)
    before = work(page)
    page.reload()
    page.wait_for_selector("body.ready")
    assert work(page) == before
    for name, (width, height) in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(100)
        page.screenshot(path=tmp_path / f"{name}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_jam_goes_on_when_a_bar_is_late(page, monkeypatch):
    """Into a MIDI module, with clock, and a rhythm from MIDI pads."""
    answer, rhythms = Session.answer, []

    def slow(session, message):
        rhythms.extend([message["rhythm"]] if message.get("rhythm") else [])
        if message.get("number") == 7:
            time.sleep(1)
        return answer(session, message)

    monkeypatch.setattr(Session, "answer", slow)
    page.evaluate(MIDI)
    page.click("#midi-out")
    page.select_option("#outputs", "1")
    page.click("summary:has-text('MIDI keyboard')")
    page.click("#midi-in")
    until(page, "midi.input.onmidimessage")
    page.evaluate("studio.store.change({tempo: 600, bars: 2, style: ['funk', 'jazz']})")
    page.click("#jam")
    until(page, "studio.counts.bars >= 10")
    page.evaluate("midi.input.onmidimessage({data: [0x90, 38, 99], timeStamp: performance.now()})")
    until(page, "studio.counts.bars >= 20")
    late, margins = page.evaluate("[studio.counts.late, studio.counts.margins.length]")
    heard = sorted(hit["time"] for hit in page.evaluate("studio.sound.scheduled"))
    assert late >= 1 and late + margins >= 19
    assert max(b - a for a, b in zip(heard, heard[1:])) < 0.8  # two bars: what is late is not silent
    page.click("#jam")
    until(page, "studio.store.take")
    assert [pad for _, pad, *_ in rhythms[-1]["hits"]] == [1]
    sent, bars = page.evaluate("[midi.output.sent, studio.counts.bars]")
    status = [message[0] for message in sent]
    assert status.count(0xF8) == bars * 96 and status[0] == 0xFA and status.count(0xFC) == 1
    assert status.count(0x99) == page.evaluate("studio.sound.scheduled.length")
    assert "jam" in work(page, "take")["title"] and len(work(page, "take")["bars"]) == 2


def test_an_error_is_one_sentence_and_the_page_goes_on(page):
    page.set_input_files("#file", files=[{"name": "no.mid", "mimeType": "audio/midi", "buffer": b"no"}])
    page.wait_for_selector("#error:not([hidden])")
    assert page.locator("#error-text").text_content().startswith("no.mid: not a readable MIDI file")
    page.click("#error-close")


def test_two_tabs_keep_a_work_each(page, address):
    """Neither is lost, to the other or to a reload."""
    other = page.context.new_page()
    tabs = {page: 61, other: 62}
    other.goto(address)
    for tab, tempo in tabs.items():
        tab.wait_for_selector("body.ready")
        tab.evaluate(f"studio.store.change({{tempo: {tempo}}})")
        tab.wait_for_timeout(400)
    for tab, tempo in tabs.items():
        tab.reload()
        tab.wait_for_selector("body.ready")
        assert work(tab)["tempo"] == tempo
    other.close()


def test_bars_are_the_files_own_and_a_jam_knows_what_its_rhythm_is(page, model, tmp_path, monkeypatch):
    taps = rolls_of({"hits": [[step, 0, 90, 0] for step in range(0, 96, 6)], "steps": 96}, "taps")
    Take(taps, model=model, meter="3/4").save(tmp_path / "waltz.mid")
    drop(page, tmp_path / "waltz.mid")
    assert work(page)["bars"] == 8 and page.evaluate("studio.piece().lines") == [*range(0, 97, 12)]
    page.click("#as-drums")
    until(page, "studio.store.take")
    assert work(page, "take")["bars"] == [12] * 8

    # at another tempo the file is sent with it, for its meters
    page.evaluate("studio.store.change({tempo: 150})")
    sent = page.evaluate("import('/request.js').then(({fileOf}) => fileOf(studio.store.take, {written: []}))")
    assert sent["fields"] == {"tempo": 150} and sent["rhythm"]["name"] == "waltz.mid"

    answer, started = Session.answer, []

    def heard(session, message):
        started.extend([message["fields"]] if message["type"] == "start" else [])
        return answer(session, message)

    monkeypatch.setattr(Session, "answer", heard)
    for kind in ("drums", "part"):
        page.select_option("#is", kind)
        page.click("#jam")
        until(page, "studio.counts.bars >= 1")
        page.click("#jam")
    assert [fields["rhythm_is"] for fields in started] == ["drums", "part"]
