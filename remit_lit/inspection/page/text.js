// The rows: a box for each, filled when it comes near the window, with a column for each strategy.

const text = document.getElementById("text");
const rows = data.numbers.map((number, row) => {
  const place = data.first + row;
  const columns = make("div", { class: "columns" });
  const box = make("section", { class: "row", "data-row": row }, make("h2", {}, `row ${number}, place ${place}`), columns);
  const ofRow = documents.filter((inside) => inside.row === row);
  return { box, columns, documents: ofRow, spans: [], parts: [], isNear: false };
});
const near = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      const row = rows[entry.target.dataset.row];
      row.isNear = entry.isIntersecting;
      if (row.isNear) fill(row);
    }
  },
  { rootMargin: "600px 0px" },
);

// Take a row's tokens out, and keep about their room: rows that are far must not be near for being empty.
function empty(row) {
  const characters = row.documents.reduce((sum, inside) => sum + widths[inside.stop] - widths[inside.start], 0);
  const lines = characters / 40 + 2 * row.documents.length;
  row.box.style.minHeight = row.spans.length ? `${row.box.offsetHeight}px` : `${Math.round(1.7 * lines)}rem`;
  row.columns.replaceChildren();
  row.spans = [];
  row.parts = [];
}

// Characters before each token.
const widths = new Float64Array(tokens.length + 1);
tokens.forEach((token, index) => (widths[index + 1] = widths[index] + data.vocabulary.shown[token].length));

function layText() {
  text.style.setProperty("--sides", sides().length);
  const legends = make("div", { class: "legend" }, ...sides().map(legend));
  rows.forEach(empty);
  text.replaceChildren(legends, ...rows.map((row) => row.box));
  near.disconnect();
  filterText();
  rows.forEach((row) => near.observe(row.box));
}

function fill(row) {
  if (row.spans.length) return;
  for (const side of sides()) {
    const half = reach(side);
    const column = make("div", { "data-name": strategies[side].name });
    const spans = [];
    for (const inside of row.documents) {
      const paragraph = make("p", { class: "tokens" });
      for (let index = inside.start; index < inside.stop; index++) {
        const span = make("span", { class: looks(side, index, half), "data-token": index, tabindex: -1 }, shown(index));
        spans.push(span);
        paragraph.append(span);
      }
      paragraph.firstChild.tabIndex = 0;
      const name = `${data.sources[inside.source]}, document ${inside.place + 1} of ${inside.of}`;
      const part = make("div", { class: "document" }, make("span", { class: "source" }, name), paragraph);
      part.hidden = !state.sources.has(inside.source);
      row.parts.push([inside.source, part]);
      column.append(part);
    }
    row.columns.append(column);
    row.spans.push(spans);
  }
  row.box.style.minHeight = "";
  markHits(row);
}

function colourText() {
  text.querySelector(".legend").replaceChildren(...sides().map(legend));
  for (const row of rows) {
    if (row.spans.length && !row.isNear) empty(row);
    row.spans.forEach((spans, place) => {
      const side = sides()[place];
      const half = reach(side);
      const first = row.documents[0].start;
      spans.forEach((span, offset) => (span.className = looks(side, first + offset, half)));
    });
    if (row.spans.length) markHits(row);
  }
}

function filterText() {
  for (const row of rows) {
    row.box.hidden = !row.documents.some((inside) => state.sources.has(inside.source));
    for (const [source, part] of row.parts) part.hidden = !state.sources.has(source);
  }
}

function goTo(index) {
  const row = rows[documents[ofToken[index]].row];
  fill(row);
  const span = row.spans[0][index - row.documents[0].start];
  span.scrollIntoView({ block: "center" });
  return span;
}

const tokenAt = (event) => event.target.closest?.(".row .token");
text.addEventListener("pointerover", (event) => {
  if (event.pointerType !== "mouse") return;
  if (tokenAt(event)) showCard(tokenAt(event));
  else if (!held) hideCard();
});
text.addEventListener("pointerleave", () => held || hideCard());
text.addEventListener("focusin", (event) => tokenAt(event) && showCard(tokenAt(event)));
text.addEventListener("focusout", () => held || hideCard());
text.addEventListener("click", (event) => {
  const span = tokenAt(event);
  if (span && span !== held) showCard(span, true);
  else hideCard();
});
text.addEventListener("keydown", (event) => {
  const span = tokenAt(event);
  if (!span) return;
  const all = [...span.closest(".columns > div").querySelectorAll(".document:not([hidden]) .token")];
  const here = all.indexOf(span);
  const target = {
    ArrowRight: all[here + 1],
    ArrowLeft: all[here - 1],
    Home: span.parentElement.firstChild,
    End: span.parentElement.lastChild,
    Enter: span,
  }[event.key];
  if (!target) return;
  event.preventDefault();
  if (event.key === "Enter") return void (held === span ? hideCard() : showCard(span, true));
  hold(null);
  target.focus();
});
