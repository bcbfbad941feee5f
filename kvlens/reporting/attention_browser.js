// The attention browser: attention on single texts, before and after re-routing.
//
// One ES module without library, network or eval. It draws into the element that it is given and
// touches nothing outside it: the report inlines it, a notebook widget (anywidget) loads it as it
// is. What it draws is packed by attention_browser.py; `BrowserText` there says what a field holds.

const INK = "#1b1f24";
const FAINT = "#6b7480";
const LOCAL = "#0072B2";
const CHANGED = "#D55E00";
const FONT = 'system-ui, "DejaVu Sans", sans-serif';
const QUARTER_TURN = -Math.PI / 2;
const PREFIX = -1; // the column of the final token's key, before the keys 0, 1, ...
const PREFIX_WIDTH = 1.2; // in cells
const CAPTION_WITH = "After: the prefix (final token's key and value) as its own column";
const CAPTION_WITHOUT = "After, without the prefix's column: a query's weights sum to 1 − β";
const BAR_STEPS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5];

const STYLE = `
.attention-browser { position: relative; color: ${INK}; font: 15px/1.5 ${FONT}; background: #fff;
  overflow-wrap: anywhere; }
.attention-browser .controls { display: flex; flex-wrap: wrap; gap: .6rem 1.2rem;
  padding: .7rem .9rem; background: #f4f6f8; border: 1px solid #d5dae0; }
.attention-browser label { display: flex; flex-direction: column; max-width: 100%;
  font-size: .8rem; font-weight: 600; }
.attention-browser label[hidden] { display: none; }
.attention-browser input { width: 1.1rem; height: 1.1rem; margin: .35rem 0; }
.attention-browser select { max-width: 100%; padding: .25rem .4rem; color: ${INK};
  font: inherit; font-weight: 400; background: #fff; }
.attention-browser select:focus-visible, .attention-browser input:focus-visible {
  outline: 3px solid ${CHANGED}; outline-offset: 2px; }
.attention-browser canvas:focus-visible { outline: 3px solid ${CHANGED}; outline-offset: -3px; }
.attention-browser p { max-width: 82ch; margin: .5rem 0; }
.attention-browser .faint, .attention-browser figcaption { color: #59626d; }
.attention-browser figcaption { font-size: .87rem; }
.attention-browser figure { max-width: 100%; min-width: 0; margin: .5rem 0; }
.attention-browser .words { max-width: none; padding: .4rem .7rem; white-space: pre-wrap;
  background: #f4f6f8; }
.attention-browser .prompt { color: ${FAINT}; }
.attention-browser .own { font-weight: 600; }
.attention-browser .maps { display: flex; flex-wrap: wrap; align-items: flex-start;
  gap: 1rem 2rem; }
.attention-browser .wide { overflow-x: auto; }
.attention-browser canvas { display: block; cursor: crosshair; }
.attention-browser .scale { margin: .3rem 0 .6rem; cursor: default; }
.attention-browser .swatch { display: inline-block; width: .8em; height: .8em; border: 2px solid;
  vertical-align: -.08em; }
.attention-browser .tip { position: fixed; z-index: 9; max-width: min(26rem, 92vw);
  padding: .35rem .6rem; color: #fff; font-size: .82rem; white-space: pre-wrap; background: ${INK};
  border-radius: 3px; pointer-events: none; }
@media print { .attention-browser .controls { display: none; } }
`;

const MARKUP = `
<div class="controls">
  <label>Text <select data-part="text"></select></label>
  <label>Layer <select data-part="layer"></select></label>
  <label>Head <select data-part="head"></select></label>
  <label>Effect <select data-part="effect">
    <option value="local">local (inputs unchanged)</option>
    <option value="propagated">propagated (layers below re-routed too)</option>
  </select></label>
  <label>Prefix column <input type="checkbox" data-part="column" checked></label>
</div>
<p class="words" data-part="words"></p>
<p class="faint" data-part="note"></p>
<p role="status" data-part="summary"></p>
<div class="maps" data-part="maps">
  <figure>
    <figcaption>Before: queries downwards, keys to the right</figcaption>
    <div class="wide"><canvas tabindex="0" role="img" data-part="before"></canvas></div>
  </figure>
  <figure>
    <figcaption data-part="caption"></figcaption>
    <div class="wide"><canvas tabindex="0" role="img" data-part="after"></canvas></div>
  </figure>
</div>
<canvas class="scale" role="img" data-part="scale"
  aria-label="colour scale of attention weights, 0 to 1, square root"></canvas>
<p class="faint">Point at a cell, or focus a map and use the arrow keys. Grey words are the
prompt's. White: keys that a causal model cannot see.</p>
<figure>
  <figcaption>β, the prefix's weight, by query token:
    <span class="swatch" style="color: ${LOCAL}; background: ${LOCAL}"></span> local
    <span class="swatch" style="color: ${CHANGED}"></span> propagated; same layer and head
  </figcaption>
  <div class="wide"><canvas tabindex="0" role="img" data-part="strip"></canvas></div>
</figure>
<div class="tip" role="status" data-part="tip" hidden></div>
`;

