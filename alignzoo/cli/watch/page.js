// Asks every two seconds what the folder holds, and shows it. Whatever comes is put in as text, never as HTML.
"use strict";

const EVERY = 2000, SLOWLY = 10000; // milliseconds; slowly while nobody looks, and once all has ended
const SIZE = { width: 430, height: 210, left: 52, right: 12, top: 10, bottom: 24 };
const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);

let pinned = location.hash.slice(1); // the run whose link was clicked; else the page follows the one that runs
let state = { runs: [] }, curves = {}, details = null;
const last = {}; // what was answered last, by address: nothing is drawn anew that is the same

function make(tag, text = "", classes = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = classes;
  return made;
}

function draw(tag, attributes, parent) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  parent.append(made);
  return made;
}

const find = (test) => state.runs.findLast((run) => run.key && test(run));

function chosen() {
  return find((run) => run.key === pinned) || find((run) => run.state === "running") || find(() => true);
}

// The whole: a sentence, a bar, and what to know.

function showState() {
  const counts = state.counts.map(([name, count]) => `${count} ${name}`).join(", ");
  byId("what").textContent = `${state.kind} ${state.folder}`;
  const left = state.left ? `; about ${state.left} left` : "";
  const one = state.kind === "run" && state.runs[0] ? describeOne(state.runs[0]) : "";
  byId("answer").textContent = `${one || counts || "nothing yet"}${left}`;
  document.title = `${counts || "waiting"}: alignzoo watch`;
  showBar();
  const [said, ...notes] = state.answer;
  byId("notes").replaceChildren(make("p", said), ...[...notes, ...state.notes].map((note) => make("p", note, "note")));
  byId("runs").tBodies[0].replaceChildren(...listRows());
}

function describeOne(run) {
  return run.state === "running" ? `running: ${run.phase}${run.steps ? `, step ${run.step} of ${run.steps}` : ""}` : run.state;
}

// The pieces stay, so that their widths can change smoothly.
function showBar() {
  const counts = new Map(state.counts), bar = byId("bar");
  for (const name of ["done", "pruned", "failed", "stopped", "running", "pending"]) {
    const piece = bar.querySelector(`.${name}`) || bar.appendChild(make("i", "", name));
    piece.style.flexGrow = counts.get(name) || 0;
    piece.title = `${counts.get(name) || 0} ${name}`;
    piece.hidden = !counts.get(name);
  }
}

function listRows() {
  const rows = [];
  let part = "";
  for (const run of state.runs) {
    if (run.part !== part) rows.push(makePart((part = run.part)));
    rows.push(makeRow(run));
  }
  return rows;
}

function makePart(name) {
  const row = make("tr", "", "part");
  row.append(make("td", name));
  row.firstChild.colSpan = 7;
  return row;
}

function makeRow(run) {
  const row = make("tr", "", `${run.state}${run === chosen() ? " chosen" : ""}`);
  const tag = make("td");
  tag.append(make("span", run.state, `tag ${run.state}`));
  const numbers = (run.numbers || []).map(([name, value]) => `${name} ${value}`).join(", ");
  const time = [run.seconds, run.left && `${run.left} left`], memory = [run.memory, run.free && `${run.free} free`];
  const texts = [[run.objective], time, memory].map((parts) => make("td", parts.filter(Boolean).join(", ")));
  row.append(tag, makeName(run), makeSteps(run), make("td", numbers, "text"), ...texts);
  return row;
}

function makeName(run) {
  const cell = make("td", "", "text name"), name = make(run.key ? "a" : "span", run.name);
  if (run.key) name.href = `#${run.key}`;
  cell.append(make("span", "", `dot c${run.colour}`), name);
  if (run.detail) cell.append(make("span", run.detail, "why"));
  return cell;
}

function makeSteps(run) {
  const cell = make("td", "", "text");
  if (run.state === "running" && run.steps) {
    const bar = cell.appendChild(make("progress"));
    bar.max = run.steps;
    bar.value = run.step;
  }
  const steps = run.steps ? `${run.step}/${run.steps}` : run.step || "";
  cell.append(`${steps}${run.phase && run.phase !== "training" ? ` ${run.phase}` : ""}`);
  return cell;
}

// Curves: one plot for each headline number, a line for each run.

function showCurves() {
  const names = Object.keys(curves);
  byId("curves-section").hidden = !names.length;
  byId("curves").replaceChildren(...names.map((name) => makePlot(name, curves[name])));
}

