// Strokes of a thick pen are made as thin as those of the training images, as lightning_cnn/predict/strokes.py does.

import { image } from "./resample.js";
import { trimmed } from "./ink.js";

/** Thickness of strokes in pixels of the training images, beyond which they are made thinner, and which they get then. */
const [THICKEST, WANTED] = [4.5, 3.2];
/** The pixels of the picture for one of the training images, below which the thickness would be guessed. */
const FINEST = 1.5;
/** The thickness that the thinner strokes have: the quantile of the thickness along their middle lines. */
const QUANTILE = 0.25;

/** Return ink that is no thicker than strokes of images in which its longer side has `side` pixels. */
export function thinned(ink, side) {
  const pixel = Math.max(ink.width, ink.height) / side;
  if (pixel < FINEST) return ink;
  const distance = distances(ink);
  const excess = thickness(distance, ink) - WANTED * pixel;
  if (excess <= (THICKEST - WANTED) * pixel) return ink;
  const left = (i) => Math.min(1, Math.max(0, distance[place(i, ink)] - excess / 2));
  const eroded = image(ink.data.map((value, i) => value * left(i)), ink.width, ink.height);
  if (!eroded.data.some((value) => value > 0)) return ink;
  return trimmed(eroded);
}

/** Return where a pixel is in the picture with a margin of one pixel. */
const place = (i, { width }) => (Math.floor(i / width) + 1) * (width + 2) + (i % width) + 1;

/** Return the distance of each pixel of ink to the nearest background pixel, with a margin of one pixel. */
function distances(ink) {
  const half = ink.data.reduce((a, b) => Math.max(a, b), 0) / 2;
  const squares = new Float64Array((ink.width + 2) * (ink.height + 2));
  ink.data.forEach((value, i) => {
    if (value > half) squares[place(i, ink)] = Infinity;
  });
  transform(squares, ink.width + 2, ink.height + 2);
  return squares.map(Math.sqrt);
}

function thickness(distance, { width, height }) {
  const middle = [];
  for (let y = 1; y <= height; y++) {
    for (let x = 1; x <= width; x++) {
      const at = (u, v) => distance[(y + v) * (width + 2) + x + u];
      if (at(0, 0) <= 1) continue;
      let largest = 0;
      for (const v of [-1, 0, 1]) for (const u of [-1, 0, 1]) largest = Math.max(largest, at(u, v));
      if (at(0, 0) === largest) middle.push(largest);
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

export function quantile(values, share) {
  const sorted = Float64Array.from(values).sort();
  const at = share * (sorted.length - 1);
  const below = Math.floor(at);
  return sorted[below] + (at - below) * ((sorted[below + 1] ?? sorted[below]) - sorted[below]);
}
