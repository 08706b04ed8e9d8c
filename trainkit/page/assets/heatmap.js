// A matrix as colours; arrow keys go from cell to cell.

class HeatmapFigure {
  constructor(host, figure) {
    Object.assign(this, { host, figure, width: 0, at: [0, 0] });
    const known = figure.values.flat().filter((value) => value !== null);
    this.lo = known.length ? Math.min(...known) : 0;
    this.hi = known.length ? Math.max(...known) : 1;
    this.least = Math.min(...known.filter((value) => value > 0));
    this.svg = shape("svg", {
      class: "plane",
      tabindex: 0,
      role: "application",
      "aria-roledescription": "figure",
      "aria-label": `${figure.title}. Arrow keys go from cell to cell.`,
    });
    if (this.lo >= 0 && this.hi > 20 * this.least) {
      this.logButton = button(
        "log",
        { class: "log", title: "logarithmic colours: shows small values beside large ones", "aria-pressed": "false" },
        () => {
          this.restore({ log: !this.log });
          this.redraw();
        },
      );
      host.before(make("div", { class: "figure-tools" }, this.logButton));
    }
    host.append(this.svg);
    const [down, across] = figure.pooled;
    if (down > 1 || across > 1)
      host.append(make("p", { class: "small" }, `Each cell is the mean of ${down} × ${across}.`));
    onResize(host, this);
    this.svg.addEventListener("pointermove", (event) => this.hover(event));
    this.svg.addEventListener("pointerleave", () => this.leave());
    this.svg.addEventListener("blur", () => this.leave());
    this.svg.addEventListener("keydown", (event) => this.key(event));
    drawn.push(this);
  }

  state() {
    return { log: this.log };
  }

  restore({ log }) {
    this.log = Boolean(log && this.logButton);
    this.logButton?.setAttribute("aria-pressed", String(this.log));
  }

  share(value) {
    if (this.log) return value <= 0 ? 0 : 0.08 + (0.92 * Math.log(value / this.least)) / Math.log(this.hi / this.least);
    return this.hi > this.lo ? (value - this.lo) / (this.hi - this.lo) : 0.5;
  }

