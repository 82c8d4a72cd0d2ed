// The browser half of unveil.show.widgets.FocalScrubber; registration.js stands before it and makes the pictures.

const PICTURES = [
  ["integral", "Integral (mean)"],
  ["median", "Median"],
  ["max", "Maximum"],
  ["min", "Minimum"],
  ["std", "Standard deviation"],
  ["view", "Single view"],
  ["truth", "Ground truth"],
];

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
  const text = (at, line, anchor, words) => element("text", { x: at, y: line, "text-anchor": anchor }, words);
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "unveil-curve" });
  for (const g of [0, 128, 255]) {
    const grid = { x1: left, x2: width - right, y1: y(g), y2: y(g), class: "grid" };
    svg.append(element("line", grid), text(left - 5, y(g) + 4, "end", String(g)));
  }
  for (const h of [0, 1, 2, 3].map((i) => low + (i / 3) * (high - low)))
    svg.append(text(x(h), height - bottom + 14, "middle", String(+h.toFixed(2))));
  svg.append(text((left + width) / 2, height - 3, "middle", "focal height in metres (dashed: best focus)"));
  const band = element("polygon", { class: "band" });
  const line = element("path", { class: "mean" });
  const [best, mark] = ["best", "mark"].map((name) => element("line", { y1: top, y2: height - bottom, class: name }));
  svg.append(band, line, best, mark);
  const put = (node, h) => ["x1", "x2"].forEach((name) => node.setAttribute(name, x(h)));
  const plot = (points, label) => {
    line.setAttribute("d", points.map((p, i) => `${i ? "L" : "M"}${x(p.height)} ${y(p.mean)}`).join(""));
    const upper = points.map((p) => `${x(p.height)},${y(Math.min(255, p.mean + p.std))}`);
    const lower = points.map((p) => `${x(p.height)},${y(Math.max(0, p.mean - p.std))}`).reverse();
    band.setAttribute("points", [...upper, ...lower].join(" "));
    if (points.length) put(best, points.reduce((a, b) => (b.std < a.std ? b : a)).height);
    svg.setAttribute("aria-label", label);
  };
  return { svg, move: (h) => put(mark, h), plot };
}

