// One operation: what it takes, a form to call it, what it answers.
import { answerView } from "./answer.js";
import { copyButton, h } from "./dom.js";
import { build, curl } from "./request.js";
import { example, limits, resolve, tree, typeName } from "./schema.js";

export function operationView(doc, base, operation) {
  const parameters = operation.parameters.filter((parameter) => parameter.in !== "cookie");
  const inputs = parameters.map(parameterField);
  const body = operation.requestBody ? bodyCard(operation.requestBody) : null;
  const problem = h("p", { className: "broken", role: "alert" });
  const answer = h("div", { role: "status", ariaLive: "polite" });
  const request = () => build(doc, base, operation, inputs.map((input) => input.read()).filter(Boolean), body?.read());
  const sendButton = h("button", { type: "button", id: "send", className: "primary big", onclick: () => {
    const missing = inputs.filter((input) => input.missing());
    missing.forEach((input) => input.element.querySelector("input, select").setAttribute("aria-invalid", "true"));
    problem.textContent = missing.length ? `Fill in ${missing.map((input) => input.name).join(", ")} first.` : body?.complaint() ?? "";
    if (!missing.length) answerView(answer, sendButton, request());
    else missing[0].element.querySelector("input, select").focus();
  } }, "Send");
  return [
    heading(operation),
    inputs.length && h("section", {}, h("div", { className: "card" },
      h("div", { className: "bar" }, h("h2", {}, "Parameters")), inputs.map((input) => input.element))),
    body?.element,
    h("div", {}, h("div", { className: "actions" }, sendButton, copyButton("Copy as curl", () => curl(request())),
      h("kbd", { ariaHidden: "true" }, "Ctrl Enter"), problem), answer),
    responses(operation),
  ].filter(Boolean);
}

function heading(operation) {
  const pieces = operation.path.split(/(\{[^}]+\})/).map((piece) => (piece.startsWith("{") ? h("b", {}, piece) : piece));
  return h("header", {},
    h("div", { className: "route" }, h("span", { className: `method ${operation.method}` }, operation.method.toUpperCase()), h("code", {}, pieces)),
    h("h1", { tabIndex: -1 }, operation.summary ?? operation.id),
    operation.description && h("p", { className: "lead" }, operation.description),
    h("div", { className: "chips" },
      operation.deprecated && h("span", { className: "chip warn" }, "deprecated"),
      operation["x-access"] && h("span", { className: "chip" }, `for ${operation["x-access"]}`),
      h("span", { className: "chip mono" }, operation.id)));
}

// ── parameters ──

let fields = 0;

function parameterField(parameter) {
  const schema = resolve(parameter.schema);
  const id = `field-${(fields += 1)}`;
  const key = parameter.in === "header" && parameter.name === "Idempotency-Key";
  const input = control(schema, id, parameter);
  if (key) input.value = crypto.randomUUID?.() ?? String(Math.random()).slice(2);
  const facts = [typeName(parameter.schema), parameter.in, limits(parameter.schema)].filter(Boolean).join(" · ");
  const element = h("div", { className: "field" },
    h("div", {}, h("label", { htmlFor: id }, parameter.name, parameter.required && h("i", { title: "required" }, " *")),
      h("div", { className: "meta", id: `${id}-meta` }, facts)),
    h("div", {}, h("div", { className: "entry" }, input,
      key && h("button", { type: "button", onclick: () => { input.value = crypto.randomUUID(); } }, "New key"))),
    parameter.description && h("div", { className: "about" }, parameter.description));
  const value = () => (schema.type === "array" ? input.value.split(/[\n,]/).map((part) => part.trim()).filter(Boolean) : input.value);
  return {
    element,
    name: parameter.name,
    missing: () => parameter.required && value().length === 0,
    read: () => (value().length ? { parameter, value: value() } : null),
  };
}

function control(schema, id, parameter) {
  const common = { id, required: parameter.required, "aria-describedby": `${id}-meta` };
  const choices = schema.type === "boolean" ? ["true", "false"] : schema.enum;
  if (choices) {
    return h("select", { className: "box", ...common }, parameter.required ? null : h("option", { value: "" }, "–"),
      choices.map((choice) => h("option", { value: String(choice) }, String(choice))));
  }
  const hint = schema.type === "array" ? "several, separated by commas" : schema.default !== undefined ? String(schema.default) : "";
  const input = h("input", { className: "box", type: "text", autocomplete: "off", spellcheck: "false", placeholder: hint, ...common });
  if (parameter.required && parameter.in === "path") input.value = String(example(schema, parameter.name));
  return input;
}