function makePlot(name, lines) {
  const figure = make("figure", "", "card"), picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("viewBox", `0 0 ${SIZE.width} ${SIZE.height}`);
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", name);
  figure.append(make("h3", name), picture);
  const every = Object.values(lines).flat(), x = scale(every.map((p) => p[0]), SIZE.left, SIZE.width - SIZE.right);
  const y = scale(every.map((p) => p[1]), SIZE.height - SIZE.bottom, SIZE.top);
  drawAxes(picture, x, y);
  const front = chosen(), order = (run) => (run === front ? 1 : 0);
  const runs = state.runs.filter((run) => run.key in lines).sort((a, b) => order(a) - order(b));
  for (const run of runs) drawLine(picture, run, lines[run.key], x, y, run === front);
  return figure;
}

function scale(values, from, to) {
  const low = Math.min(...values), high = Math.max(...values), wide = high - low || Math.abs(high) || 1;
  const start = high === low ? low - wide / 2 : low;
  return { place: (value) => from + ((value - start) / wide) * (to - from), low: start, high: start + wide };
}

// A number beside which the others are a thousand times as large is none.
function round(value, { low, high }) {
  return Math.abs(value) < (high - low) / 1000 ? 0 : Number(value.toPrecision(3));
}

function drawAxes(picture, x, y) {
  for (const share of [0, 0.5, 1]) {
    const value = y.low + share * (y.high - y.low), at = y.place(value);
    draw("line", { class: "grid", x1: SIZE.left, x2: SIZE.width - SIZE.right, y1: at, y2: at }, picture);
    draw("text", { x: SIZE.left - 6, y: at + 4, "text-anchor": "end" }, picture).textContent = round(value, y);
  }
  for (const [value, anchor] of [[x.low, "start"], [x.high, "end"]]) {
    const text = draw("text", { x: x.place(value), y: SIZE.height - 6, "text-anchor": anchor }, picture);
    text.textContent = round(value, x);
  }
}

function drawLine(picture, run, points, x, y, isChosen) {
  const places = points.map(([step, value]) => `${x.place(step).toFixed(1)},${y.place(value).toFixed(1)}`);
  const classes = `c${run.colour}${isChosen ? " chosen" : ""}`, [cx, cy] = places.at(-1).split(",");
  const line = draw("polyline", { class: `line ${classes}`, points: places.join(" ") }, picture);
  draw("title", {}, line).textContent = `${run.name}: ${points.at(-1)[1]}`;
  draw("circle", { class: `point ${classes}`, cx, cy, r: 3 }, picture);
}

// One run: its answers, and its numbers.

function showDetails() {
  const run = chosen();
  byId("run").hidden = !run || !details;
  if (!run || !details) return;
  byId("run-name").textContent = details.answers.length ? `Answers of ${run.name}` : run.name;
  byId("follow").hidden = pinned !== run.key;
  byId("error").hidden = !details.error;
  byId("error").textContent = details.error;
  byId("answers").replaceChildren(...details.answers.map(makeAnswer));
  const versions = details.answers.flatMap((answer) => answer.versions);
  const steps = versions.flatMap((version) => [version.when, version.until]);
  byId("advice").hidden = !details.answers.length || steps.some((when) => when.startsWith("step"));
  byId("numbers-card").hidden = !details.numbers.length;
  byId("numbers").tBodies[0].replaceChildren(...details.numbers.map(makeNumbers));
}

function makeAnswer(answer) {
  const card = make("article", "", "card answers");
  card.append(make("h3", answer.prompt));
  for (const version of answer.versions) {
    const row = make("div", "", "version");
    row.append(make("span", version.until ? `${version.when} to ${version.until}` : version.when, "quiet"));
    row.append(make("p", `${version.text || "(empty)"}${version.cut ? " [cut off]" : ""}`));
    card.append(row);
  }
  return card;
}

function makeNumbers([label, before, after]) {
  const row = make("tr");
  row.append(make("td", label, "text"), make("td", before), make("td", after));
  return row;
}

// Asking.

async function ask(address, show) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(answer.status);
  const text = await answer.text();
  if (last[show.name] === address + text) return;
  last[show.name] = address + text;
  show(JSON.parse(text));
}

function takeState(found) {
  state = found;
  showState();
  showCurves();
}

function takeCurves(found) {
  curves = found;
  showCurves();
}

function takeDetails(found) {
  details = found;
  showDetails();
}

let timer = 0;

async function turn() {
  clearTimeout(timer);
  try {
    await ask("state", takeState);
    await ask("curves", takeCurves);
    if (chosen()) await ask(`run/${chosen().key}`, takeDetails);
    showDetails();
    byId("lost").hidden = true;
    byId("when").textContent = `as of ${new Date().toLocaleTimeString()}`;
  } catch {
    byId("lost").hidden = false;
  }
  clearTimeout(timer);
  timer = setTimeout(turn, document.hidden || state.is_over ? SLOWLY : EVERY);
}

addEventListener("hashchange", () => {
  pinned = location.hash.slice(1);
  showState();
  showCurves();
  turn();
});
document.addEventListener("visibilitychange", () => document.hidden || turn());
turn();
