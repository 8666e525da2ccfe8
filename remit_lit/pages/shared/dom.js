// What every page needs: the data that it was given, and how elements and numbers are made of them.

const data = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);

function fail(message) {
  const place = document.getElementById("failure");
  place.textContent = message;
  place.hidden = false;
}

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const number = (value, digits = 4) => (Object.is(value, -0) ? 0 : value).toFixed(digits).replace("-", "\u2212");
const signed = (value, digits = 4) => (value > 0 ? "+" : "") + number(value, digits);
