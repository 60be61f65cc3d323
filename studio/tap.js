// Tapping: two pads, on the keyboard, the screen or a MIDI keyboard; to a count-in and a click; and how late they come.

import { $, complain, make, say } from "./dom.js";
import { player, ticker } from "./player.js";
import { click, heardAt, ready, sound, tapTick } from "./sound.js";
import { store } from "./store.js";
import { view } from "./view.js";

const BEATS = 4, BAR = 16, TICKS = 120;
const KEYS = { KeyF: 0, KeyJ: 1 };
const USUAL = 100; // velocity of a key
let recording = null, calibrating = null, tempoTaps = [];
const heard = []; // functions that are given every tap

export const latency = {
  get seconds() { return Number(localStorage.getItem("latency") ?? 0); },
  set seconds(value) { localStorage.setItem("latency", value); },
};

export function setUp() {
  for (const [id, pad] of [["pad-low", 0], ["pad-high", 1]]) {
    $(id).addEventListener("pointerdown", (event) => {
      event.preventDefault();
      const box = $(id).getBoundingClientRect(), share = 1 - (event.clientY - box.top) / box.height;
      tap(pad, Math.round(60 + 67 * share), event.timeStamp);
    });
    $(id).addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.repeat) return;
      event.preventDefault();
      tap(pad, USUAL, event.timeStamp);
    });
  }
  addEventListener("keydown", (event) => {
    if (!(event.code in KEYS) || event.repeat || event.ctrlKey || event.metaKey || event.altKey || isTyping(event)) return;
    tap(KEYS[event.code], event.shiftKey ? 127 : USUAL, event.timeStamp);
  });
  $("record").onclick = () => (recording ? finish(true) : record());
  $("tap-tempo").onclick = (event) => tapTempo(event.timeStamp);
  $("calibrate").onclick = calibrate;
  $("midi-in").onclick = listenToMidi;
  ticker.addEventListener("message", () => recording && watch());
  showLatency();
}

export const isTyping = ({ target }) => target.matches?.("input:not([type=range]):not([type=checkbox]), select, textarea");
export const onTap = (listener) => heard.push(listener);

// A tap at a time of the page's clock. The time that counts is what was heard then, less the latency.
export async function tap(pad, velocity, timeStamp) {
  const loaded = ready();
  const pads = $(pad ? "pad-high" : "pad-low");
  pads.classList.add("hit");
  setTimeout(() => pads.classList.remove("hit"), 90);
  tapTick(pad, velocity, sound.context.currentTime);
  const time = heardAt(timeStamp) - latency.seconds;
  if (calibrating) calibrating.taps.push(heardAt(timeStamp));
  else if (recording) keep(pad, velocity, time);
  for (const listener of heard) listener(pad, velocity, time);
  await loaded;
}

// ---- recording

async function record() {
  await ready();
  player.stop();
  const bars = Number($("tap-bars").value), beat = 60 / store.work.tempo, begin = sound.context.currentTime + 0.15;
  const start = begin + BEATS * beat;
  recording = { start, step: beat / 4, steps: bars * BAR, hits: [], beat: -1 };
  recording.clicks = Array.from({ length: BEATS * (bars + 1) }, (_, i) => click(i % BEATS === 0, begin + i * beat));
  $("record").classList.add("on");
  $("record-text").textContent = "Stop";
  view.show({ taps: [] });
  say(`Count-in, then tap F and J for ${bars} bars`);
}

function keep(pad, velocity, time) {
  const { start, step: wide, steps, hits } = recording;
  const place = (time - start) / wide, step = Math.round(place);
  if (step < 0 || step > steps) return;
  const ticks = Math.max(-60, Math.min(59, Math.round((place - step) * TICKS)));
  const at = step % steps; // early for the end: it belongs to the beginning
  const others = hits.filter((hit) => hit[0] !== at || hit[1] !== pad);
  recording.hits = [...others, [at, pad, velocity, ticks]].sort((a, b) => a[0] - b[0]);
  view.show({ taps: recording.hits });
}

