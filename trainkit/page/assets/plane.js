// A figure with two axes: draws them, zooms (drag, double click, keys) and hovers. Kinds of figures fill it.

const LETTER = 6.6; // CSS pixels that a letter of an axis takes, about
let planes = 0;

class Plane {
  // view(zoom) -> { x: side, y: side }, side = { lo, hi, log, label, ticks?, seconds? }
  // paint(layer, sx, sy) draws; near(px, py, sx, sy) -> { x, y, title, rows, marks } or null
  constructor(host, title, { height = 300, fixedY = false } = {}) {
    Object.assign(this, { host, title, height, fixedY, zoom: { x: null, y: null }, cursor: null, width: 0 });
    this.clip = `clip-${++planes}`;
    const keys = "Arrow keys move along it, plus and minus zoom, 0 shows all of it.";
    this.svg = shape("svg", {
      class: "plane",
      tabindex: 0,
      role: "application",
      "aria-roledescription": "figure",
      "aria-label": `${title}. ${keys}`,
    });
    this.tools = make("div", { class: "figure-tools" });
    this.whole = button("whole", { class: "whole", title: "show all of it again (double click)", hidden: true }, () =>
      this.reset(),
    );
    this.tools.append(this.whole);
    host.before(this.tools);
    host.append(this.svg);
    this.listen();
    onResize(host, this);
    drawn.push(this);
  }

  state() {
    return { zoom: this.zoom };
  }

  restore(state) {
    this.zoom = state.zoom;
  }

  reset() {
    this.zoom = { x: null, y: null };
    this.redraw();
  }

