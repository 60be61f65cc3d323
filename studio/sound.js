// What sounds: one-shots of the voices, the rhythm, the click; and the same through Web MIDI.

import * as api from "./api.js";

const KEYS = [36, 38, 42, 43, 46, 47, 49, 50, 51]; // of General MIDI
const OPEN = 4, CLOSED = 2;
const SEEN = 4000;
const MASTER = 2.5; // the shots are as loud as in a WAV that is written, which leaves room for a band

export const sound = {
  context: null,
  scheduled: [], // {time, voice, velocity} of what was last given to the audio clock
  midiOut: null,
  here: true, // drums sound from the loudspeaker
  volumes: { drums: 0.9, rhythm: 0.5, click: 0.5 },
};

const shots = new Map(); // voice -> [{velocity, buffer}], the softest first
let buses = {}, ringing = null;

// The sounds are loaded and decoded with the page, before anything is clicked.
let loaded = null;
export function load(voices, table) {
  const decoder = new OfflineAudioContext(1, 1, 48000);
  return (loaded ??= Promise.all(voices.map(async (name, voice) => {
    const layers = await Promise.all(table[name].map(async (velocity) => (
      { velocity, buffer: await decoder.decodeAudioData(await api.shot(name, velocity)) }
    )));
    shots.set(voice, layers.sort((a, b) => a.velocity - b.velocity));
  })));
}

// The context begins in the hand of the user, as browsers demand. Called in an event; promises that all can sound.
export function ready() {
  if (!sound.context) {
    sound.context = new AudioContext({ latencyHint: "interactive" });
    const master = sound.context.createGain();
    master.gain.value = MASTER;
    master.connect(sound.context.destination);
    for (const name of Object.keys(sound.volumes)) {
      buses[name] = sound.context.createGain();
      buses[name].gain.value = sound.volumes[name];
      buses[name].connect(name === "drums" ? master : sound.context.destination);
    }
  }
  if (sound.context.state !== "running") sound.context.resume();
  return loaded;
}

export function setVolume(name, value) {
  sound.volumes[name] = value;
  if (buses[name]) buses[name].gain.setTargetAtTime(value, sound.context.currentTime, 0.01);
}

// A hit of the drums at a time of the audio clock.
export function hit(voice, velocity, time) {
  sound.scheduled.push({ time, voice, velocity });
  if (sound.scheduled.length > SEEN) sound.scheduled.splice(0, SEEN / 2);
  if (sound.midiOut) {
    const at = performanceTime(time);
    sound.midiOut.send([0x99, KEYS[voice], velocity], at);
    sound.midiOut.send([0x89, KEYS[voice], 0], at + 60);
  }
  if (!sound.here || !shots.has(voice)) return;
  const layers = shots.get(voice);
  const layer = layers.find((one) => one.velocity >= velocity) ?? layers.at(-1);
  const gain = sound.context.createGain(), source = sound.context.createBufferSource();
  gain.gain.value = (velocity / layer.velocity) ** 2;
  source.buffer = layer.buffer;
  source.connect(gain).connect(buses.drums);
  source.start(Math.max(time, sound.context.currentTime));
  if (voice === CLOSED && ringing && ringing.time < time) ringing.gain.gain.setTargetAtTime(0, time, 0.02);
  if (voice === OPEN) ringing = { gain, time };
}

// A short wooden tick: of the rhythm (high or low pad), or the click of a beat.
export function tick(bus, pitch, loudness, time) {
  const { context } = sound;
  const oscillator = context.createOscillator(), gain = context.createGain();
  const at = Math.max(time, context.currentTime);
  oscillator.type = "triangle";
  oscillator.frequency.setValueAtTime(pitch * 1.5, at);
  oscillator.frequency.exponentialRampToValueAtTime(pitch, at + 0.02);
  gain.gain.setValueAtTime(loudness, at);
  gain.gain.exponentialRampToValueAtTime(0.001, at + 0.07);
  oscillator.connect(gain).connect(buses[bus]);
  oscillator.start(at);
  oscillator.stop(at + 0.08);
  return oscillator;
}

export const tapTick = (pad, velocity, time) => tick("rhythm", pad ? 900 : 420, velocity / 127, time);
export const click = (first, time) => tick("click", first ? 1900 : 1300, 0.7, time);

// ---- clocks

const performanceTime = (time) => performance.now() + (time - sound.context.currentTime) * 1000;

// The time of the audio clock that was heard at a time of the page's clock (event.timeStamp).
export function heardAt(timeStamp) {
  const { contextTime, performanceTime: at } = sound.context.getOutputTimestamp();
  if (!at) return sound.context.currentTime + (timeStamp - performance.now()) / 1000;
  return contextTime + (timeStamp - at) / 1000;
}

// MIDI clock: start, stop, and 24 ticks to the quarter, of which a step has 6.
export function midiClock(what, time) {
  sound.midiOut?.send([{ start: 0xfa, stop: 0xfc, tick: 0xf8 }[what]], performanceTime(time));
}
