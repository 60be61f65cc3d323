// The page: its parts are set up, shown anew with every change, and reached by the keyboard.

import * as api from "./api.js";
import * as ask from "./ask.js";
import { $, complain, make, safely, say, titled } from "./dom.js";
import * as jam from "./jam.js";
import * as lanes from "./lanes.js";
import { linesOf, piece } from "./piece.js";
import { player } from "./player.js";
import * as rhythm from "./rhythm.js";
import * as roll from "./roll.js";
import { load, ready, setVolume, sound } from "./sound.js";
import { restore, store } from "./store.js";
import * as takes from "./takes.js";
import * as tap from "./tap.js";
import { view } from "./view.js";

let about = null;

async function begin() {
  about = await api.about();
  load(about.voices, about.sounds).catch(complain);
  for (const part of [ask, lanes, rhythm, takes, jam]) part.setUp(about);
  roll.setUp(about.voices);
  tap.setUp();
  heads();
  transport();
  inspector();
  store.listen(draw);
  view.listen(draw);
  addEventListener("keydown", shortcut);
  $("checkpoint").textContent = `${about.checkpoint.file ?? "a model"} · ${about.checkpoint.sha256}`;
  if ((await restore()) > 1) say("The studio is open in another tab too; each keeps a work of its own");
  (function frame() {
    if (player.playing || view.playhead) where();
    requestAnimationFrame(frame);
  })();
  document.body.classList.add("ready");
}

let drawing = false;
function draw() {
  if (drawing) return;
  drawing = true;
  queueMicrotask(() => {
    drawing = false;
    for (const part of [ask, rhythm, takes, lanes]) part.draw();
    drawTransport();
    drawInspector();
    roll.draw();
  });
}

// ---- the voices beside the roll

function heads() {
  $("roll-heads").append(make("div", { class: "head ruler" }, make("span", {}, "Bars")), make("div", { class: "head taps" }, make("span", {}, "Rhythm")));
  for (const voice of roll.ORDER) {
    const name = titled(about.voices[voice]);
    const button = make("button", { class: "head voice-head", "aria-pressed": "false", title: `Choose ${name}`, "data-voice": voice }, make("span", {}, name));
    button.onclick = () => {
      const voices = new Set(view.voices);
      voices.delete(voice) || voices.add(voice);
      view.show({ voices });
    };
    $("roll-heads").append(button);
  }
  $("choose-none").onclick = () => view.show({ bars: null, voices: new Set() });
}

// ---- the transport

function transport() {
  $("play").onclick = toggle;
  player.ended = () => view.show();
  const flip = (id, key) => {
    $(id).onclick = () => {
      player[key] = !player[key];
      view.show();
    };
  };
  flip("loop", "loop");
  flip("click", "clicks");
  $("tempo").onchange = () => {
    const tempo = Math.min(300, Math.max(30, Number($("tempo").value) || 100));
    store.change({ tempo });
  };
  for (const name of ["drums", "rhythm"]) $(`volume-${name}`).oninput = (event) => setVolume(name, Number(event.target.value));
  $("undo").onclick = () => store.undo();
  $("redo").onclick = () => store.redo();
  $("error-close").onclick = () => ($("error").hidden = true);
}

const toggle = safely(async () => {
  if (jam.isOn()) return jam.stop();
  if (tap.isRecording()) return tap.stopRecording();
  if (player.playing) {
    player.stop();
    return view.show();
  }
  await ready();
  if (!piece().drums.length && !piece().rhythm.length) return say("Nothing to hear yet: tap a rhythm, or press Play drums");
  player.start(view.bars ? piece().lines[view.bars[0]] : 0);
  view.show();
});

function drawTransport() {
  $("play").setAttribute("aria-pressed", player.playing || jam.isOn());
  $("play").setAttribute("aria-label", player.playing ? "Stop" : "Play");
  $("loop").setAttribute("aria-pressed", player.loop);
  $("click").setAttribute("aria-pressed", player.clicks);
  if (document.activeElement !== $("tempo")) $("tempo").value = Math.round(store.work.tempo * 100) / 100;
  $("undo").disabled = !store.canUndo();
  $("redo").disabled = !store.canRedo();
  for (const head of document.querySelectorAll(".voice-head")) head.setAttribute("aria-pressed", view.voices.has(Number(head.dataset.voice)));
  $("choose-none").hidden = !view.bars && !view.voices.size;
  if (!player.playing && !view.playhead) $("where").textContent = "1.1";
}

function where() {
  const step = view.playhead ? view.playhead() : player.position();
  roll.draw();
  if (step === null) return;
  const { lines } = piece(), bar = Math.max(0, lines.findIndex((line) => line > step) - 1);
  $("where").textContent = `${bar + 1}.${Math.floor((step - lines[bar]) / 4) + 1}`;
}

// ---- the hit that is chosen

function inspector() {
  const edit = () => {
    const note = roll.chosenHit();
    if (note) roll.put([note[0], note[1], Number($("hit-velocity").value), Number($("hit-timing").value)], note, "inspector");
  };
  $("hit-velocity").oninput = edit;
  $("hit-timing").oninput = edit;
  $("hit-delete").onclick = () => roll.chosenHit() && roll.remove(roll.chosenHit());
}

function drawInspector() {
  const note = view.hits ? null : roll.chosenHit();
  $("inspector").classList.toggle("empty", !note);
  for (const id of ["hit-velocity", "hit-timing", "hit-delete"]) $(id).disabled = !note;
  $("hit-said").textContent = note ? roll.describe(note) : "Click to add a hit, drag to move it (with Shift: velocity and timing), double click to delete";
  if (!note) return;
  $("hit-velocity").value = note[2];
  $("hit-timing").value = note[3];
}

// ---- the keyboard

function shortcut(event) {
  const { target, key } = event, command = event.ctrlKey || event.metaKey;
  if (command && key.toLowerCase() === "z" && !tap.isTyping(event)) {
    event.preventDefault();
    return event.shiftKey ? store.redo() : store.undo();
  }
  if (command && key.toLowerCase() === "y" && !tap.isTyping(event)) {
    event.preventDefault();
    return store.redo();
  }
  if (command || event.altKey || tap.isTyping(event)) return;
  if (key === " " && !target.matches("summary, input[type=checkbox]")) {
    event.preventDefault(); // a button is pressed with Enter
    return toggle();
  }
  if (key === "Escape") return view.show({ bars: null, voices: new Set() });
  const press = { g: "go", r: "record", l: "loop", c: "click" }[key];
  if (press && !event.repeat) $(press).click();
}
addEventListener("keyup", (event) => event.key === " " && event.target.matches("button") && event.preventDefault());

window.studio = { store, view, player, sound, piece, counts: jam.counts, linesOf }; // for a look from the console
begin().catch(complain);
