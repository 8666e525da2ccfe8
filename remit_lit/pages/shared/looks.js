// How a method or a run looks: its one colour, its mark and its line, the same in every figure.

const shapes = {
  o: "M-3.5,0a3.5,3.5 0 1,0 7,0a3.5,3.5 0 1,0 -7,0z",
  s: "M-3.2,-3.2h6.4v6.4h-6.4z",
  "^": "M0,-4l4,7h-8z",
  v: "M0,4l4,-7h-8z",
  D: "M0,-4.4l4.4,4.4l-4.4,4.4l-4.4,-4.4z",
  P: "M-1.4,-4h2.8v2.6h2.6v2.8h-2.6v2.6h-2.8v-2.6h-2.6v-2.8h2.6z",
  X: "M-4,-2l2,-2l2,2l2,-2l2,2l-2,2l2,2l-2,2l-2,-2l-2,2l-2,-2l2,-2z",
  "*": "M0,-4.8l1.2,3.2h3.4l-2.7,2.1l1,3.3l-2.9,-2l-2.9,2l1,-3.3l-2.7,-2.1h3.4z",
};

// The page's policy allows no style in its markup, but its script may set one.
function painted(element, look) {
  if (look.color) element.style.setProperty("--own", look.color);
  return element;
}

function line(look, points) {
  return painted(drawn("polyline", { class: `own line${look.dashed ? " dashed" : ""}`, points: points.map((point) => point.join(",")).join(" ") }), look);
}

function mark(look, x, y) {
  return painted(drawn("path", { class: "own mark", d: shapes[look.marker], transform: `translate(${x} ${y})` }), look);
}

function swatch(look) {
  const svg = drawn("svg", { class: "swatch", viewBox: "0 0 30 14", "aria-hidden": "true" });
  svg.append(line(look, [[1, 7], [29, 7]]), mark(look, 15, 7));
  return svg;
}
