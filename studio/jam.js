// Playing on: bars without end, each asked for shortly before it begins, so that what changes is heard at the next
// bar line. A bar that is not there in time is filled with the one before, and counted.

import * as api from "./api.js";
import { $, complain, make, say } from "./dom.js";
import { padded } from "./lanes.js";
import { player, ticker } from "./player.js";
import { dialsOf } from "./request.js";
import { click, hit, midiClock, ready, sound, tapTick } from "./sound.js";
import { store } from "./store.js";
import { addTakes } from "./takes.js";
import { midiAccess, onTap } from "./tap.js";
import { view } from "./view.js";

const BAR = 16;
const LAST = 0.06; // seconds before a bar line at which a missing bar is given up

let about = null, jam = null;
export const counts = { bars: 0, late: 0, margins: [] }; // margins: seconds that bars were ready early

export function setUp(said) {
  about = said;
  $("jam").onclick = () => (jam ? stop() : start());
  $("midi-out").onclick = chooseOutput;
  $("here").onchange = () => (sound.here = $("here").checked);
  ticker.addEventListener("message", () => jam?.started && tick());
  onTap((pad, velocity, time) => jam?.taps.push({ pad, velocity, time }));
}

export const isOn = () => jam !== null;

async function start() {
  jam = { line: api.jam(), taps: [], sent: "", rhythm: undefined, from: 0, number: 0, slots: [], bars: new Map(), ready: null, asking: false };
  Object.assign(counts, { bars: 0, late: 0, margins: [] });
  draw();
  try {
    const mine = jam, sounds = ready();
    player.stop();
    const dials = Object.fromEntries(Object.entries(dialsOf()).filter(([name]) => about.dials.includes(name)));
    dials.rhythm_is = store.work.rhythm?.is ?? "hands"; // a jam has no file that says it; and what is tapped into it
    const { seed } = await mine.line.ask({ type: "start", fields: dials });
    mine.seed = seed;
    mine.step = 15 / store.work.tempo;
    mine.slot = 0;
    await sounds;
    await ask(mine, 0);
    if (mine !== jam) return;
    mine.next = sound.context.currentTime + 0.1;
    mine.started = true;
    midiClock("start", mine.next);
    view.show({ hits: [], playhead });
    say(`The drummer plays on; seed ${seed}`);
  } catch (error) {
    complain(error);
    if (jam) stop();
  }
}

export function stop() {
  const { line, bars, seed, started } = jam;
  line.close();
  if (started) midiClock("stop", sound.context.currentTime);
  jam = null;
  view.show({ hits: null, playhead: null });
  const hits = [...bars.entries()].sort(([a], [b]) => a - b);
  if (hits.length) {
    const lengths = Array(Math.max(...bars.keys()) + 1).fill(BAR);
    const placed = hits.flatMap(([bar, notes]) => notes.map(([step, ...rest]) => [step + bar * BAR, ...rest]));
    addTakes([{ hits: placed, steps: lengths.length * BAR, bars: lengths, seed, figures: [], table: "", command: "" }], `jam, ${counts.bars} bars`);
  }
  draw();
}

// ---- the next bar

// The wishes of a slot: those of the bar of the lanes that it falls on.
function fieldsOf(slot) {
  const { asked, style, voices, forbid, more, bars } = store.work, bar = slot % bars, fields = {};
  for (const [wish, values] of Object.entries(asked)) if (padded(values, bars)[bar] !== null) fields[wish] = values[bar];
  if (padded(style, bars)[bar]) fields.style = style[bar];
  const hits = Object.entries(voices).filter(([, values]) => padded(values, bars)[bar] !== null).map(([name, values]) => [name, values[bar]]);
  if (hits.length) fields.voices = Object.fromEntries(hits);
  if (forbid.length) fields.forbid = forbid;
  if (more.at_most) fields.at_most = more.at_most;
  if (more.playable) fields.playable = true;
  if (more.swing) fields.swing = more.swing;
  return fields;
}

// What was tapped, a bar of it up to the last tap, round its bar line; without taps the rhythm of the work.
function rhythmOf(mine) {
  const last = mine.taps.at(-1);
  if (last && mine.started && last !== mine.heard) {
    const hits = new Map(), length = mine.step * BAR;
    mine.taps = mine.taps.filter(({ time }) => last.time - time < length);
    mine.heard = last;
    for (const { pad, velocity, time } of mine.taps) {
      const place = (time - mine.next) / mine.step, step = Math.round(place);
      const at = ((step % BAR) + BAR) % BAR;
      hits.set(`${at} ${pad}`, [at, pad, velocity, Math.max(-60, Math.min(59, Math.round((place - step) * 120)))]);
    }
    mine.tapped = { hits: [...hits.values()].sort((a, b) => a[0] - b[0]), steps: BAR };
  }
  if (mine.tapped) return mine.tapped;
  const { rhythm } = store.work;
  return rhythm && { hits: rhythm.hits, steps: rhythm.steps };
}

