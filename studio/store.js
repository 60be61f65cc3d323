// The work: one value that is never changed in place, its past for undo, and a copy in the browser's database: each tab
// that is open has a place of its own there.

export const blank = () => ({
  tempo: 100,
  bars: 4,
  rhythm: null, // {name, hits, steps, is, told: what the file says it is} and, of a file, {bars, data, track, tracks, tempo}
  asked: {}, // wish -> one value or null per bar
  style: [], // one text or null per bar
  voices: {}, // name -> hits or null per bar
  forbid: [],
  lock: [],
  sections: [], // of a song: {name, bars, hits_per_bar, velocity, style, fill}
  follow: 1, // null: free
  more: {}, // other flags, as text
  kit: "",
  seed: "",
  many: 1,
  best: "", // as many as are usual
  strength: 0.4,
  again: 2, // bars to go on for
  keep: false,
  lead: false,
  takes: [], // {id, title, hits, steps, bars, seed, ...}
  current: null,
  next: 1,
});

const MOST_UNDO = 200;
let work = blank();
let past = [], future = [], merging = null, listeners = [];

export const store = {
  get work() { return work; },
  get take() { return work.takes.find((take) => take.id === work.current) ?? null; },
  canUndo: () => past.length > 0,
  canRedo: () => future.length > 0,
  listen(listener) { listeners.push(listener); },

  // Change some keys. Changes of one `merge` in a row are undone together.
  change(part, merge = null) {
    if (merge === null || merge !== merging) past = [...past, work].slice(-MOST_UNDO);
    merging = merge;
    future = [];
    set({ ...work, ...part });
  },
  settle() { merging = null; },
  editTake(hits, merge = null) {
    const takes = work.takes.map((take) => (take.id === work.current ? { ...take, hits, edited: true } : take));
    store.change({ takes }, merge);
  },
  undo() { step(past, future); },
  redo() { step(future, past); },
};

function step(from, to) {
  if (!from.length) return;
  to.push(work);
  merging = null;
  set(from.pop());
}

function set(value) {
  work = value;
  for (const listener of listeners) listener(work);
  save();
}

// ---- a reload

function database() {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open("drummer", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("work");
    opening.onsuccess = () => resolve(opening.result);
    opening.onerror = () => reject(opening.error);
  });
}

// The place of this tab: the one it had before a reload, or else the first that no other tab holds.
let place = null;
async function hold(number) {
  const name = `work ${number}`;
  return new Promise((resolve) => navigator.locks.request(name, { ifAvailable: true }, (lock) => {
    resolve(lock !== null);
    return lock && new Promise(() => {}); // until the tab is closed
  }));
}
async function findPlace() {
  const before = Number(sessionStorage.getItem("place"));
  place = before && (await hold(before)) ? before : 0;
  for (let number = 1; !place; number++) if (await hold(number)) place = number;
  sessionStorage.setItem("place", place);
  return place;
}
const key = () => (place === 1 ? "work" : `work ${place}`);

let saving = null;
function save() {
  clearTimeout(saving);
  saving = setTimeout(keep, 250);
}

async function keep() {
  saving = null;
  try {
    const opened = await database();
    opened.transaction("work", "readwrite").objectStore("work").put(work, key());
  } catch { /* a private window keeps nothing */ }
}
addEventListener("pagehide", () => saving && keep());

// Promises the number of this tab's place.
export async function restore() {
  await findPlace();
  try {
    const opened = await database();
    const kept = await new Promise((resolve, reject) => {
      const asking = opened.transaction("work").objectStore("work").get(key());
      asking.onsuccess = () => resolve(asking.result);
      asking.onerror = () => reject(asking.error);
    });
    if (kept) work = { ...blank(), ...kept };
  } catch { /* nor does it have anything */ }
  for (const listener of listeners) listener(work);
  return place;
}
