// The page: what is drawn, dropped, pasted or chosen goes to every model, and the newest image wins.

import * as backend from "./backend.js";
import { Card, percent } from "./cards.js";
import { Pad } from "./pad.js";

const find = (id) => document.getElementById(id);
const [picture, hint, undo, clear, spoken] = ["picture", "hint", "undo", "clear", "spoken"].map(find);
/** Milliseconds after the last change before predictions are read out. */
const PAUSE = 700;
let cards = [];
let source = null; // a promise of the image that is classified: { blob }, of a drawing { blob, canvas }
let pictureFile = null;
let timer = 0;

const pad = new Pad(find("pad"), changed);

/** Classify an image with a model, and then the newest one, if it has changed meanwhile. */
async function classify(card) {
  if (card.busy) return;
  card.busy = true;
  while (card.done !== source) {
    const asked = source;
    try {
      const found = asked && (await backend.predict(card.model, await asked));
      if (!source) card.clear();
      else if (found) card.show(found);
    } catch (error) {
      if (error instanceof backend.NeedsKey) askForKey();
      else if (asked === source) card.fail(error.message);
    }
    card.done = asked;
  }
  card.busy = false;
}

function classifyAll(next) {
  source = next;
  undo.disabled = !pad.canUndo && !pictureFile;
  clear.disabled = pad.isEmpty && !pictureFile;
  hint.hidden = !clear.disabled || Boolean(pad.pen);
  cards.forEach(classify);
  clearTimeout(timer);
  timer = setTimeout(speak, PAUSE);
}

/** Let a screen reader say the answers, once they stay the same. */
function speak() {
  if (cards.some((card) => card.busy)) {
    timer = setTimeout(speak, PAUSE);
    return;
  }
  const answers = cards.filter((card) => card.prediction).map((card) => {
    const { label, probability } = card.prediction;
    return `${cards.length > 1 ? `${card.model.name}: ` : ""}${label}, ${percent(probability)}`;
  });
  spoken.textContent = answers.join("; ");
}

function changed() {
  if (pictureFile && !pad.isEmpty) showPicture(null);
  if (pictureFile) return;
  if (pad.isEmpty) classifyAll(null);
  else {
    const canvas = pad.drawing();
    classifyAll(new Promise((done) => canvas.toBlob((blob) => done({ blob, canvas }), "image/png")));
  }
}

function showPicture(file) {
  URL.revokeObjectURL(picture.src);
  pictureFile = file;
  picture.hidden = !file;
  hint.textContent = "Draw here";
  if (file) picture.src = URL.createObjectURL(file);
  else picture.removeAttribute("src");
}

/** Take a file that was dropped, pasted or chosen. */
function take(file) {
  if (!file) return;
  if (!pad.isEmpty) pad.clear();
  showPicture(file);
  classifyAll(Promise.resolve({ blob: file }));
}

// A browser does not show all files that can be classified.
picture.addEventListener("error", () => {
  if (!pictureFile) return;
  picture.hidden = true;
  hint.hidden = false;
  hint.textContent = pictureFile.name || "a picture";
});

function reset() {
  showPicture(null);
  pad.clear();
}

undo.addEventListener("click", () => (pictureFile ? reset() : pad.undo()));
clear.addEventListener("click", reset);
document.addEventListener("keydown", (event) => {
  if (event.target.matches?.("input:not([type=file])")) return;
  if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "z") undo.click();
  else if (["Delete", "Backspace", "Escape"].includes(event.key) && !event.ctrlKey && !event.metaKey) clear.click();
  else return;
  event.preventDefault();
});

find("file").addEventListener("change", (event) => {
  take(event.target.files[0]);
  event.target.value = ""; // so that the same file can be chosen again
});
document.addEventListener("paste", (event) => {
  take([...event.clipboardData.files].find((file) => file.type.startsWith("image/")));
});
const frame = document.querySelector(".pad");
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    frame.classList.add("dropping");
  });
}
document.addEventListener("dragleave", (event) => event.relatedTarget ?? frame.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  frame.classList.remove("dropping");
  take(event.dataTransfer.files[0]);
});

function notice(message) {
  find("notice").textContent = message;
  find("notice").hidden = !message;
}

function askForKey() {
  find("key-form").hidden = false;
  find("key").focus();
}

find("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  backend.setKey(find("key").value);
  find("key-form").hidden = true;
  start();
});

async function start() {
  notice("");
  try {
    const { models, about, docs } = await backend.open();
    find("answers").replaceChildren();
    cards = models.map((model) => new Card(model, find("answers")));
    find("about").textContent = about;
    if (docs) find("about").append(Object.assign(document.createElement("a"), { href: docs, textContent: "Use it from a program" }));
    document.body.dataset.ready = "true";
    cards.forEach(classify);
  } catch (error) {
    if (error instanceof backend.NeedsKey) askForKey();
    else notice(error.message);
  }
}

start();
