// Curves: smoothed, with bands, against the axis that the reader chose.

const AXES = ["epoch", "step", "time"];
const LABELS = { step: "step (update)" };
const MOST_NAMED = 14; // curves in the hover box: those around the pointer
const MOST_ALIKE = 4; // more curves of one name, such as "other trials", stand back behind the rest
const FEW = 40; // points of a curve that are each marked

class CurvesFigure extends Plane {
  constructor(host, figure) {
    super(host, figure.title, { height: 320 });
    this.figure = figure;
    this.log = figure.log;
    this.axes = [...new Set(figure.lines.flatMap((line) => Object.keys(line.x)))];
    this.logButton = button(
      "log",
      { class: "log", title: "logarithmic upright axis", "aria-pressed": String(this.log) },
      () => {
        this.setLog(!this.log);
        this.redraw();
      },
    );
    this.tools.prepend(this.logButton);
    this.note = make("p", { class: "small" });
    const names = figure.lines.map((line) => line.name);
    this.twice = new Set(names.filter((name, at) => names.indexOf(name) !== at)); // told apart by their styles
    this.many = new Set(names.filter((name) => names.filter((other) => other === name).length > MOST_ALIKE));
    const keys = legend(figure.lines.map((line) => [line.name, line.style]));
    host.append(...(keys ? [keys] : []), this.note);
    this.smoothed = new Map();
  }

  setLog(log) {
    this.log = log;
    this.zoom.y = null;
    this.logButton.setAttribute("aria-pressed", String(log));
  }

  state() {
    return { zoom: this.zoom, log: this.log, axis: this.axis };
  }

  restore(state) {
    this.setLog(state.log);
    if (state.axis === this.chosen()) this.zoom = state.zoom;
  }

  chosen() {
    return this.axes.includes(own.axis) ? own.axis : (this.axes[0] ?? "");
  }

  // The lines that are seen, each with its places on the axis and its values as drawn.
  seen() {
    const weight = this.figure.smooth ? own.smoothing : 0;
    return this.figure.lines
      .filter((line) => !own.hidden.has(line.name) && line.x[this.axis] !== undefined)
      .sort((one, other) => this.many.has(other.name) - this.many.has(one.name))
      .map((line) => ({ ...line, at: data.places[line.x[this.axis]], raw: line.y, ...this.smooth(line, weight) }));
  }

  smooth(line, weight) {
    if (!weight || line.style === "dots") return { y: line.y, low: line.low, high: line.high, smooth: false };
    const kept = this.smoothed.get(line);
    if (kept?.weight === weight) return kept;
    const found = {
      weight,
      y: average(line.y, weight),
      low: line.low && average(line.low, weight),
      high: line.high && average(line.high, weight),
      smooth: true,
    };
    this.smoothed.set(line, found);
    return found;
  }

  view(zoom) {
    const axis = this.chosen();
    if (axis !== this.axis && this.axis !== undefined) Object.assign(zoom, { x: null, y: null }); // other places
    this.axis = axis;
    this.lines = this.seen();
    const logX = this.figure.logX;
    const x = zoomed(
      around(
        this.lines.flatMap(({ at }) => ends(at, logX)),
        logX,
        0.01,
      ),
      zoom.x,
    );
    const values = [];
    let below = 0;
    for (const { at, raw, low, high } of this.lines) {
      for (let index = 0; index < raw.length; index++) {
        if (raw[index] !== null && raw[index] <= 0) below++;
        if (zoom.x && (at[index] < zoom.x[0] || at[index] > zoom.x[1])) continue;
        values.push(raw[index]);
        if (low) values.push(low[index], high[index]);
      }
    }
    const y = around(values, this.log, 0.05);
    const without = this.figure.lines.filter((line) => line.x[axis] === undefined).length;
    const missing = [
      ...(this.log && below ? [`values that are not above 0 (${below})`] : []),
      ...(without ? [`curves without ${axis} (${without})`] : []),
    ];
    this.note.textContent = missing.length ? `Not shown: ${missing.join(", ")}.` : "";
    return {
      x: {
        ...x,
        label: LABELS[axis] ?? axis,
        seconds: axis === "time",
        whole: this.lines.every(({ at }) => at.every(Number.isInteger)) && axis !== "time",
      },
      y: { ...zoomed(withLevels(y, this.figure.levels), zoom.y), label: this.figure.unit },
    };
  }

