// The predictions of a model: what it sees, its answer, and the probabilities of its classes.

/** The classes that are shown; of more, the most likely ones. */
const MOST = 10;
/** Names that are longer than this are set smaller. */
const LONG = 3;

export const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;

export class Card {
  /** Add the card of a model to an element. */
  constructor(model, parent) {
    const { content } = document.querySelector("#card");
    this.root = content.cloneNode(true).firstElementChild;
    this.model = model;
    this.prediction = null;
    this.#part("h2").textContent = model.name;
    this.rows = model.class_names.slice(0, MOST).map(() => this.#row());
    this.root.classList.toggle("wide", model.class_names.some((name) => name.length > LONG));
    parent.append(this.root);
    this.clear();
  }

  /** Show a prediction: `shares` with label and probability of all classes, `seen` as an address, and `unclear`. */
  show({ shares, seen, unclear }) {
    this.prediction = shares[0];
    const [first] = shares;
    this.#answer(first.label, percent(first.probability));
    const image = this.#part("img");
    image.src = seen;
    image.hidden = false;
    this.#notice(unclear ? `Unclear: ${unclear}` : "");
    this.#rows(shares);
  }

  /** Say why there is no prediction. */
  fail(message) {
    this.clear();
    this.#notice(message);
  }

  clear() {
    this.prediction = null;
    this.#answer("–", "nothing yet");
    this.#part("img").hidden = true;
    this.#notice("");
    this.#rows(this.model.class_names.map((label) => ({ label, probability: 0 })));
  }

  #part(selector) {
    return this.root.querySelector(selector);
  }

  #answer(label, confidence) {
    this.#part("strong").textContent = label;
    this.#part(".answer span").textContent = confidence;
    this.#part(".answer").classList.toggle("long", label.length > LONG);
  }

  #notice(message) {
    const notice = this.#part(".unclear");
    notice.textContent = message;
    notice.hidden = !message;
  }

  #row() {
    const [row, name, share, track, bar] = ["div", "dt", "dd", "dd", "i"].map((tag) => document.createElement(tag));
    track.className = "track";
    track.setAttribute("aria-hidden", "true");
    track.append(bar);
    row.append(name, track, share);
    this.#part(".shares").append(row);
    return { row, name, share, bar };
  }

  /** Show classes in their own order, or, of many, the most likely ones first. */
  #rows(shares) {
    const order = this.model.class_names;
    const shown = order.length > MOST ? shares : [...shares].sort((a, b) => order.indexOf(a.label) - order.indexOf(b.label));
    this.rows.forEach(({ row, name, share, bar }, i) => {
      const { label, probability } = shown[i];
      name.textContent = name.title = label;
      share.textContent = probability ? percent(probability) : "";
      bar.style.setProperty("--share", probability);
      row.classList.toggle("best", label === this.prediction?.label);
    });
  }
}
