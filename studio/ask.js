// The panel of what is asked of all bars or of those that are chosen: voices, style, how the rhythm is followed, a
// song's sections, and every other flag of the command line that the server knows.

import { $, make, titled, words } from "./dom.js";
import { padded } from "./lanes.js";
import { barLengths } from "./piece.js";
import { ORDER } from "./roll.js";
import { store } from "./store.js";
import { view } from "./view.js";

// Flags that have a place of their own on the page.
const PLACED = new Set(`job voices_anew bars_anew strength lock track song voices forbid style bars seed follow rhythm_is
  num_samples best_of keep_tracks lead_in kit_out`.split(/\s+/));
let about = null;
const rows = [];

export function setUp(said) {
  about = said;
  for (const voice of ORDER) $("voices").append(rowOf(about.voices[voice]));
  $("styles-known").append(...about.styles.map((value) => make("option", { value })));
  $("style-all").onchange = () => {
    const value = $("style-all").value.trim() || null;
    store.change({ style: inChosen(store.work.style, value) });
  };
  $("bars").max = about.most_bars;
  $("bars").onchange = () => store.change({ bars: number("bars", 1, about.most_bars, 4), current: null });
  $("follow").oninput = () => {
    const at = Number($("follow").value);
    store.change({ follow: at ? (at - 1) / 10 : null }, "follow");
  };
  $("many").onchange = () => store.change({ many: number("many", 1, 16, 1) });
  $("best").onchange = () => store.change({ best: $("best").value && number("best", 1, 64, 1) });
  $("seed").onchange = () => store.change({ seed: $("seed").value.trim().replace(/\D/g, "") });
  $("clear-asks").onclick = () => store.change({ asked: {}, style: [], voices: {}, forbid: [], lock: [], follow: 1, more: {}, sections: [] });
  $("add-section").onclick = () => {
    const { sections } = store.work, name = ["verse", "chorus", "bridge", "outro"][sections.length % 4];
    store.change({ sections: [...sections, { name: `${name}${sections.length > 3 ? ` ${sections.length}` : ""}`, bars: 4, hits_per_bar: "", velocity: "", style: "", fill: "" }] });
  };
  const wishes = new Set(about.wishes.map(({ wish }) => wish));
  for (const flag of about.flags) if (!PLACED.has(flag.field) && !wishes.has(flag.field)) $("more").append(moreRow(flag));
}

function number(id, least, most, otherwise) {
  const value = Math.round(Number($(id).value));
  return Number.isFinite(value) ? Math.min(most, Math.max(least, value)) : otherwise;
}

// The values of a wish, with this one in the bars that are chosen.
function inChosen(values, value) {
  return padded(values, barLengths().length).map((old, bar) => (view.isChosen(bar) ? value : old));
}

function rowOf(name) {
  const slider = make("input", { type: "range", min: 0, max: 17, step: 1, value: 0, "aria-label": `${words(name)}: hits per bar` });
  const value = make("output");
  const flip = (key, other, label, text) => {
    const button = make("button", { class: "quiet flip", "aria-pressed": "false", title: label, "aria-label": `${words(name)}: ${label}` }, text);
    button.onclick = () => {
      const now = store.work[key], has = now.includes(name);
      const part = { [key]: has ? now.filter((one) => one !== name) : [...now, name] };
      if (!has) part[other] = store.work[other].filter((one) => one !== name);
      store.change(part);
    };
    return button;
  };
  const forbid = flip("forbid", "lock", "never sounds", "never"), lock = flip("lock", "forbid", "stays as it is in the take", "keep");
  slider.oninput = () => {
    const at = Number(slider.value);
    store.change({ voices: { ...store.work.voices, [name]: inChosen(store.work.voices[name], at ? at - 1 : null) } }, `voice ${name}`);
  };
  slider.onchange = () => store.settle();
  rows.push({ name, slider, value, forbid, lock });
  return make("div", { class: "voice" }, make("span", { class: "voice-name" }, titled(name)), slider, value, forbid, lock);
}

