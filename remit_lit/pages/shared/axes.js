// A plot's frame, axes and ticks, as inline SVG.

const frame = { width: 360, height: 170, left: 44, right: 10, top: 10, bottom: 34 };

function drawn(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Axes, and how a value becomes a place.
function plot(summary, [xLow, xHigh], [yLow, yHigh], xName, yName, { percent = false } = {}) {
  const { width, height, left, right, top, bottom } = frame;
  const x = (value) => left + ((value - xLow) / (xHigh - xLow || 1)) * (width - left - right);
  const y = (value) => height - bottom - ((value - yLow) / (yHigh - yLow || 1)) * (height - top - bottom);
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": summary });
  const text = (value, at, more) => drawn("text", { ...at, ...more }, value);
  for (const value of ticks(yLow, yHigh)) {
    svg.append(drawn("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }));
    const said = percent ? `${brief(100 * value)} %` : brief(value);
    svg.append(text(said, { x: left - 4, y: y(value) + 4 }, { "text-anchor": "end" }));
  }
  for (const value of ticks(xLow, xHigh)) {
    svg.append(text(brief(value), { x: x(value), y: height - bottom + 14 }, { "text-anchor": "middle" }));
  }
  svg.append(drawn("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }));
  svg.append(text(xName, { x: (left + width - right) / 2, y: height - 4 }, { "text-anchor": "middle" }));
  svg.append(text(yName, { x: 10, y: (top + height - bottom) / 2 }, { "text-anchor": "middle", transform: `rotate(-90 10 ${(top + height - bottom) / 2})` }));
  return { svg, x, y };
}

function ticks(low, high) {
  const raw = (high - low) / 4 || 1;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const size = [1, 2, 5, 10].map((factor) => factor * unit).find((candidate) => candidate >= raw);
  const found = [];
  // Bounds are float32, so that 0.8 is a little more than that.
  const near = 1e-6 * size;
  for (let place = Math.ceil((low - near) / size); place * size <= high + near; place++) found.push(place * size);
  return found;
}

// Four digits, and thousands and millions by their letters.
function brief(value) {
  const [factor, letter] = Math.abs(value) >= 1e9 ? [1e9, "G"] : Math.abs(value) >= 1e6 ? [1e6, "M"] : Math.abs(value) >= 1e4 ? [1e3, "k"] : [1, ""];
  return `${Number((value / factor).toPrecision(4))}${letter}`.replace("-", "\u2212");
}

function extremes(values) {
  return values.length ? [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))] : [];
}

function spread(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return low < high ? [low, high] : [low - 0.5, high + 0.5];
}