async function ask(mine, slot) {
  mine.asking = true;
  const message = { type: "bar", number: mine.number }, fields = fieldsOf(slot), rhythm = rhythmOf(mine);
  if (JSON.stringify(fields) !== mine.sent) message.fields = fields;
  if (rhythm !== mine.rhythm && JSON.stringify(rhythm) !== JSON.stringify(mine.rhythm)) {
    message.rhythm = rhythm;
    mine.from = mine.number;
  }
  mine.rhythm = rhythm;
  mine.sent = JSON.stringify(fields);
  try {
    const { hits } = await mine.line.ask(message);
    mine.ready = { hits, taps: tapsOf(mine), at: sound.context.currentTime };
    mine.number++;
  } catch (error) {
    if (mine !== jam) return;
    if (!mine.started) throw error;
    complain(error);
    if (!mine.line.isOpen()) stop();
  }
  mine.asking = false;
}

// The rhythm's own hits in the bar that was asked for.
function tapsOf({ rhythm, number, from }) {
  if (!rhythm?.hits.length) return [];
  const bars = Math.ceil(rhythm.steps / BAR), first = ((number - from) % bars) * BAR;
  return rhythm.hits.filter(([step]) => step >= first && step < first + BAR).map(([step, ...rest]) => [step - first, ...rest]);
}

function tick() {
  const now = sound.context.currentTime, mine = jam, length = mine.step * BAR;
  if (mine.ready) return give(mine.ready, mine.next - mine.ready.at);
  if (now > mine.next - LAST && mine.last) {
    counts.late++;
    return give({ ...mine.last, at: now }, null);
  }
  if (!mine.asking && now > mine.next - Math.min(1, 0.75 * length)) ask(mine, mine.slot);
}

// A bar to the audio clock, in the next slot.
function give({ hits, taps }, margin) {
  const mine = jam, { next, step, slot } = mine, bar = slot % store.work.bars;
  for (const [at, voice, velocity, ticks] of hits) hit(voice, velocity, next + (at + ticks / 120) * step);
  for (const [at, pad, velocity, ticks] of taps) tapTick(pad, velocity, next + (at + ticks / 120) * step);
  if (player.clicks) for (let beat = 0; beat < 4; beat++) click(beat === 0, next + beat * 4 * step);
  for (let tick = 0; tick < 6 * BAR && sound.midiOut; tick++) midiClock("tick", next + (tick / 6) * step);
  mine.last = { hits, taps };
  mine.ready = null;
  mine.bars.set(bar, hits);
  mine.slots = [...mine.slots, { start: next, step, bar }].slice(-4);
  counts.bars++;
  if (margin !== null && slot) counts.margins.push(margin);
  mine.next = next + step * BAR;
  mine.step = 15 / store.work.tempo;
  mine.slot = slot + 1;
  const shown = [...mine.bars.entries()].filter(([one]) => one < store.work.bars);
  view.show({ hits: shown.flatMap(([one, notes]) => notes.map(([at, ...rest]) => [at + one * BAR, ...rest])) });
  draw();
}

function playhead() {
  const now = sound.context.currentTime - (sound.context.outputLatency || 0);
  const slot = jam?.slots.findLast(({ start }) => start <= now);
  return slot ? Math.min(BAR, (now - slot.start) / slot.step) + slot.bar * BAR : null;
}

// ---- looked at

function draw() {
  $("jam").setAttribute("aria-pressed", jam !== null);
  $("jam-text").textContent = jam ? "Stop" : "Play on";
  $("jam-bars").textContent = counts.bars;
  $("jam-late").textContent = counts.late;
  const { margins } = counts, ms = (seconds) => `${Math.round(seconds * 1000)} ms`;
  $("jam-margin").textContent = margins.length ? ms(margins.at(-1)) : "–";
  $("jam-worst").textContent = margins.length ? ms(Math.min(...margins)) : "–";
}

async function chooseOutput() {
  try {
    const access = await midiAccess(), outputs = [...access.outputs.values()];
    const select = $("outputs");
    select.hidden = false;
    select.replaceChildren(make("option", { value: "" }, outputs.length ? "no MIDI out" : "no MIDI output found"), ...outputs.map(({ id, name }) => make("option", { value: id }, name)));
    select.onchange = () => (sound.midiOut = access.outputs.get(select.value) ?? null);
  } catch (error) {
    complain(error);
  }
}
