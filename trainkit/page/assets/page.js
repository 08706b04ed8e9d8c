// The page as a whole: its tools, its figures, and what it remembers when it reads itself anew.

const KINDS = {
  curves: CurvesFigure,
  scatter: ScatterFigure,
  bars: BarsFigure,
  heatmap: HeatmapFigure,
  parallel: ParallelFigure,
  timeline: TimelineFigure,
};
const root = document.documentElement;
const MEMORY = `trainkit ${location.pathname}`;
const tools = document.getElementById("tools");
const tables = [...document.querySelectorAll("table")];

// Storage is refused in some browsers' private windows: then nothing is remembered.
function remembered(store, key) {
  try {
    return JSON.parse(globalThis[store].getItem(key));
  } catch {
    return null;
  }
}

function remember(store, key, value) {
  try {
    globalThis[store].setItem(key, JSON.stringify(value));
  } catch {
    return;
  }
}

function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function themeTool() {
  const chosen = remembered("localStorage", "trainkit theme");
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  const node = button("dark", { id: "theme", title: "dark or light" }, () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember("localStorage", "trainkit theme", root.dataset.theme);
    show();
  });
  const show = () => node.setAttribute("aria-pressed", String(isDark()));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  show();
  return node;
}

function axisTool(figures) {
  const offered = new Set(figures.flatMap((figure) => (figure.lines ?? []).flatMap((line) => Object.keys(line.x))));
  const axes = AXES.filter((axis) => offered.has(axis));
  const first = figures.map((figure) => figure.first).find((axis) => axes.includes(axis));
  own.axis = axes.includes(own.axis) ? own.axis : (first ?? axes[0] ?? "");
  if (axes.length < 2) return [];
  const choice = make(
    "select",
    { id: "axis" },
    ...axes.map((axis) => make("option", { value: axis }, LABELS[axis] ?? axis)),
  );
  choice.value = own.axis;
  choice.addEventListener("change", () => {
    own.axis = choice.value;
    redrawAll();
  });
  return [make("label", { for: "axis" }, "against "), choice];
}

function smoothingTool(figures) {
  if (!figures.some((figure) => figure.kind === "curves" && figure.smooth && figure.lines.length)) return [];
  const slider = make("input", { id: "smoothing", type: "range", min: 0, max: 0.99, step: 0.01, value: own.smoothing });
  const shown = make("output", { for: "smoothing" }, own.smoothing.toFixed(2));
  slider.addEventListener("input", () => {
    own.smoothing = Number(slider.value);
    shown.textContent = own.smoothing.toFixed(2);
    redrawAll();
  });
  return [make("label", { for: "smoothing" }, "smoothing "), slider, shown];
}

function showAllTool() {
  if (!data.names.length) return [];
  return [
    button("all curves", { id: "all", title: "switch all curves on" }, () => {
      own.hidden.clear();
      redrawAll();
      showKeys();
    }),
  ];
}

function reloadTool() {
  if (!data.reload) return [];
  let on = remembered("sessionStorage", `${MEMORY} paused`) !== true;
  const again = () => {
    if (on && !document.hidden && !document.querySelector(":active")) location.reload();
  };
  setInterval(again, Math.max(0.5, data.reload) * 1000);
  const node = button("", { id: "pause", title: "the page reads itself anew while the run goes on" }, () => {
    on = !on;
    remember("sessionStorage", `${MEMORY} paused`, !on);
    show();
  });
  const show = () => {
    node.textContent = on ? "pause" : "go on";
  };
  show();
  return [make("span", { class: "live" }, `live, every ${Math.max(1, Math.round(data.reload))} s `), node];
}

function setUp() {
  const again = performance.getEntriesByType("navigation")[0]?.type === "reload";
  const kept = again ? remembered("sessionStorage", MEMORY) : null;
  if (kept)
    Object.assign(own, kept.own, {
      hidden: new Set(kept.hidden.map((name) => data.names.indexOf(name)).filter((name) => name >= 0)),
    });
  const { figures } = data;
  const parts = [axisTool(figures), smoothingTool(figures), showAllTool(), reloadTool(), [themeTool()]];
  tools.append(...parts.filter((part) => part.length).map((part) => make("span", { class: "tool" }, ...part)));
  if (figures.some(({ kind }) => kind === "curves")) {
    const text =
      "Drag over a figure to zoom, double-click to go back; click a name to switch its curve off, with Shift to see it alone. Keys: arrows move, + and − zoom, 0 shows all.";
    tools.append(make("span", { class: "hint" }, text));
  }
  tools.hidden = false;
  tables.forEach(setUpTable);
  for (const host of document.querySelectorAll("figure[data-figure]")) setUpFigure(host);
  if (kept) restore(kept);
  showKeys();
  for (const figure of drawn) figure.redraw();
  if (kept) scrollTo(0, kept.scroll);
}

function setUpFigure(host) {
  const figure = data.figures[Number(host.dataset.figure)];
  try {
    const made = new KINDS[figure.kind](host.querySelector(".drawn"), figure);
    made.memory = `${figure.kind} ${figure.title}`;
  } catch (error) {
    host
      .querySelector(".drawn")
      .append(make("p", { class: "tone bad" }, `This figure cannot be drawn: ${error.message}`));
    console.error(error);
  }
}

function restore(kept) {
  for (const figure of drawn) if (kept.figures[figure.memory]) figure.restore?.(kept.figures[figure.memory]);
  tables.forEach((table, number) => {
    const [column, order] = (kept.sorted[number] ?? "").split(" ");
    if (order && Number(column) < table.tHead.rows[0].cells.length) sortBy(table, Number(column), order);
  });
  document.querySelectorAll("details").forEach((node, number) => {
    node.open = kept.open[number] ?? node.open;
  });
}

addEventListener("pagehide", () => {
  remember("sessionStorage", MEMORY, {
    own: { axis: own.axis, smoothing: own.smoothing },
    hidden: [...own.hidden].map((name) => data.names[name]),
    figures: Object.fromEntries(
      drawn.filter((figure) => figure.state).map((figure) => [figure.memory, figure.state()]),
    ),
    sorted: tables.map((table) => table.dataset.sorted ?? ""),
    open: [...document.querySelectorAll("details")].map((node) => node.open),
    scroll: scrollY,
  });
});

setUp();
