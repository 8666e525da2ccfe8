// From a weight to a colour: seven steps up and seven down from 1, to the strategy's own limits or to common ones.

const steps = 7;
const limits = strategies.map((strategy) => {
  let [low, high] = strategy.bounds.length ? strategy.bounds : [1, 1];
  for (const { weights } of strategy.bounds.length ? [] : strategy.weighed) {
    for (let index = 0; index < weights.length; index++) {
      if (!counted[index]) continue;
      low = Math.min(low, weights[index]);
      high = Math.max(high, weights[index]);
    }
  }
  return { low, high };
});
const reaches = limits.map(({ low, high }) => Math.max(1 - low, high - 1));

// Half-width of the scale, around 1; 0 where all weigh alike.
function reach(strategy) {
  return state.scale === "own" ? reaches[strategy] : Math.max(...sides().map((side) => reaches[side]));
}

function shade(weight, half) {
  const share = half ? Math.max(-1, Math.min(1, (weight - 1) / half)) : 0;
  // A weight that differs from 1 at all is seen to.
  const step = Math.abs(share) < 1e-4 ? 0 : Math.max(1, Math.round(Math.abs(share) * steps));
  return step ? `${share > 0 ? "raised" : "lowered"} s${step}` : "";
}

function looks(side, index, half) {
  const special = data.vocabulary.special[tokens[index]] ? " special" : "";
  if (!counted[index]) return `token uncounted${special}`;
  const strategy = strategies[side];
  if (strategy.neutral[index]) return `token neutral${special}`;
  const weight = strategy.weighed[state.policy].weights[index];
  const clip = ["low", "", "high"][clipped(strategy, weight, index) + 1];
  return `token ${shade(weight, half)} ${clip}${special}`;
}

function legend(side) {
  const half = reach(side);
  const bar = make("span", { class: "bar", "aria-hidden": "true" });
  const [lowers, raises] = [limits[side].low < 1, limits[side].high > 1];
  for (let step = lowers ? -steps : 0; step <= (raises ? steps : 0); step++) {
    bar.append(make("span", { class: `token ${step ? `${step > 0 ? "raised" : "lowered"} s${Math.abs(step)}` : ""}` }));
  }
  const strategy = strategies[side];
  const box = make("div", {}, make("div", { class: "name" }, strategy.name), make("div", { class: "note" }, describe(side)));
  if (lowers || raises) box.append(make("div", { class: "ramp" }, `weight ${number(1 - half * lowers, 2)}`, bar, number(1 + half * raises, 2)));
  else box.append(make("div", { class: "ramp" }, "every counted token weighs 1"));
  if (strategy.bounds.length) {
    const marks = [make("span", { class: "token raised s7 high" }, "clipped high")];
    marks.unshift(make("span", { class: "token lowered s7 low" }, "clipped low"));
    box.append(make("div", { class: "marks" }, ...marks));
  }
  return box;
}

function describe(side) {
  const strategy = strategies[side];
  const against = strategy.compares ? `, against ${strategy.referenceName}` : "";
  const together = strategy.scope === "row" ? "" : `; it weighs ${strategy.group} rows together, by ${strategy.scope}`;
  return [`${strategy.setting}${against}${together}`, ...strategy.notes].join("; ");
}
