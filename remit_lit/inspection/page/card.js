// What is known of one token: at the pointer, at the keyboard's focus, or held by a click or tap.

const card = document.getElementById("card");
let subject = null;
let held = null;

function showCard(span, isHeld = false) {
  const index = Number(span.dataset.token);
  if (held && !isHeld) return;
  hold(isHeld ? span : null);
  subject = span;
  card.replaceChildren(...cardOf(index));
  if (isHeld) {
    const close = make("button", { type: "button", class: "close", "aria-label": "Close" }, "\u00d7");
    close.addEventListener("click", hideCard);
    card.prepend(close);
  }
  card.hidden = false;
  placeCard();
}

function placeCard() {
  const place = subject.getBoundingClientRect();
  const size = card.getBoundingClientRect();
  const below = place.bottom + 8 + size.height < innerHeight || place.top < size.height + 8;
  card.style.left = `${Math.max(8, Math.min(place.left, innerWidth - size.width - 8))}px`;
  card.style.top = `${below ? Math.min(place.bottom + 8, innerHeight - size.height) : place.top - size.height - 8}px`;
}

function hold(span) {
  held?.classList.remove("held");
  held = span;
  held?.classList.add("held");
  card.classList.toggle("pinned", held !== null);
}

// When the text scrolls, the pointer may have left its token; the keyboard and a click have not.
function followCard() {
  if (held || (subject && (subject === document.activeElement || subject.matches(":hover")))) placeCard();
  else hideCard();
}

function hideCard() {
  hold(null);
  subject = null;
  card.hidden = true;
}

function cardOf(index) {
  const inside = documents[ofToken[index]];
  const id = data.vocabulary.id[tokens[index]];
  const isSpecial = data.vocabulary.special[tokens[index]] ? ", special" : "";
  const head = make("div", {}, make("span", { class: "piece" }, shown(index)), ` id ${id}${isSpecial}`);
  const where = make(
    "div",
    { class: "where" },
    `row ${data.numbers[inside.row]}, token ${index - inside.row * data.time} of ${data.time}; `,
    `document ${inside.place + 1} of ${inside.of}, from ${data.sources[inside.source]}`,
  );
  if (!counted[index]) return [head, where, make("div", {}, "not counted: it has no loss")];
  return [head, where, numbersOf(index)];
}

function numbersOf(index) {
  const chosen = sides().map((side) => strategies[side]);
  const line = (name, value) =>
    make("tr", {}, make("th", { scope: "row" }, name), ...chosen.map((strategy) => make("td", {}, value(strategy))));
  const lines = [
    line("weight", (strategy) => weightOf(strategy, index)),
    line("policy NLL, nats", () => number(policies[state.policy][index])),
  ];
  const others = chosen.some((strategy) => strategy.weighed[state.policy].compared[index] !== policies[state.policy][index]);
  if (others) lines.push(line("compared NLL, nats", (s) => number(s.weighed[state.policy].compared[index])));
  if (references.length) {
    lines.push(line("reference NLL, nats", (strategy) => number(strategy.referenceNll[index])));
    lines.push(line("excess loss \u03b4, nats", (strategy) => signed(excess(strategy, state.policy, index))));
  }
  const centered = (strategy) => strategy.weighed[state.policy].centered;
  if (chosen.some(centered)) {
    lines.push(line("centred \u03b4", (s) => (centered(s) && isRanked(s, index) ? signed(centered(s)[index]) : "\u2013")));
  }
  const names = chosen.map((strategy) => make("th", { scope: "col" }, strategy.name));
  return make("table", {}, make("thead", {}, make("tr", {}, make("th"), ...names)), make("tbody", {}, ...lines));
}

function weightOf(strategy, index) {
  const weight = strategy.weighed[state.policy].weights[index];
  if (strategy.neutral[index]) return `${number(weight)}, neutral`;
  return number(weight) + [", clipped low", "", ", clipped high"][clipped(strategy, weight, index) + 1];
}
