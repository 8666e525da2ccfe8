// The controls, and what is drawn anew when one of them moves.

function drawSections() {
  const sections = data.sections.map(({ title, panels, constants }) =>
    make(
      "section",
      { "aria-label": title },
      make("h2", {}, title),
      make("div", { class: "panels" }, ...panels.map(panelOf)),
      ...(constants.length ? [make("p", { class: "note" }, `The same all along: ${constants.join("; ")}.`)] : []),
    ),
  );
  element("sections").replaceChildren(...sections);
}

const ended = `${data.runs.filter((run) => run.ended).length} of ${data.runs.length} have ended`;
element("about").textContent = `${several ? ended : data.runs[0].state}. remit_lit ${data.version}.`;
data.runs.forEach((run, index) => {
  const box = make("input", { type: "checkbox", checked: "" });
  box.addEventListener("change", () => {
    if (box.checked) state.hidden.delete(index);
    else state.hidden.add(index);
    drawSections();
  });
  element("runs").append(make("label", {}, box, " ", swatch(run.look), ` ${run.name}`));
});
element("runs").hidden = !several;
element("over").disabled = !data.runs.every((run) => run.tokensPerStep);
element("over").addEventListener("change", (event) => {
  state.over = event.target.value;
  drawSections();
});
function saySmooth() {
  element("smoothed").textContent = state.smooth ? `mean of up to ${2 * state.smooth + 1} points` : "off";
}
element("smooth").addEventListener("input", (event) => {
  state.smooth = Number(event.target.value);
  saySmooth();
  drawSections();
});
saySmooth();
if (!data.sections.some(({ panels }) => panels.length)) element("controls").hidden = true;
for (const [id, parts] of Object.entries({
  missing: missingList(),
  results: resultsTables(),
  settings: settingsTable(),
  "data-and-mix": dataTables(),
  facts: factsTable(),
})) {
  element(id).replaceChildren(...parts);
}
drawSections();
document.documentElement.dataset.ready = "true";
