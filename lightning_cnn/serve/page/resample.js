// Resizing as Pillow does it, so that an image becomes the same here and in Python.

const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
const cubic = (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((2.5 - 0.5 * x) * x - 4) * x + 2 : 0);

/** Each filter with its support, in pixels of the result. */
export const BOX = [(x) => (x > -0.5 && x <= 0.5 ? 1 : 0), 0.5];
export const BILINEAR = [(x) => Math.max(0, 1 - Math.abs(x)), 1];
export const BICUBIC = [(x) => cubic(Math.abs(x)), 2];
export const LANCZOS = [(x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0), 3];
/** The bits of the weights with which Pillow resizes bytes. */
const ONE = 2 ** 22;

/** An image of one channel: `data` has its rows, of numbers from 0 to 255, or of any floats. */
export const image = (data, width, height) => ({ data, width, height });

/** Return the grey value of a colour, as Pillow does. */
export const luminance = (red, green, blue) => (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;

/**
 * Return an image with another size.
 *
 * Bytes stay bytes (a Uint8ClampedArray or Uint8Array), rounded after each direction; all else is float32.
 * `box` is the part to resize: left, top, right and bottom, which need not be whole numbers. Where both directions
 * change, Pillow takes the cheaper one first, and here it is always the horizontal one: bytes may differ by 1.
 */
export function resize(source, width, height, filter, box = [0, 0, source.width, source.height]) {
  const isBytes = source.data.BYTES_PER_ELEMENT === 1;
  const [left, top, right, bottom] = box.map(Math.fround);
  const columns = weights(source.width, left, right, width, filter, isBytes);
  const rows = weights(source.height, top, bottom, height, filter, isBytes);
  const wide = pass(source.data, source.width, source.height, columns, isBytes);
  const turned = transpose(wide, width, source.height);
  return image(transpose(pass(turned, source.height, width, rows, isBytes), height, width), width, height);
}

/** Return a smaller image of bytes by BOX; first, as Pillow does with a `reducing_gap` of 2, blocks are averaged. */
export function shrunk(source, width, height, box = [0, 0, source.width, source.height]) {
  const factor = (length, count) => Math.trunc(length / count / 2) || 1;
  const [wide, high] = [factor(box[2] - box[0], width), factor(box[3] - box[1], height)];
  if (wide === 1 && high === 1) return resize(source, width, height, BOX, box);
  const [left, top, right, bottom] = [Math.trunc(box[0]), Math.trunc(box[1]), Math.ceil(box[2]), Math.ceil(box[3])];
  const blocks = averaged(crop(source, left, top, right, bottom), wide, high);
  const place = [(box[0] - left) / wide, (box[1] - top) / high, (box[2] - left) / wide, (box[3] - top) / high];
  return resize(blocks, width, height, BOX, place);
}

/** Return the mean of each block of pixels, rounded as Pillow does; the last blocks may be smaller. */
function averaged({ data, width, height }, wide, high) {
  const [columns, rows] = [Math.ceil(width / wide), Math.ceil(height / high)];
  const means = new Uint8Array(columns * rows);
  for (let at = 0; at < means.length; at++) {
    const [left, top] = [(at % columns) * wide, Math.floor(at / columns) * high];
    const [right, bottom] = [Math.min(width, left + wide), Math.min(height, top + high)];
    const count = (right - left) * (bottom - top);
    let sum = count >> 1;
    for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) sum += data[y * width + x];
    means[at] = Math.floor((sum * Math.trunc(Math.fround(2 ** 24 / count))) / 2 ** 24);
  }
  return image(means, columns, rows);
}

/** Return the first source pixel and the weights of each pixel of the result. */
function weights(length, start, end, count, [filter, support], isBytes) {
  const scale = (end - start) / count;
  const stretch = Math.max(scale, 1);
  const reach = support * stretch;
  return Array.from({ length: count }, (_, i) => {
    const centre = start + (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const last = Math.min(length, Math.trunc(centre + reach + 0.5));
    const values = Array.from({ length: last - first }, (_, j) => filter((j + first - centre + 0.5) * (1 / stretch)));
    const sum = values.reduce((a, b) => a + b, 0);
    const shares = values.map((value) => (sum === 0 ? value : value * (1 / sum)));
    return { first, shares: isBytes ? shares.map((share) => Math.trunc(share * ONE + (share < 0 ? -0.5 : 0.5))) : shares };
  });
}

/** Resize all rows. */
function pass(data, width, height, columns, isBytes) {
  const result = isBytes ? new Uint8Array(columns.length * height) : new Float32Array(columns.length * height);
  for (let y = 0, at = 0; y < height; y++) {
    for (const { first, shares } of columns) {
      let sum = isBytes ? ONE / 2 : 0;
      const start = y * width + first;
      for (let i = 0; i < shares.length; i++) sum += shares[i] * data[start + i];
      result[at++] = isBytes ? Math.min(255, Math.max(0, Math.floor(sum / ONE))) : sum;
    }
  }
  return result;
}

function transpose(data, width, height) {
  const result = new data.constructor(data.length);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) result[x * height + y] = data[y * width + x];
  return result;
}

/** Return the part of an image from left and top up to right and bottom. */
export function crop(source, left, top, right, bottom) {
  const data = new source.data.constructor((right - left) * (bottom - top));
  for (let y = top; y < bottom; y++) {
    data.set(source.data.subarray(y * source.width + left, y * source.width + right), (y - top) * (right - left));
  }
  return image(data, right - left, bottom - top);
}
