"""How soon the studio sounds, and whether its jams are ever late: python benchmarks/studio.py [--bars 100]

Starts studio.py and the system's Chromium, and prints: from the click on "Play drums" to the first sound, for
four bars to a bass line (median and worst); how early the bars of a jam at 200 beats per minute were ready
in two tabs at once (that of 99 bars in 100, the worst, and how many were late); and the size of the page.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

REPOSITORY = Path(__file__).resolve().parent.parent
TEMPO = 200
SWITCHES = (
    "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
)
SWITCHES += "--disable-sync --autoplay-policy=no-user-gesture-required"
# The time of the first sound on the page's clock, in ms after the click.
FIRST_SOUND = """async () => {
    studio.player.stop();
    const { sound } = studio, before = sound.scheduled.length, click = performance.now();
    document.getElementById("go").click();
    while (sound.scheduled.length === before) await new Promise((done) => setTimeout(done, 2));
    const first = Math.min(...sound.scheduled.slice(before).map(({ time }) => time));
    return performance.now() + (first - sound.context.currentTime) * 1000 - click;
}"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bars", type=int, default=100)
    parser.add_argument("--clicks", type=int, default=20)
    arguments = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        sys.exit("no Chromium: apt-get install chromium")
    command = [sys.executable, REPOSITORY / "studio.py", "--no-browser", "--port", "0"]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )
    try:
        address = next(word for word in server.stdout.readline().split() if word.startswith("http"))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=SWITCHES.split())
            print_size(browser, address)
            print_clicks(browser, address, arguments.clicks)
            print_jams(browser, address, arguments.bars)
            browser.close()
    finally:
        server.terminate()
        server.wait()


def open_page(browser, address):
    page = browser.new_context().new_page()
    page.goto(address)
    page.wait_for_selector("body.ready")
    return page


def print_size(browser, address):
    page, sizes = browser.new_context().new_page(), {}
    page.on("response", lambda response: sizes.update({response.url: len(response.body())}))
    page.goto(address)
    page.wait_for_load_state("networkidle")
    sounds = sum(size for url, size in sizes.items() if url.endswith(".wav"))
    own = sum(sizes.values()) - sounds
    print(f"page: {own / 1000:.0f} kB in {len(sizes)} files without sounds, which are {sounds / 1e6:.1f} MB")


def print_clicks(browser, address, clicks):
    page = open_page(browser, address)
    page.set_input_files("#file", REPOSITORY / "examples" / "bass_line.mid")
    page.wait_for_function("() => studio.store.work.rhythm")
    taken = []
    for _ in range(clicks + 1):
        taken.append(page.evaluate(FIRST_SOUND))
        page.wait_for_function("() => !studio.view.busy")
    first, *rest = taken
    print(
        f"click to first sound, four bars: {first:.0f} ms the first, then median "
        f"{statistics.median(rest):.0f} ms, worst {max(rest):.0f} ms"
    )


def print_jams(browser, address, bars):
    pages = [open_page(browser, address) for _ in range(2)]
    for page in pages:
        page.evaluate(f"studio.store.change({{tempo: {TEMPO}, style: ['funk', 'jazz', 'rock', 'latin']}})")
        page.click("#jam")
    for number, page in enumerate(pages, start=1):
        page.wait_for_function(f"() => studio.counts.bars >= {bars}", timeout=0)
        margins, late = page.evaluate("[studio.counts.margins, studio.counts.late]")
        least = np.quantile(margins, 0.01)
        print(
            f"jam at {TEMPO} BPM, tab {number}: {len(margins)} bars, 99 % ready {least * 1000:.0f} ms early "
            f"or more, the worst {min(margins) * 1000:.0f} ms; late: {late}"
        )


if __name__ == "__main__":
    main()
