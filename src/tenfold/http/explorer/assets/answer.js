// The answer to a request: status, time, size, headers, and the body as it can best be read.
import { copyButton, h, highlighted } from "./dom.js";
import { curl, send, size } from "./request.js";

let running = null;

export async function answerView(place, button, request) {
  running?.abort();
  const control = (running = new AbortController());
  button.textContent = "Sending…";
  const stop = h("button", { type: "button", onclick: () => control.abort() }, "Stop");
  try {
    const { response, headMs, started } = await send(request, control.signal);
    await draw(place, request, response, headMs, started, stop);
  } catch (error) {
    const why = error.name === "AbortError" ? "Stopped." : `No answer: ${error.message}. The server may be down, or the browser may have refused the request.`;
    if (error.name !== "AbortError" || !place.querySelector("pre")) place.replaceChildren(card([h("span", { className: "status s0" }, "–"), h("span", { className: "facts" }, why)]));
  } finally {
    stop.remove();
    button.textContent = "Send";
  }
}

const card = (bar, ...rest) => h("section", {}, h("div", { className: "card" }, h("div", { className: "bar" }, bar), rest));

async function draw(place, request, response, headMs, started, stop) {
  const type = (response.headers.get("content-type") ?? "").split(";")[0];
  const facts = h("span", { className: "facts" }, `${headMs.toFixed(0)} ms`);
  const body = h("pre", { tabIndex: 0, ariaLabel: "Response body" });
  let text = "";
  const headers = [...response.headers].sort();
  const bar = [h("span", { className: `status s${String(response.status)[0]}` }, `${response.status} ${response.statusText}`.trim()),
    facts, stop, copyButton("Copy body", () => text)];
  place.replaceChildren(card(bar,
    h("details", { className: "fold" }, h("summary", {}, `${headers.length} response headers`),
      h("dl", { className: "headers" }, headers.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))),
    h("details", { className: "fold" }, h("summary", {}, "The request as curl"), h("pre", {}, curl(request))), body));
  place.scrollIntoView({ block: "nearest" });
  if (type === "text/event-stream") text = await follow(response, body);
  else text = await whole(response, type, body);
  const bytes = new TextEncoder().encode(text).length;
  facts.textContent = `${(performance.now() - started).toFixed(0)} ms · ${size(Number(response.headers.get("content-length")) || bytes)} · ${type || "no content type"}`;
}

async function follow(response, body) {
  let text = "";
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    text += piece.value;
    body.textContent = text.slice(-100_000);
    body.scrollTop = body.scrollHeight;
  }
  return text;
}

async function whole(response, type, body) {
  if (type.startsWith("image/")) {
    const image = h("img", { alt: "The image that was answered", src: URL.createObjectURL(await response.blob()) });
    body.replaceWith(image);
    return "";
  }
  const text = await response.text();
  if (!text) {
    body.replaceChildren(h("span", { className: "about" }, "The body is empty."));
    return "";
  }
  const pretty = type.endsWith("json") ? indent(text) : text;
  body.replaceChildren(...(type.endsWith("json") ? highlighted(pretty) : [pretty.slice(0, 200_000)]));
  return pretty;
}

function indent(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
