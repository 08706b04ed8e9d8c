// Parallel coordinates: a line for each trial; a drag along an axis picks those that go through it there.

class ParallelFigure {
  constructor(host, figure) {
    Object.assign(this, { host, figure, width: 0, height: 340, picked: new Map() });
    this.svg = shape("svg", {
      class: "plane",
      role: "group",
      "aria-label": `${figure.title}. A drag along an axis picks lines; a click on the axis lets them go.`,
    });
    this.note = make("p", { class: "small", "aria-live": "polite" });
    this.whole = button("all", { class: "whole", title: "show all lines again", hidden: true }, () => {
      this.picked.clear();
      this.redraw();
    });
    host.before(make("div", { class: "figure-tools" }, this.whole));
    host.append(this.svg, this.note);
    this.order = figure.rows
      .map((_, at) => at)
      .sort((one, other) => (figure.good[one] ?? 0) - (figure.good[other] ?? 0)); // the best on top
    this.from = null;
    this.svg.addEventListener("pointerdown", (event) => this.down(event));
    this.svg.addEventListener("pointermove", (event) => this.move(event));
    this.svg.addEventListener("pointerup", (event) => this.up(event));
    this.svg.addEventListener("pointerleave", () => this.leave());
    this.svg.addEventListener("dblclick", () => {
      this.picked.clear();
      this.redraw();
    });
    onResize(host, this);
    drawn.push(this);
  }

  state() {
    return { picked: [...this.picked] };
  }

  restore({ picked }) {
    this.picked = new Map(picked);
  }

  // Where a row's line crosses each axis; an axis whose setting does not count for it is crossed below its foot.
  place(axis, share) {
    const y = share === null ? this.bottom + 16 : this.bottom - share * (this.bottom - this.top);
    return [this.at(axis), y];
  }

  at(axis) {
    const last = Math.max(1, this.figure.axes.length - 1);
    return this.left + (axis * (this.right - this.left)) / last;
  }

  isIn(row) {
    return [...this.picked].every(([axis, [lo, hi]]) => row[axis] !== null && row[axis] >= lo && row[axis] <= hi);
  }

  redraw() {
    const { axes, rows, good, ticks } = this.figure;
    this.width = this.host.clientWidth;
    const each = 92; // CSS pixels, the least between two axes: more axes than fit are scrolled to
    const width = Math.max(240, this.width, axes.length * each);
    Object.assign(this, { left: 56, right: width - 70, top: 44, bottom: this.height - 28 });
    this.svg.setAttribute("viewBox", `0 0 ${width} ${this.height}`);
    this.svg.style.minWidth = width > this.width ? `${width}px` : "";
    const lines = shape("g", { "aria-hidden": "true" });
    let inside = 0;
    for (const row of this.order) {
      const isIn = this.isIn(rows[row]);
      inside += isIn;
      const d = rows[row]
        .map((share, axis) =>
          this.place(axis, share)
            .map((value) => value.toFixed(1))
            .join(" "),
        )
        .join("L");
      const node = shape("path", { class: isIn ? "crossing" : "crossing out", d: `M${d}`, "data-row": row });
      node.style.stroke = shade(0.15 + 0.85 * (good[row] ?? 0));
      lines.append(node);
    }
    this.svg.replaceChildren(lines, ...axes.map((_, axis) => this.axis(axis, ticks[axis] ?? [])));
    this.whole.hidden = !this.picked.size;
    const thinned = this.figure.one_in > 1 ? ` Shown: every ${this.figure.one_in}th.` : "";
    this.note.textContent = (this.picked.size ? `${inside} of ${rows.length} lines picked.` : "") + thinned;
  }

  axis(axis, ticks) {
    const x = this.at(axis);
    const name = this.figure.axes[axis];
    const letters = Math.max(8, Math.floor(this.at(1) - this.at(0)) / LETTER);
    const keys = "Up and down move what is picked, plus and minus widen and narrow it, 0 picks all.";
    const group = shape("g", {
      class: "axes parallel-axis",
      tabindex: 0,
      role: "slider",
      "aria-orientation": "vertical",
      "aria-label": `${name}. ${keys}`,
      "data-axis": axis,
    });
    fill(
      group,
      {
        "aria-valuemin": 0,
        "aria-valuemax": 1,
        "aria-valuenow": this.picked.get(axis)?.[1] ?? 1,
        "aria-valuetext": this.said(axis, ticks),
      },
      [],
    );
    group.append(
      shape("rect", { class: "catch", x: x - 14, y: this.top - 8, width: 28, height: this.bottom - this.top + 16 }),
    );
    group.append(shape("path", { class: "frame", d: `M${x} ${this.top}V${this.bottom}` }));
    const cut = name.length > letters ? `…${name.slice(1 - letters)}` : name; // the end of a dotted key tells most
    const isShort = (cut.length * LETTER) / 2 < 50;
    const side = isShort ? "middle" : axis === 0 ? "start" : axis === this.figure.axes.length - 1 ? "end" : "middle";
    const shift = { start: -50, end: 64, middle: 0 }[side];
    group.append(
      shape(
        "text",
        { class: "label", x: x + shift, y: axis % 2 && this.figure.axes.length > 4 ? 30 : 14, "text-anchor": side },
        shape("title", {}, name),
        cut,
      ),
    );
    for (const [share, text] of ticks)
      group.append(shape("text", { class: "tick", x: x + 5, y: this.place(axis, share)[1] + 4 }, text));
    if (this.figure.rows.some((row) => row[axis] === null))
      group.append(shape("text", { class: "tick", x: x + 5, y: this.bottom + 20 }, "does not count"));
    const range = this.picked.get(axis);
    if (range)
      group.append(
        shape("rect", {
          class: "taken",
          x: x - 7,
          y: this.place(axis, range[1])[1],
          width: 14,
          height: Math.max(3, (range[1] - range[0]) * (this.bottom - this.top)),
        }),
      );
    group.addEventListener("keydown", (event) => this.key(event, axis));
    return group;
  }