// ---- numbers

// Weights are packed as 16-bit square roots, w = (q / 65535)^2: good to 0.00002.
function decodeWeights(packed) {
  const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
  const roots = new Uint16Array(bytes.buffer);
  return Float64Array.from(roots, (root) => (root / 65535) ** 2);
}

// Each array holds a row for each layer and head: of squares, the lower triangle line by line.
function decodeText(text) {
  const weights = {};
  for (const name of ["before", "after", "prefix", "beta"]) {
    weights[name] = decodeWeights(text[name]);
  }
  const averaged = text.local !== null;
  weights.local = averaged ? decodeWeights(text.local) : localAfter(weights, text.labels.length);
  return weights;
}

// The uptake identity, exact token by token; averages over bins of tokens come packed.
function localAfter({ before, beta }, size) {
  const after = Float64Array.from(before);
  let cell = 0;
  beta.forEach((uptake, row) => {
    const query = row % size;
    for (let key = 0; key <= query; key++) {
      after[cell] *= 1 - uptake;
      cell += 1;
    }
  });
  return after;
}

function meanOfRows(values, rows, length) {
  const mean = new Float64Array(length);
  for (const row of rows) {
    for (let i = 0; i < length; i++) mean[i] += values[row * length + i] / rows.length;
  }
  return mean;
}

// What the selectors ask for: the weights before and after, and the prefix's of both effects.
function selectWeights(text, weights, { layer, head, effect }) {
  const size = text.labels.length;
  const heads = head === "mean" ? [...Array(text.heads).keys()] : [Number(head)];
  const rows = heads.map((each) => Number(layer) * text.heads + each);
  const square = (values) => meanOfRows(values, rows, cellIndex(size, 0));
  const column = (values) => meanOfRows(values, rows, size);
  const local = column(weights.beta);
  const propagated = column(weights.prefix);
  return {
    text,
    size,
    effect,
    before: square(weights.before),
    after: square(effect === "local" ? weights.local : weights.after),
    local,
    propagated,
    beta: effect === "local" ? local : propagated,
  };
}

function cellIndex(query, key) {
  return (query * (query + 1)) / 2 + key;
}

// A weight -> its colour: square roots, else the sink at position 0 alone would show.
function colourScale(hexes) {
  const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  const stops = hexes.map(channels);
  return (weight) => {
    const position = Math.sqrt(Math.min(Math.max(weight, 0), 1)) * (stops.length - 1);
    const low = Math.floor(position);
    const high = stops[Math.min(low + 1, stops.length - 1)];
    const mix = (from, to) => Math.round(from + (position - low) * (to - from));
    return `rgb(${stops[low].map((channel, i) => mix(channel, high[i])).join()})`;
  };
}

// ---- drawing

// The context of an emptied canvas of so many CSS pixels, sharp on dense screens.
function emptied(canvas, width, height) {
  const density = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * density);
  canvas.height = Math.round(height * density);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(density, density);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  return context;
}

function fill(context, colour, x, y, width, height) {
  context.fillStyle = colour;
  context.fillRect(x, y, width, height);
}

function outline(context, colour, lineWidth, [x, y, width, height]) {
  context.strokeStyle = colour;
  context.lineWidth = lineWidth;
  context.strokeRect(x, y, width, height);
}

function write(context, text, x, y, looks = {}) {
  const { size = 11, align = "left", turn = 0, ink = INK, weight = "" } = looks;
  context.save();
  context.translate(x, y);
  context.rotate(turn);
  context.fillStyle = ink;
  context.textAlign = align;
  context.textBaseline = "middle";
  context.font = `${weight} ${size}px ${FONT}`;
  context.fillText(text, 0, 0);
  context.restore();
}

