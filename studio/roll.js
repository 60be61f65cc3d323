// The piano roll: a ruler, the rhythm, nine voices. Velocity is the height of a hit, timing its place.

import { $, clamp, say, words } from "./dom.js";
import { piece } from "./piece.js";
import { player } from "./player.js";
import { hit, sound } from "./sound.js";
import { store } from "./store.js";
import { view } from "./view.js";

export const ORDER = [6, 8, 4, 2, 7, 5, 3, 1, 0]; // of the voices from the top
export const RULER = 26, RHYTHM = 34, ROW = 29;
const HUES = ["kick", "snare", "hat", "tom", "hat", "tom", "cymbal", "tom", "cymbal"];
const NEW = 90; // velocity of a hit that is drawn
const FINEST = 12; // pixels of a step, at least

let canvas, scroller, width = 0, names = [], colours = {}, dragged = null, chosen = null;

export const HEIGHT = RULER + RHYTHM + ROW * ORDER.length;
export const stepWidth = () => Math.max(FINEST, width / piece().steps);
export const totalWidth = () => stepWidth() * piece().steps;

export function setUp(voices) {
  names = voices;
  canvas = $("roll");
  scroller = $("scroller");
  canvas.addEventListener("pointerdown", down);
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("dblclick", (event) => {
    const found = hitAt(event);
    if (found && !found.isNew) remove(found.note);
  });
  canvas.addEventListener("keydown", keydown);
  canvas.addEventListener("focus", () => { if (!view.cursor) view.show({ cursor: { step: 0, voice: 0 } }); });
  scroller.addEventListener("scroll", draw);
  new ResizeObserver(() => { measure(); view.show(); }).observe(scroller);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); draw(); });
  readColours();
  measure();
}