  redraw() {
    const { rows, columns, values, x, y, points } = this.figure;
    this.width = this.host.clientWidth;
    const width = Math.max(240, this.width);
    const letters = (names) => Math.max(1, ...names.map((name) => Math.min(name.length, 18)));
    const left = Math.min(width * 0.35, 14 + letters(rows) * LETTER + (y ? 18 : 0));
    const wide = Math.min((width - left - 12) / columns.length, 90);
    const tall = Math.max(Math.min(wide, 420 / rows.length, 40), rows.length > 40 ? 4 : 12);
    const [top, right, bottom] = [8, left + wide * columns.length, 8 + tall * rows.length];
    const slanted = letters(columns) * LETTER > wide;
    const room = slanted ? letters(columns) * LETTER * 0.75 + 14 : 18;
    const height = bottom + room + 58;
    this.box = { left, top, wide, tall };
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const group = shape("g", { class: "axes", "aria-hidden": "true" });
    // In all cells or in none: in some alone they would look as if these were special.
    const told =
      tall >= 14 && values.flat().every((value) => value === null || short(value, 3).length * 6.2 < wide - 2);
    values.forEach((row, down) =>
      row.forEach((value, across) => {
        const cell = shape("rect", {
          class: columns.length > 15 ? "cell close" : "cell",
          x: left + across * wide,
          y: top + down * tall,
          width: wide,
          height: tall,
        });
        if (value === null) cell.classList.add("unknown");
        else cell.style.fill = shade(this.share(value));
        group.append(cell);
        if (told && value !== null) {
          group.append(
            shape(
              "text",
              {
                class: contrasting(this.share(value)),
                x: left + (across + 0.5) * wide,
                y: top + (down + 0.5) * tall + 4,
                "text-anchor": "middle",
              },
              short(value, 3),
            ),
          );
        }
      }),
    );
    this.sides(group, left, top, bottom, slanted);
    for (const [across, down] of points)
      group.append(
        shape("circle", {
          class: "over-point",
          cx: left + (across + 0.5) * wide,
          cy: top + (down + 0.5) * tall,
          r: 3.5,
        }),
      );
    if (x)
      group.append(
        shape("text", { class: "label", x: (left + right) / 2, y: bottom + room + 14, "text-anchor": "middle" }, x),
      );
    if (y)
      group.append(
        shape(
          "text",
          { class: "label", transform: `translate(12 ${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" },
          y,
        ),
      );
    if (this.hi > this.lo) this.scaleBar(group, left, bottom + room + 24, Math.min(220, right - left));
    this.ring = shape("rect", { class: "cell-ring", width: wide, height: tall, visibility: "hidden" });
    this.svg.replaceChildren(group, this.ring);
  }

  sides(group, left, top, bottom, slanted) {
    const { rows, columns } = this.figure;
    const { wide, tall } = this.box;
    const cut = (text) => (text.length > 18 ? `${text.slice(0, 17)}…` : text);
    const every = (size, least) => Math.max(1, Math.ceil(least / size));
    for (let down = 0; down < rows.length; down += every(tall, 12)) {
      group.append(
        shape("text", { x: left - 6, y: top + (down + 0.5) * tall + 4, "text-anchor": "end" }, cut(rows[down])),
      );
    }
    for (let across = 0; across < columns.length; across += every(wide, 14)) {
      const at = [left + (across + 0.5) * wide, bottom + 14];
      const turned = slanted
        ? { transform: `translate(${at[0] + 3} ${at[1] - 4}) rotate(-45)`, "text-anchor": "end" }
        : { x: at[0], y: at[1], "text-anchor": "middle" };
      group.append(shape("text", turned, cut(columns[across])));
    }
  }

  scaleBar(group, left, top, width) {
    const parts = 24;
    for (let part = 0; part < parts; part++) {
      const piece = shape("rect", { x: left + (part * width) / parts, y: top, width: width / parts + 0.5, height: 8 });
      piece.style.fill = shade(part / (parts - 1));
      group.append(piece);
    }
    group.append(shape("text", { x: left, y: top + 22 }, short(this.lo, 3)));
    group.append(
      shape(
        "text",
        { x: left + width, y: top + 22, "text-anchor": "end" },
        short(this.hi, 3) + (this.log ? " (log)" : ""),
      ),
    );
  }

  hover(event) {
    const frame = this.svg.getBoundingClientRect();
    const ratio = Math.max(240, this.width) / frame.width;
    const [px, py] = [(event.clientX - frame.left) * ratio, (event.clientY - frame.top) * ratio];
    const { left, top, wide, tall } = this.box;
    const close = this.figure.points.find(
      ([across, down]) => Math.hypot(left + (across + 0.5) * wide - px, top + (down + 0.5) * tall - py) < 7,
    );
    const at = [Math.floor((py - top) / tall), Math.floor((px - left) / wide)];
    if (close) showTip(event.clientX, event.clientY, close[2], []);
    else this.show(at, event.clientX, event.clientY, false);
  }

  show([down, across], clientX, clientY, aloud) {
    const { rows, columns, values, x, y } = this.figure;
    if (values[down]?.[across] === undefined) return this.leave();
    const { left, top, wide, tall } = this.box;
    fill(this.ring, { x: left + across * wide, y: top + down * tall, visibility: "visible" }, []);
    const found = [
      { text: y || "row", value: rows[down] },
      { text: x || "column", value: columns[across] },
    ];
    const title = values[down][across] === null ? "not known" : short(values[down][across], 6);
    showTip(clientX, clientY, title, found);
    if (aloud) say(title, found);
  }

  leave() {
    hideTip();
    this.ring?.setAttribute("visibility", "hidden");
  }

  key(event) {
    const by = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!by) return;
    event.preventDefault();
    const { rows, columns } = this.figure;
    const within = (value, count) => Math.max(0, Math.min(count - 1, value));
    this.at = [within(this.at[0] + by[0], rows.length), within(this.at[1] + by[1], columns.length)];
    const frame = this.svg.getBoundingClientRect();
    const ratio = frame.width / Math.max(240, this.width);
    const { left, top, wide, tall } = this.box;
    this.show(
      this.at,
      frame.left + (left + (this.at[1] + 1) * wide) * ratio,
      frame.top + (top + (this.at[0] + 1) * tall) * ratio,
      true,
    );
  }
}

// Which ink can be read on a shade, in light and in dark.
function contrasting(share) {
  return share < 0.5 ? "on-least" : share > 0.62 ? "on-most" : "on-middle";
}