function widest(context, texts) {
  context.font = `11px ${FONT}`;
  return Math.ceil(Math.max(...texts.map((text) => context.measureText(text).width)));
}

// Where the cells of a map are, in CSS pixels; column PREFIX, if it is shown, comes before a gap.
class Grid {
  constructor(context, labels, room, hasColumn) {
    this.count = labels.length;
    this.firstKey = hasColumn ? PREFIX : 0;
    this.left = 14 + widest(context, labels);
    this.top = 18 + widest(context, hasColumn ? [...labels, "no prefix"] : labels);
    const fitting = Math.floor((room - this.left - 8) / (this.count + 3));
    this.size = Math.max(9, Math.min(24, fitting));
    this.gap = hasColumn ? 2 * this.size : 0;
    this.font = Math.max(8, Math.min(11, this.size - 1));
    this.width = this.left + this.gap + this.count * this.size + 6;
    this.height = this.top + this.count * this.size + 6;
  }

  cell(query, key) {
    const y = this.top + query * this.size;
    if (key === PREFIX) return [this.left, y, PREFIX_WIDTH * this.size, this.size];
    return [this.left + this.gap + key * this.size, y, this.size, this.size];
  }

  cellAt(x, y) {
    const query = Math.floor((y - this.top) / this.size);
    if (query < 0 || query >= this.count) return null;
    const inColumn = x >= this.left && x < this.left + PREFIX_WIDTH * this.size;
    if (inColumn && this.firstKey === PREFIX) return [query, PREFIX];
    const key = Math.floor((x - this.left - this.gap) / this.size);
    return key >= 0 && key <= query ? [query, key] : null;
  }
}

function drawLabels(context, grid, text, pointed) {
  const [pointedQuery, pointedKey] = pointed || [null, null];
  text.labels.forEach((label, i) => {
    const middle = (i + 0.5) * grid.size;
    const ink = text.own[i] ? INK : FAINT;
    const looks = (bold) => ({ ink, size: grid.font, weight: bold ? "bold" : "" });
    const rowLooks = { ...looks(pointedQuery === i), align: "right" };
    const columnLooks = { ...looks(pointedKey === i), turn: QUARTER_TURN };
    write(context, label, grid.left - 5, grid.top + middle, rowLooks);
    write(context, label, grid.left + grid.gap + middle, grid.top - 5, columnLooks);
  });
}

function drawPrefix(context, grid, colour, prefix) {
  const [x, y, width] = grid.cell(0, PREFIX);
  const height = grid.count * grid.size;
  const looks = { turn: QUARTER_TURN, ink: CHANGED, weight: "bold", size: grid.font };
  write(context, prefix ? "PREFIX" : "no prefix", x + width / 2, y - 5, looks);
  (prefix || []).forEach((weight, query) => {
    fill(context, colour(weight), ...grid.cell(query, PREFIX));
  });
  context.setLineDash(prefix ? [] : [3, 3]);
  outline(context, CHANGED, 1.5, [x - 0.5, y - 0.5, width + 1, height + 1]);
  context.setLineDash([]);
}

// One map: a square of weights, the prefix's column (or null), and the cell that is pointed at.
function drawMap(canvas, grid, colour, { text, weights, prefix, pointed }) {
  const context = emptied(canvas, grid.width, grid.height);
  drawLabels(context, grid, text, pointed);
  for (let query = 0; query < grid.count; query++) {
    for (let key = 0; key <= query; key++) {
      fill(context, colour(weights[cellIndex(query, key)]), ...grid.cell(query, key));
    }
  }
  if (grid.firstKey === PREFIX) drawPrefix(context, grid, colour, prefix);
  if (pointed) {
    outline(context, "#fff", 3, grid.cell(...pointed));
    outline(context, CHANGED, 1.5, grid.cell(...pointed));
  }
  Object.assign(canvas.dataset, {
    left: grid.left,
    top: grid.top,
    size: grid.size,
    gap: grid.gap,
  });
}

// Where the bars of the strip are, and what its scale ends at.
class Strip {
  constructor(shown, room) {
    this.count = shown.size;
    this.left = 56;
    this.top = 18;
    this.height = 130;
    this.size = Math.max(10, Math.min(36, (room - this.left - 10) / this.count));
    this.most = Strip.most(shown);
    this.step = BAR_STEPS.find((step) => this.most / step <= 5) || 0.5;
  }