  paint(layer, sx, sy) {
    const { left, right, top, bottom } = this.box;
    for (const [value, text] of this.figure.levels) {
      if (value === null || (this.log && value <= 0)) continue;
      const place = sy.at(value);
      layer.append(shape("path", { class: "mark", d: `M${left} ${place}H${right}` }));
      layer.append(
        shape(
          "text",
          { class: "mark-text", x: right - 4, y: place - 4 < top + 9 ? place + 14 : place - 4, "text-anchor": "end" },
          text,
        ),
      );
    }
    let row = 0;
    for (const [axis, at, text] of this.figure.marks) {
      if (axis !== this.axis || at === null || at < sx.lo || at > sx.hi) continue;
      const place = sx.at(at);
      const end = place > right - text.length * LETTER - 6;
      layer.append(shape("path", { class: "mark", d: `M${place} ${top}V${bottom}` }));
      const y = top + 12 + 14 * (row++ % 5);
      layer.append(
        shape("text", { class: "mark-text", x: place + (end ? -4 : 4), y, "text-anchor": end ? "end" : "start" }, text),
      );
    }
    for (const line of this.lines)
      if (line.low) layer.append(painted(shape("path", { class: "band", d: area(line, sx, sy) }), line.name));
    for (const line of this.lines) {
      if (line.smooth)
        layer.append(painted(shape("path", { class: "line faint", d: path(line.at, line.raw, sx, sy) }), line.name));
      const dots = line.style === "dots";
      const d = dots ? spots(line.at, line.y, sx, sy) : path(line.at, line.y, sx, sy);
      line.node = painted(
        shape("path", {
          class: `line ${line.style || "solid"}${this.many.has(line.name) ? " many" : ""}`,
          d,
          "data-name": data.names[line.name],
        }),
        line.name,
      );
      layer.append(line.node);
      const few = line.at.length <= FEW && this.lines.length <= 8;
      if (few && !dots)
        layer.append(painted(shape("path", { class: "line spots", d: spots(line.at, line.y, sx, sy) }), line.name));
    }
  }

  near(px, py, sx, sy) {
    const found = [];
    for (const line of this.lines) {
      const index = nearest(line.at, sx.back(px));
      if (index < 0) continue;
      const [x, y] = [sx.at(line.at[index]), sy.at(line.y[index])];
      const [first, last] = [sx.at(line.at[0]), sx.at(line.at[line.at.length - 1])];
      if (line.y[index] === null || !fits(x, y) || px < first - 16 || px > last + 16) continue;
      found.push({ line, index, x, y });
    }
    if (!found.length) return null;
    const far = ({ x, y }) => Math.hypot((x - px) / 3, y - py); // along the curve counts less than away from it
    const closest = found.reduce((one, other) => (far(other) < far(one) ? other : one));
    for (const { line } of found) line.node.classList.toggle("near", line === closest.line);
    const told = found.filter((one) => one === closest || !this.many.has(one.line.name));
    told.sort((one, other) => one.y - other.y);
    const first = Math.max(0, Math.min(told.indexOf(closest) - MOST_NAMED / 2, told.length - MOST_NAMED));
    const rows = told.slice(first, first + MOST_NAMED).map(({ line, index }) => ({
      name: line.name,
      text: data.names[line.name] + (this.twice.has(line.name) && line.style ? ` (${line.style})` : ""),
      value:
        short(line.y[index]) +
        (line.low ? ` (${short(line.low[index])} to ${short(line.high[index])})` : "") +
        (line.smooth ? ` · raw ${short(line.raw[index])}` : ""),
      near: line === closest.line,
    }));
    if (told.length > rows.length) rows.push({ text: `and ${told.length - rows.length} more` });
    const at = closest.line.at[closest.index];
    const marks = [shape("path", { class: "cursor", d: `M${closest.x} ${this.box.top}V${this.box.bottom}` })];
    marks.push(
      ...told.map(({ line, x, y }) =>
        painted(shape("circle", { cx: x, cy: y, r: line === closest.line ? 5 : 3, class: "spot" }), line.name),
      ),
    );
    return { title: `${this.axis} ${this.axis === "time" ? duration(at) : short(at, 6)}`, rows, marks };
  }

