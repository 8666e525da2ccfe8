// The forest plots: of each measure, every method's paired difference from the baseline with its 95 % interval.

const strip = { width: 320, height: 24, side: 8 };

function forestOf(row) {
  const { title, differences } = data.rows[row];
  const [low, high] = spread(extremes([0, ...differences.flatMap(({ mean, ends }) => [mean, ...(ends ?? [])])]));
  const x = (value) => strip.side + ((value - low) / (high - low)) * (strip.width - 2 * strip.side);
  // A column in which no method has anything, as of items where all have one, is left out.
  const kept = data.differenceHeader.map((_, at) => at).filter((at) => differences.some(({ texts }) => texts[at]));
  const canvas = (height, said) => drawn("svg", { class: "strip", viewBox: `0 0 ${strip.width} ${height}`, role: "img", "aria-label": said });
  const lines = differences.map((one) => {
    const svg = canvas(strip.height, one.texts.slice(0, 2).join(" "));
    const middle = strip.height / 2;
    svg.append(drawn("line", { class: "zero", x1: x(0), x2: x(0), y1: 0, y2: strip.height }));
    const { look } = data.columns[one.column];
    if (one.ends) svg.append(line({ ...look, dashed: one.isOverItems }, one.ends.map((end) => [x(end), middle])));
    svg.append(mark(look, x(one.mean), middle));
    const [difference, ...rest] = kept.map((at) => one.texts[at]);
    const name = make("th", { scope: "row" }, ...titled(one.column), ...(one.isPrimary ? [make("b", {}, " (primary)")] : []));
    const shown = make("td", { class: one.isSignificant ? "best" : "" }, difference);
    return make("tr", {}, name, make("td", {}, svg), shown, ...rest.map((text) => make("td", {}, text)));
  });
  const axis = canvas(20, "axis");
  axis.append(drawn("line", { class: "axis", x1: strip.side, x2: strip.width - strip.side, y1: 1, y2: 1 }));
  for (const value of ticks(low, high)) axis.append(drawn("text", { x: x(value), y: 16, "text-anchor": "middle" }, brief(value)));
  const head = ["method", "", ...kept.map((at) => data.differenceHeader[at])].map((name) => make("th", { scope: "col" }, name));
  const foot = make("tr", {}, make("td"), make("td", {}, axis), ...head.slice(2).map(() => make("td")));
  const table = make("table", { class: "forest" }, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...lines, foot));
  return make("section", { "data-forest": row }, make("h3", {}, title), make("div", { class: "scroll" }, table));
}

function drawForests() {
  const isPrimary = (row) => data.rows[row].differences.some((one) => one.isPrimary);
  const compared = Object.keys(data.rows).filter((row) => data.rows[row].differences.length);
  if (!compared.length) return;
  const ordered = [...compared.filter(isPrimary), ...compared.filter((row) => !isPrimary(row))];
  element("differences").replaceChildren(
    make("h2", {}, `Differences from ${data.columns[data.baseline].title}`),
    make("p", { class: "note" }, "Marks are means, lines 95 % intervals over seeds; dashed lines are over items only."),
    ...ordered.map(forestOf),
    make("ul", { class: "note" }, ...data.differencesLegend.map((one) => make("li", {}, one))),
  );
}
