// Finds the ink of a drawing, as lightning_cnn/predict/foreground.py and paper.py do, for paper that is even.

import { components, dilated, mainMark, withoutLines } from "./marks.js";
import { BICUBIC, BILINEAR, crop, image, resize, shrunk } from "./resample.js";

/** The longer side of the picture that is looked at, in pixels. */
export const SIDE = 144;
/** Where the ink is smaller, it is looked at again in the picture itself, unless it is enlarged more than twice then. */
const MIN_SIDE = 72;
export const MARGIN = 2;
/** The share of the largest contrast below which all is paper. */
const MIN_CONTRAST = 0.1;
/** The contrast of the faintest parts of a stroke, as a share of what separates ink from paper. */
const FAINTEST = 0.4;
/** The least difference of ink from paper, in grey values: eight standard deviations of rounding. */
const MIN_DIFFERENCE = 8 * 0.29;
/** The least difference of black from the paper, or of white, that contrast is measured with. */
const BLACK = 8;
/** Unclear is ink on more than this share of the picture, and ink with less contrast than this. */
const [MAX_INK, FAINT_INK] = [0.5, 0.08];

/** Return the ink of a grey image, cropped, for `side` pixels, and why it is unclear; null if the image is blank. */
export function findInk(grey, side) {
  const scale = SIDE / Math.max(grey.width, grey.height);
  const [width, height] = [grey.width, grey.height].map((length) => Math.max(1, evenly(length * scale)));
  const small = scale < 1 ? shrunk(grey, width, height) : resize(grey, width, height, BICUBIC);
  const paper = median(rim(small));
  const [low, high] = [Math.min, Math.max].map((most) => small.data.reduce((a, b) => most(a, b)));
  const dark = 2 * paper > low + high;
  const contrast = contrastOf(small, paper, dark);
  const top = contrast.data.reduce((a, b) => Math.max(a, b), 0);
  let faintest = Math.max(MIN_CONTRAST * top, MIN_DIFFERENCE / rangeOf(paper, dark));
  if (top <= faintest) return null;
  const strong = otsu(contrast.data.filter((value) => value > faintest));
  faintest = Math.max(faintest, FAINTEST * strong);
  const mask = contrast.data.map((value) => (value > faintest ? 1 : 0));
  const straight = seeded(withoutLines(mask, width, height), contrast, strong);
  const ink = straight.includes(1) ? straight : seeded(mask, contrast, strong); // all of it is lines
  const { chosen, others } = mainMark(ink, contrast);
  const grown = dilated(chosen, width, height);
  const isInk = (value, i) => grown[i] && value > faintest / 2 && !(mask[i] && !ink[i]);
  const values = image(contrast.data.map((value, i) => (isInk(value, i) ? value : 0)), width, height);
  let found = trimmed(values);
  if (isRefined(found, grey, side)) {
    found = refined(grey, values, paper, dark, faintest);
  }
  return { ink: found, unclear: others ? "several marks" : doubt(chosen, contrast, dark ? 1 : rangeOf(paper, dark) / 255) };
}

/** Whether a foreground that was found in a picture, reduced to `SIDE`, is looked at again in the picture itself. */
export function isRefined(found, picture, side) {
  const [longest, whole] = [found, picture].map(({ width, height }) => Math.max(width, height));
  return (longest * whole) / SIDE >= side / 2 && (longest < MIN_SIDE || whole < SIDE);
}

/** Round half to even, as Python does. */
export function evenly(value) {
  const whole = Math.floor(value);
  const rest = value - whole;
  return rest < 0.5 || (rest === 0.5 && whole % 2 === 0) ? whole : whole + 1;
}

export const isRim = (i, width, height) =>
  i < width || i >= width * (height - 1) || i % width === 0 || i % width === width - 1;

export function rim({ data, width, height }) {
  return data.filter((_, i) => isRim(i, width, height));
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

/** Return why marks may not be what was meant; `unit` is the contrast, to white, of their contrast to the paper. */
function doubt(chosen, { data }, unit) {
  const marks = data.filter((_, i) => chosen[i]);
  if (marks.length > MAX_INK * chosen.length) return "ink fills the picture";
  return (unit * marks.reduce((a, b) => a + b, 0)) / marks.length < FAINT_INK ? "faint ink" : "";
}

/** Return the difference of black ink from the paper, or of white. */
const rangeOf = (paper, dark) => Math.max(dark ? paper : 255 - paper, BLACK);

function contrastOf({ data, width, height }, paper, dark) {
  const most = rangeOf(paper, dark);
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

/** Return the components of a mask that have a pixel of strong contrast. */
function seeded(mask, { data, width, height }, strong) {
  const { labels } = components(mask, width, height);
  const kept = new Set(labels.filter((_, i) => mask[i] && data[i] > strong));
  return mask.map((inside, i) => (inside && kept.has(labels[i]) ? 1 : 0));
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
    part = shrunk(grey, ...size, box);
  } else {
    faintest = MIN_CONTRAST * values.data.reduce((a, b) => Math.max(a, b), 0);
  }
  near = resize(near, part.width, part.height, BILINEAR);
  const contrast = contrastOf(part, paper, dark);
  const sharp = image(contrast.data.map((value, i) => (near.data[i] > 0 && value > faintest ? value : 0)), part.width, part.height);
  return sharp.data.some((value) => value > 0) ? trimmed(sharp) : trimmed(values);
}
