// The table: a line for each method, which can be sorted by any measure; a figure opens the runs that it is made of.

const names = Object.keys(data.columns);
const state = { by: null, isReversed: false };
const titled = (column) => [swatch(data.columns[column].look), ` ${data.columns[column].title}`];

// Best first; of a measure of which neither direction is better, largest first. What has no figure comes last.
function sorted() {
  if (state.by === null) return names;
  const { cells, higherIsBetter } = data.rows[state.by];
  const sign = (higherIsBetter === false ? 1 : -1) * (state.isReversed ? -1 : 1);
  const order = (a, b) => {
    const [one, other] = [cells[a].mean, cells[b].mean];
    if (one === null || other === null) return (one === null) - (other === null);
    return sign * (one - other);
  };
  return [...names].sort(order);
}

function sortBy(row) {
  if (state.by !== row) Object.assign(state, { by: row, isReversed: false });
  else if (!state.isReversed) state.isReversed = true;
  else Object.assign(state, { by: null, isReversed: false });
  drawTable();
  element("figures").querySelector(`[data-row="${CSS.escape(row)}"]`).focus();
}

function heading(row) {
  const isSorted = state.by === row;
  const isUp = (data.rows[row].higherIsBetter === false) !== state.isReversed;
  const button = make("button", { type: "button", "data-row": row }, `${data.rows[row].title}${isSorted ? (isUp ? " \u25b4" : " \u25be") : ""}`);
  button.addEventListener("click", () => sortBy(row));
  return make("th", { scope: "col", "aria-sort": isSorted ? (isUp ? "ascending" : "descending") : "none" }, button);
}

function cellOf(row, column) {
  const cell = data.rows[row].cells[column];
  const button = make("button", { type: "button", class: cell.isBold ? "best" : "", "data-cell": `${row} ${column}` }, cell.figure);
  button.addEventListener("click", () => showRuns(row, column));
  const below = [...cell.remarks, ...(cell.published === null ? [] : [`published ${cell.published}`])];
  return make("td", {}, button, ...below.map((remark) => make("div", { class: "note" }, remark)));
}

function drawTable() {
  const rows = Object.keys(data.rows);
  const lines = sorted().map((column) =>
    make("tr", {}, make("th", { scope: "row" }, ...titled(column)), ...rows.map((row) => cellOf(row, column))),
  );
  const head = make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "method"), ...rows.map(heading)));
  element("figures").replaceChildren(
    make("p", { class: "note" }, "A measure's name sorts by it; a figure shows its seeds, and the folders and commands of their runs."),
    make("div", { class: "scroll" }, make("table", { class: "figures" }, head, make("tbody", {}, ...lines))),
    make("ul", { class: "note" }, ...data.legend.map((line) => make("li", {}, line))),
  );
}

function jobOf(key) {
  const job = data.jobs[key];
  const name = job.folder === null ? make("span", {}, job.name) : make("a", { href: job.folder }, job.name);
  return make("details", {}, make("summary", {}, name, job.state === "done" ? "" : `, ${job.state}`), make("code", {}, job.command));
}

function showRuns(row, column) {
  const dialog = element("runs");
  const { seeds, figure } = data.rows[row].cells[column];
  const close = make("button", { type: "button", class: "close", "aria-label": "Close" }, "\u00d7");
  close.addEventListener("click", () => dialog.close());
  const lines = seeds.map(([seed, value]) =>
    make("tr", {}, make("td", {}, String(seed)), make("td", {}, value), make("td", {}, ...(data.made[row]?.[column]?.[seed] ?? []).map(jobOf))),
  );
  const head = ["seed", "figure", "runs, with their commands"].map((name) => make("th", { scope: "col" }, name));
  dialog.replaceChildren(
    close,
    make("h2", { id: "runs-of" }, ...titled(column), `: ${data.rows[row].title}`),
    make("p", {}, figure),
    make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...lines))),
  );
  dialog.showModal();
}
