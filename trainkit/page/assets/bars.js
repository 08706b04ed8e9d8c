// A bar for each name, lying, so that long names can be read.

class BarsFigure {
  constructor(host, figure) {
    Object.assign(this, { host, figure, width: 0 });
    this.svg = shape("svg", {
      class: "plain",
      role: "img",
      "aria-label": `${figure.title}: ${figure.names.map((name, at) => `${name} ${short(figure.values[at])}`).join(", ")}`,
    });
    host.append(this.svg);
    onResize(host, this);
    this.svg.addEventListener("pointerleave", hideTip);
    drawn.push(this);
  }

  redraw() {
    const { names, values, low, high, unit, dots } = this.figure;
    this.width = this.host.clientWidth;
    const [width, height] = [Math.max(240, this.width), names.length * 26 + 40];
    const longest = Math.max(3, ...names.map((name) => name.length));
    const left = Math.min(width * 0.45, 14 + longest * 7);
    const all = [...(dots ? [] : [0]), ...values, ...low, ...high].filter((value) => value !== null);
    const [lo, hi] = all.length ? [Math.min(...all), Math.max(...all)] : [0, 1];
    const ends = dots ? around(all, false, 0.05) : { lo, hi: hi > lo ? hi : lo + 1 };
    const sx = scale(ends, left + (!dots && lo < 0 ? 44 : 0), width - 64);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const group = shape("g", { class: "axes" });
    for (const [value, text] of evenTicks(sx.lo, sx.hi, (width - left) / 90)) {
      const place = sx.at(value);
      group.append(shape("path", { class: "grid", d: `M${place} 4V${height - 34}` }));
      group.append(shape("text", { x: place, y: height - 20, "text-anchor": "middle" }, text));
    }
    if (unit)
      group.append(
        shape("text", { class: "label", x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, unit),
      );
    const letters = Math.floor((left - 14) / 7);
    names.forEach((name, at) => {
      const [value, y] = [values[at], 6 + at * 26];
      const row = shape("g", { class: "bar" }, shape("rect", { class: "catch", x: 0, y: y - 3, width, height: 26 }));
      const cut = name.length > letters ? `${name.slice(0, letters - 1)}…` : name;
      row.append(shape("text", { class: "bar-name", x: left - 8, y: y + 14, "text-anchor": "end" }, cut));
      if (value !== null) {
        const [from, to] = dots ? [sx.at(value), sx.at(value)] : [sx.at(Math.min(0, value)), sx.at(Math.max(0, value))];
        const mark = dots
          ? shape("circle", { cx: from, cy: y + 10, r: 5, fill: "currentColor" })
          : shape("rect", {
              x: from,
              y,
              width: Math.max(1, to - from),
              height: 20,
              fill: "currentColor",
              opacity: 0.8,
            });
        row.append(painted(mark, 0));
        const edge = Math.max(to, high[at] === undefined || high[at] === null ? -Infinity : sx.at(high[at]));
        row.append(shape("text", { x: edge + 6, y: y + 14 }, short(value)));
      }
      if (low[at] !== undefined && low[at] !== null && high[at] !== null) {
        const [from, to] = [sx.at(low[at]), sx.at(high[at])];
        row.append(
          shape("path", { class: "whisker", d: `M${from} ${y + 5}v10M${from} ${y + 10}H${to}M${to} ${y + 5}v10` }),
        );
      }
      row.addEventListener("pointermove", (event) => {
        const rows = [{ text: unit || "value", value: short(value, 6) }];
        if (low[at] !== undefined) rows.push({ text: "interval", value: `${short(low[at])} to ${short(high[at])}` });
        showTip(event.clientX, event.clientY, name, rows);
      });
      group.append(row);
    });
    this.svg.replaceChildren(group);
  }
}
