"use strict";
// Shared by all parts of the page: the data, elements, colours of lines, the rows that are drawn.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

// For lines and bars: told apart by people who see red and green alike, and dark enough on white, light enough on black.
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#b0559b", "#9a7d0a", "#2e9fd4", "#7a7a7a", "#c0392b"];
const DASHES = ["", "7 3", "2 3", "9 3 2 3"];

/** Makes an element; attributes that begin with "on" are listeners, children are elements or texts. */
function make(tag, attributes = {}, ...children) {
  const isSvg = ["svg", "path", "line", "circle", "text", "rect", "g", "title"].includes(tag);
  const element = isSvg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "style") for (const [name, text] of Object.entries(value)) element.style.setProperty(name, text);
    else if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const percent = (value, digits = 2) => (value === null || value === undefined ? "absent" : `${(100 * value).toFixed(digits)} %`);
const count = (value) => value.toLocaleString("en");
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

// The rows that are drawn, each with its place in the list of colours, which it keeps as long as it is drawn.
const drawn = new Map();
const watchers = [];

function draw(row, isDrawn) {
  if (!isDrawn) drawn.delete(row);
  else if (!drawn.has(row)) {
    const taken = new Set(drawn.values());
    let place = 0;
    while (taken.has(place)) place++;
    drawn.set(row, place);
  }
}

// Sets of evaluated images, that of most rows first: only within one can scores be compared.
const groups = [...new Set(data.rows.filter((row) => row.group).map((row) => row.group))];
groups.sort((a, b) => data.rows.filter((row) => row.group === b).length - data.rows.filter((row) => row.group === a).length);

function refresh() {
  watchers.forEach((watcher) => watcher());
}

/** Colour and dashes of a drawn row. */
function lineStyle(row) {
  const place = drawn.get(row) ?? 0;
  return { stroke: COLOURS[place % COLOURS.length], "stroke-dasharray": DASHES[Math.floor(place / COLOURS.length) % DASHES.length] };
}

const rowName = (row) => {
  const { run, own, split, mark } = data.rows[row];
  return `${data.runs[run].name}${own ? "" : ` on ${split}`}${mark ?? ""}`;
};

/** Names of rows, told apart by their protocol if a run has several. */
function rowTitle(row) {
  const { run, own, tag } = data.rows[row];
  return own ? rowName(row) : `${data.runs[run].name}: ${tag}`;
}

function fillSelect(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  if (chosen !== undefined && options.some(([value]) => String(value) === String(chosen))) select.value = chosen;
}

function showTip(text, x, y) {
  const tip = $("tip");
  tip.textContent = text;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 4))}px`;
  tip.style.top = `${Math.max(4, y + 18 + box.height > innerHeight ? y - box.height - 10 : y + 18)}px`;
}

function hideTip() {
  $("tip").hidden = true;
}

function lineSample(style) {
  return make("svg", { width: 28, height: 10, "aria-hidden": "true" }, make("line", { x1: 0, x2: 28, y1: 5, y2: 5, "stroke-width": 3, ...style }));
}

const swatch = (colour) => make("span", { class: "swatch", style: { background: `rgb(${colour.join(",")})` } });

/** Draws again when the width of an element changes. */
function onWidth(element, redraw) {
  let width = 0;
  new ResizeObserver(() => {
    if (Math.abs(element.clientWidth - width) > 1) {
      width = element.clientWidth;
      redraw();
    }
  }).observe(element);
}

/** Round numbers between two values, and how they are written; only whole ones for what is counted. */
function ticks(low, high, most, isWhole = false) {
  const raw = (high - low) / Math.max(1, most) || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= raw * 0.999 && (!isWhole || Number.isInteger(each))) ?? 1;
  const found = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-9; value += step) found.push(Math.abs(value) < step * 1e-9 ? 0 : value);
  return found;
}

function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const digit of [1, 2, 5]) found.push(digit * 10 ** power);
  }
  const inside = found.filter((each) => each >= low * 0.999 && each <= high * 1.001);
  return inside.length > 8 ? inside.filter((each) => /^1e|^10*$|^0\.0*1$/.test(String(each))) : inside;
}

const short = (value) => (Math.abs(value) >= 1e5 ? value.toExponential(0) : Math.abs(value) >= 1 || value === 0 ? String(Number(value.toFixed(2))) : String(Number(value.toPrecision(2))));

/** An empty plot with axes; returns the element and the functions that place values. */
function frame(element, { x, y, xTitle, yTitle, height, logX = false, logY = false, wholeX = false }) {
  const width = Math.max(280, element.clientWidth);
  const box = { left: 58, right: width - 14, top: 12, bottom: height - 44 };
  const scale = (low, high, from, to, isLog) => {
    const [a, b] = isLog ? [Math.log(low), Math.log(high)] : [low, high];
    return (value) => from + (((isLog ? Math.log(value) : value) - a) / (b - a || 1)) * (to - from);
  };
  const toX = scale(x[0], x[1], box.left, box.right, logX);
  const toY = scale(y[0], y[1], box.bottom, box.top, logY);
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": `${yTitle} by ${xTitle}` });
  for (const value of logY ? logTicks(...y) : ticks(y[0], y[1], Math.max(3, height / 60))) {
    svg.append(make("line", { class: "grid", x1: box.left, x2: box.right, y1: toY(value), y2: toY(value) }));
    svg.append(make("text", { x: box.left - 6, y: toY(value) + 4, "text-anchor": "end" }, short(value)));
  }
  for (const value of logX ? logTicks(...x) : ticks(x[0], x[1], Math.max(2, width / 110), wholeX)) {
    svg.append(make("line", { class: "grid", x1: toX(value), x2: toX(value), y1: box.top, y2: box.bottom }));
    svg.append(make("text", { x: toX(value), y: box.bottom + 16, "text-anchor": "middle" }, short(value)));
  }
  svg.append(make("text", { x: (box.left + box.right) / 2, y: height - 8, "text-anchor": "middle" }, xTitle));
  svg.append(make("text", { x: 13, y: (box.top + box.bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 13 ${(box.top + box.bottom) / 2})` }, yTitle));
  element.replaceChildren(svg);
  return { svg, toX, toY, box, width };
}