  // The scale is that of the text's own tokens: a taller bar of the prompt is cut and numbered.
  static most({ text, local, propagated }) {
    const all = [...local.keys()];
    const own = all.filter((i) => text.own[i]);
    const counted = own.length ? own : all;
    return 1.15 * Math.max(1e-6, ...counted.map((i) => Math.max(local[i], propagated[i])));
  }

  x(query) {
    return this.left + query * this.size;
  }

  y(beta) {
    return this.top + this.height * (1 - Math.min(beta, this.most) / this.most);
  }

  bar(query) {
    return [this.x(query), this.top, this.size, this.height];
  }

  cellAt(x) {
    const query = Math.floor((x - this.left) / this.size);
    return query >= 0 && query < this.count ? [0, query] : null;
  }
}

function drawStripGround(context, strip, { text }, pointed) {
  text.own.forEach((own, query) => {
    const plain = own ? "#fff" : "#f4f5f6";
    const colour = pointed && pointed[1] === query ? "#e4e7eb" : plain;
    fill(context, colour, ...strip.bar(query));
  });
  for (let beta = 0; beta <= strip.most; beta += strip.step) {
    const y = strip.y(beta);
    fill(context, "#dde1e5", strip.left, y, strip.count * strip.size, 1);
    const looks = { align: "right", ink: "#555" };
    write(context, String(Number(beta.toFixed(3))), strip.left - 5, y, looks);
  }
  write(context, "β", 8, strip.top + strip.height / 2, { weight: "bold" });
}

function drawBars(context, strip, { text, local, propagated, beta }, query) {
  const x = strip.x(query);
  const width = 0.36 * strip.size;
  const foot = strip.top + strip.height;
  const [localTop, propagatedTop] = [strip.y(local[query]), strip.y(propagated[query])];
  fill(context, LOCAL, x + 0.12 * strip.size, localTop, width, foot - localTop);
  const bar = [x + 0.54 * strip.size, propagatedTop, width, foot - propagatedTop];
  outline(context, CHANGED, 1.5, bar);
  if (Math.max(local[query], propagated[query]) > strip.most) {
    const number = `↑${beta[query].toFixed(2).replace("0.", ".")}`;
    write(context, number, x + strip.size / 2, strip.top - 7, { align: "center", size: 9 });
  }
  const ink = text.own[query] ? INK : FAINT;
  const looks = { turn: QUARTER_TURN, align: "right", ink, size: Math.min(11, strip.size - 1) };
  write(context, text.labels[query], x + strip.size / 2, foot + 5, looks);
}

function drawStrip(canvas, strip, labelRoom, shown, pointed) {
  const width = strip.left + strip.count * strip.size + 6;
  const context = emptied(canvas, width, strip.top + strip.height + labelRoom);
  drawStripGround(context, strip, shown, pointed);
  for (let query = 0; query < strip.count; query++) drawBars(context, strip, shown, query);
  Object.assign(canvas.dataset, { left: strip.left, size: strip.size });
}

function drawScale(canvas, colour) {
  const context = emptied(canvas, 330, 46);
  for (let x = 0; x < 280; x++) fill(context, colour((x / 279) ** 2), 20 + x, 4, 1, 14);
  for (const weight of [0, 0.01, 0.05, 0.1, 0.25, 0.5, 1]) {
    const x = 20 + 280 * Math.sqrt(weight);
    fill(context, INK, Math.min(x, 299), 18, 1, 4);
    write(context, String(weight), x, 29, { align: "center" });
  }
  const looks = { align: "center", size: 10, ink: "#555" };
  write(context, "attention weight, square-root colours", 160, 41, looks);
}

// ---- words

function token(text, i) {
  return `${text.places[i]} “${text.tokens[i]}”`;
}

function mapWords({ text, effect, before, after, beta }, [query, key]) {
  const uptake = beta[query].toFixed(4);
  if (key === PREFIX) {
    const head = `query ${token(text, query)} → PREFIX`;
    return [head, "before 0 (there is none)", `after ${uptake} = β`];
  }
  const [was, is] = [before, after].map((weights) => weights[cellIndex(query, key)]);
  const change = `${is < was ? "−" : "+"}${Math.abs(is - was).toFixed(4)}`;
  return [
    `query ${token(text, query)} → key ${token(text, key)}`,
    `before ${was.toFixed(4)}`,
    `after ${is.toFixed(4)} (${change})`,
    `β of this query ${uptake} (${effect})`,
  ];
}

