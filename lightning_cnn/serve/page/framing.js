// From an image of any size to the input of a network, as lightning_cnn/predict/framing.py and data/resize.py do.

import { boxOf, evenly, findInk } from "./ink.js";
import { findObject } from "./objects.js";
import { BILINEAR, LANCZOS, image, luminance, resize } from "./resample.js";
import { thinned } from "./strokes.js";

const SIZE = 28;
/** How far an image of 28 pixels may be from the training images, see `_is_framed`. */
const [FAINT, SIDE_TOLERANCE, CENTRE_TOLERANCE] = [0.05, 3, 0.6];

/** Return the input of a network, bytes of its channels one after the other, and why it is unclear. */
export function frame(original, framing) {
  const picture = opaque(original, framing.by_mass === false ? 255 : null);
  if ("mode" in framing) return { pixels: fitted(picture, framing), unclear: "" };
  const grey = greyOf(picture);
  if (grey.data.every((value) => value === grey.data[0])) {
    throw new Error("The picture is: blank: all its pixels are alike; give an image with something in it");
  }
  if (grey.width === SIZE && grey.height === SIZE && isFramed(grey, framing)) return { pixels: whole(grey), unclear: "" };
  const planes = isGrey(picture) ? [grey] : planesOf(picture);
  const found = framing.by_mass ? findInk(grey, framing.side) : findObject(planes, framing.side);
  if (!found) throw new Error("The picture is: blank: nothing in it stands out; give an image with something in it");
  const foreground = framing.by_mass ? thinned(found.ink, framing.side) : found.values;
  return { pixels: place(foreground, framing), unclear: found.unclear };
}

/** Return an ImageData on white, or on black if what is visible of it is light, unless the background is given. */
function opaque(picture, given) {
  const { data, width, height } = picture;
  if (data.every((value, i) => (i & 3) < 3 || value === 255)) return picture;
  let [light, alpha] = [0, 0];
  for (let i = 0; i < data.length; i += 4) {
    light += greyAt(data, i) * data[i + 3];
    alpha += data[i + 3];
  }
  const fill = given ?? (light < 128 * alpha ? 255 : 0);
  const blend = (value, i) => Math.round((value * data[i | 3] + fill * (255 - data[i | 3])) / 255);
  return { data: data.map(blend), width, height };
}

const greyAt = (data, i) => luminance(data[i], data[i + 1], data[i + 2]);

/** Return the grey values of an opaque ImageData. */
function greyOf({ data, width, height }) {
  return image(Uint8Array.from({ length: width * height }, (_, i) => greyAt(data, 4 * i)), width, height);
}

/** Scale the foreground to the size of the training images and to the whole range of grey, and place it. */
function place(foreground, { side, by_mass: byMass }) {
  const longer = Math.max(foreground.width, foreground.height);
  const [width, height] = [foreground.width, foreground.height].map((l) => Math.max(1, evenly((l * side) / longer)));
  const small = longer === side ? foreground : resize(foreground, width, height, LANCZOS);
  const values = small.data.map((value) => Math.max(value, 0));
  const top = values.reduce((a, b) => Math.max(a, b), 0);
  const [rows, columns] = [new Float64Array(small.height), new Float64Array(small.width)];
  values.forEach((value, i) => {
    rows[Math.floor(i / small.width)] += value;
    columns[i % small.width] += value;
  });
  const [y, x] = [rows, columns].map((mass) => offset(mass, byMass));
  const pixels = new Uint8Array(SIZE * SIZE);
  values.forEach((value, i) => {
    pixels[(y + Math.floor(i / small.width)) * SIZE + x + (i % small.width)] = evenly((value * 255) / top);
  });
  return pixels;
}

/** Return the first row, or column, of a foreground with this mass in its rows, so that it is centred. */
function offset(mass, byMass) {
  const free = SIZE - mass.length;
  if (!byMass) return Math.floor((free + 1) / 2);
  const exact = evenly(1000 * (SIZE / 2 - centreOf(mass))) / 1000; // a symmetric foreground is exactly between two pixels
  return Math.min(free, Math.max(0, evenly(exact)));
}

