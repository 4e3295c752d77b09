// The marks on a page, as lightning_cnn/predict/marks.py tells them: lines are taken away, far marks and specks left out.

import { evenly, median } from "./ink.js";

/** The least length of a line, as a share of the picture's, or of its other side. */
const [MIN_LINE, MIN_SHARE] = [0.55, 0.4];
/** The largest thickness of a line, and its distance from the rim, as shares of the picture's longer side. */
const [MAX_THICKNESS, MAX_GAP] = [0.045, 0.035];
/** The least mass of a mark, as a share of the largest one's. */
const MIN_MASS = 0.03;
/** The least size of a mark, as a share of the picture's, for which marks at the rim are left out. */
const MIN_SIZE = 0.12;
/** The largest mass of marks that are parts of a digit which fills the picture, and the least width of that. */
const [MAX_INNER, MIN_WIDTH] = [0.3, 0.25];
/** Width of the frame of a box that one drawn around a digit is in, and the least size of what it encloses. */
const [FRAME, MIN_ENCLOSED] = [0.15, 0.25];

/** Return the mask with all neighbours of its pixels. */
export function dilated(mask, width, height) {
  return mask.map((_, i) => {
    const [x, y] = [i % width, Math.floor(i / width)];
    for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++) {
      for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++) if (mask[v * width + u]) return 1;
    }
    return 0;
  });
}

