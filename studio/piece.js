// What is played and drawn, made of the work: the take's hits, the rhythm beside it, and where the bars are.

import { store } from "./store.js";
import { view } from "./view.js";

const BAR = 16;

// The lengths of the bars that the stage shows: the take's, or as many of the rhythm's file, or of 4/4, as are asked for.
export function barLengths() {
  const { work, take } = store, own = view.hits ? [] : work.rhythm?.bars ?? [];
  return take && !view.hits ? take.bars : Array.from({ length: work.bars }, (_, bar) => own[bar] ?? own.at(-1) ?? BAR);
}

export function linesOf(lengths) {
  const lines = [0];
  for (const length of lengths) lines.push(lines.at(-1) + length);
  return lines;
}

// Taps come round again up to the last bar; a file is as long as it is.
export function rhythmHits(steps) {
  const { rhythm } = store.work;
  if (view.taps) return view.taps;
  if (!rhythm) return [];
  if (rhythm.data) return rhythm.hits.filter(([step]) => step < steps);
  const hits = [];
  for (let turn = 0; turn * rhythm.steps < steps; turn++) {
    for (const [step, ...rest] of rhythm.hits) {
      if (step + turn * rhythm.steps < steps) hits.push([step + turn * rhythm.steps, ...rest]);
    }
  }
  return hits;
}

let made = null, of = [];
export function piece() {
  const { work, take } = store;
  const now = [work, view.hits, view.taps];
  if (made && now.every((part, i) => part === of[i])) return made;
  of = now;
  const lines = linesOf(barLengths()), steps = lines.at(-1);
  made = { drums: view.hits ?? take?.hits ?? [], rhythm: rhythmHits(steps), lines, steps, tempo: work.tempo };
  return made;
}

// What each bar has: hits, mean velocity, hits of each voice.
export function got(hits, lines) {
  const bars = lines.slice(1).map(() => ({ hits: 0, velocity: 0, voices: Array(9).fill(0) }));
  let bar = 0;
  for (const [step, voice, velocity] of [...hits].sort((a, b) => a[0] - b[0])) {
    while (bar < bars.length - 1 && step >= lines[bar + 1]) bar++;
    const it = bars[bar];
    it.hits++;
    it.velocity += (velocity - it.velocity) / it.hits;
    it.voices[voice]++;
  }
  return bars;
}