  redraw() {
    this.width = this.host.clientWidth;
    const width = Math.max(240, this.width);
    const { x, y } = this.view(this.zoom);
    const upright = y.ticks ?? ticks(y, this.height / 50);
    const longest = Math.max(2, ...upright.map(([, text]) => Math.min(text.length, 24)));
    const left = Math.min(width / 2.5, 12 + LETTER * longest);
    const box = { left, right: width - 14, top: y.label ? 22 : 10, bottom: this.height - 36 };
    this.box = box;
    this.sx = scale(x, box.left, box.right);
    this.sy = scale(y, box.bottom, box.top);
    this.level = x;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${this.height}`);
    const clip = shape(
      "clipPath",
      { id: this.clip },
      shape("rect", { x: box.left, y: box.top - 3, width: box.right - box.left, height: box.bottom - box.top + 6 }),
    );
    const layer = shape("g", { "clip-path": `url(#${this.clip})` });
    this.over = shape("g", { class: "over", "clip-path": `url(#${this.clip})` });
    this.svg.replaceChildren(clip, this.grid(x, y, upright, width), layer, this.over);
    this.paint(layer, this.sx, this.sy);
    this.whole.hidden = !this.zoom.x && !this.zoom.y;
  }

  grid(x, y, upright, width) {
    const { left, right, top, bottom } = this.box;
    const group = shape("g", { class: "axes", "aria-hidden": "true" });
    for (const [value, text] of upright) {
      const place = this.sy.at(value);
      if (place < top - 1 || place > bottom + 1) continue;
      group.append(shape("path", { class: "grid", d: `M${left} ${place.toFixed(1)}H${right}` }));
      const short = text.length > 24 ? `${text.slice(0, 23)}…` : text;
      group.append(shape("text", { x: left - 6, y: place + 4, "text-anchor": "end" }, short));
    }
    const [, size, mark] = x.seconds ? timeUnit(Math.max(Math.abs(x.lo), Math.abs(x.hi))) : [0, 1, ""];
    const across =
      x.ticks ??
      ticks({ ...x, lo: x.lo / size, hi: x.hi / size }, (right - left) / 80).map(([at, text]) => [at * size, text]);
    let free = -Infinity;
    for (const [value, text] of across) {
      const place = this.sx.at(value);
      if (place < left - 1 || place > right + 1) continue;
      group.append(shape("path", { class: "grid", d: `M${place.toFixed(1)} ${top}V${bottom}` }));
      const half = (text.length * LETTER) / 2;
      if (place - half < free) continue; // names that would lie on one another are left out
      free = place + half + 4;
      group.append(
        shape(
          "text",
          { x: Math.max(half, Math.min(place, width - half)), y: bottom + 16, "text-anchor": "middle" },
          text,
        ),
      );
    }
    group.append(shape("path", { class: "frame", d: `M${left} ${top}V${bottom}H${right}` }));
    const below = mark ? `${x.label}, ${mark}` : x.label;
    group.append(
      shape("text", { class: "label", x: (left + right) / 2, y: this.height - 5, "text-anchor": "middle" }, below),
    );
    if (y.label) group.append(shape("text", { class: "label", x: 2, y: 12 }, y.label));
    return group;
  }

  place(event) {
    const frame = this.svg.getBoundingClientRect();
    const ratio = Math.max(240, this.width) / frame.width;
    return [(event.clientX - frame.left) * ratio, (event.clientY - frame.top) * ratio];
  }

  listen() {
    let from = null;
    const { svg } = this;
    svg.addEventListener("pointerdown", (event) => {
      const [x, y] = this.place(event);
      if (event.pointerType === "touch") this.hover(x, y, event.clientX, event.clientY);
      if (event.button || event.pointerType === "touch" || x < this.box.left - 4 || y > this.box.bottom + 4) return;
      from = [x, y];
      svg.setPointerCapture(event.pointerId);
    });
    svg.addEventListener("pointermove", (event) => {
      const [x, y] = this.place(event);
      if (from) this.frame(from, [x, y]);
      else this.hover(x, y, event.clientX, event.clientY);
    });
    svg.addEventListener("pointerup", (event) => {
      if (from) this.zoomTo(from, this.place(event));
      from = null;
    });
    svg.addEventListener("pointercancel", () => {
      from = null;
      this.leave();
    });
    svg.addEventListener("pointerleave", () => {
      if (!from) this.leave();
    });
    svg.addEventListener("blur", () => {
      this.cursor = null;
      this.leave();
    });
    svg.addEventListener("dblclick", (event) => {
      event.preventDefault();
      this.reset();
    });
    svg.addEventListener("keydown", (event) => this.key(event));
  }

  leave() {
    hideTip();
    this.over.replaceChildren();
  }

  // What a drag takes in: a stretch of one axis if it went along it, else a box.
  taken([x0, y0], [x1, y1]) {
    const { left, right, top, bottom } = this.box;
    const within = (value, least, most) => Math.max(least, Math.min(most, value));
    const [wide, tall] = [Math.abs(x1 - x0), Math.abs(y1 - y0)];
    const flat = this.fixedY || tall < 16 || tall < wide / 8;
    const steep = !this.fixedY && !flat && wide < tall / 8;
    return {
      x: steep ? null : [within(Math.min(x0, x1), left, right), within(Math.max(x0, x1), left, right)],
      y: flat ? null : [within(Math.min(y0, y1), top, bottom), within(Math.max(y0, y1), top, bottom)],
    };
  }

  frame(from, to) {
    hideTip();
    const { left, right, top, bottom } = this.box;
    const { x, y } = this.taken(from, to);
    const [[x0, x1], [y0, y1]] = [x ?? [left, right], y ?? [top, bottom]];
    this.over.replaceChildren(shape("rect", { class: "taken", x: x0, y: y0, width: x1 - x0, height: y1 - y0 }));
  }

  zoomTo(from, to) {
    this.over.replaceChildren();
    const { x, y } = this.taken(from, to);
    if ((x ? x[1] - x[0] : 0) < 5 && (y ? y[1] - y[0] : 0) < 5) return;
    if (x) this.zoom.x = [this.sx.back(x[0]), this.sx.back(x[1])];
    if (y) this.zoom.y = [this.sy.back(y[1]), this.sy.back(y[0])];
    this.redraw();
  }

  hover(px, py, clientX, clientY, aloud) {
    const found = px < this.box.left - 8 || py > this.box.bottom + 12 ? null : this.near(px, py, this.sx, this.sy);
    if (!found) return this.leave();
    this.over.replaceChildren(...found.marks);
    showTip(clientX, clientY, found.title, found.rows);
    if (aloud) say(found.title, found.rows);
  }

  key(event) {
    const { left, right, top, bottom } = this.box;
    const middle = this.cursor ?? (left + right) / 2;
    const sign = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (sign && event.shiftKey) this.stretch(left + (sign * (right - left)) / 4, right + (sign * (right - left)) / 4);
    else if (sign) this.step(sign);
    else if (event.key === "+" || event.key === "=")
      this.stretch(middle - (right - left) / 4, middle + (right - left) / 4);
    else if (event.key === "-") this.stretch(middle - (right - left), middle + (right - left));
    else if (event.key === "0" || event.key === "Home") this.reset();
    else return;
    event.preventDefault();
    if (this.cursor === null) return;
    const frame = this.svg.getBoundingClientRect();
    const ratio = frame.width / Math.max(240, this.width);
    const height = (top + bottom) / 2;
    this.hover(this.cursor, height, frame.left + this.cursor * ratio, frame.top + height * ratio, true);
  }

  step(sign) {
    const { left, right } = this.box;
    const by = (right - left) / 50;
    this.cursor =
      this.cursor === null ? (sign > 0 ? left : right) : Math.max(left, Math.min(right, this.cursor + sign * by));
  }

  // Zoom to what lies between two places, as far as there is something.
  stretch(from, to) {
    const all = this.view({ x: null, y: null }).x;
    const [lo, hi] = [Math.max(all.lo, this.sx.back(from)), Math.min(all.hi, this.sx.back(to))];
    if (!(hi > lo)) return;
    this.zoom = lo <= all.lo && hi >= all.hi ? { x: null, y: null } : { x: [lo, hi], y: this.zoom.y };
    this.redraw();
  }
}

function zoomed(side, range) {
  return range ? { ...side, lo: range[0], hi: range[1] } : side;
}
