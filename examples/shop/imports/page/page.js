"use strict";

const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en-GB");
let token = "";

$("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.target.querySelector("button");
  button.disabled = true;
  $("problem").textContent = "";
  try {
    const fields = event.target.elements;
    if (!token) await signIn(fields.email.value, fields.password.value);
    const file = fields.products.files[0];
    show(file.name);
    const form = new FormData();
    form.append("products", file);
    const started = await asked("/imports", { method: "POST", body: form });
    await watch((await started.json()).id);
  } catch (error) {
    $("problem").textContent = error.message;
  }
  button.disabled = false;
});

async function signIn(email, password) {
  const headers = { "Content-Type": "application/json" };
  const answer = await asked("/accounts/login", { method: "POST", headers, body: JSON.stringify({ email, password }) });
  token = (await answer.json()).access_token;
  $("who").hidden = true;
}

/** The answer; what a problem document says is thrown. */
async function asked(path, options = {}) {
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({ detail: `The shop answered ${answer.status}.` }));
  throw new Error(problem.detail);
}

function show(name) {
  $("watch").hidden = false;
  $("name").textContent = name;
  $("said").textContent = "Uploading…";
  $("report").hidden = true;
  $("bar").removeAttribute("value");
  for (const id of ["lines", "products", "errors"]) $(id).textContent = "0";
}

/** Server-sent events by fetch: EventSource cannot send a token. After a lost connection, it is asked again. */
async function watch(id) {
  for (let state = "running"; state === "running"; ) {
    try {
      for await (const progress of events(await asked(`/imports/${id}/progress`))) state = progressed(id, progress);
    } catch (error) {
      $("said").textContent = `${error.message}; looking again…`;
    }
    if (state === "running") await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (text + value).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").find((line) => line.startsWith("data: "));
      if (data) yield JSON.parse(data.slice(6));
    }
  }
}

function progressed(id, { state, share, lines, products, errors }) {
  $("bar").value = share;
  $("lines").textContent = number.format(lines);
  $("products").textContent = number.format(products);
  $("errors").textContent = number.format(errors);
  $("said").textContent = { running: `${Math.floor(share * 100)} %`, done: "Done.", failed: "It has failed." }[state];
  if (state !== "running" && errors) offerReport(id);
  return state;
}

async function offerReport(id) {
  const answer = await asked(`/imports/${id}/errors.csv`);
  $("report").href = URL.createObjectURL(await answer.blob());
  $("report").download = `errors-${id}.csv`;
  $("report").hidden = false;
}