function moreRow(flag) {
  const id = `more-${flag.field}`;
  const input = flag.kind === "switch"
    ? make("input", { type: "checkbox", id, title: flag.help })
    : flag.field === "kit_in"
      ? make("select", { id, title: flag.help }, ...["", ...about.kits].map((value) => make("option", { value }, words(value || "any"))))
      : make("input", { type: "text", id, title: flag.help, placeholder: defaultOf(flag), autocomplete: "off" });
  input.onchange = () => {
    const value = flag.kind === "switch" ? input.checked : input.value.trim();
    store.change({ more: { ...store.work.more, [flag.field]: value } });
  };
  return make("div", { class: "more-row" }, make("label", { for: id }, titled(flag.field)), input, make("small", {}, flag.help));
}

const defaultOf = ({ default: usual }) => (usual === null || typeof usual === "object" ? "" : String(usual));

export function draw() {
  const { work } = store, bars = barLengths().length;
  for (const { name, slider, value, forbid, lock } of rows) {
    const there = padded(work.voices[name], bars).filter((_, bar) => view.isChosen(bar));
    const set = there.filter((one) => one !== null);
    const text = !set.length ? "any" : Math.min(...set) === Math.max(...set) && set.length === there.length ? `${set[0]}` : `${Math.min(...set)}–${Math.max(...set)}`;
    const never = work.forbid.includes(name);
    slider.value = set.length ? set[0] + 1 : 0;
    slider.disabled = never;
    slider.classList.toggle("unset", !set.length);
    slider.setAttribute("aria-valuetext", set.length ? `${text} hits per bar` : "left to the drummer");
    value.textContent = never ? "–" : text;
    value.classList.toggle("unset", !set.length);
    forbid.setAttribute("aria-pressed", never);
    lock.setAttribute("aria-pressed", work.lock.includes(name));
  }
  const styles = new Set(padded(work.style, bars).filter((_, bar) => view.isChosen(bar)));
  set("style-all", styles.size === 1 ? [...styles][0] ?? "" : "");
  $("style-all").placeholder = styles.size > 1 ? "several" : "any";
  set("bars", work.bars);
  set("many", work.many);
  set("best", work.best);
  set("seed", work.seed);
  $("follow").value = work.follow === null ? 0 : Math.round(work.follow * 10) + 1;
  const how = { 0: "loosely", 1: "hit by hit" }[work.follow] ?? (work.follow === null ? "not at all" : work.follow.toFixed(1));
  $("follow-said").textContent = how;
  $("follow").setAttribute("aria-valuetext", how);
  $("asked-of").classList.toggle("some", view.bars !== null);
  $("asked-of").textContent = view.bars ? `bars ${view.bars[0] + 1}–${view.bars[1] + 1}` : "all bars";
  for (const flag of about.flags) {
    const input = $(`more-${flag.field}`);
    if (!input) continue;
    if (flag.kind === "switch") input.checked = work.more[flag.field] === true;
    else set(input.id, work.more[flag.field] ?? "");
  }
  drawSections();
}

// A field that is being typed into is left alone.
function set(id, value) {
  if (document.activeElement !== $(id)) $(id).value = value;
}

function drawSections() {
  const { sections } = store.work, list = $("sections");
  $("song-said").textContent = sections.length ? `${sections.reduce((sum, { bars }) => sum + bars, 0)} bars` : "";
  if (list.contains(document.activeElement) && list.children.length === sections.length) return;
  list.replaceChildren(...sections.map((section, index) => {
    const edit = (key, value) => store.change({ sections: store.work.sections.map((one, i) => (i === index ? { ...one, [key]: value } : one)) });
    const field = (key, title, size, asNumber) => {
      const input = make("input", { value: section[key], title, "aria-label": `${title} of section ${index + 1}`, placeholder: title, size, inputmode: asNumber ? "numeric" : "text" });
      input.onchange = () => edit(key, asNumber && input.value.trim() !== "" ? Number(input.value) || 1 : input.value.trim());
      return input;
    };
    const away = make("button", { class: "quiet", "aria-label": `Remove section ${index + 1}` }, "×");
    away.onclick = () => store.change({ sections: store.work.sections.filter((_, i) => i !== index) });
    return make("div", { class: "section" }, field("name", "name", 7), field("bars", "bars", 3, true), field("hits_per_bar", "hits", 4), field("velocity", "velocity", 4), field("style", "style", 6), field("fill", "fill", 2, true), away);
  }));
}
