// Search in the text of each document, byte by byte: a token may hold a part of a character only.

const hits = new Uint8Array(tokens.length);
let matches = [];
let current = -1;
const lower = (bytes) => bytes.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
const bytesOf = (query) => String.fromCharCode(...new TextEncoder().encode(query));
const contents = documents.map(({ start, stop }) => {
  const ends = [];
  let content = "";
  for (let index = start; index < stop; index++) {
    content += data.vocabulary.content[tokens[index]];
    ends.push(content.length);
  }
  return { content: lower(content), ends };
});

function search(query) {
  const wanted = lower(bytesOf(query));
  hits.fill(0);
  matches = [];
  current = -1;
  if (wanted) {
    documents.forEach((inside, place) => {
      if (!state.sources.has(inside.source)) return;
      const { content, ends } = contents[place];
      let token = 0;
      for (let at = content.indexOf(wanted); at >= 0; at = content.indexOf(wanted, at + wanted.length)) {
        while (ends[token] <= at) token++;
        matches.push(inside.start + token);
        for (let next = token; next === token || ends[next - 1] < at + wanted.length; next++) hits[inside.start + next] = 1;
      }
    });
  }
  rows.forEach((row) => row.spans.length && markHits(row));
  sayMatches(query);
}

function markHits(row) {
  const first = row.documents[0].start;
  for (const spans of row.spans) {
    spans.forEach((span, offset) => {
      span.classList.toggle("hit", hits[first + offset] === 1);
      span.classList.toggle("found", matches[current] === first + offset);
    });
  }
}

function sayMatches(query) {
  const which = current < 0 ? "" : `${current + 1} of `;
  document.getElementById("matches").textContent = query ? `${which}${matches.length} found` : "";
}

function step(by) {
  if (!matches.length) return;
  current = (current + by + matches.length + (current < 0 && by < 0 ? 1 : 0)) % matches.length;
  goTo(matches[current]);
  rows.forEach((row) => row.spans.length && markHits(row));
  sayMatches(query.value);
}

const query = document.getElementById("query");
query.addEventListener("input", () => search(query.value));
query.addEventListener("keydown", (event) => event.key === "Enter" && step(event.shiftKey ? -1 : 1));
document.getElementById("before").addEventListener("click", () => step(-1));
document.getElementById("next").addEventListener("click", () => step(1));