  leave() {
    super.leave();
    for (const { node } of this.lines ?? []) node?.classList.remove("near");
  }
}

// Exponential moving average whose beginning is not drawn towards zero: Kingma and Ba 2015, section 3 (bias correction).
function average(values, weight) {
  let [mean, share] = [0, 1];
  return values.map((value) => {
    if (value === null) return null;
    mean = weight * mean + (1 - weight) * value;
    share *= weight;
    return mean / (1 - share);
  });
}

function ends(places, log) {
  return log ? places : [places[0], places[places.length - 1]];
}

// Values to mark belong into the figure unless they would squeeze the curves.
function withLevels(side, levels) {
  const turn = side.log ? Math.log : (value) => value;
  let { lo, hi } = side;
  for (const [value] of levels) {
    if (value === null || (side.log && value <= 0)) continue;
    const [low, high] = [Math.min(lo, value), Math.max(hi, value)];
    if (turn(high) - turn(low) <= 2 * (turn(side.hi) - turn(side.lo))) [lo, hi] = [low, high];
  }
  return { ...side, lo, hi };
}

function fits(x, y) {
  return Number.isFinite(x) && Number.isFinite(y);
}

function path(at, values, sx, sy) {
  const parts = [];
  let pen = "M";
  for (let index = 0; index < at.length; index++) {
    const [x, y] = values[index] === null ? [NaN, NaN] : [sx.at(at[index]), sy.at(values[index])];
    if (fits(x, y)) parts.push(pen, x.toFixed(1), " ", far(y).toFixed(1));
    pen = fits(x, y) ? "L" : "M"; // a gap where there is no value
  }
  return parts.join("");
}

function far(place) {
  return Math.max(-1e5, Math.min(1e5, place)); // drawing engines lose their way beyond
}

function spots(at, values, sx, sy) {
  const parts = [];
  for (let index = 0; index < at.length; index++) {
    const [x, y] = values[index] === null ? [NaN, NaN] : [sx.at(at[index]), sy.at(values[index])];
    if (fits(x, y)) parts.push("M", x.toFixed(1), " ", far(y).toFixed(1), "h0");
  }
  return parts.join("");
}

function area({ at, low, high }, sx, sy) {
  const floor = sy.at(sy.lo);
  const parts = [];
  let stretch = [];
  const close = () => {
    if (stretch.length)
      parts.push(
        "M",
        [
          ...stretch.map(([x, , top]) => `${x} ${top}`),
          ...stretch.reverse().map(([x, bottom]) => `${x} ${bottom}`),
        ].join("L"),
        "Z",
      );
    stretch = [];
  };
  for (let index = 0; index < at.length; index++) {
    if (low[index] === null || high[index] === null) {
      close();
      continue;
    }
    const [x, bottom, top] = [sx.at(at[index]), sy.at(low[index]), sy.at(high[index])];
    // On a logarithmic axis a band that reaches zero goes down to the edge.
    if (fits(x, top))
      stretch.push([x.toFixed(1), far(Number.isFinite(bottom) ? bottom : floor).toFixed(1), far(top).toFixed(1)]);
  }
  close();
  return parts.join("");
}

// The number of the place that is nearest; places rise.
function nearest(places, value) {
  let [low, high] = [0, places.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (places[middle] <= value) low = middle;
    else high = middle;
  }
  return high < 0 ? -1 : Math.abs(places[low] - value) <= Math.abs(places[high] - value) ? low : high;
}
