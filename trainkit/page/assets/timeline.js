// Bars from left to right in lanes, which are zoomed along the time alone.

class TimelineFigure extends Plane {
  constructor(host, figure) {
    super(host, figure.title, { height: Math.min(640, 60 + 24 * Math.max(1, figure.lanes.length)), fixedY: true });
    this.figure = figure;
    const keys = legend(figure.spans.map(([, , , , group]) => [group, "points"]));
    if (keys) host.append(keys);
    if (figure.one_in > 1) host.append(make("p", { class: "small" }, `Shown: every ${figure.one_in}th bar.`));
  }

  view(zoom) {
    const { lanes, spans } = this.figure;
    this.spans = spans.filter(([, start, end, , group]) => start !== null && end !== null && !own.hidden.has(group));
    const x = around(
      this.spans.flatMap(([, start, end]) => [start, end]),
      false,
      0.02,
    );
    const stride = Math.ceil((lanes.length * 13) / this.height);
    const named = lanes.map((lane, at) => [-at, lane]).filter((_, at) => at % stride === 0);
    return {
      x: { ...zoomed({ ...x, lo: Math.max(0, x.lo) }, zoom.x), label: "time", seconds: true },
      y: { lo: 0.5 - Math.max(1, lanes.length), hi: 0.5, ticks: named },
    };
  }

  paint(layer, sx, sy) {
    const tall = Math.max(3, Math.min(18, (sy.at(0) - sy.at(1)) * 0.8));
    for (const [lane, start, end, text, group] of this.spans) {
      const [from, to] = [sx.at(start), sx.at(end)];
      const node = shape("rect", {
        class: "span",
        x: from.toFixed(1),
        y: (sy.at(-lane) - tall / 2).toFixed(1),
        width: Math.max(1.5, to - from).toFixed(1),
        height: tall,
        rx: 2,
      });
      layer.append(painted(node, group < 0 ? 0 : group));
      if (text.length * LETTER < to - from - 6 && tall >= 14)
        layer.append(
          shape("text", { class: "span-text", x: Math.max(from, this.box.left) + 4, y: sy.at(-lane) + 4 }, text),
        );
    }
  }

  near(px, py, sx, sy) {
    const time = sx.back(px);
    const lane = -Math.round(sy.back(py));
    const pick =
      this.cursor === null
        ? ([at, start, end]) => at === lane && time >= start && time <= end
        : ([, start, end]) => time >= start && time <= end;
    const found = this.spans.filter(pick);
    if (!found.length) return null;
    const rows = found
      .slice(0, MOST_NAMED)
      .map(([at, start, end, text, group]) => ({
        name: group < 0 ? 0 : group,
        text: `${this.figure.lanes[at]}: ${text}`,
        value: `${duration(start)} to ${duration(end)} (${duration(end - start)})`,
      }));
    return {
      title: `at ${duration(time)}`,
      rows,
      marks: [shape("path", { class: "cursor", d: `M${px} ${this.box.top}V${this.box.bottom}` })],
    };
  }
}
