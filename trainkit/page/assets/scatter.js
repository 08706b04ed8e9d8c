// Points in a plane, by group.

const REACH = 30; // CSS pixels within which a point is hovered over

class ScatterFigure extends Plane {
  constructor(host, figure) {
    super(host, figure.title, { height: 320 });
    this.figure = figure;
    const keys = legend(figure.points.map(([, , , group]) => [group, "points"]));
    if (keys) host.append(keys);
    if (figure.one_in > 1) host.append(make("p", { class: "small" }, `Shown: every ${figure.one_in}th point.`));
  }

  view(zoom) {
    const { figure } = this;
    const named = figure.ticksX;
    const log = figure.logX && !named.length; // choices lie evenly
    this.points = figure.points.filter(
      ([x, y, , group]) => fits(x, y) && !(log && x <= 0) && !own.hidden.has(group),
    );
    const x = around([...this.points.map((point) => point[0]), ...named.map(([at]) => at)], log, 0.06);
    if (named.length) Object.assign(x, { lo: x.lo - 0.3, hi: x.hi + 0.3, ticks: named });
    const y = around(
      this.points.map((point) => point[1]),
      false,
      0.06,
    );
    return { x: { ...zoomed(x, zoom.x), label: figure.x }, y: { ...zoomed(y, zoom.y), label: figure.y } };
  }

  paint(layer, sx, sy) {
    const joined = this.figure.path ? data.names.indexOf(this.figure.path) : -1;
    const on = this.points.filter(([, , , group]) => joined >= 0 && group === joined);
    if (on.length)
      layer.append(
        painted(
          shape("path", {
            class: "line",
            d: path(
              on.map(([x]) => x),
              on.map(([, y]) => y),
              sx,
              sy,
            ),
          }),
          joined,
        ),
      );
    for (const [x, y, , group] of this.points) {
      layer.append(
        painted(
          shape("circle", {
            class: "point",
            cx: sx.at(x).toFixed(1),
            cy: sy.at(y).toFixed(1),
            r: group === joined && group >= 0 ? 5 : 4,
          }),
          group < 0 ? 0 : group,
        ),
      );
    }
  }

  near(px, py, sx, sy) {
    let best = null;
    for (const [x, y, text, group] of this.points) {
      const place = [sx.at(x), sy.at(y)];
      const far = this.cursor === null ? Math.hypot(place[0] - px, place[1] - py) : Math.abs(place[0] - px);
      if (far < (best?.far ?? (this.cursor === null ? REACH : Infinity))) best = { far, place, x, y, text, group };
    }
    if (!best) return null;
    const { figure } = this;
    const choice = figure.ticksX.find(([at]) => Math.abs(at - best.x) < 0.5);
    const rows = [
      { text: figure.x || "x", value: choice?.[1] ?? short(best.x) },
      { text: figure.y || "y", value: short(best.y) },
    ];
    const marks = [shape("circle", { class: "ring", cx: best.place[0], cy: best.place[1], r: 8 })];
    return { title: best.text || (best.group >= 0 ? data.names[best.group] : ""), rows, marks };
  }

  step(sign) {
    // from point to point, from left to right
    const places = this.points.map(([x]) => this.sx.at(x)).sort((one, other) => one - other);
    const at = this.cursor ?? (sign > 0 ? -Infinity : Infinity);
    const next = sign > 0 ? places.find((place) => place > at + 0.01) : places.findLast((place) => place < at - 0.01);
    this.cursor = next ?? this.cursor;
  }
}
