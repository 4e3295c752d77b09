// The models of the server that this page is from. The page without a server has another file in place of this one.

const KEY = "lightning-cnn-key";

/** An answer that the server refuses without a key. */
export class NeedsKey extends Error {}

export function setKey(key) {
  sessionStorage.setItem(KEY, key);
}

/** Return the models: name, class_names, image_shape and framing of each; and a note for the foot of the page. */
export async function open() {
  const { models, version } = await ask("info");
  return { models, about: `lightning-cnn ${version} · `, docs: "docs" };
}

/** Return shares, what is seen as an address, and why it is unclear, for an image file. */
export async function predict(model, { blob }) {
  const form = new FormData();
  form.append("images", blob, "image");
  form.append("model", model.name);
  form.append("top_k", Math.min(1000, model.class_names.length));
  form.append("seen", "true");
  const { predictions } = await ask("predict", { method: "POST", body: form });
  const [{ top_k: shares, seen, unclear }] = predictions;
  return { shares, seen: `data:image/png;base64,${seen.png}`, unclear };
}

async function ask(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  const answer = await response.json();
  if (response.status === 401) throw new NeedsKey(answer.detail);
  if (!response.ok) throw new Error(answer.detail.replace(/^images\[0\]: /, "The picture is: "));
  return answer;
}