// ── the body ──

function bodyCard(requestBody) {
  const [type, { schema }] = Object.entries(requestBody.content)[0];
  const form = !type.includes("json");
  const editor = form ? formEditor(schema) : jsonEditor(schema);
  const types = h("div", { className: "schema", hidden: true }, tree(schema));
  const toggle = h("button", { type: "button", ariaExpanded: "false", onclick: () => {
    types.hidden = !types.hidden;
    toggle.ariaExpanded = String(!types.hidden);
    toggle.textContent = types.hidden ? "Show type" : "Hide type";
  } }, "Show type");
  const element = h("section", {}, h("div", { className: "card" },
    h("div", { className: "bar" }, h("h2", {}, "Body"), h("span", { className: "mono meta" }, type), editor.buttons, toggle),
    types, editor.element));
  return { element, complaint: editor.complaint, read: () => editor.read(type) };
}

function jsonEditor(schema) {
  const fresh = () => JSON.stringify(example(schema), null, 2);
  const area = h("textarea", { ariaLabel: "Request body as JSON", spellcheck: "false", autocomplete: "off", value: fresh() });
  const fit = () => { area.style.height = `${Math.min(560, 32 + area.value.split("\n").length * 21)}px`; };
  area.addEventListener("keydown", (event) => {
    if (event.key === "Escape") document.getElementById("send").focus();
  });
  fit();
  return {
    element: area,
    buttons: [
      h("button", { type: "button", onclick: () => { area.value = fresh(); fit(); } }, "Example"),
      h("button", { type: "button", onclick: () => {
        try { area.value = JSON.stringify(JSON.parse(area.value), null, 2); fit(); } catch { area.focus(); }
      } }, "Format"),
    ],
    complaint: () => {
      try { JSON.parse(area.value); return ""; } catch (error) { return `Sent although it is not valid JSON: ${error.message}`; }
    },
    read: (type) => ({ type, text: area.value }),
  };
}

function formEditor(schema) {
  const own = resolve(schema);
  const rows = Object.entries(own.properties ?? {}).map(([name, inner]) => {
    const shape = resolve(inner);
    const file = shape.format === "binary" || resolve(shape.items ?? {}).format === "binary";
    const required = own.required?.includes(name) ?? false;
    const id = `field-${(fields += 1)}`;
    const input = file ? h("input", { className: "box", id, type: "file", multiple: shape.type === "array" })
      : control(shape, id, { required, in: "form" });
    if (!file && required && !input.value) input.value = String(example(shape, name));
    const element = h("div", { className: "field" },
      h("div", {}, h("label", { htmlFor: id }, name, required && h("i", { title: "required" }, " *")),
        h("div", { className: "meta", id: `${id}-meta` }, [file ? "file" : typeName(inner), limits(inner)].filter(Boolean).join(" · "))),
      input, shape.description && h("div", { className: "about" }, shape.description));
    const values = () => (file ? [...input.files] : shape.type === "array" ? input.value.split(",").map((v) => v.trim()).filter(Boolean) : input.value ? [input.value] : []);
    return { element, pairs: () => values().map((value) => [name, value]) };
  });
  return {
    element: h("div", {}, rows.map((row) => row.element)),
    buttons: [],
    complaint: () => "",
    read: (type) => ({ type, fields: rows.flatMap((row) => row.pairs()) }),
  };
}

// ── the answers it may give ──

function responses(operation) {
  return h("section", {}, h("div", { className: "card" }, h("div", { className: "bar" }, h("h2", {}, "Answers")),
    Object.entries(operation.responses).map(([status, response]) => {
      const content = Object.entries(response.content ?? {})[0];
      const line = [h("span", { className: `status s${status[0]}` }, status), h("span", { className: "about" }, response.description)];
      const below = content?.[1].schema && status[0] === "2" ? tree(content[1].schema, false) : null;
      if (!below) return h("div", { className: "row flat" }, line);
      return h("details", { className: "row", open: true }, h("summary", {}, line),
        h("div", { className: "inside" }, h("span", { className: "mono meta" }, `${content[0]} · ${typeName(content[1].schema)}`), below));
    })));
}
