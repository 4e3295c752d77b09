// The drawing area: strokes of a mouse, a finger, a pen or the keyboard, in units of its side.

/** Thickness of strokes, as a share of the side: two of the 28 pixels of a digit that fills the area. */
const THICKNESS = 1 / 14;
/** The side of the drawing that is classified, in pixels. */
const SIDE = 280;
/** How far an arrow key moves the pen, as a share of the side. */
const STEP = 1 / 40;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Pad {
  /** Let the user draw on a canvas; `onChange` is called after every change, also within a stroke. */
  constructor(canvas, onChange) {
    this.canvas = canvas;
    this.onChange = onChange;
    this.strokes = [];
    this.cleared = []; // what `undo` brings back after `clear`
    this.current = null;
    this.pen = null; // the place of the pen of the keyboard
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => this.#extend(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.#end(event));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => this.#liftPen());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.show());
    new ResizeObserver(() => this.#resize()).observe(canvas);
  }

  get isEmpty() {
    return this.strokes.length === 0;
  }

  get canUndo() {
    return !this.isEmpty || this.cleared.length > 0;
  }

  undo() {
    if (this.isEmpty) [this.strokes, this.cleared] = [this.cleared, []];
    else this.strokes.pop();
    this.#changed();
  }

  clear() {
    if (!this.isEmpty) this.cleared = this.strokes;
    [this.strokes, this.current, this.pen] = [[], null, null];
    this.#changed();
  }

  /** Return a canvas of `SIDE` pixels with the drawing in black on white. */
  drawing() {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = SIDE;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "#fff";
    context.fillRect(0, 0, SIDE, SIDE);
    paint(context, this.strokes, SIDE, "#000");
    return canvas;
  }

  show() {
    const { canvas } = this;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    paint(context, this.strokes, canvas.width, getComputedStyle(canvas).color);
    if (this.pen) this.#showPen(context);
  }

  #changed() {
    this.show();
    this.onChange();
  }

  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  #begin(event) {
    if (!event.isPrimary || event.button !== 0) return;
    event.preventDefault();
    this.canvas.focus({ focusVisible: false, preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.pen = null;
    this.#start(this.#place(event));
  }

  #start(place) {
    this.current = [place];
    this.strokes.push(this.current);
    this.cleared = [];
    this.#changed();
  }

  #extend(event) {
    if (!this.current || this.pen || !event.isPrimary) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const part of events.length ? events : [event]) this.current.push(this.#place(part));
    this.#changed();
  }

  #end(event) {
    if (!this.current || this.pen || !event.isPrimary) return;
    this.current = null;
    this.#changed();
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " ") {
      this.pen ??= [0.5, 0.5];
      if (this.current) this.#liftPen();
      else this.#start([...this.pen]);
    } else if (event.key in ARROWS) {
      const [x, y] = ARROWS[event.key];
      const [px, py] = this.pen ?? [0.5, 0.5];
      const inside = (value) => Math.min(1, Math.max(0, value));
      this.pen = [inside(px + x * STEP), inside(py + y * STEP)];
      this.current?.push([...this.pen]);
      if (this.current) this.#changed();
      else this.show();
    } else return;
    event.preventDefault();
  }

  #liftPen() {
    if (!this.pen || !this.current) return;
    this.current = null;
    this.#changed();
  }

  #showPen(context) {
    const [x, y] = this.pen.map((value) => value * this.canvas.width);
    context.beginPath();
    context.arc(x, y, 0.75 * THICKNESS * this.canvas.width, 0, 7);
    context.lineWidth = 0.007 * this.canvas.width;
    context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent");
    context.setLineDash(this.current ? [] : [12, 8]);
    context.stroke();
    context.setLineDash([]);
  }

  #resize() {
    const side = Math.round(this.canvas.clientWidth * Math.min(3, devicePixelRatio || 1));
    if (side && side !== this.canvas.width) this.canvas.width = this.canvas.height = side;
    this.show();
  }
}

/** Paint strokes as smooth curves: each point is a control point between the middles of its neighbours. */
function paint(context, strokes, side, color) {
  context.lineWidth = THICKNESS * side;
  context.lineCap = context.lineJoin = "round";
  context.strokeStyle = context.fillStyle = color;
  for (const stroke of strokes) {
    const points = stroke.map(([x, y]) => [x * side, y * side]);
    context.beginPath();
    if (points.length === 1) {
      context.arc(...points[0], context.lineWidth / 2, 0, 7);
      context.fill();
      continue;
    }
    context.moveTo(...points[0]);
    for (let i = 1; i < points.length - 1; i++) {
      const [x, y] = points[i];
      context.quadraticCurveTo(x, y, (x + points[i + 1][0]) / 2, (y + points[i + 1][1]) / 2);
    }
    context.lineTo(...points.at(-1));
    context.stroke();
  }
}