function centreOf(mass) {
  const total = mass.reduce((a, b) => a + b, 0);
  return mass.reduce((sum, value, i) => sum + value * i, 0) / total;
}

/** Whether a 28×28 image is darker in its middle than in its corners. */
function isDark({ data }) {
  const last = SIZE - 1;
  const corners = [0, last, SIZE * last, SIZE * SIZE - 1].map((i) => data[i]).sort((a, b) => a - b);
  return corners[1] + corners[2] > Math.min(...data) + Math.max(...data);
}

/** Whether the foreground of a 28×28 image has the size and the place of a training image's. */
function isFramed(grey, { side, by_mass: byMass }) {
  const [low, high] = [Math.min(...grey.data), Math.max(...grey.data)];
  const dark = isDark(grey);
  const light = image(Float32Array.from(grey.data, (value) => (dark ? high - value : value - low)), SIZE, SIZE);
  const box = boxOf(light, (value) => value > FAINT * (high - low));
  if (Math.abs(Math.max(box.bottom - box.top, box.right - box.left) - side) > SIDE_TOLERANCE) return false;
  if (!byMass) return true;
  const mass = [new Float64Array(SIZE), new Float64Array(SIZE)];
  light.data.forEach((value, i) => {
    mass[0][Math.floor(i / SIZE)] += value;
    mass[1][i % SIZE] += value;
  });
  return mass.every((values) => Math.abs(centreOf(values) - SIZE / 2) <= CENTRE_TOLERANCE);
}

function whole(grey) {
  return isDark(grey) ? grey.data.map((value) => 255 - value) : grey.data;
}

/** Return an image as `data.resize.Resize` makes it. */
function fitted(picture, { size: [height, width], mode, channels }) {
  const planes = channels === 1 ? [greyOf(picture)] : planesOf(picture);
  const pixels = new Uint8Array(channels * width * height);
  planes.forEach((plane, i) => pixels.set(fit(plane, width, height, mode), i * width * height));
  return pixels;
}

const isGrey = ({ data }) => data.every((value, i) => (i & 3) === 3 || value === data[i & ~3]);

/** Return the red, the green and the blue values of an ImageData. */
function planesOf({ data, width, height }) {
  const plane = (channel) => Uint8Array.from({ length: width * height }, (_, i) => data[4 * i + channel]);
  return [0, 1, 2].map((channel) => image(plane(channel), width, height));
}

function fit(plane, width, height, mode) {
  if (plane.width === width && plane.height === height) return plane.data;
  if (mode === "stretch") return resize(plane, width, height, BILINEAR).data;
  if (mode === "crop") return resize(plane, width, height, BILINEAR, centred(plane, width, height)).data;
  const scale = Math.min(width / plane.width, height / plane.height);
  const [w, h] = [plane.width, plane.height].map((length) => Math.max(1, evenly(length * scale)));
  const inner = resize(plane, w, h, BILINEAR);
  const [left, top] = [(width - w) >> 1, (height - h) >> 1];
  const padded = new Uint8Array(width * height);
  for (let y = 0; y < h; y++) padded.set(inner.data.subarray(y * w, (y + 1) * w), (top + y) * width + left);
  return padded;
}

/** Return which part of an image to resize, as `Resize` does. */
function centred(plane, width, height) {
  const tall = plane.width * height < plane.height * width;
  const scaled = tall
    ? [width, Math.max(height, Math.floor((width * plane.height) / plane.width))]
    : [Math.max(width, Math.floor((height * plane.width) / plane.height)), height];
  const [left, top] = [evenly((scaled[0] - width) / 2), evenly((scaled[1] - height) / 2)];
  const [x, y] = [plane.width / scaled[0], plane.height / scaled[1]];
  return [left * x, top * y, Math.min(plane.width, (left + width) * x), Math.min(plane.height, (top + height) * y)];
}
