"use strict";
// Cards are made a page at a time, so that the number of rows hardly matters. Every text goes in by textContent.
const CARDS = 24;
const MARKS = { right: "✓", judged: "☆" };
const LABELS = ["benchmark", "language", "category", "image_source", "control"];
const { rows, images, words, rtl } = JSON.parse(document.getElementById("data").textContent);
const form = document.querySelector("form");
const list = document.getElementById("rows");
let found = rows;
let page = 0;

const word = (row, field) => words[field][row[field]];
const count = (number) => number.toLocaleString("en");

/** An answer that names no choice is wrong too; one that a judge rated is neither right nor wrong. */
const isWrong = (row) => row.outcome === "wrong" || row.outcome === "unmatched";

/** What the form asks for, without the filters left at "all". */
function query() {
  return new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));
}

function fits(row, [name, value]) {
  if (name === "text") {
    const texts = [row.question, row.hint, row.prediction, ...row.options.map(([, text]) => text)];
    return texts.join("\n").toLowerCase().includes(value.toLowerCase());
  }
  if (name === "outcome" && value === "wrong") return isWrong(row);
  return row[name] === value;
}

function filter() {
  const conditions = [...query()];
  found = rows.filter((row) => conditions.every((condition) => fits(row, condition)));
  show(0);
}

function show(number) {
  const pages = Math.max(1, Math.ceil(found.length / CARDS));
  page = Math.min(Math.max(number, 0), pages - 1);
  list.replaceChildren(...found.slice(page * CARDS, (page + 1) * CARDS).map(card));
  const right = found.filter((row) => row.outcome === "right").length;
  const graded = right + found.filter(isWrong).length;
  const share = graded ? ` (${((100 * right) / graded).toFixed(1)} %)` : "";
  const predictions = `${count(found.length)} of ${count(rows.length)} predictions`;
  document.getElementById("count").textContent = `${predictions}, ${count(right)} right${share}`;
  document.getElementById("page").textContent = `page ${count(page + 1)} of ${count(pages)}`;
  // Not `disabled`, which would take the keyboard's focus away.
  document.getElementById("previous").setAttribute("aria-disabled", page === 0);
  document.getElementById("next").setAttribute("aria-disabled", page === pages - 1);
}

function card(row) {
  const element = document.getElementById("card").content.cloneNode(true).firstElementChild;
  const part = (selector) => element.querySelector(selector);
  element.classList.add(isWrong(row) ? "wrong" : row.outcome);
  const labels = LABELS.map((field) => word(row, field)).filter(Boolean);
  const translated = row.text_language === row.language ? [] : ["translated"];
  part(".label").textContent = [...labels, ...translated, `question ${row.index}`].join(" · ");
  if (row.image) {
    part("img").src = images[row.image];
    part("img").alt = row.scene || `The image of question ${row.index}`;
    part("img").lang = row.scene ? row.text_language : "en";
  } else {
    part("img").remove();
  }
  fill(part(".scene"), row.image ? "" : row.scene, row.text_language);
  part(".prompt").lang = row.text_language;
  part(".prompt").dir = rtl.includes(row.text_language) ? "rtl" : "ltr";
  fill(part(".question"), row.question, row.text_language);
  fill(part(".hint"), row.hint, row.text_language);
  const choices = row.options.length ? row.options : [["", row.answer]];
  part(".options").append(...choices.map((choice) => option(row, choice)));
  const empty = !row.prediction.trim();
  part(".prediction bdi").textContent = empty ? "(no text)" : row.prediction;
  part(".prediction bdi").lang = empty ? "en" : row.text_language;
  part(".prediction b").textContent = `${MARKS[row.outcome] ?? "✗"} ${word(row, "outcome")}`;
  experts(part(".experts"), row.weights);
  return element;
}

/** Put a text of the data into an element, which goes where there is none. */
function fill(element, text, language) {
  if (!text) return element.remove();
  element.textContent = text;
  element.lang = language;
  element.dir = "auto";
}

/** An option, or with the letter "" the answer to a question without options. */
function option(row, [letter, text]) {
  const item = document.createElement("li");
  // Not isolated, so that the point follows the letter in the direction of the line.
  if (letter) item.append(`${letter}. `);
  item.append(isolated(text));
  if (letter === row.answer || !letter) {
    const note = isolated(row.outcome === "judged" ? "(reference answer)" : "(right answer)");
    note.className = "note";
    note.lang = "en";
    item.className = "right";
    item.append(" ", note);
  }
  return item;
}

function isolated(text) {
  const element = document.createElement("bdi");
  element.textContent = text;
  return element;
}

/** One bar an expert, as high as its weight; the number below is in per cent. */
function experts(element, weights) {
  if (!weights.length) return element.remove();
  const numbers = weights.map((weight) => (100 * weight).toFixed(0));
  element.setAttribute("aria-label", `Router weights of experts 1 to ${weights.length}: ${numbers.join(", ")} per cent`);
  element.append(
    ...numbers.map((number, place) => {
      const bar = document.createElement("span");
      const weight = document.createElement("i");
      weight.style.setProperty("--weight", `${100 * weights[place]}%`);
      bar.append(weight, number);
      return bar;
    }),
  );
}

/** Take the filters from the address, so that a view can be linked to; what no filter offers counts as "all". */
function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const field of form.querySelectorAll("select, input")) {
    field.value = given.get(field.name) ?? "";
    if (field.selectedIndex === -1) field.value = "";
  }
  filter();
}

function turn(step) {
  const before = page;
  show(page + step);
  if (page !== before) list.scrollIntoView();
}

form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("change", () => (location.hash = query()));
window.addEventListener("hashchange", () => {
  if (location.hash.slice(1) !== query().toString()) read();
});
document.getElementById("all").addEventListener("click", () => {
  form.reset();
  location.hash = "";
  filter();
});
document.getElementById("previous").addEventListener("click", () => turn(-1));
document.getElementById("next").addEventListener("click", () => turn(1));
read();
