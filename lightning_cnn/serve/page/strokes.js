// Strokes of a thick pen are made as thin as those of the training images, as lightning_cnn/predict/strokes.py does.

import { image, crop } from "./resample.js";
import { boxOf } from "./ink.js";

/** Thickness of strokes in pixels of the training images, beyond which they are made thinner, and which they get then. */
const [THICKEST, WANTED] = [4.5, 3.2];
/** The thickness that the thinner strokes have: the quantile of the thickness along their middle lines. */
const QUANTILE = 0.25;

/** Return ink that is no thicker than strokes of images in which its longer side has `side` pixels. */
export function thinned(ink, side) {
  const pixel = Math.max(ink.width, ink.height) / side;
  const excess = thickness(ink) - WANTED * pixel;
  if (excess <= (THICKEST - WANTED) * pixel) return ink;
  const eroded = erode(ink, excess / 2);
  if (!eroded.data.some((value) => value > 0)) return ink;
  const { left, top, right, bottom } = boxOf(eroded, (value) => value > 0);
  return crop(eroded, left, top, right, bottom);
}

function thickness({ data, width, height }) {
  const half = data.reduce((a, b) => Math.max(a, b), 0) / 2;
  const [wide, high] = [width + 2, height + 2];
  const squares = new Float64Array(wide * high);
  data.forEach((value, i) => {
    if (value > half) squares[(Math.floor(i / width) + 1) * wide + (i % width) + 1] = Infinity;
  });
  transform(squares, wide, high);
  const middle = [];
  for (let y = 1; y <= height; y++) {
    for (let x = 1; x <= width; x++) {
      const here = squares[y * wide + x];
      if (here <= 1) continue;
      let largest = 0;
      for (const v of [-1, 0, 1]) for (const u of [-1, 0, 1]) largest = Math.max(largest, squares[(y + v) * wide + x + u]);
      if (here === largest) middle.push(Math.sqrt(here));
    }
  }
  return middle.length ? 2 * quantile(middle, QUANTILE) : 1;
}

/** Replace infinite values by the squared distance to the nearest value of 0: columns first, then rows. */
function transform(squares, width, height) {
  for (let x = 0; x < width; x++) line(squares, x, width, height);
  for (let y = 0; y < height; y++) line(squares, y * width, 1, width);
}

/** Return, in place, for each pixel of a line the least sum of a value and the squared distance to it. */
function line(squares, start, step, length) {
  const values = Array.from({ length }, (_, i) => squares[start + i * step]);
  for (let i = 0; i < length; i++) {
    let least = Infinity;
    for (let j = 0; j < length; j++) least = Math.min(least, values[j] + (i - j) ** 2);
    squares[start + i * step] = least;
  }
}

function quantile(values, share) {
  const sorted = Float64Array.from(values).sort();
  const at = share * (sorted.length - 1);
  const below = Math.floor(at);
  return sorted[below] + (at - below) * ((sorted[below + 1] ?? sorted[below]) - sorted[below]);
}

/** Return the least value in a disc around each pixel; outside of the image it is 0. */
function erode({ data, width, height }, radius) {
  const reach = Math.trunc(radius);
  const disc = [];
  for (let v = -reach; v <= reach; v++) for (let u = -reach; u <= reach; u++) if (u * u + v * v <= radius * radius) disc.push([u, v]);
  const result = data.map((value, i) => {
    if (value === 0) return 0;
    const [x, y] = [i % width, Math.floor(i / width)];
    let least = value;
    for (const [u, v] of disc) {
      const inside = x + u >= 0 && y + v >= 0 && x + u < width && y + v < height;
      least = Math.min(least, inside ? data[(y + v) * width + x + u] : 0);
    }
    return least;
  });
  return image(result, width, height);
}