function render({ model, el }) {
  const geometry = model.get("geometry");
  const { rows, columns, count, apertures, low, high, step, names } = geometry;
  let [registration, truth, due, refining, curveFor, playing] = [null, null, 0, false, "", 0];
  const cost = {};

  const canvas = element("canvas", { width: columns, height: rows, tabindex: 0, role: "application" });
  const keys = "click or arrow keys move the pin, page keys the focal height, space plays, s saves";
  canvas.setAttribute("aria-label", `Picture of ${rows} × ${columns} pixels: ${keys}`);
  canvas.title = keys;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const image = context.createImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  const cross = element("div", { class: "unveil-pin", "aria-hidden": "true" });
  const height = slider("Focal height", { min: low, max: high, step });
  const aperture = slider("Synthetic aperture", { min: 0, max: apertures.length - 1, step: 1 });
  const view = slider("Single view", { min: 0, max: count - 1, step: 1 });
  const zoom = slider("Zoom at the pin", { min: 1, max: 8, step: 0.5 });
  const [black, white] = ["Black at gray", "White at gray"].map((label) => slider(label, { min: 0, max: 255, step: 1 }));
  const switches = names.map((name, v) => {
    const button = element("button", { type: "button", title: name, "aria-label": `use view ${v}` }, String(v));
    button.addEventListener("click", () => {
      const off = model.get("off");
      put("off", off.includes(v) ? off.filter((other) => other !== v) : [...off, v]);
    });
    return button;
  });
  const beside = element("input", { type: "checkbox" });
  beside.addEventListener("change", () => put("beside", beside.checked));
  const play = element("button", { type: "button" }, "▶ Play");
  const save = element("button", { type: "button" }, "Save PNG");
  const pointer = element("output", { class: "unveil-pointer" });
  const group = `unveil-${Math.random().toString(36).slice(2)}`;
  const radios = PICTURES.filter(([name]) => name !== "truth" || geometry.truth).map(([name, label]) => {
    const input = element("input", { type: "radio", name: group, value: name });
    input.addEventListener("change", () => put("picture", name));
    return { name, input, row: element("label", {}, input, label) };
  });
  const readout = element("p", { class: "unveil-readout", role: "status" }, "Waiting for the views from the kernel…");
  const curve = focusCurve(low, high);
  const pinned = element("p", { class: "unveil-readout" });
  const choices = element("fieldset", {}, element("legend", {}, "Picture"), ...radios.map((radio) => radio.row));
  const buttons = element("div", { class: "unveil-buttons" }, play, save, pointer);
  const reference = element("canvas", { width: columns, height: rows, role: "img", "aria-label": "Ground truth" });
  const shown = element("div", { class: "unveil-canvas" }, canvas, cross);
  const compared = element("div", { class: "unveil-canvas" }, reference);
  const pair = element("div", { class: "unveil-pair" }, shown, compared);
  const counted = element("fieldset", { class: "unveil-views" }, element("legend", {}, "Views that count"), ...switches);
  const controls = [aperture.row, counted, view.row, choices, zoom.row, black.row, white.row, readout, curve.svg, pinned];
  if (geometry.truth) buttons.append(element("label", {}, beside, " Truth beside it"));
  el.classList.add("unveil-scrubber");
  // JupyterLab would take the arrow keys to move between cells.
  el.dataset.lmSuppressShortcuts = "true";
  el.append(element("div", { class: "unveil-picture" }, pair, height.row, buttons));
  el.append(element("div", { class: "unveil-controls" }, ...controls));

  function put(name, value) {
    model.set(name, value);
    schedule();
  }

  function focusAt(h) {
    if (["view", "truth"].includes(model.get("picture"))) model.set("picture", "integral");
    put("height", Math.min(high, Math.max(low, h)));
  }

  /** The views of the aperture that are not switched off; the target's own stays where none is left. */
  function selection() {
    const { views, metres } = apertures[model.get("aperture")];
    const on = views.filter((v) => !model.get("off").includes(v));
    return { metres, views: on.length ? on : views.slice(0, 1) };
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
    const used = selection();
    const [metres, levels] = [`${used.metres.toFixed(1)} m`, model.get("levels")];
    const state = [
      [height, h, `${h.toFixed(2)} m`],
      [aperture, model.get("aperture"), metres, `${used.views.length} views, ${metres}`],
      [view, v, `view ${v}`, names[v]],
      [zoom, model.get("zoom"), `${model.get("zoom")} ×`],
      [black, levels[0], levels[0]],
      [white, levels[1], levels[1]],
    ];
    for (const [control, value, label, spoken = label] of state) {
      [control.input.value, control.output.value] = [value, label];
      control.input.setAttribute("aria-valuetext", spoken);
    }
    for (const radio of radios) radio.input.checked = radio.name === picture;
    switches.forEach((button, i) => button.setAttribute("aria-pressed", used.views.includes(i)));
    beside.checked = model.get("beside");
    el.classList.toggle("unveil-beside", beside.checked);
    if (!registration) return;
    registration.grays = grayScale(levels[0], Math.max(levels[1], levels[0] + 1));
    if (beside.checked) show(reference.getContext("2d"), truth);
    const source = plain(picture, v);
    if (source) {
      for (let i = 0; i < source.length; i++) pixels[i] = registration.grays[source[i]];
      readout.textContent = picture === "truth" ? "Ground truth: the target camera's view without forest" : names[v];
      finish(used, true);
    } else {
      // A picture that would take most of a frame is drafted coarsely, then refined from frame to frame.
      let step = 1;
      while (step < 4 && cost[picture] / step ** 2 > 12) step++;
      paint(used, { step });
    }
  }

  /** Draw gray levels as they are, with the contrast that is set. */
  function show(target, levels) {
    const drawn = target.createImageData(columns, rows);
    new Uint32Array(drawn.data.buffer).set(Uint32Array.from(levels, (gray) => registration.grays[gray]));
    target.putImageData(drawn, 0, 0);
  }

  function paint(used, { first = 0, step = 1, until = Infinity, coverage = { pixels: 0, views: 0, least: Infinity } }) {
    const [h, picture, before] = [model.get("height"), model.get("picture"), coverage.pixels];
    const start = performance.now();
    registration.focus(used.views, h);
    const next = registration.paint(picture, pixels, coverage, { first, step, until });
    const spent = performance.now() - start;
    cost[picture] = (spent / (coverage.pixels - before)) * rows * columns;
    if (first === 0) canvas.dataset.milliseconds = spent.toFixed(2);
    const behind = `${(coverage.views / coverage.pixels).toFixed(1)} of ${used.views.length} views behind a pixel on average`;
    const range = picture === "std" ? " · black 0, white 127.5 gray levels" : "";
    readout.textContent = `Coverage: ${behind}, ${coverage.least} at least${range}`;
    const complete = step === 1 && next >= rows;
    finish(used, complete);
    if (complete) return;
    const [from, sum] = step > 1 ? [0, undefined] : [next, coverage];
    refining = true;
    due = requestAnimationFrame(() => {
      due = 0;
      paint(used, { first: from, until: performance.now() + 20, coverage: sum });
    });
  }

  function finish(used, complete) {
    const [h, picture, v] = [model.get("height"), model.get("picture"), model.get("view")];
    context.putImageData(image, 0, 0);
    canvas.dataset.drawn = JSON.stringify({ height: h, picture, view: v, views: used.views.length, complete });
    const [row, column] = model.get("pin");
    const place = { "--x": `${((column + 0.5) / columns) * 100}%`, "--y": `${((row + 0.5) / rows) * 100}%` };
    for (const [name, value] of Object.entries({ ...place, "--zoom": model.get("zoom") })) pair.style.setProperty(name, value);
    const at = (where) => {
      registration.focus(used.views, where);
      registration.collect(row, column, column + 1);
    };
    const key = `${row},${column},${used.views}`;
    if (key !== curveFor) {
      curveFor = key;
      const points = [];
      for (let i = 0; i <= Math.round((high - low) / step); i++) {
        at(low + i * step);
        const [mean, std] = ["integral", "std"].map((name) => registration.reduce(name, column));
        if (registration.counts[column]) points.push({ height: low + i * step, mean, std });
      }
      curve.plot(points, `Gray value of pixel row ${row}, column ${column} from ${low} to ${high} metres`);
    }
    curve.move(h);
    const gray = grayAt(row, column);
    pinned.textContent =
      `Pin at row ${row}, column ${column}: ${picture === "std" ? "standard deviation" : "gray"} ${gray.toFixed(1)}. ` +
      "Line: its mean over the views at every height; band: ± their standard deviation";
  }

  /** The gray level of the picture at a pixel, whatever the contrast. */
  function grayAt(row, column) {
    const source = plain(model.get("picture"), model.get("view"));
    if (source) return source[row * columns + column];
    registration.focus(selection().views, model.get("height"));
    registration.collect(row, column, column + 1);
    return registration.reduce(model.get("picture"), column);
  }

  /** The pixel under the mouse: row and column. */
  function under(event) {
    const box = canvas.getBoundingClientRect();
    const place = (offset, length, size) => Math.min(size - 1, Math.max(0, Math.floor((offset / length) * size)));
    return [place(event.clientY - box.top, box.height, rows), place(event.clientX - box.left, box.width, columns)];
  }

  function toggle() {
    clearInterval(playing);
    const next = () => (model.get("height") > high - step / 2 ? low : model.get("height") + step);
    playing = playing ? 0 : setInterval(() => focusAt(next()), 80);
    play.textContent = playing ? "⏸ Pause" : "▶ Play";
  }

  function download() {
    const name = `${model.get("picture")}_${model.get("height").toFixed(2)}m.png`;
    element("a", { href: canvas.toDataURL("image/png"), download: name }).click();
  }

  play.addEventListener("click", toggle);
  save.addEventListener("click", download);
  height.input.addEventListener("input", () => focusAt(Number(height.input.value)));
  aperture.input.addEventListener("input", () => {
    focusAt(model.get("height"));
    put("aperture", Number(aperture.input.value));
  });
  view.input.addEventListener("input", () => {
    model.set("picture", "view");
    put("view", Number(view.input.value));
  });
  zoom.input.addEventListener("input", () => put("zoom", Number(zoom.input.value)));
  for (const input of [black.input, white.input])
    input.addEventListener("input", () => put("levels", [Number(black.input.value), Number(white.input.value)]));
  canvas.addEventListener("click", (event) => put("pin", under(event)));
  canvas.addEventListener("mousemove", (event) => {
    const [row, column] = under(event);
    if (registration) pointer.value = `row ${row}, column ${column}: ${grayAt(row, column).toFixed(0)}`;
  });
  canvas.addEventListener("mouseleave", () => (pointer.value = ""));
  canvas.addEventListener("keydown", (event) => {
    const [row, column] = model.get("pin");
    const far = event.shiftKey ? 10 : 1;
    const within = (value, size) => Math.min(size - 1, Math.max(0, value));
    const move = (down, right) => put("pin", [within(row + far * down, rows), within(column + far * right, columns)]);
    const actions = {
      ArrowUp: () => move(-1, 0),
      ArrowDown: () => move(1, 0),
      ArrowLeft: () => move(0, -1),
      ArrowRight: () => move(0, 1),
      PageUp: () => focusAt(model.get("height") + step),
      PageDown: () => focusAt(model.get("height") - step),
      " ": toggle,
      s: download,
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
  });
  el.addEventListener("keydown", (event) => event.stopPropagation());
  // The kernel hears of a change when it is complete, not of every step on the way.
  for (const name of ["change", "click", "keyup"]) el.addEventListener(name, () => model.save_changes());

  const traits = ["height", "aperture", "view", "picture", "pin", "off", "levels", "zoom", "beside"];
  const received = (message, buffers) => {
    if (message.type !== "views" || registration) return;
    const [views, gray] = buffers.map((b) => new Uint8Array(b.buffer, b.byteOffset, b.byteLength));
    [registration, truth] = [new Registration(views, geometry), gray];
    schedule();
  };
  for (const name of traits) model.on(`change:${name}`, schedule);
  model.on("msg:custom", received);
  model.send({ type: "views" });
  schedule();
  return () => {
    clearInterval(playing);
    cancelAnimationFrame(due);
    for (const name of traits) model.off(`change:${name}`, schedule);
    model.off("msg:custom", received);
  };
}

export default { render };
