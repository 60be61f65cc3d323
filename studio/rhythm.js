// The rhythm: a file that is dropped, of which a track is heard; what it is; and drums that are brought as a take.

import * as api from "./api.js";
import { $, base64, make, safely, say } from "./dom.js";
import { store } from "./store.js";
import { addTakes } from "./takes.js";
import { view } from "./view.js";

let about = null;

export function setUp(said) {
  about = said;
  const zone = $("drop");
  for (const name of ["dragover", "dragenter"]) {
    addEventListener(name, (event) => {
      event.preventDefault();
      zone.classList.add("over");
    });
  }
  addEventListener("dragleave", (event) => event.relatedTarget === null && zone.classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    if (event.dataTransfer.files[0]) bring(event.dataTransfer.files[0]);
  });
  $("file").onchange = () => $("file").files[0] && bring($("file").files[0]);
  $("no-rhythm").onclick = () => store.change({ rhythm: null });
  $("track").onchange = () => listen($("track").value);
  $("is").append(...["drums", "hands", "part", "unset"].map((kind) => make("option", { value: kind }, kind === "unset" ? "not said" : kind)));
  $("is").onchange = () => store.change({ rhythm: { ...store.work.rhythm, is: $("is").value } });
  $("as-drums").onclick = asDrums;
}

const bring = safely(async (file) => {
  if (file.size > about.most_bytes) throw new Error(`${file.name} is too large: a MIDI file has at most ${about.most_bytes >> 20} MiB.`);
  const bytes = new Uint8Array(await file.arrayBuffer());
  const heard = await api.hear(bytes, file.name);
  take(heard, base64(bytes), "");
  say(`${heard.name}: ${heard.hits.length} hits in ${heard.bars.length} bars`);
});

function take(heard, data, track) {
  const { name, hits, steps, tracks, tempo, bpm, is } = heard;
  const remarks = [...heard.remarks], all = heard.bars.length, bars = Math.min(about.most_bars, all);
  if (bpm.includes(" to ")) remarks.push(`its tempo goes from ${bpm}; here it is played at the first`);
  if (all > bars) remarks.push(`the first ${bars} bars are played`);
  store.change({ rhythm: { name, hits, steps, bars: heard.bars, tracks, tempo, is, told: is, remarks, data, track }, tempo, bars, current: null });
}

const bytesOf = (rhythm) => Uint8Array.from(atob(rhythm.data), (letter) => letter.charCodeAt(0));

const listen = safely(async (track) => {
  const { rhythm } = store.work;
  take(await api.hear(bytesOf(rhythm), rhythm.name, track), rhythm.data, track);
});

const asDrums = safely(async () => {
  const { rhythm } = store.work;
  const heard = await api.hear(bytesOf(rhythm), rhythm.name, rhythm.track, "drums");
  const { hits, bars } = heard, steps = bars.reduce((sum, bar) => sum + bar, 0);
  addTakes([{ hits, steps, bars, seed: null, figures: [], table: "", command: "" }], rhythm.name);
});

export function draw() {
  const { rhythm } = store.work;
  $("record").disabled = view.hits !== null;
  $("rhythm-info").hidden = !rhythm;
  $("drop").classList.toggle("has", Boolean(rhythm));
  if (!rhythm) return;
  const bars = rhythm.bars?.length ?? Math.ceil(rhythm.steps / 16), tracks = rhythm.tracks ?? [];
  $("rhythm-name").textContent = rhythm.name;
  $("rhythm-said").textContent = `${rhythm.hits.length} hits, ${bars} ${bars === 1 ? "bar" : "bars"}`;
  $("rhythm-remarks").textContent = (rhythm.remarks ?? []).join("; ");
  $("track-row").hidden = tracks.length < 2;
  $("as-drums").hidden = !rhythm.data;
  $("track").replaceChildren(
    make("option", { value: "" }, "all tracks"),
    ...tracks.map(({ number, name, notes }) => make("option", { value: number }, `${name || `track ${number}`} (${notes})`)),
  );
  $("track").value = rhythm.track ?? "";
  $("is").value = rhythm.is;
  $("is").title = "What the rhythm is: drums; hands, taps of a person; a part to be played to";
}
