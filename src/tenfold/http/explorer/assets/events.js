// The page of events: topics by service; for one topic its versions, who publishes and handles it, and a sample.
import { copyButton, h, highlighted } from "./dom.js";
import { example, tree, typeName, useComponents } from "./schema.js";

const $ = (id) => document.getElementById(id);
const main = $("main");
let doc;
let topics = [];

async function start() {
  try {
    const response = await fetch(new URL("../asyncapi.json", location.href));
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    doc = await response.json();
  } catch (error) {
    main.replaceChildren(h("p", { className: "loading", role: "alert" }, `The description of events could not be loaded: ${error.message}.`));
    return;
  }
  useComponents(doc.components?.schemas);
  topics = Object.entries(doc.channels).map(([name, channel]) => topicOf(name, channel));
  document.title = `${doc.info.title} · Events`;
  $("title").textContent = doc.info.title;
  $("version").textContent = doc.info.version;
  drawList();
  window.addEventListener("hashchange", () => show(true));
  show(false);
}

function topicOf(name, channel) {
  const address = `#/channels/${name}`;
  const operations = Object.entries(doc.operations).filter(([, each]) => each.channel.$ref === address);
  return {
    name, channel, service: channel.tags[0].name,
    subscribers: operations.filter(([, each]) => each.action === "receive"),
    // the newest version first: it is the one that is published
    messages: Object.keys(channel.messages).map((id) => doc.components.messages[id]).reverse(),
  };
}

// ── the list ──

function drawList() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const text = (t) => [t.name, t.channel.description, ...t.subscribers.map(([id]) => id)].join(" ").toLowerCase();
  const found = topics.filter((topic) => words.every((word) => text(topic).includes(word)));
  const services = [...new Set(found.map((topic) => topic.service))];
  $("nav").replaceChildren(...services.flatMap((service) => [
    h("h2", {}, service), h("ul", {}, found.filter((topic) => topic.service === service).map(entry))]));
  if (!found.length) $("nav").append(h("p", { className: "none", role: "status" }, topics.length ? "No topic has these words." : "No service has a topic."));
  mark();
}

function entry(topic) {
  return h("li", {}, h("a", { href: `#${encodeURIComponent(topic.name)}` },
    h("span", { className: "method" }, `v${topic.messages.length ? versionOf(topic.messages[0]) : "?"}`),
    h("span", { className: "path" }, topic.name)));
}

const versionOf = (message) => message.name.slice(message.name.lastIndexOf(".v") + 2);

function mark() {
  for (const link of $("nav").querySelectorAll("a")) {
    if (link.getAttribute("href") === location.hash) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

// ── what is shown ──

function show(moveFocus) {
  const name = decodeURIComponent(location.hash.slice(1));
  if (name === "main") return;
  const topic = topics.find((each) => each.name === name);
  main.replaceChildren(topic ? topicView(topic) : welcome());
  main.scrollTop = 0;
  mark();
  if (moveFocus) main.querySelector("h1")?.focus();
}

function topicView(topic) {
  const [current, ...older] = topic.messages;
  return h("div", {},
    h("div", { className: "route" }, h("span", { className: "method post" }, "TOPIC"), h("code", {}, h("b", {}, topic.name))),
    h("h1", { tabIndex: -1 }, current.title),
    topic.channel.description && h("p", { className: "lead" }, topic.channel.description),
    h("div", { className: "chips" },
      h("span", { className: "chip" }, `version ${versionOf(current)}`),
      h("span", { className: "chip" }, `published by ${topic.service}`),
      h("span", { className: topic.subscribers.length ? "chip" : "chip warn" }, count(topic.subscribers.length, "subscriber"))),
    h("section", {}, h("div", { className: "card" }, h("div", { className: "bar" }, h("h2", {}, "Subscribers")), subscribers(topic))),
    h("section", {}, h("div", { className: "card" }, h("div", { className: "bar" }, h("h2", {}, "Data")), data(current.payload))),
    h("section", {}, sample(topic, current)),
    older.length ? h("section", {}, h("div", { className: "card" }, h("div", { className: "bar" }, h("h2", {}, "Older versions")),
      older.map((message) => h("details", { className: "fold" }, h("summary", {}, `Version ${versionOf(message)}, ${message.title}`), data(message.payload))))) : null,
    h("section", {}, h("div", { className: "card" }, h("details", { className: "fold" }, h("summary", {}, "CloudEvents headers"),
      h("div", { className: "schema" }, tree(doc.components.messageTraits.cloudEvents.headers))))));
}

const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

function subscribers(topic) {
  if (!topic.subscribers.length) return h("p", { className: "row flat about" }, "Nobody handles these events.");
  return topic.subscribers.map(([id, each]) => h("div", { className: "row flat" }, h("code", {}, id), h("span", { className: "about" }, each.summary)));
}

function data(payload) {
  return h("div", { className: "schema" }, tree(payload) ?? h("ul", { className: "tree" }, h("li", {}, h("span", { className: "type" }, typeName(payload)))));
}

// One event as a CloudEvent in JSON, which every protocol can carry.
function sample(topic, message) {
  const text = JSON.stringify({
    specversion: "1.0", id: "0190a0b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b", source: `/${doc.info.title}/${topic.service}`, type: message.name,
    time: "2026-01-31T12:00:00Z", datacontenttype: "application/json", data: example(message.payload),
  }, null, 2);
  return h("div", { className: "card" }, h("div", { className: "bar" }, h("h2", {}, "Sample"), copyButton("Copy", () => text)),
    h("pre", { ariaLabel: "Sample event", tabIndex: 0 }, highlighted(text)));
}

function welcome() {
  const { info, servers } = doc;
  const services = [...new Set(topics.map((topic) => topic.service))];
  const carried = servers ? `${servers.broker.protocol} at ${servers.broker.host}` : "the app's own database";
  return h("div", {},
    h("h1", { tabIndex: -1 }, `Events of ${info.title}`),
    h("p", { className: "lead" }, topics.length ? `${count(topics.length, "topic")}, carried by ${carried}. Choose one to see what it says and who listens.` : "No service has a topic."),
    h("div", { className: "counts" }, services.map((service) => {
      const list = topics.filter((topic) => topic.service === service);
      return h("a", { className: "card", href: `#${encodeURIComponent(list[0].name)}` }, h("b", {}, service), h("span", {}, count(list.length, "topic")));
    })),
    h("section", {}, h("h2", {}, "For programs"), h("p", { className: "lead" }, "This page reads ",
      h("a", { href: "../asyncapi.json" }, "asyncapi.json"), `, an AsyncAPI ${doc.asyncapi} document.`),
    h("div", { className: "actions" }, copyButton("Copy its address", () => new URL("../asyncapi.json", location.href).href))));
}

$("search").addEventListener("input", drawList);
$("search").addEventListener("keydown", (event) => {
  if (event.key === "Enter") $("nav").querySelector("a")?.click();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.target.matches("input")) { event.preventDefault(); $("search").focus(); $("search").select(); }
});
start();
