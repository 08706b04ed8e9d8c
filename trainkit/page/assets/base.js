// What all parts share: the data, elements made without markup, colours, what the reader chose, and the hover box.
// Text gets into the page through textContent and attributes alone, so that none of it can become markup.

const data = JSON.parse(document.getElementById("data").textContent);

const own = { axis: "", smoothing: 0, hidden: new Set() }; // what the reader chose; hidden: numbers of names
const drawn = []; // every figure: { redraw(), state(), restore(state) }

function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function shape(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

function button(text, attributes, act) {
  const node = make("button", { type: "button", ...attributes }, text);
  node.addEventListener("click", act);
  return node;
}

// The colour of a name, the same in all figures: ten that colour-blind readers tell apart, then others around the wheel.
function colour(name) {
  if (name < 0) return "var(--ink-2)";
  if (name < 10) return `var(--c${name})`;
  const hue = Math.round(name * 137.508) % 360;
  return `light-dark(hsl(${hue} 65% 36%), hsl(${hue} 70% 68%))`;
}

function painted(node, name) {
  node.style.color = colour(name); // through the object model: the page's policy forbids style attributes
  return node;
}

// From the colour of the least (0) to that of the most (1), in the reader's light or dark.
function shade(share) {
  return `color-mix(in oklab, var(--most) ${(100 * share).toFixed(1)}%, var(--least))`;
}

let waiting = false;
function redrawAll() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    for (const figure of drawn) figure.redraw();
  });
}

// Drawn again where the room for it changes, a frame later: within the observer's own call the browser complains.
function onResize(host, figure) {
  const look = () => {
    if (Math.abs(host.clientWidth - figure.width) > 1) figure.redraw();
  };
  new ResizeObserver(() => requestAnimationFrame(look)).observe(host);
}

function toggle(name, alone) {
  const others = data.names.map((_, index) => index).filter((index) => index !== name);
  if (alone) {
    const only = !own.hidden.has(name) && others.every((index) => own.hidden.has(index));
    own.hidden = new Set(only ? [] : others);
  } else if (!own.hidden.delete(name)) {
    own.hidden.add(name);
  }
  redrawAll();
  showKeys();
}

// A name that switches its curves off and on again, wherever they are; with Shift it leaves them alone.
function keyOf(name, style, text) {
  const sample = shape("svg", { class: "sample", viewBox: "0 0 22 10", width: 22, height: 10, "aria-hidden": "true" });
  sample.append(shape("path", { d: "M1 5H21", class: `line ${style || "solid"}` }));
  if (style === "points" || style === "dots")
    sample.replaceChildren(shape("circle", { cx: 11, cy: 5, r: 4, fill: "currentColor" }));
  const label = make("span", { class: "name" }, text ?? data.names[name]);
  const title = "click: switch off or on; with Shift: this one alone";
  const node = button("", { class: "key", title, "data-key": name }, (event) => toggle(name, event.shiftKey));
  if (text === "") node.setAttribute("aria-label", `show ${data.names[name]}`);
  node.append(painted(sample, name), label);
  return node;
}

function showKeys() {
  const all = document.getElementById("all");
  if (all) all.disabled = !own.hidden.size;
  for (const node of document.querySelectorAll("button[data-key]")) {
    node.setAttribute("aria-pressed", String(!own.hidden.has(Number(node.dataset.key))));
  }
}

function legend(entries) {
  const styles = new Map(); // of one name the first's
  for (const [name, style] of entries) if (name >= 0 && !styles.has(name)) styles.set(name, style);
  const names = [...styles];
  if (!names.length) return null;
  return make(
    "div",
    { class: "legend", role: "group", "aria-label": "curves" },
    ...names.map(([name, style]) => keyOf(name, style)),
  );
}

// The box beside the pointer, and what is read out to those who move with the keyboard.
const tip = make("div", { id: "tip", hidden: true, "aria-hidden": "true" });
const said = make("div", { id: "said", "aria-live": "polite" });
document.body.append(tip, said);

function showTip(x, y, title, rows) {
  const lines = rows.map((row) => {
    const swatch = painted(make("span", { class: "swatch" }), row.name ?? -1);
    const cells = [make("span", {}, row.text), make("b", {}, row.value ?? "")];
    return make("div", { class: row.near ? "near" : "" }, ...(row.name === undefined ? [] : [swatch]), ...cells);
  });
  tip.replaceChildren(make("div", { class: "at" }, title), ...lines);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = x + 16 + width > innerWidth ? x - 16 - width : x + 16;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, Math.min(y + 12, innerHeight - height - 4))}px`;
}

function hideTip() {
  tip.hidden = true;
}

function say(title, rows) {
  said.textContent = [title, ...rows.map((row) => `${row.text} ${row.value ?? ""}`)].join("; ");
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") hideTip();
});
document.addEventListener("scroll", hideTip, { passive: true });
