// The browser half of unveil.show.widgets.FocalScrubber: views come once from the kernel, every picture is made here.

const PICTURES = [
  ["integral", "Integral (mean)"],
  ["median", "Median"],
  ["max", "Maximum"],
  ["std", "Standard deviation"],
  ["view", "Single view"],
  ["truth", "Ground truth"],
];
// A standard deviation of values in 0–255 is at most 127.5: twice its value fills the same fixed range.
const GAIN = { std: 2 };

/** RGBA of the gray levels 0…255 where `white` is the level shown as white. */
function grayScale(white) {
  const shown = (g) => Math.min(255, Math.round((g * 255) / white));
  return Uint32Array.from({ length: 256 }, (_, g) => 0xff000000 | (shown(g) * 0x10101));
}

/** unveil.aos.integrator in JavaScript: views registered on the plane of a height, row by row. */
class Registration {
  constructor(views, { white, count, rows, columns, origins, directions, slope, z }) {
    Object.assign(this, { views, count, rows, columns, origins, directions, slope, z });
    this.grays = grayScale(white);
    this.samples = new Float32Array(count * columns);
    this.counts = new Uint16Array(columns);
  }

  /** Choose views and plane; false where the target cannot see the plane. */
  focus(selected, height) {
    const distance = -height - this.z;
    const sign = Math.sign(distance);
    this.side = this.slope.map((s) => sign * s);
    this.maps = selected.map((v) => {
      const map = this.directions[v].map((d, i) => sign * (this.origins[v][(i / 3) | 0] * this.slope[i % 3] + distance * d));
      const near = (i, value) => Math.abs(map[i] / map[8] - value) < 1e-9;
      const shifts = map[8] > 0 && [1, 3, 6, 7].every((i) => near(i, 0)) && near(0, 1) && near(4, 1) && near(5, -0.5);
      return { view: v, map, shift: shifts ? map[2] / map[8] + 0.5 : null };
    });
    return sign !== 0;
  }

  /** Gather the views' samples for every step-th column of a row: those of column c from samples[c·count] on. */
  collect(row, first, end, step = 1) {
    this.counts.fill(0, first, end);
    for (const { view, map, shift } of this.maps) {
      if (shift === null) this.project(view, map, row, first, end, step);
      else this.shift(view, shift, row, first, end, step);
    }
  }

  shift(view, shift, row, first, end, step) {
    const { views, columns, samples, counts, count } = this;
    const line = (view * this.rows + row) * columns;
    const whole = Math.floor(shift);
    const right = shift - whole;
    const left = 1 - right;
    const start = first + Math.ceil(Math.max(0, -0.5 - shift - first) / step) * step;
    const stop = Math.min(end, Math.floor(columns - 0.5 - shift) + 1);
    for (let c = start; c < stop; c += step) {
      const x = c + whole;
      const a = views[line + (x < 0 ? 0 : x)];
      const b = views[line + (x + 1 < columns ? x + 1 : columns - 1)];
      samples[c * count + counts[c]++] = left * a + right * b;
    }
  }

  project(view, map, row, first, end, step) {
    const { views, rows, columns, samples, counts, count } = this;
    const [du, uy, u0, dv, vy, v0, dw, wy, w0] = map;
    const [df, fy, f0] = this.side;
    const base = view * rows * columns;
    const xMax = columns - 1;
    const yMax = rows - 1;
    const y0 = row + 0.5;
    const uRow = uy * y0 + u0;
    const vRow = vy * y0 + v0;
    const wRow = wy * y0 + w0;
    const fRow = fy * y0 + f0;
    for (let c = first; c < end; c += step) {
      const x0 = c + 0.5;
      const w = wRow + dw * x0;
      if (w <= 0 || fRow + df * x0 <= 0) continue;
      const near = 1 / w;
      const x = (uRow + du * x0) * near;
      const y = (vRow + dv * x0) * near;
      if (x >= 0 && x < xMax && y >= 0 && y < yMax) {
        const xi = x | 0;
        const yi = y | 0;
        const at = base + yi * columns + xi;
        const right = x - xi;
        const top = views[at] + right * (views[at + 1] - views[at]);
        const bottom = views[at + columns] + right * (views[at + columns + 1] - views[at + columns]);
        samples[c * count + counts[c]++] = top + (y - yi) * (bottom - top);
      } else if (x >= -0.5 && x <= xMax + 0.5 && y >= -0.5 && y <= yMax + 0.5) {
        samples[c * count + counts[c]++] = this.edge(base, x, y);
      }
    }
  }

