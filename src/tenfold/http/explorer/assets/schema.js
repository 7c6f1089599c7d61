// What a schema says: in words, as a tree, and as an example to start from.
import { h } from "./dom.js";

let components = {};

export function useComponents(schemas) { components = schemas ?? {}; }

export function resolve(schema) {
  const seen = new Set();
  while (schema?.$ref && !seen.has(schema.$ref)) {
    seen.add(schema.$ref);
    const { $ref, ...rest } = schema;
    schema = { ...components[$ref.split("/").pop()], ...rest };
  }
  return schema ?? {};
}

// The options of a union without null, and whether null is one.
function options(schema) {
  const every = schema.anyOf ?? schema.oneOf ?? [];
  const rest = every.filter((option) => option.type !== "null");
  return { rest, nullable: rest.length < every.length };
}

// The items of an array of fixed length: JSON Schema has two ways to say it.
const tuple = (own) => own.prefixItems ?? (Array.isArray(own.items) ? own.items : null);

export function typeName(schema) {
  const own = resolve(schema);
  const { rest, nullable } = options(own);
  if (rest.length) return [...new Set(rest.map(typeName))].join(" | ") + (nullable ? " | null" : "");
  if (own.allOf) return own.title ?? "object";
  if (own.const !== undefined) return JSON.stringify(own.const);
  if (own.enum) return own.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (tuple(own)) return `[${tuple(own).map(typeName).join(", ")}]`;
  if (own.type === "array") return own.items ? `${wrap(typeName(own.items))}[]` : "array";
  if (own.type === "object") return own.title ?? (typeof own.additionalProperties === "object" ? `map of ${typeName(own.additionalProperties)}` : "object");
  const format = own.format && !["int64", "double"].includes(own.format) ? own.format : "";
  return format || (Array.isArray(own.type) ? own.type.join(" | ") : own.type ?? "any");
}

const wrap = (name) => (name.includes(" ") ? `(${name})` : name);

const LIMITS = [
  ["minimum", (v) => `≥ ${v}`], ["exclusiveMinimum", (v) => `> ${v}`],
  ["maximum", (v) => `≤ ${v}`], ["exclusiveMaximum", (v) => `< ${v}`],
  ["multipleOf", (v) => `multiple of ${v}`],
  ["minLength", (v) => `${v}+ characters`], ["maxLength", (v) => `up to ${v} characters`],
  ["minItems", (v) => `${v}+ items`], ["maxItems", (v) => `up to ${v} items`],
  ["uniqueItems", () => "all different"], ["pattern", (v) => (v.length < 40 ? `matches ${v}` : "")],
  ["default", (v) => (v === null || (typeof v === "object" && !Object.keys(v).length) ? "" : `default ${JSON.stringify(v)}`)],
];

export function limits(schema) {
  const own = resolve(schema);
  return LIMITS.filter(([key]) => own[key] !== undefined).map(([key, say]) => say(own[key])).filter(Boolean).join(", ");
}

// The members of a type, folded below the second level.
// `marked` says which members are required: worth knowing of what is sent, noise in what is answered.
export function tree(schema, marked = true, depth = 0) {
  const own = resolve(schema);
  if (own.allOf) return h("div", {}, own.allOf.map((part) => tree(part, marked, depth)));
  const { rest } = options(own);
  if (rest.length === 1) return tree(rest[0], marked, depth);
  if (rest.length) {
    const items = rest.map((option) => member("", option, false, marked, depth));
    return items.some((item) => item.firstChild.tagName === "DETAILS") ? h("ul", { className: "tree" }, items) : null;
  }
  if (tuple(own)) return null;
  if (own.type === "array" && own.items) return tree(own.items, marked, depth);
  if (own.type === "object" && typeof own.additionalProperties === "object") return tree(own.additionalProperties, marked, depth);
  const required = new Set(own.required);
  const members = Object.entries(own.properties ?? {});
  if (!members.length) return null;
  return h("ul", { className: "tree" }, members.map(([name, inner]) => member(name, inner, marked && required.has(name), marked, depth)));
}

