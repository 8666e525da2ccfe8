// Which tokens a strategy raises and lowers most, of each source: by the weight that it adds to all of their places.

const listed = 8;
const around = 6;

function tally(side, source) {
  const strategy = strategies[side];
  const { weights } = strategy.weighed[state.policy];
  const found = new Map();
  for (const inside of documents) {
    if (inside.source !== source) continue;
    for (let index = inside.start; index < inside.stop; index++) {
      if (!isRanked(strategy, index)) continue;
      const push = weights[index] - 1;
      const entry = found.get(tokens[index]) ?? { token: tokens[index], count: 0, sum: 0, low: [0, -1], high: [0, -1] };
      entry.count += 1;
      entry.sum += push;
      if (push < entry.low[0]) entry.low = [push, index];
      if (push > entry.high[0]) entry.high = [push, index];
      found.set(tokens[index], entry);
    }
  }
  return [...found.values()];
}

function topsOf(side) {
  const parts = [];
  for (const source of state.sources) {
    const entries = tally(side, source);
    const raised = entries.filter((entry) => entry.sum > 0).sort((a, b) => b.sum - a.sum).slice(0, listed);
    const lowered = entries.filter((entry) => entry.sum < 0).sort((a, b) => a.sum - b.sum).slice(0, listed);
    if (!raised.length && !lowered.length) continue;
    parts.push(make("h2", {}, data.sources[source]));
    if (raised.length) parts.push(make("h3", {}, "raised most"), topTable(raised, (entry) => entry.high[1]));
    if (lowered.length) parts.push(make("h3", {}, "lowered most"), topTable(lowered, (entry) => entry.low[1]));
  }
  if (!parts.length) parts.push(make("p", { class: "note" }, "No token is raised or lowered."));
  return parts;
}

function topTable(entries, example) {
  const head = ["token", "count", "weight", "where it is most"].map((name, place) =>
    make("th", { scope: "col", class: ["piece", "number", "number", "context"][place] }, name),
  );
  const lines = entries.map((entry) =>
    make(
      "tr",
      {},
      make("td", { class: "piece" }, data.vocabulary.shown[entry.token]),
      make("td", { class: "number" }, String(entry.count)),
      make("td", { class: "number" }, number(1 + entry.sum / entry.count, 3)),
      make("td", { class: "context" }, contextOf(example(entry))),
    ),
  );
  return make("table", { class: "tops" }, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...lines));
}

function contextOf(index) {
  const inside = documents[ofToken[index]];
  const words = (start, stop) => Array.from({ length: Math.max(0, stop - start) }, (_, i) => shown(start + i)).join("");
  const before = words(Math.max(inside.start, index - around), index);
  const after = words(index + 1, Math.min(inside.stop, index + 1 + around));
  const button = make("button", { type: "button" }, before, make("b", {}, shown(index)), after);
  button.addEventListener("click", () => goTo(index).focus());
  return button;
}
