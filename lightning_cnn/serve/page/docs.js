// Shows openapi.json: of each operation what it takes and what it answers.

const base = new URL(".", location.href).href;
document.getElementById("curl").textContent = `curl -F images=@digit.png -F top_k=3 ${base}predict`;
document.getElementById("python").textContent = [
  "import requests",
  "",
  `with open("digit.png", "rb") as image:`,
  `    answer = requests.post("${base}predict", files={"images": image})`,
  `print(answer.json()["predictions"][0]["label"])`,
].join("\n");

function add(parent, tag, text = "", className = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  element.className = className;
  parent.append(element);
  return element;
}

/** Return what a schema means in a few words. */
function type(schema, schemas) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.anyOf) return schema.anyOf.map((one) => type(one, schemas)).join(" or ");
  if (schema.type === "array" && schema.items) return `list of ${type(schema.items, schemas)}`;
  const kind = schema.contentEncoding ?? (schema.format === "binary" ? "file" : schema.type ?? "any");
  const limits = [
    schema.minimum !== undefined && `from ${schema.minimum}`,
    schema.maximum !== undefined && `to ${schema.maximum.toLocaleString("en")}`,
  ].filter(Boolean);
  return [kind, ...limits].join(" ");
}

function addFields(parent, title, schema, schemas) {
  if (!schema?.$ref) return;
  const name = schema.$ref.split("/").at(-1);
  const of = schemas[name];
  add(parent, "h3", title);
  const list = add(parent, "dl");
  for (const [field, value] of Object.entries(of.properties)) {
    add(add(list, "dt"), "code", field);
    const preset = value.default === undefined ? "" : `; default ${JSON.stringify(value.default)}`;
    add(list, "dd", `${type(value, schemas)}${preset}${value.description ? ` – ${value.description}` : ""}`);
  }
}

const { paths, components } = await (await fetch("openapi.json")).json();
for (const [path, operations] of Object.entries(paths)) {
  for (const [method, operation] of Object.entries(operations)) {
    const section = add(document.getElementById("operations"), "section");
    const heading = add(section, "h2");
    add(heading, "span", method.toUpperCase(), "method");
    heading.append(" ");
    add(heading, "code", path);
    add(section, "p", operation.description ?? "");
    if (operation.security) add(section, "p", "Needs the key of the server, as Authorization: Bearer KEY.", "quiet");
    for (const [kind, { schema }] of Object.entries(operation.requestBody?.content ?? {})) {
      addFields(section, `Send ${kind}`, schema, components.schemas);
    }
    const { 200: answer, ...refusals } = operation.responses;
    addFields(section, "Answer", answer.content?.["application/json"]?.schema, components.schemas);
    const answers = answer.content?.["application/json"]?.schema?.$ref?.endsWith("/Answer");
    for (const name of answers ? ["Prediction", "Share", "Seen"] : []) {
      addFields(section, name, { $ref: `#/${name}` }, components.schemas);
    }
    if (Object.keys(refusals).length === 0) continue;
    add(section, "h3", "Refusals, each with one line of JSON, detail");
    const list = add(section, "dl");
    for (const [status, { description }] of Object.entries(refusals)) {
      add(list, "dt", status);
      add(list, "dd", description);
    }
  }
}
document.body.dataset.ready = "true";
