// The attention browser and the similarity maps of `kvlens report`. No library, no network.
"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const INK = "#1b1f24", FAINT = "#6b7480", LOCAL = "#0072B2", CHANGED = "#D55E00";
const STOPS = DATA.colours.map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));

function colour(share) {  // share of the colour bar, 0 to 1
  const at = Math.min(Math.max(share, 0), 1) * (STOPS.length - 1), low = Math.floor(at);
  const high = STOPS[Math.min(low + 1, STOPS.length - 1)];
  return `rgb(${STOPS[low].map((c, i) => Math.round(c + (at - low) * (high[i] - c))).join()})`;
}

// Weights are stored as 16-bit square roots: w = (q / 65535)^2, good to 0.00002.
const weights = (text) => Float64Array.from(
  new Uint16Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer), (q) => (q / 65535) ** 2);

function canvas(id, width, height) {  // cleared, sharp on dense screens
  const c = $(id), dense = window.devicePixelRatio || 1;
  c.width = Math.round(width * dense); c.height = Math.round(height * dense);
  c.style.width = `${width}px`; c.style.height = `${height}px`;
  const g = c.getContext("2d");
  g.scale(dense, dense);
  g.fillStyle = "#fff"; g.fillRect(0, 0, width, height);
  return g;
}

function words(g, text, x, y, { size = 11, align = "left", turn = 0, ink = INK, weight = "" } = {}) {
  g.save();
  g.translate(x, y); g.rotate(turn);
  g.fillStyle = ink; g.textAlign = align; g.textBaseline = "middle";
  g.font = `${weight} ${size}px system-ui, "DejaVu Sans", sans-serif`;
  g.fillText(text, 0, 0);
  g.restore();
}