function measure() {
  width = scroller.clientWidth;
  const scale = devicePixelRatio || 1;
  canvas.width = width * scale;
  canvas.height = HEIGHT * scale;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${HEIGHT}px`;
}

function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["kick", "snare", "hat", "tom", "cymbal", "ink", "faint", "line", "beat", "band", "stage", "accent", "chosen", "taps", "soft"]) {
    colours[name] = style.getPropertyValue(`--${name}`).trim();
  }
}

// ---- drawing

const placeOf = ([step, , , ticks]) => (step + 0.5 + ticks / 120) * stepWidth() - scroller.scrollLeft;
const rowTop = (voice) => RULER + RHYTHM + ORDER.indexOf(voice) * ROW;

export function draw() {
  if (!canvas) return;
  const { drums, rhythm, lines, steps } = piece();
  const g = canvas.getContext("2d"), scale = devicePixelRatio || 1, wide = stepWidth(), left = scroller.scrollLeft;
  g.setTransform(scale, 0, 0, scale, 0, 0);
  g.fillStyle = colours.stage;
  g.fillRect(0, 0, width, HEIGHT);
  ORDER.forEach((voice, row) => {
    g.fillStyle = view.voices.has(voice) ? colours.chosen : row % 2 ? colours.band : colours.stage;
    g.fillRect(0, rowTop(voice), width, ROW);
  });
  g.fillStyle = colours.band;
  g.fillRect(0, RULER, width, RHYTHM - 3);
  if (view.bars) {
    g.fillStyle = colours.chosen;
    g.fillRect(lines[view.bars[0]] * wide - left, 0, (lines[view.bars[1] + 1] - lines[view.bars[0]]) * wide, HEIGHT);
  }
  drawGrid(g, lines, wide, left);
  for (const note of rhythm) drawTap(g, note, wide);
  for (const note of drums) drawHit(g, note, wide, note === chosen || (chosen && same(note, chosen)));
  if (!drums.length && !rhythm.length) {
    g.fillStyle = colours.soft;
    g.font = "500 15px Inter, system-ui, sans-serif";
    g.textAlign = "center";
    ["Tap a rhythm, drop a MIDI file, or neither;", "then press Play drums."].forEach((line, i) => g.fillText(line, width / 2, HEIGHT / 2 + 24 * i));
    g.textAlign = "start";
  }
  drawCursor(g, wide, left);
  const at = view.playhead ? view.playhead() : player.position();
  if (at !== null) {
    g.fillStyle = colours.accent;
    g.fillRect(at * wide + wide / 2 - left - 1, 0, 2, HEIGHT);
  }
  return steps;
}

function drawGrid(g, lines, wide, left) {
  g.font = "600 11px Inter, system-ui, sans-serif";
  g.textBaseline = "middle";
  for (let bar = 0; bar < lines.length - 1; bar++) {
    const x = lines[bar] * wide - left, end = lines[bar + 1] * wide - left;
    if (end < 0 || x > width) continue;
    for (let step = lines[bar]; step < lines[bar + 1]; step++) {
      const onBeat = (step - lines[bar]) % 4 === 0;
      g.fillStyle = step === lines[bar] ? colours.line : onBeat ? colours.beat : colours.faint;
      g.fillRect(Math.round(step * wide - left), step === lines[bar] ? 0 : RULER, 1, HEIGHT);
    }
    g.fillStyle = colours.ink;
    g.fillText(String(bar + 1), x + 7, RULER / 2 + 1);
  }
}

function drawTap(g, note, wide) {
  const x = placeOf(note), size = 4 + (note[2] / 127) * 7, y = RULER + (RHYTHM - 3) / 2;
  g.fillStyle = colours.taps;
  g.beginPath();
  if (note[1] === 0) g.arc(x, y, size / 1.6, 0, 7);
  else g.roundRect(x - size / 2, y - size, size, 2 * size, 3);
  g.fill();
}

function drawHit(g, note, wide, isChosen) {
  const [, voice, velocity] = note, thick = clamp(wide * 0.62, 6, 16);
  const high = 6 + (velocity / 127) * (ROW - 9), x = placeOf(note) - thick / 2, y = rowTop(voice) + ROW - 2 - high;
  g.fillStyle = colours[HUES[voice]];
  g.globalAlpha = 0.35 + (0.65 * velocity) / 127;
  g.beginPath();
  g.roundRect(x, y, thick, high, 3);
  g.fill();
  g.globalAlpha = 1;
  if (!isChosen) return;
  g.strokeStyle = colours.ink;
  g.lineWidth = 2;
  g.stroke();
}

function drawCursor(g, wide, left) {
  if (!view.cursor || document.activeElement !== canvas) return;
  g.strokeStyle = colours.accent;
  g.lineWidth = 2;
  g.strokeRect(view.cursor.step * wide - left + 1, rowTop(view.cursor.voice) + 1, wide - 2, ROW - 2);
}

// ---- hits

const same = (a, b) => a[0] === b[0] && a[1] === b[1];
const noteAt = (step, voice) => store.take?.hits.find((note) => note[0] === step && note[1] === voice) ?? null;
const without = (note) => store.take.hits.filter((other) => !same(other, note));
export const chosenHit = () => (chosen && store.take ? noteAt(chosen[0], chosen[1]) : null);

export function put(note, old = null, merge = null) {
  let hits = old ? without(old) : store.take.hits;
  hits = [...hits.filter((other) => !same(other, note)), note].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  chosen = note;
  store.editTake(hits, merge);
}

export function remove(note) {
  chosen = null;
  store.editTake(without(note));
}

function needTake() {
  if (store.take && !view.hits) return true;
  say(view.hits ? "The jam plays; stop it to edit" : "There are no drums yet: press Play drums");
  return false;
}

export function describe([step, voice, velocity, ticks]) {
  const { lines, tempo } = piece(), bar = lines.findIndex((line) => line > step) - 1;
  const late = Math.round((ticks / 120) * (15 / tempo) * 1000);
  const timing = late ? `${Math.abs(late)} ms ${late < 0 ? "early" : "late"}` : "on the grid";
  return `${words(names[voice])}, bar ${bar + 1}, step ${step - lines[bar] + 1}, velocity ${velocity}, ${timing}`;
}

// ---- the pointer

function cellAt(event) {
  const box = canvas.getBoundingClientRect();
  const x = event.clientX - box.left + scroller.scrollLeft, y = event.clientY - box.top;
  const row = Math.floor((y - RULER - RHYTHM) / ROW), step = Math.floor(x / stepWidth());
  return { x, y, step: clamp(step, 0, piece().steps - 1), voice: ORDER[row] ?? null };
}

function hitAt(event) {
  const { x, step, voice } = cellAt(event);
  if (voice === null || !store.take) return null;
  const near = [step - 1, step, step + 1].map((one) => noteAt(one, voice)).filter(Boolean);
  const off = (note) => Math.abs(placeOf(note) + scroller.scrollLeft - x);
  const note = near.sort((a, b) => off(a) - off(b))[0];
  return note && off(note) < Math.max(7, stepWidth() / 2) ? { note, isNew: performance.now() - born < 450 } : null;
}

let born = 0, touched = null;
function down(event) {
  const { y, step, voice } = cellAt(event);
  if (y < RULER + RHYTHM) return chooseBars(event, step);
  if (!needTake()) return;
  const found = hitAt(event);
  if (event.button === 2) return found && remove(found.note);
  if (!found && event.pointerType === "touch") { // it may be the beginning of a swipe
    touched = { step, voice, x: event.clientX, y: event.clientY };
    return;
  }
  canvas.setPointerCapture(event.pointerId);
  store.settle();
  let note = found?.note;
  if (!note) {
    note = [step, voice, NEW, 0];
    born = performance.now();
    put(note);
  }
  chosen = note;
  preview(note);
  dragged = { note, from: note, x: event.clientX, y: event.clientY, fine: event.shiftKey, merge: `drag ${performance.now()}` };
  view.show({ cursor: { step: note[0], voice: note[1] } });
}

function move(event) {
  if (!dragged) {
    canvas.style.cursor = cellAt(event).y < RULER ? "pointer" : hitAt(event) ? "grab" : "cell";
    return;
  }
  if (dragged.bar !== undefined) return chooseBars(event, cellAt(event).step);
  const dx = event.clientX - dragged.x, dy = event.clientY - dragged.y;
  if (Math.hypot(dx, dy) < 4 && !dragged.moved) return;
  dragged.moved = true;
  const [step, voice, velocity, ticks] = dragged.from, wide = stepWidth();
  let note;
  if (dragged.fine) note = [step, voice, clamp(Math.round(velocity - dy), 1, 127), clamp(Math.round(ticks + (dx / wide) * 120), -60, 59)];
  else {
    const row = clamp(ORDER.indexOf(voice) + Math.round(dy / ROW), 0, ORDER.length - 1);
    note = [clamp(step + Math.round(dx / wide), 0, piece().steps - 1), ORDER[row], velocity, ticks];
  }
  if (note.every((value, i) => value === dragged.note[i])) return;
  if (!same(note, dragged.note) && noteAt(note[0], note[1])) return; // a cell has one hit
  put(note, dragged.note, dragged.merge);
  if (note[1] !== dragged.note[1]) preview(note);
  dragged.note = note;
}

function up(event) {
  if (touched && event.type === "pointerup" && Math.hypot(event.clientX - touched.x, event.clientY - touched.y) < 8) {
    const note = [touched.step, touched.voice, NEW, 0];
    put(note);
    preview(note);
    view.show({ cursor: { step: note[0], voice: note[1] } });
    born = performance.now();
  }
  touched = null;
  if (dragged?.note) say(describe(dragged.note));
  dragged = null;
  store.settle();
}

function preview([, voice, velocity]) {
  if (sound.context && !player.playing) hit(voice, velocity, sound.context.currentTime);
}

// Bars are chosen on the ruler: a click, a drag or a click with shift; the same one again: none.
function chooseBars(event, step) {
  const { lines } = piece(), bar = lines.findIndex((line) => line > step) - 1;
  if (event.type === "pointerdown") {
    canvas.setPointerCapture(event.pointerId);
    if (event.shiftKey && view.bars) return view.show({ bars: [Math.min(bar, view.bars[0]), Math.max(bar, view.bars[1])] });
    const again = view.bars?.[0] === bar && view.bars[1] === bar;
    dragged = { bar };
    return view.show({ bars: again ? null : [bar, bar] });
  }
  if (bar !== dragged.bar || view.bars) view.show({ bars: [Math.min(bar, dragged.bar), Math.max(bar, dragged.bar)] });
}

// ---- the keyboard

function keydown(event) {
  const cursor = view.cursor ?? { step: 0, voice: 0 };
  const row = ORDER.indexOf(cursor.voice), note = noteAt(cursor.step, cursor.voice);
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  const to = (dx, dy) => ({
    step: clamp(cursor.step + dx, 0, piece().steps - 1),
    voice: ORDER[clamp(row + dy, 0, ORDER.length - 1)],
  });
  const change = (velocity, ticks) => {
    if (note && needTake()) put([note[0], note[1], clamp(note[2] + velocity, 1, 127), clamp(note[3] + ticks, -60, 59)], note, "keys");
  };
  const keys = {
    Enter: () => needTake() && (note ? remove(note) : put([cursor.step, cursor.voice, NEW, 0])),
    Delete: () => note && needTake() && remove(note),
    Backspace: () => note && needTake() && remove(note),
    "+": () => change(5, 0),
    "=": () => change(5, 0),
    "-": () => change(-5, 0),
    ",": () => change(0, -6),
    ".": () => change(0, 6),
    Home: () => view.show({ cursor: { ...cursor, step: 0 } }),
    End: () => view.show({ cursor: { ...cursor, step: piece().steps - 1 } }),
    b: () => {
      const { lines } = piece(), bar = lines.findIndex((line) => line > cursor.step) - 1;
      view.show({ bars: view.bars && view.isChosen(bar) ? null : [bar, bar] });
    },
  };
  if (event.ctrlKey || event.metaKey || event.altKey || !(arrows || keys[event.key])) return;
  event.preventDefault();
  if (arrows) {
    const next = to(...arrows);
    if (event.shiftKey && note && needTake() && !noteAt(next.step, next.voice)) put([next.step, next.voice, note[2], note[3]], note, "keys");
    view.show({ cursor: next });
  } else keys[event.key]();
  const now = noteAt(view.cursor.step, view.cursor.voice);
  chosen = now;
  if (now && !arrows) preview(now);
  const { step, voice } = view.cursor;
  const x = step * stepWidth();
  if (x < scroller.scrollLeft || x > scroller.scrollLeft + width - stepWidth()) scroller.scrollLeft = x - width / 2;
  say(now ? describe(now) : describe([step, voice, 0, 0]).replace(/, velocity.*/, ", empty"));
  view.show();
}
