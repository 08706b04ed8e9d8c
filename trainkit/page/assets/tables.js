// Tables: a click on a column's name sorts by it, a click on a curve's mark switches that curve.

const drawnNames = new Set(
  data.figures.flatMap(({ lines = [], points = [], spans = [] }) => [
    ...lines.map(({ name }) => name),
    ...points.map((point) => point[3]),
    ...spans.map((span) => span[4]),
  ]),
);
const collator = new Intl.Collator(undefined, { numeric: true });

function setUpTable(table) {
  const heads = [...table.querySelectorAll("thead th")];
  heads.forEach((head, column) => {
    const name = head.textContent || "column";
    const node = button(name, { class: "sort", title: "sort by this column" }, () => {
      sortBy(table, column, head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending");
    });
    head.replaceChildren(node);
  });
  for (const mark of table.querySelectorAll("span.key[data-name]")) {
    const name = data.names.indexOf(mark.dataset.name);
    if (drawnNames.has(name)) mark.replaceWith(keyOf(name, "solid", ""));
  }
  // The whole number, once it is asked for: in the page itself it would weigh much.
  table.addEventListener("pointerover", ({ target }) => {
    if (target.dataset.v) target.title = target.dataset.v;
  });
}

function sortBy(table, column, order) {
  const body = table.tBodies[0];
  const sign = order === "ascending" ? 1 : -1;
  const rows = [...body.rows].map((row) => [row, valueOf(row.cells[column])]);
  rows.sort(([, one], [, other]) => compare(one, other, sign));
  body.append(...rows.map(([row]) => row));
  for (const head of table.querySelectorAll("thead th")) head.removeAttribute("aria-sort");
  table.tHead.rows[0].cells[column].setAttribute("aria-sort", order);
  table.dataset.sorted = `${column} ${order}`;
}

function valueOf(cell) {
  const text = (cell.dataset.v ?? cell.textContent).trim();
  if (!cell.classList.contains("r")) return text || null;
  const value = Number(text.replace("inf", "Infinity"));
  return text === "" || Number.isNaN(value) ? null : value;
}

// What is empty stands last whichever way.
function compare(one, other, sign) {
  if (one === null || other === null) return (one === null) - (other === null);
  return sign * (typeof one === "number" ? Math.sign(one - other) || 0 : collator.compare(one, other));
}
