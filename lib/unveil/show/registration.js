// unveil.aos.integrator in JavaScript, for the scrubber: a page that has the views makes every picture from them.

// A standard deviation of values in 0–255 is at most 127.5: twice its value fills the same fixed range.
const GAIN = { std: 2 };

/** RGBA of the gray levels 0…255 where `black` and `white` are the levels shown as such. */
function grayScale(black, white) {
  const shown = (g) => Math.max(0, Math.min(255, Math.round(((g - black) * 255) / (white - black))));
  return Uint32Array.from({ length: 256 }, (_, g) => 0xff000000 | (shown(g) * 0x10101));
}

/**
 * A function (bits, start) that brings the middle one or two of `n` integers from bits[start] on to their sorted places.
 *
 * It is an odd-even merge sort (Batcher 1968), less what the middle does not need, written out in local variables and
 * without branches: of a sort's branches on random values a processor guesses half wrong.
 */
function middleSorter(n) {
  const pairs = [];
  for (let p = 1; p < n; p *= 2)
    for (let k = p; k >= 1; k /= 2)
      for (let j = k % p; j + k < n; j += 2 * k)
        for (let i = j; i < Math.min(j + k, n - k); i++)
          if (Math.floor(i / (2 * p)) === Math.floor((i + k) / (2 * p))) pairs.push([i, i + k]);
  const middle = [(n - 1) >> 1, n >> 1];
  const needed = new Set(middle);
  const used = pairs.reverse().filter(([a, b]) => (needed.has(a) || needed.has(b)) && needed.add(a).add(b));
  const order = ([a, b]) => `d = (x${b} - x${a}) & ((x${b} - x${a}) >> 31); x${a} = (x${a} + d) | 0; x${b} = (x${b} - d) | 0;`;
  const load = Array.from({ length: n }, (_, i) => `x${i} = bits[start + ${i}]`);
  const store = middle.map((i) => `bits[start + ${i}] = x${i};`);
  return new Function("bits", "start", `let d, ${load}; ${used.reverse().map(order).join("")} ${store.join("")}`);
}

/** Views registered on the plane of a height, row by row. */
class Registration {
  constructor(views, { count, rows, columns, origins, directions, slope, z }) {
    Object.assign(this, { views, count, rows, columns, origins, directions, slope, z });
    this.grays = grayScale(0, 255);
    this.samples = new Float32Array(count * columns);
    // Floats that are not negative are in the order of their bits.
    this.bits = new Int32Array(this.samples.buffer);
    this.sorters = [];
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
    const start = first + Math.ceil(Math.max(0, -0.5 - shift - first) / step) * step;
    const stop = Math.min(end, Math.floor(columns - 0.5 - shift) + 1);
    for (let c = start; c < stop; c += step) {
      const x = c + whole;
      const a = views[line + (x < 0 ? 0 : x)];
      const b = views[line + (x + 1 < columns ? x + 1 : columns - 1)];
      samples[c * count + counts[c]++] = a + right * (b - a);
    }
  }

  project(view, map, row, first, end, step) {
    const { views, rows, columns, samples, counts, count } = this;
    const [du, uy, u0, dv, vy, v0, dw, wy, w0] = map;
    const [df, fy, f0] = this.side;
    const base = view * rows * columns;
    const [xMax, yMax, y0] = [columns - 1, rows - 1, row + 0.5];
    const [uRow, vRow, wRow, fRow] = [uy * y0 + u0, vy * y0 + v0, wy * y0 + w0, fy * y0 + f0];
    for (let c = first; c < end; c += step) {
      const x0 = c + 0.5;
      const w = wRow + dw * x0;
      if (w <= 0 || fRow + df * x0 <= 0) continue;
      const near = 1 / w;
      const x = (uRow + du * x0) * near;
      const y = (vRow + dv * x0) * near;
      if (x < -0.5 || x > xMax + 0.5 || y < -0.5 || y > yMax + 0.5) continue;
      // Edge pixels are clamped.
      const [xc, yc] = [x < 0 ? 0 : x > xMax ? xMax : x, y < 0 ? 0 : y > yMax ? yMax : y];
      const [xi, yi] = [xc < xMax ? xc | 0 : xMax - 1, yc < yMax ? yc | 0 : yMax - 1];
      const at = base + yi * columns + xi;
      const right = xc - xi;
      const top = views[at] + right * (views[at + 1] - views[at]);
      const bottom = views[at + columns] + right * (views[at + columns + 1] - views[at + columns]);
      samples[c * count + counts[c]++] = top + (yc - yi) * (bottom - top);
    }
  }

  /** One statistic of the samples gathered for column c; 0 where there are none. */
  reduce(statistic, c) {
    const { samples } = this;
    const n = this.counts[c];
    if (n === 0) return 0;
    const start = c * this.count;
    const end = start + n;
    if (statistic === "max" || statistic === "min") {
      const sign = statistic === "max" ? 1 : -1;
      let most = samples[start];
      for (let i = start + 1; i < end; i++) if (sign * (samples[i] - most) > 0) most = samples[i];
      return most;
    }
    if (statistic === "median") {
      (this.sorters[n] ??= middleSorter(n))(this.bits, start);
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
    const grays = gain === 1 ? this.grays : grayScale(0, 255);
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
