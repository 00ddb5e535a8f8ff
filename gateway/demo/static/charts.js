// Time charts on canvas: sharp on any screen, redrawn when a sample comes and not in between.

const WINDOW_S = 60;
const LABEL_FONT = '11px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif';

const colorSchemes = matchMedia("(prefers-color-scheme: dark)");
let palette = readPalette();
const redraws = new Set();

colorSchemes.addEventListener("change", () => {
  palette = readPalette();
  for (const redraw of redraws) redraw();
});

function readPalette() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    ink: read("ink"), muted: read("muted"), grid: read("grid"), panel: read("panel"),
    tide: read("tide"), sand: read("sand"), violet: read("violet"),
  };
}

// The drawing context in CSS pixels, cleared, with the backing store as sharp as the screen.
function prepare(canvas) {
  const { width, height } = canvas.getBoundingClientRect();
  const ratio = window.devicePixelRatio || 1;
  const backingWidth = Math.max(1, Math.round(width * ratio));
  const backingHeight = Math.max(1, Math.round(height * ratio));
  if (canvas.width !== backingWidth || canvas.height !== backingHeight) {
    canvas.width = backingWidth;
    canvas.height = backingHeight;
  }
  const context = canvas.getContext("2d");
  context.setTransform(backingWidth / width, 0, 0, backingHeight / height, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

function onResize(canvas, draw) {
  redraws.add(draw);
  new ResizeObserver(draw).observe(canvas);
}

// Runs of points without a missing number between them, so that a gap shows as a gap.
function runs(samples) {
  const found = [];
  let previous = null;
  for (const sample of samples) {
    if (previous === null || sample.n !== previous.n + 1) found.push([]);
    found[found.length - 1].push(sample);
    previous = sample;
  }
  return found;
}

function strokeRun(context, run, x, y) {
  context.beginPath();
  if (run.length === 1) context.moveTo(x(run[0]) - 1, y(run[0]));
  for (const sample of run) context.lineTo(x(sample), y(sample));
  context.stroke();
}

function fillRun(context, run, x, y, bottom) {
  context.beginPath();
  context.moveTo(x(run[0]), bottom);
  for (const sample of run) context.lineTo(x(sample), y(sample));
  context.lineTo(x(run[run.length - 1]), bottom);
  context.closePath();
  context.fill();
}

// options: {series: [{value, color, dash, fill}], top(samples) → number, label(value) → string, mark() → {value, text}}
export class TimeChart {
  #canvas; #options; #samples = []; #cursor = null;

  constructor(canvas, options) {
    this.#canvas = canvas;
    this.#options = options;
    onResize(canvas, () => this.#draw());
  }

  show(samples, cursor) {
    this.#samples = samples;
    this.#cursor = cursor;
    this.#draw();
  }

  // The sample nearest to a pointer, in the window that is drawn.
  sampleAt(clientX) {
    const samples = this.#samples;
    if (samples.length === 0) return null;
    const { left, width } = this.#canvas.getBoundingClientRect();
    const t = samples[samples.length - 1].t - WINDOW_S * (1 - (clientX - left) / width);
    let nearest = samples[0];
    for (const sample of samples) if (Math.abs(sample.t - t) < Math.abs(nearest.t - t)) nearest = sample;
    return nearest;
  }

  #draw() {
    const { context, width, height } = prepare(this.#canvas);
    const samples = this.#samples;
    const options = this.#options;
    const axis = 18;
    const headroom = 14;
    const bottom = height - axis;
    const newest = samples.length ? samples[samples.length - 1].t : 0;
    const visible = samples.filter((sample) => newest - sample.t <= WINDOW_S);
    const top = options.top(visible) || 1;
    const x = (sample) => width - 4 - (newest - sample.t) / WINDOW_S * (width - 4);
    const yOf = (value) => bottom - Math.min(1, value / top) * (bottom - headroom);

    context.font = LABEL_FONT;
    context.lineWidth = 1;
    context.strokeStyle = palette.grid;
    context.fillStyle = palette.muted;
    context.textBaseline = "alphabetic";
    for (const fraction of [0, 0.5, 1]) {
      const y = Math.round(yOf(top * fraction)) + 0.5;
      context.beginPath();
      context.moveTo(0, y);
      context.lineTo(width, y);
      context.stroke();
    }
    context.textAlign = "left";
    context.fillText("−60 s", 0, height - 4);
    context.textAlign = "center";
    context.fillText("−30 s", width / 2, height - 4);
    context.textAlign = "right";
    context.fillText("now", width, height - 4);

    const pieces = runs(visible);
    context.lineJoin = "round";
    context.lineCap = "round";
    for (const series of options.series) {
      const y = (sample) => yOf(series.value(sample));
      context.strokeStyle = context.fillStyle = palette[series.color];
      if (series.fill) {
        context.globalAlpha = 0.13;
        for (const run of pieces) fillRun(context, run, x, y, bottom);
        context.globalAlpha = 1;
      }
      context.lineWidth = series.dash ? 1.75 : 2;
      context.setLineDash(series.dash || []);
      for (const run of pieces) strokeRun(context, run, x, y);
      context.setLineDash([]);
      const shown = this.#cursor ?? visible[visible.length - 1];
      if (shown) {
        context.beginPath();
        context.arc(x(shown), y(shown), 3, 0, 2 * Math.PI);
        context.fill();
      }
    }

    // Labels last, with a halo of the panel's colour, so that no line runs through them.
    context.textAlign = "left";
    context.lineWidth = 3;
    context.strokeStyle = palette.panel;
    context.fillStyle = palette.muted;
    for (const fraction of [0.5, 1]) {
      const text = options.label(top * fraction);
      const y = Math.round(yOf(top * fraction)) - 3;
      context.strokeText(text, 0, y);
      context.fillText(text, 0, y);
    }
    const mark = options.mark?.();
    if (mark && mark.value <= top) {
      const y = Math.round(yOf(mark.value)) + 0.5;
      context.lineWidth = 1;
      context.strokeStyle = palette.muted;
      context.setLineDash([2, 4]);
      context.beginPath();
      context.moveTo(0, y);
      context.lineTo(width, y);
      context.stroke();
      context.setLineDash([]);
      context.textAlign = "right";
      context.lineWidth = 3;
      context.strokeStyle = palette.panel;
      context.strokeText(mark.text, width, y - 4);
      context.fillText(mark.text, width, y - 4);
    }
    if (this.#cursor) {
      const cursorX = Math.round(x(this.#cursor)) + 0.5;
      context.lineWidth = 1;
      context.strokeStyle = palette.ink;
      context.globalAlpha = 0.5;
      context.beginPath();
      context.moveTo(cursorX, headroom - 6);
      context.lineTo(cursorX, bottom);
      context.stroke();
      context.globalAlpha = 1;
    }
  }
}

// One small chart for each core, in a box of fixed size however many there are.
export class CoreCharts {
  #canvas; #samples = []; #cursor = null;

  constructor(canvas) {
    this.#canvas = canvas;
    onResize(canvas, () => this.#draw());
  }

  show(samples, cursor) {
    this.#samples = samples;
    this.#cursor = cursor;
    this.#draw();
  }

  #draw() {
    const { context, width, height } = prepare(this.#canvas);
    const samples = this.#samples;
    if (samples.length === 0) return;
    const newest = samples[samples.length - 1];
    const shown = this.#cursor ?? newest;
    const count = newest.cores.length;
    const gap = count > 32 ? 4 : 10;
    const { columns, rows } = grid(count, width, height);
    const cellWidth = (width - gap * (columns - 1)) / columns;
    const cellHeight = (height - gap * (rows - 1)) / rows;
    const labelled = cellHeight >= 32 && cellWidth >= 44;
    const visible = samples.filter((sample) => newest.t - sample.t <= WINDOW_S);
    const pieces = runs(visible);
    context.font = LABEL_FONT;
    context.lineJoin = "round";
    for (let core = 0; core < count; core += 1) {
      const left = (core % columns) * (cellWidth + gap);
      const topEdge = Math.floor(core / columns) * (cellHeight + gap);
      const plotTop = topEdge + (labelled ? 18 : 1);
      const bottom = topEdge + cellHeight - 1;
      const x = (sample) => left + cellWidth - (newest.t - sample.t) / WINDOW_S * cellWidth;
      const y = (sample) => bottom - Math.min(100, sample.cores[core] ?? 0) / 100 * (bottom - plotTop);
      if (labelled) {
        const pct = `${Math.round(shown.cores[core] ?? 0)} %`;
        context.fillStyle = palette.muted;
        context.textAlign = "left";
        context.fillText(cellWidth >= 84 ? `core ${core}` : `${core}`, left, topEdge + 12);
        context.fillStyle = palette.ink;
        context.textAlign = "right";
        context.fillText(pct, left + cellWidth, topEdge + 12);
      }
      context.strokeStyle = palette.grid;
      context.lineWidth = 1;
      for (const line of [plotTop, bottom]) {
        context.beginPath();
        context.moveTo(left, Math.round(line) + 0.5);
        context.lineTo(left + cellWidth, Math.round(line) + 0.5);
        context.stroke();
      }
      context.fillStyle = context.strokeStyle = palette.tide;
      context.globalAlpha = 0.16;
      for (const run of pieces) fillRun(context, run, x, y, bottom);
      context.globalAlpha = 1;
      context.lineWidth = 1.5;
      for (const run of pieces) strokeRun(context, run, x, y);
    }
  }
}

// The grid whose cells come nearest to three times as wide as high.
function grid(count, width, height) {
  let best = { columns: 1, rows: count, score: Infinity };
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const empty = columns * rows - count;
    const score = Math.abs(Math.log(width / columns / (height / rows) / 3)) + empty / count;
    if (score < best.score) best = { columns, rows, score };
  }
  return best;
}

// A bare line of numbers, oldest first.
export class Sparkline {
  #canvas; #values = [];

  constructor(canvas) {
    this.#canvas = canvas;
    onResize(canvas, () => this.#draw());
  }

  show(values) {
    this.#values = values;
    this.#draw();
  }

  #draw() {
    const { context, width, height } = prepare(this.#canvas);
    const bottom = height - 1.5;
    context.strokeStyle = palette.grid;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(0, Math.round(bottom) + 0.5);
    context.lineTo(width, Math.round(bottom) + 0.5);
    context.stroke();
    const values = this.#values;
    if (values.length === 0) return;
    const top = Math.max(...values) * 1.1;
    const step = width / 59;
    const points = values.map((value, index) => ({
      x: width - 3 - (values.length - 1 - index) * step,
      y: bottom - value / top * (bottom - 4),
    }));
    const x = (point) => point.x;
    const y = (point) => point.y;
    context.strokeStyle = context.fillStyle = palette.tide;
    context.globalAlpha = 0.13;
    fillRun(context, points, x, y, bottom);
    context.globalAlpha = 1;
    context.lineWidth = 2;
    context.lineJoin = "round";
    strokeRun(context, points, x, y);
    const last = points[points.length - 1];
    context.beginPath();
    context.arc(last.x, last.y, 3, 0, 2 * Math.PI);
    context.fill();
  }
}

// The smallest of 1, 2, 2.5, 5 × 10ⁿ that holds `value`.
export function niceCeiling(value) {
  if (!(value > 0)) return 1;
  const magnitude = 10 ** Math.floor(Math.log10(value));
  for (const factor of [1, 2, 2.5, 5, 10]) if (value <= factor * magnitude) return factor * magnitude;
  return 10 * magnitude;
}