function stripWords({ text, local, propagated }, [, query]) {
  return [
    `query ${token(text, query)}`,
    `β local ${local[query].toFixed(4)}`,
    `β propagated ${propagated[query].toFixed(4)}`,
  ];
}

function summary({ text, size, effect, beta }, { layer, head }) {
  const mean = beta.reduce((sum, value) => sum + value, 0) / size;
  const which = head === "mean" ? `mean over ${text.heads} heads` : `head ${head}`;
  const where = `Layer ${text.layers[Number(layer)]}, ${which}, ${effect} effect`;
  return `${where}: mean β over this text ${mean.toFixed(3)}.`;
}

// ---- the page's element

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

// Pointer and arrow keys move over the cells [row, column] of a canvas.
// cellAt: a place -> its cell or null; boxOf: a cell -> its place; next: a cell and a step -> the
// cell after it; show: draws a cell and tells it at a place of the window.
function followCells(canvas, { cellAt, boxOf, next, show }) {
  let cell = null;
  const move = (target, x, y) => {
    cell = target;
    show(cell, x, y);
  };
  const point = (event) => {
    move(cellAt(event.offsetX, event.offsetY), event.clientX, event.clientY);
  };
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("pointerleave", () => move(null, 0, 0));
  canvas.addEventListener("blur", () => move(null, 0, 0));
  canvas.addEventListener("keydown", (event) => {
    const step = ARROWS[event.key];
    if (!step) return;
    event.preventDefault();
    const target = next(cell || [0, 0], step);
    const [x, y, width, height] = boxOf(target);
    const corner = canvas.getBoundingClientRect();
    move(target, corner.left + x + width / 2, corner.top + y + height / 2);
  });
}

