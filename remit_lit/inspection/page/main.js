// The controls, and what is drawn anew when one of them moves.

function drawSide() {
  element("with").textContent = `With the policy ${data.policies[state.policy].name}, over ranked tokens of the chosen sources.`;
  element("charts").replaceChildren(...chartsOf(state.figures));
  element("tops").replaceChildren(...topsOf(state.figures));
}

function choose(change, { isLaid = false } = {}) {
  change();
  hideCard();
  if (isLaid) layText();
  else colourText();
  drawSide();
}

strategies.forEach((strategy, index) => {
  for (const id of ["left", "right", "of"]) element(id).append(make("option", { value: index }, strategy.name));
});
// The first that does not weigh all alike has most to show.
state.figures = Math.max(0, reaches.findIndex((half) => half > 0));
element("right").prepend(make("option", { value: -1 }, "nothing"));
element("left").value = state.left;
element("right").value = state.right;
element("of").value = state.figures;
element("left").addEventListener("change", (event) => choose(() => (state.left = Number(event.target.value))));
element("right").addEventListener("change", (event) => choose(() => (state.right = Number(event.target.value)), { isLaid: true }));
element("scale").addEventListener("change", (event) => choose(() => (state.scale = event.target.value)));

element("of").addEventListener("change", (event) => {
  state.figures = Number(event.target.value);
  drawSide();
});

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
addEventListener("scroll", followCard, { passive: true });

const controls = element("controls");
const room = () => document.documentElement.style.setProperty("--controls", `${controls.offsetHeight}px`);
new ResizeObserver(room).observe(controls);

const end = data.first + data.numbers.length - 1;
element("about").textContent =
  `${data.numbers.length} ${data.split} rows of ${data.rows}, places ${data.first} to ${end} in ${data.order}. ` +
  "Point at a token, tap it, or walk with the arrow keys. \u00b7 is a space, \u21b5 a line break, \u21e5 a tab, " +
  `\u27e8C3\u27e9 a byte; dotted tokens are neutral, those in italics have no loss. remit_lit ${data.version}.`;
layText();
drawSide();
document.documentElement.dataset.ready = "true";
