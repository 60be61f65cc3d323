// What is looked at and not part of the work: bars and voices that are chosen, where the cursor is, what is live.

const listeners = [];

export const view = {
  bars: null, // [first, last] that are chosen, or null: all
  voices: new Set(), // that are chosen; none: all
  cursor: null, // {step, voice} of the roll
  hits: null, // of a jam, in place of the take's
  playhead: null, // of a jam: () => where it is, in steps
  taps: null, // that are being recorded
  busy: false,
  show(part = {}) {
    Object.assign(view, part);
    listeners.forEach((listener) => listener());
  },
  listen: (listener) => listeners.push(listener),
  isChosen: (bar) => view.bars === null || (bar >= view.bars[0] && bar <= view.bars[1]),
};
