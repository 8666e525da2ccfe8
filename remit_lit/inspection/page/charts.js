// Figures of the strategy: its weights, its weights against the excess loss, and how the log ratio is distributed.

const mostPoints = 2000;

const percent = (share) => `${(100 * share).toFixed(1)} %`;

function chosenTokens(strategy) {
  const found = [];
  for (let index = 0; index < tokens.length; index++) if (isRanked(strategy, index) && isChosen(index)) found.push(index);
  return found;
}

function binned(values, low, high, bins) {
  const counts = new Float64Array(bins);
  for (const value of values) counts[Math.max(0, Math.min(bins - 1, Math.floor(((value - low) / (high - low || 1)) * bins)))] += 1;
  return counts.map((count) => count / (values.length || 1));
}

function weightChart(strategy, chosen) {
  const { weights } = strategy.weighed[state.policy];
  const values = chosen.map((index) => weights[index]);
  const [low, high] = spread([...strategy.bounds, 1, ...extremes(values)]);
  const bins = 40;
  const shares = binned(values, low, high, bins);
  const clips = [-1, 1].map((which) => chosen.filter((i) => clipped(strategy, weights[i], i) === which).length / (values.length || 1));
  const said = strategy.bounds.length ? `clipped low ${percent(clips[0])}, clipped high ${percent(clips[1])} of ${values.length} tokens` : `${values.length} tokens`;
  const { svg, x, y } = plot(said, [low, high], [0, Math.max(...shares, 1e-9)], "weight", "share of tokens");
  const width = (high - low) / bins;
  shares.forEach((share, bin) => {
    const middle = low + (bin + 0.5) * width;
    const kind = Math.abs(middle - 1) <= 0.501 * width ? "even" : middle > 1 ? "raised" : "lowered";
    const place = { x: x(low + bin * width), width: Math.max(1, x(width) - x(0) - 1), y: y(share), height: y(0) - y(share) };
    svg.append(drawn("rect", { class: kind, ...place }));
  });
  strategy.bounds.forEach((bound) => svg.append(drawn("line", { class: "clip", x1: x(bound), x2: x(bound), y1: frame.top, y2: y(0) })));
  return [make("h2", {}, "Weights"), svg, make("p", { class: "note" }, said)];
}

function scatterChart(strategy, chosen) {
  const { weights } = strategy.weighed[state.policy];
  const every = Math.max(1, Math.ceil(chosen.length / mostPoints));
  const points = chosen.filter((_, place) => place % every === 0).map((index) => [excess(strategy, state.policy, index), weights[index], index]);
  const said = every > 1 ? `${points.length} of ${chosen.length} tokens` : `${chosen.length} tokens`;
  const xs = spread(extremes(points.map(([delta]) => delta)));
  const ys = spread([...strategy.bounds, 1, ...extremes(points.map(([, weight]) => weight))]);
  const { svg, x, y } = plot(said, xs, ys, "excess loss \u03b4, nats", "weight");
  for (const [delta, weight] of points) {
    const kind = weight > 1 ? "raised" : weight < 1 ? "lowered" : "even";
    svg.append(drawn("circle", { class: kind, cx: x(delta), cy: y(weight), r: 2 }));
  }
  strategy.bounds.forEach((bound) => svg.append(drawn("line", { class: "clip", x1: frame.left, x2: frame.width - frame.right, y1: y(bound), y2: y(bound) })));
  return [make("h2", {}, "Weight against excess loss"), svg, make("p", { class: "note" }, said)];
}

function ratioChart(strategy, chosen) {
  const of = (policy) => chosen.map((index) => policies[policy][index] - strategy.referenceNll[index]);
  const series = [[state.policy, "now", of(state.policy)]];
  if (state.policy > 0) series.unshift([0, "first", of(0)]);
  const far = Math.min(10, Math.max(...series.flatMap(([, , values]) => extremes(values).map(Math.abs)), 0.1));
  const bins = 80;
  const curves = series.map(([policy, kind, values]) => ({ policy, kind, values, shares: binned(values, -far, far, bins) }));
  const highest = Math.max(...curves.flatMap(({ shares }) => [...shares]));
  const said = curves.map(({ policy, kind, values }) => {
    const mean = values.reduce((sum, value) => sum + value, 0) / (values.length || 1);
    const deviation = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length || 1));
    const dashed = kind === "first" ? " (dashed)" : "";
    return `${data.policies[policy].name}${dashed}: mean ${signed(mean, 3)}, deviation ${number(deviation, 3)} nats`;
  });
  const { svg, x, y } = plot(said.join("; "), [-far, far], [0, highest || 1], "log p reference \u2212 log p policy, nats", "share of tokens");
  svg.append(drawn("line", { class: "clip", x1: x(0), x2: x(0), y1: frame.top, y2: y(0) }));
  for (const { kind, shares } of curves) {
    const points = [...shares].map((share, bin) => `${x(-far + ((bin + 0.5) * 2 * far) / bins)},${y(share)}`);
    svg.append(drawn("polyline", { class: kind, points: points.join(" ") }));
  }
  return [make("h2", {}, "Discrepancy to the reference"), svg, ...said.map((line) => make("p", { class: "note" }, line))];
}

function chartsOf(side) {
  const strategy = strategies[side];
  const chosen = chosenTokens(strategy);
  if (!chosen.length) return [make("p", { class: "note" }, "No token is ranked here.")];
  const parts = weightChart(strategy, chosen);
  if (!strategy.referenceNll) return [...parts, make("p", { class: "note" }, "With a reference, its log ratio would be here.")];
  return [...parts, ...scatterChart(strategy, chosen), ...ratioChart(strategy, chosen)];
}