  said(axis, ticks) {
    const range = this.picked.get(axis);
    const near = (share) =>
      [...ticks].sort((one, other) => Math.abs(one[0] - share) - Math.abs(other[0] - share))[0]?.[1] ?? short(share, 2);
    return range ? `about ${near(range[0])} to ${near(range[1])}` : "all";
  }

  where(event) {
    const frame = this.svg.getBoundingClientRect();
    const ratio = this.svg.viewBox.baseVal.width / frame.width;
    return [(event.clientX - frame.left) * ratio, (event.clientY - frame.top) * ratio];
  }

  share(y) {
    return Math.max(0, Math.min(1, (this.bottom - y) / (this.bottom - this.top)));
  }

  down(event) {
    const [x, y] = this.where(event);
    const axis = this.figure.axes.findIndex((_, number) => Math.abs(this.at(number) - x) < 14);
    if (axis < 0 || event.button) return;
    this.from = { axis, y };
    this.svg.setPointerCapture(event.pointerId);
    event.preventDefault(); // no selection of text
  }

  move(event) {
    const [, y] = this.where(event);
    if (!this.from) return this.hover(event);
    if (Math.abs(y - this.from.y) < 4) return;
    this.pick(this.from.axis, this.share(Math.max(y, this.from.y)), this.share(Math.min(y, this.from.y)));
  }

  up(event) {
    if (this.from && Math.abs(this.where(event)[1] - this.from.y) < 4) this.pick(this.from.axis);
    this.from = null;
  }

  pick(axis, lo, hi) {
    if (lo === undefined) this.picked.delete(axis);
    else this.picked.set(axis, [lo, hi]);
    const held = document.activeElement?.dataset?.axis;
    this.redraw();
    if (held !== undefined) this.svg.querySelector(`[data-axis="${held}"]`)?.focus();
  }

  key(event, axis) {
    const [lo, hi] = this.picked.get(axis) ?? [0, 1];
    const changed = {
      ArrowUp: hi < 1 ? [lo + 0.1, hi + 0.1] : [Math.min(lo + 0.1, 0.9), 1],
      ArrowDown: lo > 0 ? [lo - 0.1, hi - 0.1] : [0, Math.max(hi - 0.1, 0.1)],
      "+": [lo - 0.1, hi + 0.1],
      "=": [lo - 0.1, hi + 0.1],
      "-": hi - lo > 0.25 ? [lo + 0.1, hi - 0.1] : [lo, hi],
    }[event.key];
    if (event.key !== "0" && event.key !== "Escape" && !changed) return;
    event.preventDefault();
    if (!changed) return this.pick(axis);
    const [low, high] = [Math.max(0, changed[0]), Math.min(1, changed[1])];
    this.pick(axis, ...(low <= 0 && high >= 1 ? [] : [low, high]));
  }

  hover(event) {
    const [px, py] = this.where(event);
    const part = Math.floor(((px - this.left) / (this.right - this.left)) * Math.max(1, this.figure.axes.length - 1));
    const axis = Math.max(0, Math.min(this.figure.axes.length - 2, part));
    let best = { far: 8 };
    this.figure.rows.forEach((row, at) => {
      if (row.length < 2 || !this.isIn(row)) return;
      const [[x0, y0], [x1, y1]] = [this.place(axis, row[axis]), this.place(axis + 1, row[axis + 1])];
      const far = Math.abs(y0 + ((px - x0) / (x1 - x0)) * (y1 - y0) - py);
      if (far < best.far) best = { far, at };
    });
    this.leave();
    if (best.at === undefined) return;
    const node = this.svg.querySelector(`[data-row="${best.at}"]`);
    node.classList.add("near");
    const [title, ...rest] = this.figure.texts[best.at].split("\n");
    showTip(
      event.clientX,
      event.clientY,
      title,
      rest.map((text) => ({ text })),
    );
  }

  leave() {
    hideTip();
    this.svg.querySelector(".crossing.near")?.classList.remove("near");
  }
}
