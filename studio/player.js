// The transport: plays what `piece()` gives, over and over, and hears of changes while it plays.

import { piece } from "./piece.js";
import { click, hit, midiClock, sound, tapTick } from "./sound.js";

const AHEAD = 0.15; // seconds that are given to the audio clock ahead of time
const LEAD = 0.02;

export const ticker = new Worker("ticker.js");

class Player {
  // piece: () => {drums, rhythm: [hits], steps, lines: [steps of bar lines], tempo}, the same object as long as nothing changes
  constructor(piece) {
    this.piece = piece;
    this.playing = false;
    this.loop = true;
    this.clicks = false;
    this.ended = () => {};
    ticker.addEventListener("message", () => this.playing && this.schedule());
  }

  start(from = 0) {
    this.stop();
    this.anchor = { time: sound.context.currentTime + LEAD, step: from };
    this.done = from - 1e-9;
    this.from = from;
    this.tempo = this.piece().tempo;
    this.playing = true;
    midiClock("start", this.anchor.time);
    this.schedule();
  }

  stop() {
    if (this.playing) midiClock("stop", sound.context.currentTime);
    this.playing = false;
  }

  seconds(step) { return this.anchor.time + (step - this.anchor.step) * (15 / this.tempo); }
  stepAt(time) { return this.anchor.step + (time - this.anchor.time) / (15 / this.tempo); }

  // Where the playhead is, in steps, or null.
  position() {
    if (!this.playing) return null;
    const { context } = sound, { steps } = this.piece();
    const step = this.stepAt(context.currentTime - (context.outputLatency || 0));
    return step < 0 ? 0 : step % steps;
  }

  schedule() {
    const { drums, rhythm, steps, lines, tempo } = this.piece();
    const now = sound.context.currentTime;
    if (tempo !== this.tempo) {
      this.anchor = { time: this.seconds(this.done), step: this.done };
      this.tempo = tempo;
    }
    this.done = Math.max(this.done, this.stepAt(now) - 1); // what a page that was held up has missed is missed
    const until = this.stepAt(now + AHEAD);
    if (until <= this.done) return;
    // An early hit of the very first step is on the beat at first, and then at the end of the loop.
    const window = (place, sounds) => {
      for (let turn = Math.floor(Math.max(this.done, 0) / steps); turn * steps <= until + 1; turn++) {
        const step = turn ? place + turn * steps : Math.max(place, 0);
        if (step > this.done && step <= until && (this.loop || !turn)) sounds(this.seconds(step));
      }
    };
    const at = ([step, , , ticks]) => step + ticks / 120;
    for (const note of drums) window(at(note), (time) => hit(note[1], note[2], time));
    for (const note of rhythm) if (note[0] < steps) window(at(note), (time) => tapTick(note[1], note[2], time));
    if (this.clicks) for (let step = 0; step < steps; step += 4) window(step, (time) => click(lines.includes(step), time));
    if (sound.midiOut) for (let tick = Math.ceil(this.done * 6 + 1e-6); tick <= until * 6; tick++) midiClock("tick", this.seconds(tick / 6));
    this.done = until;
    if (!this.loop && this.stepAt(now) > steps + 4) {
      this.stop();
      this.ended();
    }
  }
}

export const player = new Player(piece);
