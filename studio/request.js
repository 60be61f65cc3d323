// The work as a message to the server.

import { padded } from "./lanes.js";
import { rhythmHits } from "./piece.js";
import { store } from "./store.js";

const isSet = (values) => values.some((value) => value !== null);

// The rhythm: a file as it came, or taps that come round again up to the last bar.
export function rhythmOf(steps) {
  const { rhythm, tempo } = store.work;
  if (!rhythm) return null;
  if (rhythm.data) return { name: rhythm.name, data: rhythm.data };
  return { name: rhythm.name, hits: rhythmHits(steps), steps, tempo };
}

// What is asked of so many bars, as fields of a request.
export function wishesOf(bars) {
  const { asked, style, voices, forbid } = store.work, fields = {};
  for (const [wish, values] of Object.entries(asked)) if (isSet(padded(values, bars))) fields[wish] = padded(values, bars);
  if (isSet(padded(style, bars))) fields.style = padded(style, bars);
  const hits = Object.entries(voices).map(([name, values]) => [name, padded(values, bars)]).filter(([, values]) => isSet(values));
  if (hits.length) fields.voices = Object.fromEntries(hits);
  if (forbid.length) fields.forbid = forbid;
  return fields;
}

export function dialsOf() {
  const { follow, more, rhythm, seed, many, best } = store.work, fields = {};
  if (follow !== 1) fields.follow = follow ?? "free";
  for (const [name, value] of Object.entries(more)) if (value !== "" && value !== false) fields[name] = value;
  if (rhythm && rhythm.is !== rhythm.told) fields.rhythm_is = rhythm.is;
  if (seed !== "") fields.seed = Number(seed);
  if (many > 1) fields.num_samples = many;
  if (best !== "") fields.best_of = best;
  return fields;
}

// A tempo is said where no file of the rhythm says it.
export function tempoOf() {
  const { rhythm, tempo } = store.work;
  if (!rhythm) return { tempo };
  return rhythm.data && rhythm.tempo !== tempo ? { tempo } : {};
}

export function trackOf() {
  const { rhythm } = store.work;
  return rhythm?.data && rhythm.track !== "" ? { track: rhythm.track } : {};
}

// The sections of a song, as a song file holds them.
export function songOf() {
  const sections = store.work.sections.map(({ name, bars, ...wishes }) => ({
    name, bars, ...Object.fromEntries(Object.entries(wishes).filter(([, value]) => value !== "" && value != null)),
  }));
  return { sections, ...(store.work.rhythm ? { rhythm: "loop" } : {}) };
}

// What a take needs to become a file. At another tempo than its own, the rhythm's file gives the meters alone.
export function fileOf(take, about) {
  const { rhythm, keep, lead, kit, tempo, more } = store.work, fields = {};
  for (const name of about.written) if (more[name]) fields[name] = more[name];
  if (kit) fields.kit_out = kit;
  if (lead) fields.lead_in = true;
  const file = rhythm?.data ? rhythmOf(take.steps) : null, own = file && rhythm.tempo === tempo;
  if (own && keep) fields.keep_tracks = true;
  if (!own) fields.tempo = tempo;
  return { drums: notesOf(take), ...(file ? { rhythm: file } : {}), fields };
}

export const nameOf = (take) => `take_${take.id}`;
export const notesOf = (take) => ({ name: nameOf(take), hits: take.hits, steps: take.steps });
