// What the runs are and found, as tables: a column for each run.

const several = data.runs.length > 1;

function head(...first) {
  const names = several ? data.runs.map((run) => make("th", { scope: "col" }, swatch(run.look), ` ${run.name}`)) : [make("th", { scope: "col" }, "value")];
  return make("thead", {}, make("tr", {}, ...first.map((name) => make("th", { scope: "col" }, name)), ...names));
}

function table(heading, lines) {
  const rows = lines.map(({ cells, look = "" }) => {
    const [first, ...rest] = cells;
    return make("tr", { class: look }, make("th", { scope: "row" }, first), ...rest.map((cell) => make("td", {}, cell)));
  });
  return make("div", { class: "scroll" }, make("table", {}, heading, make("tbody", {}, ...rows)));
}

function resultsOf(title, note, results) {
  if (!results.length) return [];
  const cell = ([first, last]) => {
    const before = first ? [" ", make("span", { class: "note" }, `(${first})`)] : [];
    return make("span", {}, last || "\u2013", ...before);
  };
  const lines = results.map(({ title, values }) => ({ cells: [title, ...values.map(cell)] }));
  return [make("h2", {}, title), make("p", { class: "note" }, note), table(head("figure"), lines)];
}

const resultsTables = () => [
  ...resultsOf("Measured at the end", "What tasks found when training ended; in brackets before it.", data.measured),
  ...resultsOf("Validations and tasks in training", "The last value that was logged, and in brackets the first.", data.results),
];

function settingsTable() {
  if (!data.settings.length) return [];
  const lines = data.settings.map(({ name, values, differs }) => ({
    cells: [name, ...values.map((value) => value ?? "\u2013")],
    look: several && differs ? "differs" : "",
  }));
  const note = several ? "Those in which the runs differ come first, and are bold; \u2013 is the default, or no field of that run." : "All others have their default.";
  return [make("h2", {}, "Settings that differ from the defaults"), make("p", { class: "note" }, note), table(head("field"), lines)];
}

function dataTables() {
  const parts = data.runs.flatMap((run) =>
    run.data.map(({ title, sources }) => {
      const names = ["source", "documents", "tokens", "share of tokens"].map((name) => make("th", { scope: "col" }, name));
      const whole = several ? [make("h3", {}, swatch(run.look), ` ${run.name}: ${title}`)] : [make("h3", {}, title)];
      return make("div", {}, ...whole, table(make("thead", {}, make("tr", {}, ...names)), sources.map((cells) => ({ cells }))));
    }),
  );
  return parts.length ? [make("h2", {}, "Data and mix"), make("div", { class: "beside" }, ...parts)] : [];
}

function factsTable() {
  const names = [...new Set(data.runs.flatMap((run) => run.facts.map(([name]) => name)))];
  const lines = names.map((name) => ({ cells: [name, ...data.runs.map((run) => new Map(run.facts).get(name) ?? "\u2013")] }));
  lines.push({ cells: ["folder", ...data.runs.map((run) => run.folder)] });
  return [make("h2", {}, "Where the numbers come from"), table(head(""), lines)];
}

function missingList() {
  const lines = data.runs.flatMap((run) => run.missing.map((reason) => make("li", {}, several ? `${run.name}: ${reason}` : reason)));
  return lines.length ? [make("ul", { class: "missing" }, ...lines)] : [];
}
