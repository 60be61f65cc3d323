// What is asked of each bar, drawn: a lane for each wish, a slider in it for each bar. A bar that nobody touched is
// left to the drummer, and hatched. The thin line is what the take has.

import { $, clamp, make, titled } from "./dom.js";
import { barLengths, got, linesOf, piece } from "./piece.js";
import { stepWidth, totalWidth } from "./roll.js";
import { store } from "./store.js";

const LANES = { hits_per_bar: { title: "Hits", most: 40, from: 14 }, velocity: { title: "Velocity", most: 127, from: 70 } };
const SHOWN = ["hits_per_bar", "velocity"];

let lanes = [], styles = [], drawn = "";

export function setUp(about) {
  styles = about.styles;
  lanes = about.wishes.map(({ wish, least, most, unit }) => ({
    wish, least, unit, most, title: titled(wish), from: (least + most) / 2, step: most - least > 4 ? 1 : 0.01, ...LANES[wish], shown: SHOWN.includes(wish),
  }));
  for (const lane of lanes) {
    if (SHOWN.includes(lane.wish)) continue;
    const flip = make("button", { class: "chip", "aria-pressed": "false", title: `${lane.title}: ${lane.unit}` }, lane.title);
    flip.onclick = () => {
      lane.shown = !lane.shown;
      flip.setAttribute("aria-pressed", lane.shown);
      drawn = "";
      draw();
    };
    $("lane-chips").append(flip);
  }
}

export const askedOf = (wish, bars) => padded(store.work.asked[wish], bars);
export const padded = (values, bars) => Array.from({ length: bars }, (_, bar) => values?.[bar] ?? null);

export function draw() {
  const lengths = barLengths(), wide = stepWidth();
  const shape = JSON.stringify([lengths, lanes.map((lane) => lane.shown)]);
  if (shape !== drawn) build(lengths);
  drawn = shape;
  const lines = linesOf(lengths), has = got(piece().drums, lines), { work } = store;
  $("lanes").style.width = `${totalWidth()}px`;
  for (const lane of lanes.filter((one) => one.shown)) {
    const values = askedOf(lane.wish, lengths.length);
    lane.cells.forEach((cell, bar) => {
      const value = values[bar], there = { hits_per_bar: has[bar].hits, velocity: has[bar].velocity }[lane.wish];
      cell.style.width = `${lengths[bar] * wide}px`;
      cell.classList.toggle("unset", value === null);
      cell.style.setProperty("--share", value === null ? 0 : clamp((value - lane.least) / (lane.most - lane.least), 0, 1));
      cell.classList.toggle("no-take", !piece().drums.length || there === undefined);
      cell.style.setProperty("--got", clamp((there ?? 0) / lane.most, 0, 1));
      cell.firstChild.textContent = value === null ? "" : shown(lane, value);
      const said = value === null ? "left to the drummer" : shown(lane, value);
      const also = piece().drums.length && there !== undefined ? `, the take has ${Math.round(there)}` : "";
      cell.setAttribute("aria-valuenow", value ?? lane.least);
      cell.setAttribute("aria-valuetext", said + also);
      cell.title = `Bar ${bar + 1}: ${said}${also}`;
    });
  }
  const chosen = padded(work.style, lengths.length);
  [...$("lane-style").children].forEach((select, bar) => {
    select.style.width = `${lengths[bar] * wide}px`;
    const value = chosen[bar] ?? "";
    if (value && ![...select.options].some((option) => option.value === value)) select.append(make("option", { value }, value));
    select.value = value;
    select.classList.toggle("unset", !value);
  });
}

function build(lengths) {
  $("lanes").replaceChildren();
  $("lane-heads").replaceChildren();
  for (const lane of lanes.filter((one) => one.shown)) {
    lane.cells = lengths.map((_, bar) => cellOf(lane, bar));
    const row = make("div", { class: "lane", role: "group", "aria-label": `${lane.title} asked per bar`, id: `lane-${lane.wish}` }, ...lane.cells);
    row.addEventListener("pointerdown", (event) => drawOn(lane, row, event));
    row.addEventListener("contextmenu", (event) => event.preventDefault());
    $("lanes").append(row);
    const clear = make("button", { class: "quiet", title: `Leave ${lane.title.toLowerCase()} to the drummer`, "aria-label": `Clear ${lane.title}` }, "×");
    clear.onclick = () => store.change({ asked: { ...store.work.asked, [lane.wish]: [] } });
    $("lane-heads").append(make("div", { class: "lane-head" }, make("span", {}, lane.title), clear));
  }
  const row = make("div", { class: "lane styles", id: "lane-style", role: "group", "aria-label": "Style per bar" });
  lengths.forEach((_, bar) => {
    const options = [make("option", { value: "" }, "any"), ...styles.map((style) => make("option", {}, style))];
    const select = make("select", { "aria-label": `Style of bar ${bar + 1}` }, ...options);
    select.onchange = () => {
      const style = padded(store.work.style, lengths.length);
      style[bar] = select.value || null;
      store.change({ style });
    };
    row.append(select);
  });
  $("lanes").append(row);
  $("lane-heads").append(make("div", { class: "lane-head styles" }, make("span", {}, "Style")));
}

const toStep = (lane, value) => Number((Math.round(value / lane.step) * lane.step).toFixed(2));
const shown = (lane, value) => String(toStep(lane, value));

function cellOf(lane, bar) {
  const cell = make("div", {
    class: "cell", role: "slider", tabindex: bar ? -1 : 0, "aria-label": `${lane.title}, bar ${bar + 1}`,
    "aria-valuemin": lane.least, "aria-valuemax": lane.most,
  }, make("span"));
  cell.addEventListener("keydown", (event) => {
    const now = askedOf(lane.wish, barLengths().length)[bar], { step } = lane, big = toStep(lane, (lane.most - lane.least) / 10);
    const by = { ArrowUp: step, ArrowDown: -step, PageUp: big, PageDown: -big }[event.key];
    const to = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) set(lane, bar, clamp(toStep(lane, (now ?? lane.from) + (now === null ? 0 : by)), lane.least, lane.most), "keys");
    else if (event.key === "Delete" || event.key === "Backspace") set(lane, bar, null);
    else if (to && lane.cells[bar + to]) {
      cell.tabIndex = -1;
      lane.cells[bar + to].tabIndex = 0;
      lane.cells[bar + to].focus();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
  return cell;
}

function set(lane, bar, value, merge = null) {
  const values = askedOf(lane.wish, barLengths().length);
  if (values[bar] === value) return;
  values[bar] = value;
  store.change({ asked: { ...store.work.asked, [lane.wish]: values } }, merge);
}

// A stroke over the lane sets the bars that it crosses; with the right button it leaves them to the drummer.
function drawOn(lane, row, event) {
  event.preventDefault();
  row.setPointerCapture(event.pointerId);
  const merge = `draw ${performance.now()}`, erase = event.button === 2;
  const stroke = ({ clientX, clientY }) => {
    const box = row.getBoundingClientRect(), lines = linesOf(barLengths());
    const step = (clientX - box.left) / stepWidth(), bar = clamp(lines.findIndex((line) => line > step) - 1, 0, lane.cells.length - 1);
    const share = clamp(1 - (clientY - box.top - 3) / (box.height - 6), 0, 1);
    set(lane, bar, erase ? null : toStep(lane, lane.least + share * (lane.most - lane.least)), merge);
  };
  stroke(event);
  row.onpointermove = stroke;
  row.onpointerup = row.onpointercancel = () => {
    row.onpointermove = null;
    store.settle();
  };
}
