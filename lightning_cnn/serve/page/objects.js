// Finds an object such as clothes, as lightning_cnn/predict/objects.py does, on a backdrop that is even.

import { MARGIN, SIDE, boxOf, evenly, isRefined, isRim, median, rim, trimmed } from "./ink.js";
import { components } from "./marks.js";
import { BICUBIC, crop, image, luminance, resize, shrunk } from "./resample.js";
import { quantile } from "./strokes.js";

/** The least difference from the backdrop, in standard deviations of that, and the least of these, in grey values. */
const [MIN_DEVIATIONS, MIN_DEVIATION] = [4, 1.5];
/** The difference from the corners, in grey values, that is enough if the rim does not show the backdrop. */
const OTHER = 12;
/** The level below which a backdrop is black, and the object light on it as in the training images. */
const BLACK = 40;
/** A backdrop whose deviations are larger, as a share of its light, has a pattern. */
const COARSE_PATTERN = 0.1;
/** The change from pixel to pixel, as a share of the backdrop's light, of a soft shadow at most. */
const EDGE = 0.036;
/** The least share of an object that is left without its shadow, and the least part of it, as one of the largest. */
const [MAX_SHADOW, MIN_PART] = [0.6, 0.05];
/** Half of the width of a gap, in pixels, that is closed. */
const GAP = 2;

/** Return the object in a picture with these planes, grey or of three colours, as `findInk` does. */
export function findObject(planes, side) {
  const [{ width, height }] = planes;
  const scale = SIDE / Math.max(width, height);
  const size = [width, height].map((length) => Math.max(1, evenly(length * scale)));
  const found = objectOf(planes.map((plane) => (scale < 1 ? shrunk(plane, ...size) : resize(plane, ...size, BICUBIC))));
  if (!found) return null;
  const values = trimmed(found.values);
  return { ...found, values: (isRefined(values, planes[0], side) && refined(planes, found)) || values };
}

/** Return a small object at the resolution of the picture itself. */
function refined(planes, { values, dark }) {
  const { left, top, right, bottom } = boxOf(values, (value) => value > 0);
  const [x, y] = [planes[0].width / values.width, planes[0].height / values.height];
  const box = [
    Math.trunc(Math.max(0, left - MARGIN) * x),
    Math.trunc(Math.max(0, top - MARGIN) * y),
    Math.min(Math.trunc(Math.min(values.width, right + MARGIN) * x) + 1, planes[0].width),
    Math.min(Math.trunc(Math.min(values.height, bottom + MARGIN) * y) + 1, planes[0].height),
  ];
  const sides = [box[2] - box[0], box[3] - box[1]];
  const scale = Math.min(1, SIDE / Math.max(...sides));
  const size = sides.map((length) => Math.max(1, evenly(length * scale)));
  const found = objectOf(planes.map((plane) => shrunk(crop(plane, ...box), ...size)), dark);
  return found && trimmed(found.values);
}

/** Return the object at the size of the planes, as in the training images: 255 for black, on a background of 0. */
function objectOf(planes, given) {
  const { width, height } = planes[0];
  const grey = planes.length === 1 ? planes[0] : image(planes[0].data.map((_, i) => luminance(...planes.map(({ data }) => data[i]))), width, height);
  const level = cornerLevel(grey);
  const { mask, deviation } = different(planes);
  if (!mask.includes(1)) return null;
  const light = median(rim(grey));
  const dark = given ?? level > BLACK;
  const whole = mainParts(mask, width, height);
  let inside = whole;
  if (dark) {
    const shade = shadow(grey, light, mask);
    const lit = mainParts(mask.map((value, i) => (value && !shade[i] ? 1 : 0)), width, height);
    // Where less is left, the shadow has leaked into an object as light as its backdrop.
    if (count(lit) >= MAX_SHADOW * count(whole)) inside = lit;
  }
  if (!inside.includes(1)) inside = whole.includes(1) ? whole : whole.map(() => 1);
  const white = (level > 170 ? 255 : level) / Math.max(light, 1);
  const value = dark ? (seen) => 255 - Math.min(seen * white, 255) : (seen) => seen - light;
  const values = Float32Array.from(grey.data, (seen, i) => (inside[i] ? Math.max(value(seen), 1) : 0));
  const unclear = deviation > COARSE_PATTERN * Math.max(level, BLACK) ? "the backdrop has a pattern" : "";
  return { values: image(values, width, height), unclear, dark };
}

const count = (mask) => mask.reduce((a, b) => a + b, 0);

/** Return the mean of the middle two of the four corners' medians. */
function cornerLevel(plane) {
  const [w, h] = [plane.width, plane.height].map((length) => Math.max(1, length >> 4));
  const [right, bottom] = [plane.width - w, plane.height - h];
  const places = [[0, 0], [right, 0], [0, bottom], [right, bottom]];
  const levels = places.map(([x, y]) => median(crop(plane, x, y, x + w, y + h).data)).sort((a, b) => a - b);
  return (levels[1] + levels[2]) / 2;
}