function clampTo(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

// Options [value, name]; what was chosen stays chosen where it is still there.
function fillSelect(select, options) {
  const chosen = select.value;
  select.replaceChildren(...options.map(([value, name]) => new Option(name, value)));
  if (options.some(([value]) => String(value) === chosen)) select.value = chosen;
}

function elementWith(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

class Browser {
  constructor(root, data) {
    this.data = data;
    this.colour = colourScale(data.colours);
    this.decoded = new Map();
    this.frame = elementWith("div", { className: "attention-browser", innerHTML: MARKUP });
    this.frame.prepend(elementWith("style", { textContent: STYLE }));
    const parts = [...this.frame.querySelectorAll("[data-part]")];
    this.parts = Object.fromEntries(parts.map((part) => [part.dataset.part, part]));
    root.replaceChildren(this.frame);
    this.listen();
    fillSelect(this.parts.text, data.texts.map((text, i) => [i, text.name]));
    this.parts.text.parentElement.hidden = data.texts.length === 1;
    drawScale(this.parts.scale, this.colour);
    this.fillChoices();
    for (const [name, value] of Object.entries(data.start ?? {})) this.parts[name].value = value;
    this.refresh();
  }

  listen() {
    const { text, layer, head, effect, column, before, after, strip } = this.parts;
    text.addEventListener("change", () => this.fillChoices());
    for (const control of [text, layer, head, effect, column]) {
      control.addEventListener("change", () => this.refresh());
    }
    this.followMap(before, () => 0);
    this.followMap(after, () => this.grid.firstKey);
    followCells(strip, {
      cellAt: (x) => this.strip.cellAt(x),
      boxOf: ([, query]) => this.strip.bar(query),
      next: ([, query], [, right]) => [0, clampTo(query + right, 0, this.shown.size - 1)],
      show: (cell, x, y) => this.pointAtStrip(cell, x, y),
    });
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.frame);
  }

  followMap(canvas, firstKey) {
    followCells(canvas, {
      cellAt: (x, y) => this.grid.cellAt(x, y),
      boxOf: ([query, key]) => this.grid.cell(query, key),
      next: ([query, key], [down, right]) => {
        const nextQuery = clampTo(query + down, 0, this.shown.size - 1);
        return [nextQuery, clampTo(key + right, firstKey(), nextQuery)];
      },
      show: (cell, x, y) => this.pointAtMap(cell, x, y),
    });
  }

  get room() {
    return this.parts.maps.clientWidth;
  }

  get text() {
    return this.data.texts[Number(this.parts.text.value)];
  }

  get selection() {
    const { layer, head, effect } = this.parts;
    return { layer: layer.value, head: head.value, effect: effect.value };
  }

  weights(text) {
    if (!this.decoded.has(text)) this.decoded.set(text, decodeText(text));
    return this.decoded.get(text);
  }

  fillChoices() {
    const { layers, heads } = this.text;
    const single = [...Array(heads).keys()].map((head) => [head, `head ${head}`]);
    fillSelect(this.parts.layer, layers.map((layer, i) => [i, `layer ${layer}`]));
    fillSelect(this.parts.head, [["mean", `mean over ${heads} heads`], ...single]);
  }

  refresh() {
    this.shown = selectWeights(this.text, this.weights(this.text), this.selection);
    this.writeWords();
    this.place();
    this.drawMaps(null);
    this.drawStrip(null);
  }

  writeWords() {
    const { text } = this.shown;
    const spans = text.tokens.map((token, i) => {
      const className = text.own[i] ? "own" : "prompt";
      return elementWith("span", { textContent: token, className });
    });
    const line = summary(this.shown, this.selection);
    this.parts.words.replaceChildren(...spans);
    this.parts.note.textContent = text.note;
    this.parts.summary.textContent = line;
    this.parts.caption.textContent = this.parts.column.checked ? CAPTION_WITH : CAPTION_WITHOUT;
    for (const name of ["before", "after", "strip"]) {
      this.parts[name].setAttribute("aria-label", `${name}: ${line}`);
    }
  }

  // Two maps side by side where there is room for them.
  place() {
    const room = Math.min(this.room, 1180);
    const roomOfOne = room > 760 ? room / 2 - 16 : room;
    const context = this.parts.before.getContext("2d");
    this.drawnFor = this.room;
    this.grid = new Grid(context, this.shown.text.labels, roomOfOne, this.parts.column.checked);
    this.strip = new Strip(this.shown, this.room);
  }

  resize() {
    if (this.room === this.drawnFor) return;
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.refresh(), 80);
  }

  drawMaps(pointed) {
    const { text, before, after, beta } = this.shown;
    const { grid, colour, parts } = this;
    drawMap(parts.before, grid, colour, { text, weights: before, prefix: null, pointed });
    drawMap(parts.after, grid, colour, { text, weights: after, prefix: beta, pointed });
  }

  drawStrip(pointed) {
    drawStrip(this.parts.strip, this.strip, this.grid.left, this.shown, pointed);
  }

  pointAtMap(cell, x, y) {
    this.drawMaps(cell);
    this.showTip(cell ? mapWords(this.shown, cell) : [], x, y);
  }

  pointAtStrip(cell, x, y) {
    this.drawStrip(cell);
    this.showTip(cell ? stripWords(this.shown, cell) : [], x, y);
  }

  // Near the pointer, inside the window; plain text only.
  showTip(lines, x, y) {
    const { tip } = this.parts;
    tip.replaceChildren(...lines.map((line) => elementWith("div", { textContent: line })));
    tip.hidden = !lines.length;
    const left = clampTo(x + 14, 4, Math.max(4, window.innerWidth - tip.offsetWidth - 8));
    const fitsBelow = y + 18 + tip.offsetHeight <= window.innerHeight;
    const top = fitsBelow ? y + 18 : Math.max(4, y - tip.offsetHeight - 12);
    this.placeTip(left, top);
  }

  // In the window, even where an element around is moved, as JupyterLab's cells are: then "fixed"
  // counts from that element.
  placeTip(left, top) {
    const { tip } = this.parts;
    tip.style.left = `${left}px`;
    tip.style.top = `${top}px`;
    const corner = tip.getBoundingClientRect();
    tip.style.left = `${2 * left - corner.left}px`;
    tip.style.top = `${2 * top - corner.top}px`;
  }

  remove() {
    clearTimeout(this.waiting);
    this.observer.disconnect();
    this.frame.remove();
  }
}

// Draw `data` ({ texts, colours, start }, at least one text) into an element; returns what removes
// it. `start`, if it is there, has the values that selectors begin with.
export function attentionBrowser(root, data) {
  const browser = new Browser(root, data);
  return () => browser.remove();
}

// What anywidget calls; the model holds `data`.
export default {
  render({ model, el }) {
    return attentionBrowser(el, model.get("data"));
  },
};
