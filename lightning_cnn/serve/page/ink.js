// Finds the ink of a drawing, as lightning_cnn/predict/foreground.py, paper.py and marks.py do, for paper that is even.

import { BILINEAR, BOX, crop, image, resize } from "./resample.js";

/** The longer side of the picture that is looked at, in pixels. */
const SIDE = 144;
/** Where the ink is smaller, it is looked at again in the picture itself. */
const MIN_SIDE = 72;
const MARGIN = 2;
/** The share of the largest contrast below which all is paper. */
const MIN_CONTRAST = 0.1;
/** The contrast of the faintest parts of a stroke, as a share of what separates ink from paper. */
const FAINTEST = 0.4;
/** The least mass of a mark, as a share of the largest one's. */
const MIN_MASS = 0.03;

/** Return the ink of a grey image, cropped, and why it is unclear; null if the image is blank. */
export function findInk(grey) {
  const scale = SIDE / Math.max(grey.width, grey.height);
  const [width, height] = [grey.width, grey.height].map((length) => Math.max(1, evenly(length * scale)));
  const small = resize(grey, width, height, scale < 1 ? BOX : BILINEAR);
  const paper = median(rim(small));
  const dark = paper > 127.5;
  const contrast = contrastOf(small, paper, dark);
  const top = contrast.data.reduce((a, b) => Math.max(a, b), 0);
  let faintest = Math.max(MIN_CONTRAST * top, 0.02);
  if (top <= faintest) return null;
  const strong = otsu(contrast.data.filter((value) => value > faintest));
  faintest = Math.max(faintest, FAINTEST * strong);
  const mask = contrast.data.map((value) => (value > faintest ? 1 : 0));
  const ink = seeded(mask, contrast, strong);
  const { chosen, others } = mainMark(ink, contrast);
  const grown = dilated(chosen, width, height);
  const isInk = (value, i) => grown[i] && value > faintest / 2 && !(mask[i] && !ink[i]);
  const values = image(contrast.data.map((value, i) => (isInk(value, i) ? value : 0)), width, height);
  let found = trimmed(values);
  if (Math.max(found.width, found.height) < MIN_SIDE || Math.max(grey.width, grey.height) < SIDE) {
    found = refined(grey, values, paper, dark, faintest);
  }
  return { ink: found, unclear: others ? "several marks" : "" };
}

/** Round half to even, as Python does. */
export function evenly(value) {
  const whole = Math.floor(value);
  const rest = value - whole;
  return rest < 0.5 || (rest === 0.5 && whole % 2 === 0) ? whole : whole + 1;
}

export function rim({ data, width, height }) {
  return data.filter((_, i) => i < width || i >= width * (height - 1) || i % width === 0 || i % width === width - 1);
}

export function median(values) {
  const sorted = Float64Array.from(values).sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** Return the smallest part of an image that has all values above 0. */
export function trimmed(values) {
  const { left, top, right, bottom } = boxOf(values, (value) => value > 0);
  return crop(values, left, top, right, bottom);
}

export function boxOf({ data, width, height }, belongs) {
  const box = { left: width, top: height, right: 0, bottom: 0 };
  data.forEach((value, i) => {
    if (!belongs(value)) return;
    const [x, y] = [i % width, Math.floor(i / width)];
    box.left = Math.min(box.left, x);
    box.right = Math.max(box.right, x + 1);
    box.top = Math.min(box.top, y);
    box.bottom = Math.max(box.bottom, y + 1);
  });
  return box;
}

function contrastOf({ data, width, height }, paper, dark) {
  const most = Math.max(dark ? paper : 255 - paper, 8);
  const of = dark ? (value) => Math.max(1 - value / most, 0) : (value) => Math.max(value - paper, 0) / most;
  return image(Float32Array.from(data, of), width, height);
}

/** Return the threshold that separates values into two classes with the least variance within them. */
function otsu(values) {
  const low = values.reduce((a, b) => Math.min(a, b), 0);
  const high = values.reduce((a, b) => Math.max(a, b), 0);
  if (low === high) return high;
  const counts = new Array(128).fill(0);
  for (const value of values) counts[Math.trunc((value - low) * (127.99 / (high - low)))]++;
  const total = counts.reduce((a, b) => a + b, 0);
  const all = counts.reduce((sum, count, i) => sum + count * i, 0);
  let [below, sum, best, at] = [0, 0, -1, 0];
  counts.forEach((count, i) => {
    below += count;
    sum += count * i;
    const above = total - below;
    const between = below * above * (sum / Math.max(below, 1) - (all - sum) / Math.max(above, 1)) ** 2;
    if (between > best) [best, at] = [between, i];
  });
  return low + ((1 + at) * (high - low)) / 128;
}

function dilated(mask, width, height) {
  return mask.map((_, i) => {
    const [x, y] = [i % width, Math.floor(i / width)];
    for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++) {
      for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++) if (mask[v * width + u]) return 1;
    }
    return 0;
  });
}