/** Return what differs from the backdrop, and the deviation of that; the tenth of the rim farthest off may be object. */
function different(planes) {
  const [{ width, height, data }] = planes;
  const residuals = planes.map((plane) => {
    const backdrop = median(rim(plane));
    return image(Float32Array.from(plane.data, (value) => value - backdrop), width, height);
  });
  const rims = residuals.map(rim);
  const off = rims[0].map((_, i) => rims.reduce((sum, values) => sum + Math.abs(values[i]), 0));
  const most = quantile(off, 0.9);
  const variances = rims.map((values) => variance(values.filter((_, i) => off[i] <= most)));
  const copies = 3 / planes.length; // one plane is like three equal ones
  const own = Math.sqrt(variances.reduce((a, b) => a + b, 0) / planes.length + MIN_DEVIATION ** 2 / copies);
  const deviation = own * Math.sqrt(copies);
  const distance = (i) => Math.hypot(...residuals.map((residual) => residual.data[i])) / own;
  const mask = Uint8Array.from(data, (_, i) => (distance(i) > MIN_DEVIATIONS ? 1 : 0));
  if (mask.includes(1)) return { mask, deviation };
  const levels = planes.map(cornerLevel); // the object covers the rim
  const isOther = (i) => planes.some((plane, band) => Math.abs(plane.data[i] - levels[band]) > OTHER);
  return { mask: mask.map((_, i) => (isOther(i) ? 1 : 0)), deviation };
}

function variance(values) {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  return values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
}

/** Return what is darker than the backdrop and not separated from it by an edge. */
function shadow({ data, width, height }, light, mask) {
  if (Math.min(width, height) < 2) return mask.map(() => 0);
  const at = (values, x, y) => values[Math.min(height - 1, Math.max(0, y)) * width + Math.min(width - 1, Math.max(0, x))];
  const everywhere = (of) => Float32Array.from(data, (_, i) => of(i % width, Math.floor(i / width)));
  const smooth = everywhere((x, y) => {
    let sum = 0;
    for (let v = y - 1; v <= y + 1; v++) for (let u = x - 1; u <= x + 1; u++) sum += at(data, u, v);
    return sum / 9;
  });
  const slope = (before, after, isInner) => (after - before) / (isInner ? 2 : 1);
  const change = everywhere((x, y) =>
    Math.hypot(
      slope(at(smooth, x - 1, y), at(smooth, x + 1, y), x > 0 && x < width - 1),
      slope(at(smooth, x, y - 1), at(smooth, x, y + 1), y > 0 && y < height - 1),
    ),
  );
  const isShade = (value) => value > 0.5 * light;
  const isSoft = (i) => change[i] < EDGE * light && smooth[i] < light && isShade(smooth[i]);
  const soft = mask.map((inside, i) => (!inside || isSoft(i) ? 1 : 0));
  return grown(fromRim(soft, width, height), width, height).map((inside, i) => (inside && isShade(smooth[i]) ? 1 : 0));
}

/** Return the large parts of a mask, without gaps and holes. */
function mainParts(mask, width, height) {
  const opposite = (values) => values.map((value) => (value ? 0 : 1));
  let closed = mask;
  for (let step = 0; step < GAP; step++) closed = grown(closed, width, height);
  for (let step = 0; step < GAP; step++) closed = opposite(grown(opposite(closed), width, height));
  const filled = opposite(fromRim(opposite(closed), width, height));
  const { labels, number } = components(filled, width, height);
  const areas = new Uint32Array(number + 1);
  for (const label of labels) if (label) areas[label]++;
  const least = Math.max(MIN_PART * Math.max(...areas), 1);
  return filled.map((_, i) => (areas[labels[i]] >= least ? 1 : 0));
}

/** Return the neighbours of a pixel above, below, left and right. */
function* beside(i, width, height) {
  if (i >= width) yield i - width;
  if (i < width * (height - 1)) yield i + width;
  if (i % width > 0) yield i - 1;
  if (i % width < width - 1) yield i + 1;
}

/** Return a mask with these neighbours of its pixels. */
function grown(mask, width, height) {
  const wide = mask.slice();
  mask.forEach((inside, i) => {
    if (inside) for (const next of beside(i, width, height)) wide[next] = 1;
  });
  return wide;
}

/** Return the pixels of a mask that are connected with the rim. */
function fromRim(mask, width, height) {
  const reached = new Uint8Array(mask.length);
  const stack = [...mask.keys()].filter((i) => mask[i] && isRim(i, width, height));
  for (const i of stack) reached[i] = 1;
  while (stack.length) {
    for (const next of beside(stack.pop(), width, height)) {
      if (!mask[next] || reached[next]) continue;
      reached[next] = 1;
      stack.push(next);
    }
  }
  return reached;
}
