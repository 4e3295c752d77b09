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
  const distance = distanceInside(ink);
  const excess = thickness(distance, ink.width, ink.height) - WANTED * pixel;
  if (excess <= Math.max((THICKEST - WANTED) * pixel, 2)) return ink; // less than a pixel on each side would be guessed
  const values = ink.data.map((value, i) => value * Math.min(1, Math.max(0, distance[i] - excess / 2)));
  if (!values.some((value) => value > 0)) return ink;
  const eroded = image(values, ink.width, ink.height);
  const { left, top, right, bottom } = boxOf(eroded, (value) => value > 0);
  return crop(eroded, left, top, right, bottom);
}

/** Return the distance of each pixel of ink from the nearest one that is none, 0 elsewhere. */
function distanceInside({ data, width, height }) {
  const half = data.reduce((a, b) => Math.max(a, b), 0) / 2;
  const wide = width + 2;
  const squares = new Float64Array(wide * (height + 2));
  const place = (i) => (Math.floor(i / width) + 1) * wide + (i % width) + 1;
  data.forEach((value, i) => {
    if (value > half) squares[place(i)] = Infinity;
  });
  transform(squares, wide, height + 2);
  return Float64Array.from(data, (_, i) => Math.sqrt(squares[place(i)]));
}

/** Return the thickness of the thinner strokes: twice the distance of their middle lines from the rim. */
function thickness(distance, width, height) {
  const at = (x, y) => (x < 0 || y < 0 || x >= width || y >= height ? 0 : distance[y * width + x]);
  const middle = distance.filter((here, i) => {
    if (here <= 1) return false;
    const [x, y] = [i % width, Math.floor(i / width)];
    return [-1, 0, 1].every((v) => [-1, 0, 1].every((u) => at(x + u, y + v) <= here));
  });
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
