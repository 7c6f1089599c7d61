// The page: a list of operations, one operation, its answer.
import { copyButton, h } from "./dom.js";
import { operationView } from "./operation.js";
import { credentials, keepCredentials, typedSchemes } from "./request.js";
import { useComponents } from "./schema.js";

const METHODS = ["get", "post", "put", "patch", "delete", "head", "options"];
const $ = (id) => document.getElementById(id);

const main = $("main");
let doc;
let base = "";
let operations = [];

async function start() {
  const url = new URL("openapi.json", location.href);
  base = url.pathname.slice(0, -"/openapi.json".length);
  try {
    const response = await fetch(url);
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    doc = await response.json();
  } catch (error) {
    main.replaceChildren(h("p", { className: "loading", role: "alert" }, `The API description could not be loaded: ${error.message}.`));
    return;
  }
  useComponents(doc.components?.schemas);
  operations = collect(doc);
  document.title = `${doc.info.title} · API explorer`;
  $("title").textContent = doc.info.title;
  $("version").textContent = doc.info.version;
  drawList();
  prepareCredentials();
  window.addEventListener("hashchange", () => show(true));
  show(false);
}

function collect(tree) {
  return Object.entries(tree.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({
      ...item[method], method, path,
      parameters: [...(item.parameters ?? []), ...(item[method].parameters ?? [])],
      id: item[method].operationId ?? `${method}${path}`,
    })));
}

// ── the list ──

function drawList() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const text = (o) => `${o.method} ${o.path} ${o.id} ${o.summary ?? ""} ${(o.tags ?? []).join(" ")}`.toLowerCase();
  const found = operations.filter((operation) => words.every((word) => text(operation).includes(word)));
  const tags = [...new Set(operations.flatMap((o) => o.tags ?? ["other"]))];
  const groups = tags.map((tag) => [tag, found.filter((o) => (o.tags ?? ["other"]).includes(tag))]).filter(([, list]) => list.length);
  $("nav").replaceChildren(...groups.flatMap(([tag, list]) => [h("h2", {}, tag), h("ul", {}, list.map(entry))]));
  if (!found.length) $("nav").append(h("p", { className: "none", role: "status" }, "No operation has these words."));
  mark();
}

function entry(operation) {
  const shown = operation.method === "delete" ? "DEL" : operation.method.toUpperCase();
  return h("li", {}, h("a", {
    href: `#${encodeURIComponent(operation.id)}`, className: operation.deprecated ? "old" : "", title: operation.summary ?? operation.path,
  },
  h("span", { className: `method ${operation.method}` }, shown), h("span", { className: "path" }, operation.path)));
}

function mark() {
  for (const link of $("nav").querySelectorAll("a")) {
    if (link.getAttribute("href") === location.hash) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest" });
    } else link.removeAttribute("aria-current");
  }
}

// ── what is shown ──

function show(moveFocus) {
  const id = decodeURIComponent(location.hash.slice(1));
  if (id === "main") return;
  const operation = operations.find((each) => each.id === id);
  main.replaceChildren(...(operation ? operationView(doc, base, operation) : welcome()));
  main.scrollTop = 0;
  mark();
  if (moveFocus) main.querySelector("h1")?.focus();
}

function welcome() {
  const { info } = doc;
  const tags = [...new Set(operations.flatMap((o) => o.tags ?? ["other"]))];
  return [h("div", {},
    h("h1", { tabIndex: -1 }, info.title),
    h("p", { className: "lead" }, info.description ?? `${operations.length} operations. Choose one to read about it and to call it.`),
    h("div", { className: "counts" }, tags.map((tag) => {
      const list = operations.filter((o) => (o.tags ?? ["other"]).includes(tag));
      return h("a", { className: "card", href: `#${encodeURIComponent(list[0].id)}` }, h("b", {}, tag),
        h("span", {}, `${list.length} ${list.length === 1 ? "operation" : "operations"}`));
    })),
    h("section", {}, h("h2", {}, "At the keyboard"), h("div", { className: "keys" },
      h("kbd", {}, "/"), h("span", {}, "find an operation"),
      h("kbd", {}, "Ctrl Enter"), h("span", {}, "send the request"))),
    h("section", {}, h("h2", {}, "For programs"), h("p", { className: "lead" }, "This page reads ",
      h("a", { href: "openapi.json" }, "openapi.json"), `, an OpenAPI ${doc.openapi} document.`),
    h("div", { className: "actions" }, copyButton("Copy its address", () => new URL("openapi.json", location.href).href))))];
}

// ── credentials ──

function prepareCredentials() {
  const schemes = typedSchemes(doc);
  $("authorize").parentElement.hidden = !schemes.length;
  const label = (name, scheme) => (scheme.type === "apiKey" ? `${scheme.name} (${scheme.in})` : scheme.scheme === "basic" ? "Basic, as user:password" : scheme.scheme === "bearer" ? "Bearer token" : name);
  $("schemes").replaceChildren(...schemes.map(([name, scheme]) => h("label", {}, label(name, scheme),
    h("input", { className: "box", type: "password", name, autocomplete: "off", spellcheck: "false" }))));
  const inputs = [...$("schemes").querySelectorAll("input")];
  const refresh = () => {
    const count = Object.keys(credentials()).length;
    $("authorize").classList.toggle("on", count > 0);
    $("authorized").textContent = count ? "Credentials in use" : "Add credentials";
  };
  $("authorize").addEventListener("click", () => {
    const values = credentials();
    inputs.forEach((input) => { input.value = values[input.name] ?? ""; });
    $("credentials").showModal();
  });
  $("forget").addEventListener("click", () => { keepCredentials({}); refresh(); $("credentials").close(); });
  $("credentials").addEventListener("close", () => {
    if ($("credentials").returnValue === "save") {
      keepCredentials(Object.fromEntries(inputs.map((i) => [i.name, i.value.trim().replace(/^Bearer\s+/i, "")]).filter(([, v]) => v)));
    }
    $("credentials").returnValue = "";
    refresh();
  });
  refresh();
}

$("search").addEventListener("input", drawList);
$("search").addEventListener("keydown", (event) => {
  if (event.key === "Enter") $("nav").querySelector("a")?.click();
  if (event.key === "ArrowDown") { event.preventDefault(); $("nav").querySelector("a")?.focus(); }
});
$("nav").addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const links = [...$("nav").querySelectorAll("a")];
  (links[links.indexOf(document.activeElement) + step] ?? $("search")).focus();
});
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, textarea, select");
  if (event.key === "/" && !typing) { event.preventDefault(); $("search").focus(); $("search").select(); }
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) document.getElementById("send")?.click();
});
start();
