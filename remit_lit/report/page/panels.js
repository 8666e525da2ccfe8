// The panels: a figure over steps or tokens, a line for each run; values at the pointer or at the keyboard's place.

const mostMarks = 16;
const state = { hidden: new Set(), over: "steps", smooth: 0 };
const looks = data.runs.map((run) => run.look);
const percent = (share) => `${Number((100 * share).toPrecision(4))} %`;
const shown = (panel, value) => (panel.isShare ? percent(value) : brief(value));

// Where a step lies on the axis.
const place = (run, step) => (state.over === "tokens" ? step * data.runs[run].tokensPerStep : step);

// Each value with as many before and after it, but no more than there are on both sides: an end stays where it is.
function smoothed(points) {
  return points.map(([step, value], at) => {
    const reach = Math.min(state.smooth, at, points.length - 1 - at);
    const near = points.slice(at - reach, at + reach + 1).map(([, other]) => other);
    return [step, value === null || near.includes(null) ? value : near.reduce((sum, other) => sum + other, 0) / near.length];
  });
}

function linesOf(panel) {
  return panel.lines
    .filter(({ run }) => !state.hidden.has(run))
    .map(({ run, points }) => ({ run, points: smoothed(points).map(([step, value]) => [place(run, step), value, step]) }));
}

// What lies between two values that are not finite, or all.
function pieces(points) {
  const found = [[]];
  for (const point of points) {
    if (point[1] === null) found.push([]);
    else found.at(-1).push(point);
  }
  return found.filter((piece) => piece.length);
}

function panelOf(panel) {
  const box = make("figure", { class: "panel", "data-figure": panel.figure }, make("figcaption", {}, panel.title));
  const lines = linesOf(panel);
  const points = lines.flatMap((one) => one.points).filter(([, value]) => value !== null);
  if (!points.length) {
    box.append(make("p", { class: "note" }, "Nothing to draw of the chosen runs."));
    return box;
  }
  const xs = spread(extremes(points.map(([at]) => at)));
  const ys = within(panel, extremes(points.map(([, value]) => value)));
  const { svg, x, y } = plot(panel.title, xs, ys, state.over, "", { percent: panel.isShare });
  svg.setAttribute("tabindex", 0);
  for (const { run, points } of lines) {
    for (const piece of pieces(points)) {
      svg.append(line(looks[run], piece.map(([at, value]) => [x(at), y(value)])));
      if (points.length <= mostMarks || piece.length === 1) for (const [at, value] of piece) svg.append(mark(looks[run], x(at), y(value)));
    }
  }
  const said = make("output", { class: "readout" });
  box.append(svg, said, ...panel.notes.map((note) => make("p", { class: "note" }, note)));
  follow(panel, svg, lines, x, said);
  return box;
}

// A little room above and below; none below 0 or above 100 % where it is a share.
function within(panel, [low, high]) {
  const room = 0.05 * (high - low) || 0.05 * Math.abs(high) || 0.5;
  if (panel.isShare) return [Math.max(Math.min(0, low), low - room), Math.min(Math.max(1, high), high + room)];
  return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
}

function follow(panel, svg, lines, x, said) {
  const cursor = drawn("line", { class: "cursor", y1: frame.top, y2: frame.height - frame.bottom, visibility: "hidden" });
  svg.append(cursor);
  const places = [...new Set(lines.flatMap(({ points }) => points.map(([at]) => at)))].sort((a, b) => a - b);
  let current = -1;
  const show = (index) => {
    current = Math.max(0, Math.min(places.length - 1, index));
    const at = places[current];
    for (const end of ["x1", "x2"]) cursor.setAttribute(end, x(at));
    cursor.setAttribute("visibility", "visible");
    const values = lines.map(({ run, points }) => {
      const [, value] = nearest(points, at);
      return make("span", {}, swatch(looks[run]), ` ${value === null ? "not finite" : shown(panel, value)}`);
    });
    said.replaceChildren(`${state.over} ${at.toLocaleString("en")}: `, ...values);
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const pixel = ((event.clientX - box.left) / box.width) * frame.width;
    const closest = places.reduce((best, at, index) => (Math.abs(x(at) - pixel) < Math.abs(x(places[best]) - pixel) ? index : best), 0);
    show(closest);
  });
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    show(current + step);
  });
}

const nearest = (points, at) => points.reduce((best, point) => (Math.abs(point[0] - at) < Math.abs(best[0] - at) ? point : best));
