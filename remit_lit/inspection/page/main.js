// The controls, and what is drawn anew when one of them moves.

const element = (id) => document.getElementById(id);

function drawSide() {
  element("of").textContent = `Of ${strategies[state.left].name}, with ${data.policies[state.policy].name}, over ranked tokens:`;
  element("charts").replaceChildren(...chartsOf(state.left));
  element("tops").replaceChildren(...topsOf(state.left));
}

function choose(change, { isLaid = false } = {}) {
  change();
  hideCard();
  if (isLaid) layText();
  else colourText();
  drawSide();
}

strategies.forEach((strategy, index) => {
  element("left").append(make("option", { value: index }, strategy.name));
  element("right").append(make("option", { value: index }, strategy.name));
});
element("right").prepend(make("option", { value: -1 }, "nothing"));
element("left").value = state.left;
element("right").value = state.right;
element("left").addEventListener("change", (event) => choose(() => (state.left = Number(event.target.value))));
element("right").addEventListener("change", (event) => choose(() => (state.right = Number(event.target.value)), { isLaid: true }));
element("scale").addEventListener("change", (event) => choose(() => (state.scale = event.target.value)));

const slider = element("policy");
slider.max = policies.length - 1;
slider.hidden = policies.length < 2;
function namePolicy() {
  const { name } = data.policies[state.policy];
  element("policy-name").textContent = name;
  slider.setAttribute("aria-valuetext", name);
}
slider.addEventListener("input", () => choose(() => (state.policy = Number(slider.value))) ?? namePolicy());
namePolicy();

data.sources.forEach((name, source) => {
  const box = make("input", { type: "checkbox", checked: "" });
  box.addEventListener("change", () => {
    if (box.checked) state.sources.add(source);
    else state.sources.delete(source);
    filterText();
    search(query.value);
    drawSide();
  });
  element("sources").append(make("label", {}, box, ` ${name}`));
});
element("sources").hidden = data.sources.length < 2;

document.addEventListener("keydown", (event) => event.key === "Escape" && hideCard());
addEventListener("scroll", () => held || hideCard(), { passive: true });

const end = data.first + data.numbers.length - 1;
element("about").textContent =
  `${data.numbers.length} ${data.split} rows of ${data.rows}, places ${data.first} to ${end} in ${data.order}. ` +
  `Spaces are shown as \u00b7, line breaks as \u21b5, tabs as \u21e5, stray bytes as \u27e8C3\u27e9; ` +
  `dotted tokens are neutral, those in italics have no loss. remit_lit ${data.version}.`;
layText();
drawSide();
document.documentElement.dataset.ready = "true";