function tip(lines, x, y) {  // near the pointer, inside the window; plain text only
  const box = $("tip");
  box.replaceChildren(...lines.map((line) => Object.assign(document.createElement("div"), { textContent: line })));
  box.hidden = !lines.length;
  const [w, h] = [box.offsetWidth, box.offsetHeight];
  box.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - w - 8))}px`;
  box.style.top = `${y + 18 + h > innerHeight ? Math.max(4, y - h - 12) : y + 18}px`;
}

function watch(id, find, draw, size) {  // pointer and arrow keys -> cell [row, column] -> picture and tip
  const c = $(id);
  let cell = null;
  const show = (next, x, y) => { cell = next; const lines = draw(cell); tip(lines || [], x, y); };
  c.addEventListener("pointermove", (e) => show(find(e.offsetX, e.offsetY), e.clientX, e.clientY));
  c.addEventListener("pointerdown", (e) => show(find(e.offsetX, e.offsetY), e.clientX, e.clientY));
  for (const gone of ["pointerleave", "blur"]) c.addEventListener(gone, () => show(null, 0, 0));
  c.addEventListener("keydown", (e) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[e.key];
    if (!step) return;
    e.preventDefault();
    const limits = size(cell || [0, 0]), box = c.getBoundingClientRect();
    const next = (cell || [0, 0]).map((v, i) => Math.min(Math.max(v + step[i], limits[i][0]), limits[i][1]));
    show(next, box.left + 40, box.top + 40);
  });
}

// ---- the attention browser -----------------------------------------------------------------------------------
const decoded = new Map();
function arrays(text) {
  if (!decoded.has(text)) {
    const names = ["before", "after", "prefix", "beta", "local"].filter((name) => text[name]);
    decoded.set(text, Object.fromEntries(names.map((name) => [name, weights(text[name])])));
  }
  return decoded.get(text);
}

// What the selectors ask for: lower triangles before and after, and the prefix's weight by query, of both effects.
function selected() {
  const text = DATA.texts[$("text").value], a = arrays(text), m = text.labels.length, all = (m * (m + 1)) / 2;
  const heads = $("head").value === "mean" ? [...Array(text.heads).keys()] : [Number($("head").value)];
  const s = { text, m, effect: $("effect").value, before: new Float64Array(all), after: new Float64Array(all) };
  s.local = new Float64Array(m); s.propagated = new Float64Array(m);
  for (const head of heads) {
    const at = Number($("layer").value) * text.heads + head, share = 1 / heads.length;
    for (let i = 0, k = 0; i < m; i++) {
      const beta = a.beta[at * m + i];
      s.local[i] += share * beta;
      s.propagated[i] += share * a.prefix[at * m + i];
      for (let j = 0; j <= i; j++, k++) {
        const before = a.before[at * all + k];
        s.before[k] += share * before;
        // Local: the uptake identity, exact token by token; averages over bins of tokens are stored.
        const local = a.local ? a.local[at * all + k] : (1 - beta) * before;
        s.after[k] += share * (s.effect === "local" ? local : a.after[at * all + k]);
      }
    }
  }
  s.beta = s[s.effect];
  return s;
}

let state = null, grid = null;  // grid: left, top, size of a cell, gap between prefix and first key

function measureGrid() {
  const g = $("before").getContext("2d"), m = state.m;
  const room = Math.min($("maps").clientWidth, 1180);
  const each = room > 760 ? room / 2 - 16 : room;
  g.font = "11px system-ui, sans-serif";
  const left = 14 + Math.ceil(Math.max(...state.text.labels.map((t) => g.measureText(t).width)));
  const size = Math.max(9, Math.min(24, Math.floor((each - left - 8) / (m + 3))));
  grid = { left, top: left + 4, size, gap: 2 * size, font: Math.max(8, Math.min(11, size - 1)) };
  for (const id of ["before", "after"]) Object.assign($(id).dataset, { left, top: grid.top, size, gap: grid.gap });
}

function drawMap(id, values, prefix, cell) {
  const { left, top, size, gap, font } = grid, m = state.m, x0 = left + gap;
  const g = canvas(id, x0 + m * size + 6, top + m * size + 6);
  const ink = (i) => (state.text.own[i] ? INK : FAINT);
  for (let i = 0, k = 0; i < m; i++) {
    const hot = { weight: cell && cell[0] === i ? "bold" : "", size: font };
    words(g, state.text.labels[i], left - 5, top + (i + 0.5) * size, { align: "right", ink: ink(i), ...hot });
    hot.weight = cell && cell[1] === i ? "bold" : "";
    words(g, state.text.labels[i], x0 + (i + 0.5) * size, top - 5, { turn: -Math.PI / 2, ink: ink(i), ...hot });
    for (let j = 0; j <= i; j++, k++) {
      g.fillStyle = colour(Math.sqrt(values[k]));
      g.fillRect(x0 + j * size, top + i * size, size, size);
    }
    if (prefix) {
      g.fillStyle = colour(Math.sqrt(prefix[i]));
      g.fillRect(left, top + i * size, 1.2 * size, size);
    }
  }
  g.strokeStyle = CHANGED; g.lineWidth = 1.5;
  if (!prefix) g.setLineDash([3, 3]);
  g.strokeRect(left - 0.5, top - 0.5, 1.2 * size + 1, m * size + 1);
  g.setLineDash([]);
  const name = prefix ? "PREFIX" : "no prefix";
  words(g, name, left + 0.6 * size, top - 5, { turn: -Math.PI / 2, ink: CHANGED, weight: "bold", size: font });
  if (!cell) return;
  g.strokeStyle = "#fff"; g.lineWidth = 3;
  const x = cell[1] < 0 ? left : x0 + cell[1] * size;
  for (const _ of [0, 1]) {
    g.strokeRect(x, top + cell[0] * size, cell[1] < 0 ? 1.2 * size : size, size);
    g.strokeStyle = CHANGED; g.lineWidth = 1.5;
  }
}

const told = (i) => `${state.text.places[i]} “${state.text.tokens[i]}”`;
function drawMaps(cell = null) {
  drawMap("before", state.before, null, cell);
  drawMap("after", state.after, state.beta, cell);
  if (!cell) return [];
  const [i, j] = cell, beta = `β of this query ${state.beta[i].toFixed(4)} (${state.effect})`;
  if (j < 0) return [`query ${told(i)} → PREFIX`, "before 0 (there is none)", `after ${state.beta[i].toFixed(4)} = β`];
  const [b, a] = [state.before, state.after].map((values) => values[(i * (i + 1)) / 2 + j]);
  const lines = [`query ${told(i)} → key ${told(j)}`, `before ${b.toFixed(4)}`];
  return [...lines, `after ${a.toFixed(4)} (${a < b ? "−" : "+"}${Math.abs(a - b).toFixed(4)})`, beta];
}

function cellAt(x, y) {
  const { left, top, size, gap } = grid, i = Math.floor((y - top) / size), column = Math.floor((x - left - gap) / size);
  const j = x >= left && x < left + 1.2 * size ? -1 : column;
  return i >= 0 && i < state.m && j >= -1 && j <= i && (j >= 0 || x < left + 1.2 * size) ? [i, j] : null;
}

let strip = null;
function drawStrip(cell = null) {
  const m = state.m, left = 56, top = 18, high = 130, foot = grid.left;
  const size = Math.max(10, Math.min(36, ($("maps").clientWidth - left - 10) / m));
  const g = canvas("strip", left + m * size + 6, top + high + foot);
  // The scale is that of the text's own tokens: a taller bar of the prompt (position 0) is cut and numbered.
  const counted = [...state.local.keys()].filter((i) => state.text.own[i]);
  const most = 1.15 * Math.max(1e-6, ...(counted.length ? counted : [...state.local.keys()]).map((i) => (
    Math.max(state.local[i], state.propagated[i]))));
  const step = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5].find((s) => most / s <= 5) || 0.5;
  const y = (beta) => top + high * (1 - beta / most);
  strip = { left, size };
  Object.assign($("strip").dataset, { left, size });
  for (let i = 0; i < m; i++) {
    g.fillStyle = cell && cell[1] === i ? "#e4e7eb" : state.text.own[i] ? "#fff" : "#f4f5f6";
    g.fillRect(left + i * size, top, size, high);
  }
  for (let v = 0; v <= most; v += step) {
    g.fillStyle = "#dde1e5"; g.fillRect(left, y(v), m * size, 1);
    words(g, String(Number(v.toFixed(3))), left - 5, y(v), { align: "right", ink: "#555" });
  }
  words(g, "β", 8, top + high / 2, { weight: "bold" });
  for (let i = 0; i < m; i++) {
    const x = left + i * size, wide = 0.36 * size;
    const [a, b] = [state.local, state.propagated].map((beta) => Math.min(beta[i], most));
    g.fillStyle = LOCAL; g.fillRect(x + 0.12 * size, y(a), wide, high * a / most);
    g.strokeStyle = CHANGED; g.lineWidth = 1.5;
    g.strokeRect(x + 0.54 * size, y(b), wide, high * b / most);
    if (Math.max(state.local[i], state.propagated[i]) > most) {
      words(g, `↑${state.beta[i].toFixed(2).replace("0.", ".")}`, x + size / 2, top - 7, { align: "center", size: 9 });
    }
    const looks = { turn: -Math.PI / 2, align: "right", ink: state.text.own[i] ? INK : FAINT };
    words(g, state.text.labels[i], x + size / 2, top + high + 5, { ...looks, size: Math.min(11, size - 1) });
  }
  if (!cell) return [];
  const values = ["local", "propagated"].map((kind) => `β ${kind} ${state[kind][cell[1]].toFixed(4)}`);
  return [`query ${told(cell[1])}`, ...values];
}

function drawScale() {
  const g = canvas("scale", 330, 46);
  for (let x = 0; x < 280; x++) { g.fillStyle = colour(x / 279); g.fillRect(20 + x, 4, 1, 14); }
  for (const w of [0, 0.01, 0.05, 0.1, 0.25, 0.5, 1]) {
    const x = 20 + 280 * Math.sqrt(w);
    g.fillStyle = INK; g.fillRect(Math.min(x, 299), 18, 1, 4);
    words(g, String(w), x, 29, { align: "center" });
  }
  words(g, "attention weight, square-root colours", 160, 41, { align: "center", size: 10, ink: "#555" });
}

function refresh() {
  state = selected();
  const { text } = state, head = $("head").value;
  $("shown").replaceChildren(...text.tokens.flatMap((token, i) => (
    Object.assign(document.createElement("span"), { textContent: token, className: text.own[i] ? "own" : "prompt" }))));
  $("binned").textContent = text.note;
  measureGrid(); drawMaps(); drawStrip();
  const mean = state.beta.reduce((a, b) => a + b, 0) / state.m, layer = text.layers[Number($("layer").value)];
  const which = head === "mean" ? `mean over ${text.heads} heads` : `head ${head}`;
  $("now").textContent = `Layer ${layer}, ${which}, ${state.effect} effect: mean β over this text ${mean.toFixed(3)}.`;
  for (const id of ["before", "after", "strip"]) $(id).setAttribute("aria-label", `${id}: ${$("now").textContent}`);
}

function fill(id, names) {
  const kept = $(id).value;
  $(id).replaceChildren(...names.map(([value, name]) => new Option(name, value)));
  if (names.some(([value]) => String(value) === kept)) $(id).value = kept;
}

function chooseText() {
  const text = DATA.texts[$("text").value];
  fill("layer", text.layers.map((layer, i) => [i, `layer ${layer}`]));
  fill("head", [["mean", `mean over ${text.heads} heads`], ...[...Array(text.heads).keys()].map((h) => [h, `head ${h}`])]);
  refresh();
}

if (DATA.texts.length) {
  fill("text", DATA.texts.map((text, i) => [i, text.name]));
  $("text").addEventListener("change", chooseText);
  for (const id of ["layer", "head", "effect"]) $(id).addEventListener("change", refresh);
  drawScale(); chooseText();
  for (const id of ["before", "after"]) {
    watch(id, cellAt, drawMaps, ([i]) => [[0, state.m - 1], [id === "after" ? -1 : 0, Math.min(i + 1, state.m - 1)]]);
  }
  const column = (x) => Math.floor((x - strip.left) / strip.size);
  watch("strip", (x) => (column(x) >= 0 && column(x) < state.m ? [0, column(x)] : null), drawStrip,
    () => [[0, 0], [0, state.m - 1]]);
  let wait = 0;
  window.addEventListener("resize", () => { clearTimeout(wait); wait = setTimeout(refresh, 80); });
}