/** Number the connected components of a mask, eight neighbours to a pixel, from 1 on. */
function components(mask, width, height) {
  const labels = new Int32Array(mask.length);
  let number = 0;
  for (let start = 0; start < mask.length; start++) {
    if (!mask[start] || labels[start]) continue;
    labels[start] = ++number;
    for (const stack = [start]; stack.length; ) {
      const at = stack.pop();
      const [x, y] = [at % width, Math.floor(at / width)];
      for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++) {
        for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++) {
          const next = v * width + u;
          if (!mask[next] || labels[next]) continue;
          labels[next] = number;
          stack.push(next);
        }
      }
    }
  }
  return { labels, number };
}

/** Return the components of a mask that have a pixel of strong contrast. */
function seeded(mask, { data, width, height }, strong) {
  const { labels } = components(mask, width, height);
  const kept = new Set(labels.filter((_, i) => mask[i] && data[i] > strong));
  return mask.map((inside, i) => (inside && kept.has(labels[i]) ? 1 : 0));
}

/** Return the largest mark with what belongs to it, and how many marks like it are beside it. */
function mainMark(ink, { data, width, height }) {
  const { labels, number } = components(dilated(ink, width, height), width, height);
  const marks = Array.from({ length: number }, (_, i) => ({ label: i + 1, mass: 0 }));
  ink.forEach((inside, i) => {
    if (inside) marks[labels[i] - 1].mass += data[i];
  });
  const largest = Math.max(...marks.map(({ mass }) => mass));
  let rest = marks.filter(({ mass }) => mass >= MIN_MASS * largest);
  for (const mark of rest) mark.box = boxOf(image(labels.map((l, i) => (ink[i] ? l : 0)), width, height), (l) => l === mark.label);
  const main = rest.find(({ mass }) => mass === largest);
  const size = ({ box }) => Math.max(box.bottom - box.top, box.right - box.left);
  const similar = (mark) => size(mark) > 0.5 * size(main) && mark.mass > 0.25 * main.mass;
  const group = new Set([main.label]);
  let box = { ...main.box };
  rest = rest.filter((mark) => mark !== main);
  for (;;) {
    const near = rest.filter((mark) => gap(mark.box, box) <= (similar(mark) ? 0.1 : 0.25) * size(main));
    if (!near.length) break;
    for (const mark of near) {
      group.add(mark.label);
      box = united(box, mark.box);
    }
    rest = rest.filter((mark) => !near.includes(mark));
  }
  return { chosen: ink.map((inside, i) => (inside && group.has(labels[i]) ? 1 : 0)), others: rest.filter(similar).length };
}

const gap = (a, b) => Math.max(b.left - a.right, a.left - b.right, b.top - a.bottom, a.top - b.bottom, 0);

function united(a, b) {
  const [left, top] = [Math.min(a.left, b.left), Math.min(a.top, b.top)];
  return { left, top, right: Math.max(a.right, b.right), bottom: Math.max(a.bottom, b.bottom) };
}

/** Return small ink at the resolution of the picture itself. */
function refined(grey, values, paper, dark, faintest) {
  const { width, height } = values;
  const found = boxOf(values, (value) => value > 0);
  let near = image(Float32Array.from(dilated(values.data.map((value) => (value > 0 ? 1 : 0)), width, height)), width, height);
  let part = grey;
  if (Math.max(grey.width, grey.height) > SIDE) {
    const [left, top] = [Math.max(0, found.left - MARGIN), Math.max(0, found.top - MARGIN)];
    const [right, bottom] = [Math.min(width, found.right + MARGIN), Math.min(height, found.bottom + MARGIN)];
    const [x, y] = [grey.width / width, grey.height / height];
    const box = [left * x, top * y, Math.min(right * x, grey.width), Math.min(bottom * y, grey.height)];
    near = crop(near, left, top, right, bottom);
    const scale = Math.min(1, SIDE / Math.max(box[2] - box[0], box[3] - box[1]));
    const size = [2, 3].map((end) => Math.max(1, evenly(scale * (box[end] - box[end - 2]))));
    part = resize(grey, ...size, BOX, box);
  } else {
    faintest = MIN_CONTRAST * values.data.reduce((a, b) => Math.max(a, b), 0);
  }
  near = resize(near, part.width, part.height, BILINEAR);
  const contrast = contrastOf(part, paper, dark);
  const sharp = image(contrast.data.map((value, i) => (near.data[i] > 0 && value > faintest ? value : 0)), part.width, part.height);
  return sharp.data.some((value) => value > 0) ? trimmed(sharp) : trimmed(values);
}
