// The browser half of unveil.show.points.Points: clouds drawn point by point with a depth buffer, no graphics card needed.

const ROWS = 300;
const COLUMNS = 400;
const BACKGROUND = 0xffffffff;

/** Draw a cloud as unveil.show.points.Points.picture does: turned about `centre`, 2 × 2 pixels a point. */
function draw(panel, centre, yaw, pitch, zoom) {
  const { xyz, colours, pixels, nearest, context, image } = panel;
  const [a, b] = [(yaw * Math.PI) / 180, (pitch * Math.PI) / 180];
  const [cy, sy, cp, sp] = [Math.cos(a), Math.sin(a), Math.cos(b), Math.sin(b)];
  const focal = COLUMNS * 0.6;
  pixels.fill(BACKGROUND);
  nearest.fill(Infinity);
  for (let n = 0; n < colours.length; n++) {
    const [x, y, z] = [xyz[3 * n] - centre[0], xyz[3 * n + 1] - centre[1], xyz[3 * n + 2] - centre[2]];
    const depth = -cp * sy * x + sp * y + cp * cy * z + centre[2] / zoom;
    if (depth < 0.1) continue;
    const column = Math.round((focal * (cy * x + sy * z)) / depth + COLUMNS / 2);
    const row = Math.round((focal * (sp * sy * x + cp * y - sp * cy * z)) / depth + ROWS / 2);
    if (column < 0 || row < 0 || column >= COLUMNS - 1 || row >= ROWS - 1) continue;
    const place = row * COLUMNS + column;
    for (const at of [place, place + 1, place + COLUMNS, place + COLUMNS + 1]) {
      if (depth < nearest[at]) {
        nearest[at] = depth;
        pixels[at] = colours[n];
      }
    }
  }
  context.putImageData(image, 0, 0);
}

/** A canvas under its name; the picture's bytes are shared between `image` and `pixels`. */
function makePanel(name) {
  const box = document.createElement("figure");
  box.style.cssText = "margin:4px;flex:1 1 240px;max-width:420px";
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [COLUMNS, ROWS];
  canvas.style.cssText = "width:100%;border:1px solid #8884;touch-action:none;cursor:grab";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${name}: cloud of points`);
  const caption = document.createElement("figcaption");
  caption.textContent = name;
  box.append(canvas, caption);
  const context = canvas.getContext("2d");
  const image = context.createImageData(COLUMNS, ROWS);
  const pixels = new Uint32Array(image.data.buffer);
  return { box, canvas, context, image, pixels, nearest: new Float32Array(ROWS * COLUMNS) };
}

function render({ model, el }) {
  const panels = model.get("names").map(makePanel);
  const root = document.createElement("div");
  root.style.cssText = "display:flex;flex-wrap:wrap;outline-offset:2px;font:13px sans-serif";
  root.tabIndex = 0;
  root.setAttribute("aria-label", "Clouds of points: drag or use the arrow keys to turn, plus and minus to move");
  root.append(...panels.map((panel) => panel.box));
  const hint = document.createElement("small");
  hint.textContent = "Drag or arrow keys: turn · wheel, + and −: nearer or farther";
  el.append(root, hint);

  let waiting = false;
  const redraw = () => {
    if (waiting || !panels[0]?.xyz) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      const view = ["centre", "yaw", "pitch", "zoom"].map((name) => model.get(name));
      for (const panel of panels) draw(panel, ...view);
    });
  };
  const move = (changes) => {
    for (const [name, change] of Object.entries(changes)) {
      const value = name === "zoom" ? model.get(name) * change : model.get(name) + change;
      const [low, high] = { zoom: [0.3, 5], pitch: [-85, 85], yaw: [-180, 180] }[name];
      model.set(name, Math.min(high, Math.max(low, value)));
    }
    redraw();
  };

  const receive = (content, buffers) => {
    if (content.type !== "points") return;
    const bytes = buffers.map((b) => (b.buffer ? b.buffer.slice(b.byteOffset, b.byteOffset + b.byteLength) : b));
    panels.forEach((panel, i) => {
      panel.xyz = new Float32Array(bytes[2 * i]);
      const rgb = new Uint8Array(bytes[2 * i + 1]);
      const packed = (_, n) => 0xff000000 | (rgb[3 * n + 2] << 16) | (rgb[3 * n + 1] << 8) | rgb[3 * n];
      panel.colours = Uint32Array.from({ length: rgb.length / 3 }, packed);
    });
    redraw();
  };

  let held = null;
  for (const { canvas } of panels) {
    canvas.addEventListener("pointerdown", (event) => {
      held = [event.clientX, event.clientY];
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!held) return;
      move({ yaw: (event.clientX - held[0]) * 0.4, pitch: (event.clientY - held[1]) * 0.4 });
      held = [event.clientX, event.clientY];
    });
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, () => {
        held = null;
        model.save_changes();
      });
    }
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      move({ zoom: Math.exp(-event.deltaY / 500) });
    }, { passive: false });
  }
  const keys = {
    ArrowLeft: { yaw: -5 }, ArrowRight: { yaw: 5 }, ArrowUp: { pitch: -5 }, ArrowDown: { pitch: 5 },
    "+": { zoom: 1.1 }, "-": { zoom: 1 / 1.1 },
  };
  root.addEventListener("keydown", (event) => {
    if (!keys[event.key]) return;
    event.preventDefault();
    move(keys[event.key]);
    model.save_changes();
  });

  model.on("msg:custom", receive);
  const turning = ["change:yaw", "change:pitch", "change:zoom"];
  for (const name of turning) model.on(name, redraw);
  model.send({ type: "points" });
  return () => {
    model.off("msg:custom", receive);
    for (const name of turning) model.off(name, redraw);
  };
}

export default { render };
