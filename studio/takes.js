// Takes: played, worked on, compared, taken away.

import * as api from "./api.js";
import { $, complain, download, icon, make, safely, say, words } from "./dom.js";
import { player } from "./player.js";
import { dialsOf, fileOf, nameOf, notesOf, rhythmOf, songOf, tempoOf, trackOf, wishesOf } from "./request.js";
import { ready } from "./sound.js";
import { store } from "./store.js";
import { view } from "./view.js";

const BAR = 16;
let about = null;

export function setUp(said) {
  about = said;
  $("go").onclick = () => playDrums();
  for (const job of ["again", "add", "humanise", "vary", "continue", "interpolate"]) $(`job-${job}`).onclick = () => work(job);
  $("strength").oninput = () => store.change({ strength: Number($("strength").value) }, "strength");
  $("more-bars").onchange = () => store.change({ again: Math.max(1, Math.round(Number($("more-bars").value) || 1)) });
  $("get-wav").onclick = safely(async () => download(await api.save("wav", fileOf(store.take, about)), `${nameOf(store.take)}.wav`));
  $("get-receipt").onclick = () => download(new Blob([JSON.stringify(store.take.receipt ?? null, null, 1)], { type: "application/json" }), `${nameOf(store.take)}.json`);
  $("get-rhythm").onclick = safely(async () => {
    const { rhythm } = store.work, steps = store.take?.steps ?? store.work.bars * BAR;
    download(await api.save("rhythm", { rhythm: rhythmOf(steps) }), rhythm.name);
  });
  $("copy").onclick = safely(async () => {
    await navigator.clipboard.writeText($("command").textContent);
    say("The command line is copied");
  });
  for (const [id, key] of [["keep", "keep"], ["lead", "lead"]]) $(id).onchange = () => store.change({ [key]: $(id).checked });
  $("kit").append(...about.kits.map((kit) => make("option", { value: kit }, words(kit))));
  $("kit").onchange = () => store.change({ kit: $("kit").value });
  $("get-midi").addEventListener("dragstart", (event) => {
    const link = $("get-midi"), url = new URL(link.href, location.href);
    event.dataTransfer.setData("DownloadURL", `audio/midi:${link.download}:${url}`);
    event.dataTransfer.setData("text/uri-list", String(url));
  });
}

// ---- played

async function run(message, title) {
  if (view.busy) return;
  view.show({ busy: true });
  say("The drummer plays …");
  const sounds = ready();
  try {
    const { takes, remarks } = await api.play(message);
    await sounds.catch(complain);
    addTakes(takes, title);
    if (!player.playing) player.start(); // it sounds before the page is drawn anew
    say([`Take ${store.take.id}: ${title}`, ...remarks.slice(1)].join("; "));
  } catch (error) {
    say("");
    complain(error);
  } finally {
    view.show({ busy: false });
  }
}

export function addTakes(takes, title) {
  const { work } = store;
  const made = takes.map((take, index) => ({ ...take, id: work.next + index, title }));
  store.change({ takes: [...work.takes, ...made], next: work.next + made.length, current: made[0].id, bars: made[0].bars.length });
  if (view.bars && view.bars[1] >= made[0].bars.length) view.show({ bars: null });
}

export function playDrums() {
  const { work, take } = store, song = work.sections.length > 0;
  const bars = song ? songOf().sections.reduce((sum, section) => sum + section.bars, 0) : work.bars;
  const fields = { ...dialsOf(), ...tempoOf(), ...trackOf() };
  Object.assign(fields, song ? { song: songOf() } : { bars, ...wishesOf(bars) });
  const message = { rhythm: rhythmOf(bars * BAR), fields };
  if (work.lock.length && take) {
    fields.lock = work.lock;
    message.drums = notesOf(take);
  }
  return run(message, song ? "song" : "new");
}

// A job on the take, on the bars and voices that are chosen.
function work(job) {
  const { work, take } = store;
  if (!take) return playDrums();
  const chosen = view.bars || view.voices.size;
  if (job === "again" && !chosen) return playDrums();
  const more = job === "continue" ? work.again : 0, bars = take.bars.length + more;
  const fields = { job: job === "again" ? "infill" : job, ...dialsOf(), ...tempoOf(), ...trackOf() };
  if (fields.follow !== "free") delete fields.follow; // beside drums the rhythm is followed literally or not at all
  const voices = [...view.voices].map((voice) => about.voices[voice]);
  let title = job, message = { drums: notesOf(take), fields };
  if (job === "again") {
    if (view.bars) fields.bars_anew = `${view.bars[0] + 1}-${view.bars[1] + 1}`;
    if (voices.length) fields.voices_anew = voices;
    title = `again: ${chosenInWords()}`;
  }
  if (job === "add") {
    if (!voices.length) return complain(new Error("Choose the voices to add first: click their names beside the roll."));
    fields.voices_anew = voices;
    title = `add ${voices.map(words).join(", ")}`;
  }
  if (job === "vary") {
    fields.strength = work.strength;
    title = `vary ${Math.round(work.strength * 100)} %`;
  }
  if (job === "continue") {
    fields.bars = more;
    title = `continue ${more} bars`;
  }
  if (job === "interpolate") {
    const second = work.takes.find(({ id }) => String(id) === $("lead-to").value);
    if (!second) return complain(new Error("Choose the take to lead to."));
    message.second = notesOf(second);
    fields.bars = bars;
    title = `from ${take.id} to ${second.id}`;
  }
  if (work.lock.length && job !== "add") fields.lock = work.lock;
  Object.assign(fields, wishesOf(bars));
  const rhythm = rhythmOf(bars * BAR);
  if (rhythm) message.rhythm = rhythm;
  return run(message, `${take.id} ${title}`);
}