/** Number the connected components of a mask, eight neighbours to a pixel, from 1 on. */
export function components(mask, width, height) {
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

/** Return a mask of ink without straight lines from rim to rim; where a stroke crosses one, it is kept. */
export function withoutLines(ink, width, height) {
  const turned = ink.map((_, i) => ink[(i % height) * width + Math.floor(i / height)]);
  const [rows, columns] = [lines(ink, width, height), lines(turned, height, width)];
  return ink.map((inside, i) => (inside && !rows[i] && !columns[(i % width) * height + Math.floor(i / width)] ? 1 : 0));
}

/** Return the pixels of near-horizontal lines. */
function lines(ink, width, height) {
  const longer = Math.max(width, height);
  const least = Math.max(MIN_LINE * width, MIN_SHARE * height);
  const thickness = runs(ink, width, height);
  const thin = ink.map((inside, i) => (inside && thickness[i] <= Math.max(2, MAX_THICKNESS * longer) ? 1 : 0));
  const found = new Uint8Array(ink.length);
  const place = (i) => [i % width, Math.floor(i / width)];
  const pixels = [...thin.keys()].filter((i) => thin[i]).map(place);
  if (new Set(pixels.map(([x]) => x)).size < least) return found;
  // Lines are not quite straight.
  const wide = [...thin.keys()].filter((i) => thin[i] || thin[i - width] || thin[i + width]).map(place);
  const gap = Math.trunc(MAX_GAP * longer);
  const atRim = wide.filter(([x, y]) => Math.min(x, y, width - 1 - x, height - 1 - y) <= gap);
  const [left, right] = [atRim.filter(([x]) => x < width / 2), atRim.filter(([x]) => x >= width / 2)];
  for (let step = -10; step <= 10; step++) {
    const row = ([x, y]) => y + evenly((step / 50) * x) + height;
    const [counts, starts, ends] = [wide, left, right].map((some) => {
      const rows = new Uint32Array(3 * height + 1);
      for (const at of some) rows[row(at)]++;
      return rows;
    });
    for (const at of pixels) {
      if (counts[row(at)] >= least && starts[row(at)] && ends[row(at)]) found[at[1] * width + at[0]] = 1;
    }
  }
  const limit = median(thickness.filter((_, i) => found[i])) + 2;
  return found.map((inside, i) => (inside && thickness[i] <= limit ? 1 : 0));
}

/** Return the length of the vertical run of ink that each pixel is in. */
function runs(ink, width, height) {
  const lengths = new Uint32Array(ink.length);
  for (let x = 0; x < width; x++) {
    for (let y = 0, start = 0; y <= height; y++) {
      if (y < height && ink[y * width + x]) continue;
      for (let v = start; v < y; v++) lengths[v * width + x] = y - start;
      start = y + 1;
    }
  }
  return lengths;
}

/** Return the largest mark with what belongs to it, and how many marks like it are beside it. */
export function mainMark(allInk, { data, width, height }) {
  const ink = withoutFrames(allInk, width, height);
  const { labels, number } = components(dilated(ink, width, height), width, height);
  const boxes = boxesOf(labels.map((label, i) => (ink[i] ? label : 0)), number, width);
  let marks = boxes.map((box, i) => ({ label: i + 1, mass: 0, box }));
  ink.forEach((inside, i) => {
    if (inside) marks[labels[i] - 1].mass += data[i];
  });
  const largest = (of) => of.reduce((a, b) => (b.mass > a.mass ? b : a));
  const least = MIN_MASS * largest(marks).mass;
  marks = marks.filter(({ mass }) => mass >= least);
  let inner = marks.filter(({ box }) => box.left && box.top && box.right < width && box.bottom < height);
  const spanning = marks.filter(({ box }) => spans(box, width, height));
  if (spanning.length && inner.every(({ mass }) => mass < MAX_INNER * largest(spanning).mass)) inner = [];
  if (inner.some(({ box }) => size(box) > MIN_SIZE * Math.max(width, height))) marks = inner;
  const main = largest(marks);
  const similar = (mark) => size(mark.box) > 0.5 * size(main.box) && mark.mass > 0.25 * main.mass;
  const group = new Set([main.label]);
  let box = { ...main.box };
  let rest = marks.filter((mark) => mark !== main);
  for (;;) {
    const near = rest.filter((mark) => gap(mark.box, box) <= (similar(mark) ? 0.1 : 0.25) * size(main.box));
    if (!near.length) break;
    for (const mark of near) {
      group.add(mark.label);
      box = united(box, mark.box);
    }
    rest = rest.filter((mark) => !near.includes(mark));
  }
  return { chosen: ink.map((inside, i) => (inside && group.has(labels[i]) ? 1 : 0)), others: rest.filter(similar).length };
}

const size = (box) => Math.max(box.bottom - box.top, box.right - box.left);

const gap = (a, b) => Math.max(b.left - a.right, a.left - b.right, b.top - a.bottom, a.top - b.bottom, 0);

const united = (a, b) => ({
  left: Math.min(a.left, b.left),
  top: Math.min(a.top, b.top),
  right: Math.max(a.right, b.right),
  bottom: Math.max(a.bottom, b.bottom),
});

const encloses = (a, b) => a.left < b.left && a.top < b.top && a.right > b.right && a.bottom > b.bottom;

/** Whether a mark reaches from one side of the picture to the other, and is not a strip along a third one. */
function spans({ left, top, right, bottom }, width, height) {
  if (top === 0 && bottom === height) return right - left > MIN_WIDTH * width;
  return left === 0 && right === width && bottom - top > MIN_WIDTH * height;
}

/** Return the bounding box of each label. */
function boxesOf(labels, number, width) {
  const boxes = Array.from({ length: number }, () => ({ left: width, top: Infinity, right: 0, bottom: 0 }));
  labels.forEach((label, i) => {
    if (!label) return;
    const [x, y] = [i % width, Math.floor(i / width)];
    boxes[label - 1] = united(boxes[label - 1], { left: x, top: y, right: x + 1, bottom: y + 1 });
  });
  return boxes;
}

/** Return the ink without boxes and circles that are drawn around other marks, and do not touch them. */
function withoutFrames(ink, width, height) {
  const { labels, number } = components(ink, width, height);
  const boxes = boxesOf(labels, number, width);
  const isFrame = boxes.map(
    (box, i) =>
      size(box) > MIN_SIZE * Math.max(width, height) &&
      boxes.some((other) => encloses(box, other) && size(other) > MIN_ENCLOSED * size(box)) &&
      isHollow(labels, i + 1, box, width),
  );
  return ink.map((inside, i) => (inside && !isFrame[labels[i] - 1] ? 1 : 0));
}

/** Whether the pixels of a mark are at the sides of its box, or on an ellipse in it. */
function isHollow(labels, label, box, width) {
  const [wide, high] = [box.right - box.left, box.bottom - box.top];
  const [marginX, marginY] = [wide, high].map((length) => Math.max(1, evenly(FRAME * length)));
  let [all, inBox, inEllipse] = [0, 0, 0];
  for (let y = 0; y < high; y++) {
    for (let x = 0; x < wide; x++) {
      if (labels[(box.top + y) * width + box.left + x] !== label) continue;
      all++;
      if (x >= marginX && x < wide - marginX && y >= marginY && y < high - marginY) inBox++;
      if (Math.hypot((2 * x) / (wide - 1) - 1, (2 * y) / (high - 1) - 1) < 1 - 2 * FRAME) inEllipse++;
    }
  }
  return Math.min(inBox, inEllipse) < 0.05 * all;
}