  /** Bilinear sample with edge pixels clamped. */
  edge(base, x, y) {
    const { views, rows, columns } = this;
    x = Math.min(Math.max(x, 0), columns - 1);
    y = Math.min(Math.max(y, 0), rows - 1);
    const [xi, yi] = [Math.floor(x), Math.floor(y)];
    const at = base + yi * columns + xi;
    const step = xi < columns - 1 ? 1 : 0;
    const below = at + (yi < rows - 1 ? columns : 0);
    const top = views[at] + (x - xi) * (views[at + step] - views[at]);
    const bottom = views[below] + (x - xi) * (views[below + step] - views[below]);
    return top + (y - yi) * (bottom - top);
  }

  /** One statistic of the samples gathered for column c; 0 where there are none. */
  reduce(statistic, c) {
    const { samples, count } = this;
    const n = this.counts[c];
    if (n === 0) return 0;
    const start = c * count;
    const end = start + n;
    if (statistic === "max") {
      let most = 0;
      for (let i = start; i < end; i++) if (samples[i] > most) most = samples[i];
      return most;
    }
    if (statistic === "median") {
      for (let i = start + 1; i < end; i++) {
        const value = samples[i];
        let j = i - 1;
        for (; j >= start && samples[j] > value; j--) samples[j + 1] = samples[j];
        samples[j + 1] = value;
      }
      return (samples[start + ((n - 1) >> 1)] + samples[start + (n >> 1)]) / 2;
    }
    let sum = 0;
    for (let i = start; i < end; i++) sum += samples[i];
    const mean = sum / n;
    if (statistic !== "std") return mean;
    let squares = 0;
    for (let i = start; i < end; i++) squares += (samples[i] - mean) * (samples[i] - mean);
    return Math.sqrt(squares / n);
  }

  /**
   * Paint a statistic into RGBA pixels from row `first` until all rows are done or the time is up; returns the next row.
   * A draft computes every step-th row and column only, and repeats them. `coverage` counts pixels, views, the least.
   */
  paint(statistic, pixels, coverage, { first = 0, step = 1, until = Infinity } = {}) {
    const { rows, columns, counts } = this;
    const gain = GAIN[statistic] ?? 1;
    const grays = gain === 1 ? this.grays : grayScale(255);
    let views = 0;
    let r = first;
    for (; r < rows && performance.now() < until; r += step) {
      this.collect(r, 0, columns, step);
      for (let c = 0; c < columns; c += step) {
        const gray = gain * this.reduce(statistic, c) + 0.5;
        const colour = grays[gray > 255 ? 255 : gray | 0];
        for (let i = c; i < c + step && i < columns; i++) pixels[r * columns + i] = colour;
        views += counts[c];
        if (counts[c] < coverage.least) coverage.least = counts[c];
      }
      coverage.pixels += Math.ceil(columns / step);
      for (let i = 1; i < step && r + i < rows; i++) pixels.copyWithin((r + i) * columns, r * columns, (r + 1) * columns);
    }
    coverage.views += views;
    return r;
  }
}

function element(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "text", "polygon"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function slider(label, attributes) {
  const input = element("input", { type: "range", "aria-label": label, ...attributes });
  const output = element("output");
  return { input, output, row: element("label", { class: "unveil-slider" }, element("span", {}, label), input, output) };
}

/** The focus curve: a pixel's gray value over all heights, with the spread of the views behind it. */
function focusCurve(low, high) {
  const [width, height, left, bottom, top, right] = [340, 150, 34, 34, 8, 10];
  const x = (h) => left + ((h - low) / (high - low)) * (width - left - right);
  const y = (g) => height - bottom - (g / 255) * (height - bottom - top);
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "unveil-curve" });
  for (const g of [0, 128, 255]) {
    svg.append(element("line", { x1: left, x2: width - right, y1: y(g), y2: y(g), class: "grid" }));
    svg.append(element("text", { x: left - 5, y: y(g) + 4, "text-anchor": "end" }, String(g)));
  }
  for (let i = 0; i <= 3; i++) {
    const h = low + (i / 3) * (high - low);
    svg.append(element("text", { x: x(h), y: height - bottom + 14, "text-anchor": "middle" }, String(+h.toFixed(2))));
  }
  const axis = "focal height in metres";
  svg.append(element("text", { x: (left + width) / 2, y: height - 3, "text-anchor": "middle" }, axis));
  const band = element("polygon", { class: "band" });
  const line = element("path", { class: "mean" });
  const mark = element("line", { y1: top, y2: height - bottom, class: "mark" });
  svg.append(band, line, mark);
  return {
    svg,
    move(h) {
      mark.setAttribute("x1", x(h));
      mark.setAttribute("x2", x(h));
    },
    plot(points, label) {
      line.setAttribute("d", points.map((p, i) => `${i ? "L" : "M"}${x(p.height)} ${y(p.mean)}`).join(""));
      const upper = points.map((p) => `${x(p.height)},${y(Math.min(255, p.mean + p.std))}`);
      const lower = points.map((p) => `${x(p.height)},${y(Math.max(0, p.mean - p.std))}`).reverse();
      band.setAttribute("points", [...upper, ...lower].join(" "));
      svg.setAttribute("aria-label", label);
    },
  };
}

