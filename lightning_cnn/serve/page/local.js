// The models of a page without a server: they are files beside it, and ONNX Runtime computes them in the browser.
// `build_site` puts this file in the place of backend.js.

import { frame } from "./framing.js";
import * as ort from "../runtime/onnxruntime.js";

/** The longest side, in pixels, of a picture that is looked at. */
const MOST = 2000;
const base = new URL("..", import.meta.url);
const sessions = new Map();

// One thread needs no headers from the host of the page.
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = { wasm: new URL("runtime/onnxruntime.wasm", base).href };

/** What a server would raise; nothing here needs a key. */
export class NeedsKey extends Error {}

export function setKey() {}

export async function open() {
  const site = await (await fetch(new URL("site.json", base))).json();
  for (const model of site.models) {
    const session = await ort.InferenceSession.create(new URL(model.file, base).href, { executionProviders: ["wasm"] });
    sessions.set(model.name, session);
  }
  return site;
}

export async function predict(model, { blob, canvas }) {
  const picture = canvas ? canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height) : await read(blob);
  const { pixels, unclear } = frame(picture, model.framing);
  const [channels, height, width] = model.image_shape;
  const session = sessions.get(model.name);
  const input = new ort.Tensor("uint8", pixels, [1, channels, height, width]);
  const outputs = await session.run({ [session.inputNames[0]]: input });
  const probabilities = outputs.probabilities ? [...outputs.probabilities.data] : softmax([...outputs[session.outputNames[0]].data]);
  const shares = probabilities
    .map((probability, i) => ({ label: model.class_names[i], probability }))
    .sort((a, b) => b.probability - a.probability);
  const doubt = shares[0].probability < model.min_confidence ? "low confidence" : "";
  return { shares, seen: addressOf(pixels, channels, height, width), unclear: unclear || doubt };
}

/** Return the pixels of an image file, upright. */
async function read(blob) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob);
  } catch {
    throw new Error("The picture is: of a kind that this browser does not read; save it as PNG");
  }
  const scale = Math.min(1, MOST / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height].map((length) => Math.max(1, Math.round(length * scale)));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

function softmax(logits) {
  const top = Math.max(...logits);
  const powers = logits.map((value) => Math.exp(value - top));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

function addressOf(pixels, channels, height, width) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const seen = new ImageData(width, height);
  const plane = width * height;
  for (let i = 0; i < plane; i++) {
    for (let c = 0; c < 3; c++) seen.data[4 * i + c] = pixels[i + (channels === 3 ? c * plane : 0)];
    seen.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(seen, 0, 0);
  return canvas.toDataURL();
}
