// Tables: a click on a column's name sorts by it, a click on a curve's mark switches that curve.

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
    if (name >= 0) mark.replaceWith(keyOf(name, "solid", ""));
  }
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
  if (cell.dataset.value !== undefined) {
    const value = Number(cell.dataset.value.replace("inf", "Infinity"));
    return Number.isNaN(value) ? null : value;
  }
  return cell.textContent.trim() || null;
}

// What is empty stands last whichever way; numbers stand before words.
function compare(one, other, sign) {
  if (one === null || other === null) return (one === null) - (other === null);
  if (typeof one !== typeof other) return typeof one === "number" ? -1 : 1;
  return sign * (typeof one === "number" ? Math.sign(one - other) || 0 : collator.compare(one, other));
}