function render({ model, el }) {
  const geometry = model.get("geometry");
  const { rows, columns, count, apertures, low, high, step, names } = geometry;
  let registration = null;
  let truth = null;
  let due = 0;
  let refining = false;
  const cost = {};
  let curveFor = "";

  const canvas = element("canvas", { width: columns, height: rows, tabindex: 0, role: "application" });
  canvas.setAttribute("aria-label", `Picture of ${rows} × ${columns} pixels: click or use the arrow keys to move the pin`);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const image = context.createImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  const cross = element("div", { class: "unveil-pin", "aria-hidden": "true" });
  const height = slider("Focal height", { min: low, max: high, step });
  const aperture = slider("Synthetic aperture", { min: 0, max: apertures.length - 1, step: 1 });
  const view = slider("Single view", { min: 0, max: count - 1, step: 1 });
  const group = `unveil-${Math.random().toString(36).slice(2)}`;
  const radios = PICTURES.filter(([name]) => name !== "truth" || geometry.truth).map(([name, label]) => {
    const input = element("input", { type: "radio", name: group, value: name });
    input.addEventListener("change", () => put("picture", name));
    return { name, input, row: element("label", {}, input, label) };
  });
  const readout = element("p", { class: "unveil-readout", role: "status" }, "Waiting for the views from the kernel…");
  const curve = focusCurve(low, high);
  const pinned = element("p", { class: "unveil-readout" });
  el.classList.add("unveil-scrubber");
  // JupyterLab would take the arrow keys to move between cells.
  el.dataset.lmSuppressShortcuts = "true";
  el.append(
    element("div", { class: "unveil-picture" }, canvas, cross),
    element(
      "div",
      { class: "unveil-controls" },
      height.row,
      aperture.row,
      view.row,
      element("fieldset", {}, element("legend", {}, "Picture"), ...radios.map((radio) => radio.row)),
      readout,
      curve.svg,
      pinned,
    ),
  );

  function put(name, value) {
    model.set(name, value);
    schedule();
  }

  /** The gray levels of a picture that is none of the integrals. */
  function plain(picture, v) {
    if (picture === "truth") return truth;
    return picture === "view" ? registration.views.subarray(v * rows * columns, (v + 1) * rows * columns) : null;
  }

  function schedule() {
    if (refining) cancelAnimationFrame(due);
    if (refining || !due) due = requestAnimationFrame(draw);
    refining = false;
  }

  function draw() {
    due = 0;
    const [h, picture, v] = [model.get("height"), model.get("picture"), model.get("view")];
    const used = apertures[model.get("aperture")];
    height.input.value = h;
    aperture.input.value = model.get("aperture");
    view.input.value = v;
    height.output.value = `${h.toFixed(2)} m`;
    aperture.output.value = `${used.metres.toFixed(1)} m`;
    view.output.value = `view ${v}`;
    height.input.setAttribute("aria-valuetext", `${h.toFixed(2)} metres`);
    aperture.input.setAttribute("aria-valuetext", `${used.views.length} views, ${used.metres.toFixed(1)} metres`);
    view.input.setAttribute("aria-valuetext", names[v]);
    for (const radio of radios) radio.input.checked = radio.name === picture;
    if (!registration) return;

    const source = plain(picture, v);
    if (source) {
      for (let i = 0; i < source.length; i++) pixels[i] = registration.grays[source[i]];
      readout.textContent = picture === "truth" ? "Ground truth: the target camera's view without forest" : names[v];
      finish(used, true);
    } else {
      // A picture that would take longer than a frame is drafted coarsely, then refined from frame to frame.
      let step = 1;
      while (step < 4 && cost[picture] / step ** 2 > 20) step++;
      paint(used, { step });
    }
  }

  function paint(used, { first = 0, step = 1, until = Infinity, coverage = { pixels: 0, views: 0, least: Infinity } }) {
    const [h, picture] = [model.get("height"), model.get("picture")];
    const start = performance.now();
    registration.focus(used.views, h);
    const before = coverage.pixels;
    const next = registration.paint(picture, pixels, coverage, { first, step, until });
    const spent = performance.now() - start;
    cost[picture] = (spent / (coverage.pixels - before)) * rows * columns;
    if (first === 0) canvas.dataset.milliseconds = spent.toFixed(2);
    const behind = `${(coverage.views / coverage.pixels).toFixed(1)} of ${used.views.length} views behind a pixel on average`;
    const range = picture === "std" ? " · black 0, white 127.5 gray levels" : "";
    readout.textContent =
      `Height ${h.toFixed(2)} m · aperture ${used.metres.toFixed(1)} m · coverage ${behind}, ` +
      `${coverage.least} at least${range}`;
    const complete = step === 1 && next >= rows;
    finish(used, complete);
    if (complete) return;
    const [from, sum] = step > 1 ? [0, undefined] : [next, coverage];
    due = requestAnimationFrame(() => {
      due = 0;
      paint(used, { first: from, until: performance.now() + 20, coverage: sum });
    });
    refining = true;
  }

  function finish(used, complete) {
    const [h, picture, v] = [model.get("height"), model.get("picture"), model.get("view")];
    context.putImageData(image, 0, 0);
    canvas.dataset.drawn = JSON.stringify({ height: h, picture, view: v, views: used.views.length, complete });
    pin(h, used);
  }

  function pin(h, used) {
    const [row, column] = model.get("pin");
    cross.style.left = `${((column + 0.5) / columns) * 100}%`;
    cross.style.top = `${((row + 0.5) / rows) * 100}%`;
    const key = `${row},${column},${used.views.length}`;
    if (key !== curveFor) {
      curveFor = key;
      const points = [];
      for (let i = 0; i <= Math.round((high - low) / step); i++) {
        const point = { height: low + i * step };
        registration.focus(used.views, point.height);
        registration.collect(row, column, column + 1);
        if (registration.counts[column] === 0) continue;
        point.mean = registration.reduce("integral", column);
        point.std = registration.reduce("std", column);
        points.push(point);
      }
      curve.plot(points, `Gray value of pixel row ${row}, column ${column} from ${low} to ${high} metres`);
    }
    curve.move(h);
    const [picture, source] = [model.get("picture"), plain(model.get("picture"), model.get("view"))];
    registration.focus(used.views, h);
    registration.collect(row, column, column + 1);
    const gray = source ? source[row * columns + column] : registration.reduce(picture, column);
    pinned.textContent =
      `Pin at row ${row}, column ${column}: ${picture === "std" ? "standard deviation" : "gray"} ${gray.toFixed(1)}. ` +
      "Line: its mean over the views at every height; band: ± their standard deviation";
  }

  function movePin(row, column) {
    const within = (value, size) => Math.min(size - 1, Math.max(0, value));
    put("pin", [within(row, rows), within(column, columns)]);
  }

  height.input.addEventListener("input", () => {
    if (["view", "truth"].includes(model.get("picture"))) model.set("picture", "integral");
    put("height", Number(height.input.value));
  });
  aperture.input.addEventListener("input", () => {
    if (["view", "truth"].includes(model.get("picture"))) model.set("picture", "integral");
    put("aperture", Number(aperture.input.value));
  });
  view.input.addEventListener("input", () => {
    model.set("picture", "view");
    put("view", Number(view.input.value));
  });
  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect();
    const row = Math.floor(((event.clientY - box.top) / box.height) * rows);
    movePin(row, Math.floor(((event.clientX - box.left) / box.width) * columns));
  });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault();
    const [row, column] = model.get("pin");
    const far = event.shiftKey ? 10 : 1;
    movePin(row + far * move[0], column + far * move[1]);
  });
  el.addEventListener("keydown", (event) => event.stopPropagation());
  // The kernel hears of a change when it is complete, not of every step on the way.
  for (const name of ["change", "click", "keyup"]) el.addEventListener(name, () => model.save_changes());

  const changed = () => schedule();
  for (const name of ["height", "aperture", "view", "picture", "pin"]) model.on(`change:${name}`, changed);
  const received = (message, buffers) => {
    if (message.type !== "views" || registration) return;
    const [views, gray] = buffers.map((b) => new Uint8Array(b.buffer, b.byteOffset, b.byteLength));
    registration = new Registration(views, geometry);
    truth = gray;
    schedule();
  };
  model.on("msg:custom", received);
  model.send({ type: "views" });
  schedule();
  return () => {
    cancelAnimationFrame(due);
    for (const name of ["height", "aperture", "view", "picture", "pin"]) model.off(`change:${name}`, changed);
    model.off("msg:custom", received);
  };
}

export default { render };