function watch() {
  const { start, step, steps } = recording, now = sound.context.currentTime;
  const beat = Math.floor((now - start) / (4 * step));
  if (beat !== recording.beat) {
    recording.beat = beat;
    $("count").textContent = beat < 0 ? String(BEATS + beat + 1) : `bar ${Math.floor(beat / BEATS) + 1}`;
  }
  if (now > start + steps * step + 0.2) finish(false);
}

function finish(stopped) {
  const { clicks, hits, steps } = recording, now = sound.context.currentTime;
  clicks.forEach((one) => { try { one.stop(now); } catch { /* it has ended */ } });
  recording = null;
  $("record").classList.remove("on");
  $("record-text").textContent = "Record taps";
  $("count").textContent = "";
  view.show({ taps: null });
  if (!hits.length) return stopped || say("Nothing was tapped");
  store.change({ rhythm: { name: "taps.mid", hits, steps, is: "hands", told: "drums" } }); // by the channel of their file
  say(`${hits.length} taps in ${steps / BAR} bars`);
}

export const isRecording = () => recording !== null;
export const stopRecording = () => recording && finish(true);

// ---- tempo, latency, MIDI

function tapTempo(timeStamp) {
  tempoTaps = [...tempoTaps.filter((time) => timeStamp - time < 8000), timeStamp].slice(-8);
  if (tempoTaps.length > 1 && timeStamp - tempoTaps.at(-2) > 2000) tempoTaps = [timeStamp];
  if (tempoTaps.length < 3) return say("Tap on");
  const beat = (tempoTaps.at(-1) - tempoTaps[0]) / (tempoTaps.length - 1);
  store.change({ tempo: Math.max(30, Math.min(300, Math.round(60000 / beat))) }, "tempo");
}

async function calibrate() {
  await ready();
  player.stop();
  const clicks = 12, gap = 0.5, begin = sound.context.currentTime + 0.6;
  for (let i = 0; i < clicks; i++) click(i % BEATS === 0, begin + i * gap);
  calibrating = { taps: [] };
  $("calibrate").disabled = true;
  say("Tap F or J with every click");
  setTimeout(() => {
    const { taps } = calibrating;
    calibrating = null;
    $("calibrate").disabled = false;
    const late = taps.map((time) => ((time - begin + gap / 2) % gap) - gap / 2).sort((a, b) => a - b);
    if (late.length < 5) return complain(new Error("Too few taps to measure by; tap with every click."));
    latency.seconds = late[Math.floor(late.length / 2)];
    showLatency();
  }, (0.6 + clicks * gap) * 1000);
}

function showLatency() {
  const ms = Math.round(latency.seconds * 1000);
  $("latency").textContent = ms ? `Taps are moved by ${-ms} ms` : "Not measured yet";
}

export async function midiAccess() {
  if (!navigator.requestMIDIAccess) throw new Error("This browser has no Web MIDI; Chrome, Edge and Firefox have it.");
  try {
    return await navigator.requestMIDIAccess();
  } catch {
    throw new Error("The browser did not allow MIDI for this page.");
  }
}

// Of a keyboard or pads low keys are the low pad: below the snare's, or in the octave below middle C.
async function listenToMidi() {
  try {
    const access = await midiAccess();
    const connect = () => {
      const inputs = [...access.inputs.values()];
      for (const input of inputs) {
        input.onmidimessage = ({ data: [status, key, velocity], timeStamp }) => {
          if ((status & 0xf0) === 0x90 && velocity) tap(key < 38 || (key >= 48 && key < 60) ? 0 : 1, velocity, timeStamp);
        };
      }
      $("midi-in-name").textContent = inputs.map((input) => input.name).join(", ") || "no MIDI keyboard found yet";
    };
    access.onstatechange = connect;
    connect();
  } catch (error) {
    complain(error);
  }
}
