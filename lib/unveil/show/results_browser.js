// The browser half of unveil.show.widgets.ResultsBrowser: a scatter whose dots open runs, and their pictures compared.

function element(tag, attributes = {}, ...children) {
  const svg = ["svg", "circle", "text", "title"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function menu(label, options, value, change) {
  const select = element("select", { "aria-label": label });
  for (const option of options) select.append(element("option", { value: option }, option));
  select.value = value;
  select.addEventListener("change", () => change(select.value));
  return { select, row: element("label", {}, `${label} `, select) };
}

function range(label, attributes, change) {
  const input = element("input", { type: "range", "aria-label": label, ...attributes });
  input.addEventListener("input", () => change(Number(input.value)));
  return { input, row: element("label", {}, `${label} `, input) };
}

function render({ model, el }) {
  const { ids, metrics, kinds } = model.get("table");
  const names = Object.keys(metrics);
  let [pictures, kept, asked, early] = [{}, [], 0, false];
  const other = names.find((name) => name !== model.get("metric")) ?? names[0];
  const axes = { x: model.get("metric"), y: names.includes("region_psnr") ? "region_psnr" : other };

  function put(name, value) {
    model.set(name, value);
    model.save_changes();
  }
  const open = (id) => ids.includes(id) && put("run_id", id);
  const step = (by) => {
    const shown = model.get("shown");
    const next = shown[shown.indexOf(model.get("run_id")) + by];
    if (next) open(next);
  };

  const list = element("datalist", { id: `unveil-${Math.random().toString(36).slice(2)}` });
  for (const id of ids) list.append(element("option", { value: id }));
  const field = element("input", { list: list.id, size: 8, "aria-label": "run" });
  field.addEventListener("change", () => open(field.value.trim()));
  const [before, after] = ["◀ Previous", "Next ▶"].map((text) => element("button", { type: "button" }, text));
  before.addEventListener("click", () => step(-1));
  after.addEventListener("click", () => step(1));
  const place = element("output");
  const sorted = menu("sorted by", names, model.get("metric"), (value) => put("metric", value));
  const filters = Object.entries(kinds).map(([kind, values]) =>
    menu(kind, ["all", ...new Set([...values].sort())], "all", (value) =>
      put("chosen", { ...model.get("chosen"), [kind]: value }),
    ),
  );
  const bar = element("div", { class: "unveil-bar" }, before, field, list, after, place, sorted.row);
  bar.append(...filters.map((filter) => filter.row));

  const svg = element("svg", { viewBox: "0 0 320 240", class: "unveil-scatter", role: "img", "aria-label": "All runs" });
  const axisMenus = ["x", "y"].map((axis) =>
    menu(axis === "x" ? "across" : "upwards", names, axes[axis], (value) => {
      axes[axis] = value;
      scatter();
    }),
  );
  const readout = element("p", { role: "status" });
  const left = element("div", { class: "unveil-scatter-box" }, svg, ...axisMenus.map((m) => m.row), readout);
  const [under, over] = [element("img", { alt: "" }), element("img", { alt: "" })];
  const wipe = element("div", { class: "unveil-wipe" }, under, element("div", { class: "unveil-cover" }, over));
  const sides = element("span");
  const hang = (percent) => el.style.setProperty("--curtain", `${percent}%`);
  const curtain = range("curtain", { min: 0, max: 100, value: 50 }, hang);
  wipe.addEventListener("pointermove", (event) => {
    const box = wipe.getBoundingClientRect();
    if (event.buttons) hang((curtain.input.value = (100 * (event.clientX - box.left)) / box.width));
  });
  const zoom = range("zoom", { min: 1, max: 8, step: 0.25, value: 1 }, (v) => el.style.setProperty("--zoom", v));
  const strip = element("div", { class: "unveil-strip" });
  const right = element("div", { class: "unveil-compared" }, wipe, element("div", { class: "unveil-bar" }, sides, curtain.row, zoom.row));
  el.classList.add("unveil-browser");
  el.dataset.lmSuppressShortcuts = "true";
  el.append(bar, element("div", { class: "unveil-halves" }, left, right), strip);
  el.addEventListener("keydown", (event) => {
    event.stopPropagation();
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by && !["INPUT", "SELECT"].includes(event.target.tagName)) step(by);
  });

  function scatter() {
    const shown = new Set(model.get("shown"));
    const known = (i) => shown.has(ids[i]) && metrics[axes.x][i] !== null && metrics[axes.y][i] !== null;
    const drawn = ids.map((_, i) => i).filter(known);
    const scale = (name, from, to) => {
      const values = drawn.map((i) => metrics[name][i]);
      const [low, high] = [Math.min(...values), Math.max(...values)];
      return { low, high, at: (value) => from + ((value - low) / (high - low || 1)) * (to - from) };
    };
    const [x, y] = [scale(axes.x, 44, 308), scale(axes.y, 204, 10)];
    const label = (at, line, anchor, text) => element("text", { x: at, y: line, "text-anchor": anchor }, text);
    const round = (value) => String(+value.toPrecision(3));
    const upwardsName = label(0, 0, "middle", axes.y);
    upwardsName.setAttribute("transform", "translate(12 107) rotate(-90)");
    svg.replaceChildren(label(44, 220, "start", round(x.low)), label(308, 220, "end", round(x.high)));
    svg.append(label(176, 236, "middle", axes.x), label(40, 204, "end", round(y.low)));
    svg.append(label(40, 18, "end", round(y.high)), upwardsName);
    const dots = drawn.map((i) => {
      const [across, upwards] = [metrics[axes.x][i], metrics[axes.y][i]];
      const about = { cx: x.at(across), cy: y.at(upwards), r: 4, "data-id": ids[i] };
      const dot = element("circle", about, element("title", {}, `${ids[i]}: ${round(across)}, ${round(upwards)}`));
      dot.addEventListener("click", () => open(ids[i]));
      return dot;
    });
    svg.append(...dots);
    mark();
  }

  function mark() {
    const [id, shown] = [model.get("run_id"), model.get("shown")];
    place.value = shown.includes(id) ? `${shown.indexOf(id) + 1} of ${shown.length}` : `none of ${shown.length}`;
    for (const dot of svg.querySelectorAll("circle")) dot.classList.toggle("chosen", dot.dataset.id === id);
  }

  function ask() {
    const id = model.get("run_id");
    field.value = id;
    if (el.dataset.asked !== id) asked = performance.now();
    el.dataset.asked = id;
    readout.textContent = `Restoring ${id} …`;
    el.classList.add("unveil-busy");
    mark();
  }

  function compare() {
    const [one, two] = [...sides.querySelectorAll("select")].map((select) => select.value);
    [under.src, over.src] = [pictures[two], pictures[one]];
    [under.alt, over.alt] = [two, one];
  }

  async function received(message, buffers) {
    if (message.id !== model.get("run_id") || (message.early && el.dataset.shown === message.id)) return;
    // The pictures that are there at once stand in until the others are made; they do not change what is compared.
    if (!early) kept = [...sides.querySelectorAll("select")].map((select) => select.value);
    early = message.early;
    if (!early) {
      el.classList.remove("unveil-busy");
      readout.textContent = message.text;
    }
    if (message.type !== "pictures") return;
    Object.values(pictures).forEach(URL.revokeObjectURL);
    const url = (buffer) => URL.createObjectURL(new Blob([buffer], { type: "image/png" }));
    pictures = Object.fromEntries(message.names.map((name, i) => [name, url(buffers[i])]));
    const choice = kept.length && kept.every((name) => pictures[name]) ? kept : message.compared;
    sides.replaceChildren(...["left", "right"].map((side, i) => menu(side, message.names, choice[i], compare).row));
    const figure = (name) => {
      const box = element("div", {}, element("img", { src: pictures[name], alt: name }));
      return element("figure", {}, box, element("figcaption", {}, name));
    };
    strip.replaceChildren(...message.names.map(figure));
    const look = { "--x": `${100 * message.center[0]}%`, "--y": `${100 * message.center[1]}%`, "--aspect": message.aspect };
    for (const [name, value] of Object.entries(look)) el.style.setProperty(name, value);
    compare();
    await Promise.all([...el.querySelectorAll("img")].map((image) => image.decode().catch(() => null)));
    el.dataset[message.early ? "early" : "shown"] = message.id;
    el.dataset.milliseconds = (performance.now() - asked).toFixed(1);
  }

  const handlers = { "change:run_id": ask, "change:shown": scatter, "msg:custom": received };
  for (const [name, handler] of Object.entries(handlers)) model.on(name, handler);
  scatter();
  ask();
  model.send({ type: "open" });
  return () => {
    for (const [name, handler] of Object.entries(handlers)) model.off(name, handler);
    Object.values(pictures).forEach(URL.revokeObjectURL);
  };
}

export default { render };
