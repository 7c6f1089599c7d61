// From what stands in the form to a request, the same request for curl, and its answer.

const STORE = "tenfold-explorer-credentials";

export function credentials() {
  try {
    return JSON.parse(sessionStorage.getItem(STORE) ?? "{}");
  } catch {
    return {};
  }
}

export function keepCredentials(values) {
  if (Object.keys(values).length) sessionStorage.setItem(STORE, JSON.stringify(values));
  else sessionStorage.removeItem(STORE);
}

// The security schemes that a value can be typed in for; cookies are sent by the browser itself.
export function typedSchemes(doc) {
  return Object.entries(doc.components?.securitySchemes ?? {}).filter(
    ([, scheme]) => ["http", "oauth2", "openIdConnect"].includes(scheme.type) || (scheme.type === "apiKey" && scheme.in !== "cookie"),
  );
}

function authorize(doc, headers, query) {
  const values = credentials();
  for (const [name, scheme] of typedSchemes(doc)) {
    const value = values[name];
    if (!value) continue;
    if (scheme.type === "apiKey") (scheme.in === "query" ? query : headers).push([scheme.name, value]);
    else if (scheme.scheme === "basic") headers.push(["Authorization", `Basic ${btoa(value)}`]);
    else headers.push(["Authorization", `Bearer ${value}`]);
  }
}

// `values`: [{ parameter, value }], value a string or a list; `body`: { type, text } or { type, fields }.
export function build(doc, base, operation, values, body) {
  const query = [];
  const headers = [];
  let path = operation.path;
  for (const { parameter, value } of values) {
    const many = Array.isArray(value) ? value : [value];
    if (parameter.in === "path") path = path.replace(`{${parameter.name}}`, encodeURIComponent(value));
    else if (parameter.in === "query") many.forEach((one) => query.push([parameter.name, one]));
    else if (parameter.in === "header") headers.push([parameter.name, many.join(",")]);
  }
  authorize(doc, headers, query);
  const search = new URLSearchParams(query).toString();
  const request = { method: operation.method.toUpperCase(), url: `${base}${path}${search ? `?${search}` : ""}`, headers };
  if (body) attach(request, body);
  return request;
}

function attach(request, body) {
  request.bodyType = body.type;
  if (body.fields) request.fields = body.fields;
  else request.text = body.text;
  if (body.type !== "multipart/form-data") request.headers.push(["Content-Type", body.type]);
}

function payload(request) {
  if (!request.fields) return request.text;
  const form = request.bodyType === "multipart/form-data" ? new FormData() : new URLSearchParams();
  request.fields.forEach(([name, value]) => form.append(name, value));
  return form;
}

export async function send(request, signal) {
  const started = performance.now();
  const response = await fetch(request.url, {
    method: request.method, headers: request.headers, body: payload(request), credentials: "same-origin",
    cache: "no-store", redirect: "follow", signal,
  });
  return { response, headMs: performance.now() - started, started };
}

const quoted = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;

export function curl(request) {
  const parts = ["curl"];
  if (request.method !== "GET") parts.push(`-X ${request.method}`);
  parts.push(quoted(new URL(request.url, location.href)));
  for (const [name, value] of request.headers) parts.push(`-H ${quoted(`${name}: ${value}`)}`);
  if (request.text) parts.push(`--data-raw ${quoted(request.text)}`);
  for (const [name, value] of request.fields ?? []) {
    if (request.bodyType !== "multipart/form-data") parts.push(`--data-urlencode ${quoted(`${name}=${value}`)}`);
    else if (value instanceof File) parts.push(`-F ${quoted(`${name}=@${value.name}`)}`);
    else parts.push(`--form-string ${quoted(`${name}=${value}`)}`);
  }
  return parts.join(" \\\n  ");
}

export const size = (bytes) => (bytes < 1024 ? `${bytes} B` : bytes < 1_048_576 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 1_048_576).toFixed(1)} MiB`);