function member(name, schema, required, marked, depth) {
  const own = resolve(schema);
  const about = limits(schema);
  const line = [
    name && h("code", {}, name),
    h("span", { className: "type" }, typeName(schema)),
    required && h("span", { className: "must" }, "required"),
    about && h("span", { className: "limit" }, about),
  ];
  const text = own.description && own.title === undefined ? h("p", {}, own.description) : null;
  const below = depth < 6 ? tree(schema, marked, depth + 1) : null;
  if (!below) return h("li", {}, line, text);
  return h("li", {}, h("details", { open: depth < 1 }, h("summary", {}, line), text, below));
}

const BY_FORMAT = {
  "date-time": "2026-01-31T12:00:00Z", date: "2026-01-31", time: "12:00:00Z", duration: "P1D",
  uuid: "0190a0b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b", email: "ada@example.com", uri: "https://example.com",
  ipv4: "192.0.2.1", ipv6: "2001:db8::1", decimal: "9.99", byte: "", binary: "",
};
const BY_NAME = [
  [/e-?mail/i, "ada@example.com"], [/password/i, "correct horse battery"], [/phone/i, "+44 20 7946 0000"],
  [/url|link/i, "https://example.com"], [/country/i, "GB"], [/currency/i, "GBP"], [/^(full_?)?name$/i, "Ada Lovelace"],
];

export function example(schema, name = "", depth = 0) {
  const own = resolve(schema);
  if (own.example !== undefined) return own.example;
  if (own.examples?.length) return own.examples[0];
  if (own.const !== undefined) return own.const;
  if (own.default !== undefined && own.default !== null) return own.default;
  if (own.enum) return own.enum[0];
  const { rest, nullable } = options(own);
  if (nullable && depth > 3) return null;
  if (rest.length) return example(rest[0], name, depth);
  if (own.allOf) return Object.assign({}, ...own.allOf.map((part) => example(part, name, depth)));
  if (own.type === "object" || own.properties) return exampleObject(own, depth);
  if (own.type === "array") return exampleArray(own, name, depth);
  if (own.type === "integer" || own.type === "number") return exampleNumber(own);
  if (own.type === "boolean") return false;
  if (own.type === "null") return null;
  return exampleText(own, name);
}

function exampleObject(own, depth) {
  const out = {};
  if (depth > 5) return out;
  for (const [name, inner] of Object.entries(own.properties ?? {})) {
    const optional = !own.required?.includes(name);
    if (optional && resolve(inner).default === null && depth > 0) continue;
    out[name] = example(inner, name, depth + 1);
  }
  return out;
}

function exampleArray(own, name, depth) {
  if (tuple(own)) return tuple(own).map((item) => example(item, name, depth + 1));
  if (depth > 5 || !own.items) return [];
  return Array.from({ length: Math.max(1, own.minItems ?? 1) }, () => example(own.items, name, depth + 1));
}

function exampleNumber(own) {
  const step = own.multipleOf ?? (own.type === "integer" ? 1 : 0.5);
  let value = own.minimum ?? (own.exclusiveMinimum !== undefined ? own.exclusiveMinimum + step : 1);
  value = Math.max(value, own.minimum === undefined && own.exclusiveMinimum === undefined ? 1 : value);
  if (own.maximum !== undefined && value > own.maximum) value = own.maximum;
  if (own.multipleOf) value = Math.ceil(value / step) * step;
  return value;
}

function exampleText(own, name) {
  if (own.format in BY_FORMAT) return BY_FORMAT[own.format];
  const named = BY_NAME.find(([pattern]) => pattern.test(name));
  let text = named ? named[1] : name ? name.replaceAll("_", " ") : "text";
  if (own.minLength) text = text.padEnd(own.minLength, ".");
  return own.maxLength ? text.slice(0, own.maxLength) : text;
}