export function chosenInWords() {
  const bars = view.bars && (view.bars[0] === view.bars[1] ? `bar ${view.bars[0] + 1}` : `bars ${view.bars[0] + 1}–${view.bars[1] + 1}`);
  const voices = [...view.voices].map((voice) => words(about.voices[voice])).join(", ");
  return [bars, voices].filter(Boolean).join(" · ") || "everything";
}

// ---- looked at

let fileFor = null, making = null;

export function draw() {
  const { work, take } = store;
  $("chosen").textContent = chosenInWords();
  for (const button of document.querySelectorAll("[data-needs=take]")) button.disabled = !take || view.busy || Boolean(view.hits);
  $("go").disabled = view.busy || Boolean(view.hits);
  $("go").classList.toggle("busy", view.busy);
  $("strength").value = work.strength;
  $("strength-said").textContent = `${Math.round(work.strength * 100)} %`;
  if (document.activeElement !== $("more-bars")) $("more-bars").value = work.again;
  drawCards(work);
  $("about-take").hidden = !take;
  $("get-rhythm").disabled = !work.rhythm;
  $("keep-row").hidden = !work.rhythm?.data;
  $("keep").checked = work.keep;
  $("keep").disabled = work.rhythm?.tempo !== work.tempo; // its tracks have its tempo
  $("lead").checked = work.lead;
  $("kit").value = work.kit || about.kits[0];
  if (!take) return;
  $("take-title").textContent = `Take ${take.id}`;
  $("table").textContent = (take.edited ? "As it was played; edited by hand since.\n\n" : "") + (take.table || "No receipt: these drums were not played here.");
  $("command").textContent = take.command || "Not made by a request";
  $("get-receipt").disabled = !take.receipt;
  prepareFile(take, work);
}

// The MIDI file is made ahead, so that it can be dragged out of the page at once.
function prepareFile(take, work) {
  const now = [take, work.rhythm, work.tempo, work.keep, work.lead, work.kit, work.more];
  if (fileFor?.every((part, i) => part === now[i])) return;
  fileFor = now;
  clearTimeout(making);
  $("get-midi").classList.add("waiting");
  making = setTimeout(safely(async () => {
    const blob = await api.save("mid", fileOf(take, about));
    if (fileFor !== now) return;
    const link = $("get-midi");
    URL.revokeObjectURL(link.href);
    link.href = URL.createObjectURL(new File([blob], `${nameOf(take)}.mid`, { type: "audio/midi" }));
    link.download = `${nameOf(take)}.mid`;
    link.classList.remove("waiting");
  }), 150);
}

let cards = null;
function drawCards(work) {
  if (cards?.takes === work.takes && cards.current === work.current) return;
  cards = { takes: work.takes, current: work.current };
  $("no-takes").hidden = work.takes.length > 0;
  $("take-list").replaceChildren(...work.takes.map((take) => cardOf(take, take.id === work.current)));
  const card = $("take-list").querySelector("[aria-pressed=true]")?.parentElement;
  if (card) $("take-list").scrollLeft = card.offsetLeft - $("take-list").offsetLeft - 40;
  const kept = $("lead-to").value;
  $("lead-to").replaceChildren(...work.takes.filter(({ id }) => id !== work.current).map(({ id }) => make("option", { value: id }, `take ${id}`)));
  if (kept) $("lead-to").value = kept;
  $("leads").hidden = work.takes.length < 2;
}

function cardOf(take, isCurrent) {
  const picture = make("canvas", { width: 320, height: 72, "aria-hidden": "true" });
  thumbnail(picture, take);
  const button = make("button", { class: "take", "aria-pressed": isCurrent, title: (take.figures ?? []).join("\n") },
    make("span", { class: "take-head" }, make("b", {}, String(take.id)), make("span", {}, take.title + (take.edited ? " · edited" : ""))),
    picture,
    make("small", {}, take.seed === null ? "no seed" : `seed ${take.seed}`),
    make("small", {}, missOf(take) || "no wishes"));
  button.onclick = () => store.change({ current: take.id, bars: take.bars.length }, "choose");
  const away = make("button", { class: "quiet away", "aria-label": `Delete take ${take.id}`, title: "Delete" }, icon("close"));
  away.onclick = () => {
    const takes = store.work.takes.filter(({ id }) => id !== take.id);
    store.change({ takes, current: isCurrent ? takes.at(-1)?.id ?? null : store.work.current });
  };
  return make("li", {}, button, away);
}

// How near the take is to the wishes, of the receipt.
function missOf({ receipt }) {
  const said = Object.entries(receipt?.miss ?? {}).map(([name, miss]) => `${name} ${Math.round(miss * 100)} % off`);
  if (!said.length && receipt?.tap?.tapped) return `${receipt.tap.answered} of ${receipt.tap.tapped} taps answered`;
  return said.join(", ");
}

function thumbnail(canvas, take) {
  const g = canvas.getContext("2d"), wide = canvas.width / take.steps, style = getComputedStyle(document.documentElement);
  const colours = ["kick", "snare", "hat", "tom", "hat", "tom", "cymbal", "tom", "cymbal"].map((name) => style.getPropertyValue(`--${name}`));
  const rows = [8, 7, 3, 6, 2, 5, 0, 4, 1];
  for (const [step, voice, velocity] of take.hits) {
    g.fillStyle = colours[voice];
    g.globalAlpha = 0.4 + (0.6 * velocity) / 127;
    g.fillRect(step * wide, rows[voice] * 8, Math.max(2, wide * 0.7), 6);
  }
}
