// What pages cannot do by themselves: charts, messages, the reader's own zone and theme, keys. No page needs it to be read.
"use strict";
(() => {
  const body = document.body, side = document.getElementById("side"), root = body.dataset.root || "";
  // Colours are those of the sheet as they are now: a canvas knows no variables.
  const probe = document.body.appendChild(Object.assign(document.createElement("i"), { hidden: true }));
  const css = (name) => { probe.style.color = `var(${name})`; return getComputedStyle(probe).color; };
  const faint = (colour) => colour.replace(/^rgb\((.*)\)$/, "rgba($1, 0.11)");

  // ── live parts ──
  // Morphing keeps focus, scrolling and what is open; charts take new data instead of being drawn again.
  Object.assign(Idiomorph.defaults, { ignoreActiveValue: true });
  Object.assign(Idiomorph.defaults.callbacks, {
    beforeNodeMorphed(old, fresh) {
      // What has the focus keeps its value; words on a button are no value.
      if (old === document.activeElement && /^(BUTTON|A|SUMMARY)$/.test(old.nodeName)) old.innerHTML = fresh.innerHTML;
      if (old.nodeName !== "TENFOLD-CHART" || fresh.nodeName !== "TENFOLD-CHART") return true;
      for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
      return false;
    },
    beforeAttributeUpdated: (name, node) => !(name === "open" && /^(DETAILS|DIALOG)$/.test(node.nodeName)),
  });
  let paused = false, lost = null;
  const selecting = (part) => {
    const chosen = getSelection();
    return chosen && !chosen.isCollapsed && part.contains(chosen.anchorNode);
  };
  body.addEventListener("htmx:beforeRequest", (event) => {
    const part = event.detail.elt;
    if (!part.classList.contains("live")) return;
    const acted = event.detail.requestConfig.triggeringEvent?.type === "acted";
    if (!acted && (document.hidden || paused || selecting(part))) event.preventDefault();
  });
  body.addEventListener("htmx:sendError", () => {
    if (lost) return;
    lost = Object.assign(document.createElement("p"), { id: "lost", textContent: "The process does not answer. Trying again …" });
    lost.setAttribute("role", "alert");
    body.append(lost);
  });
  body.addEventListener("htmx:afterOnLoad", () => { lost?.remove(); lost = null; });
  body.addEventListener("htmx:responseError", (event) => { if (event.detail.xhr.status === 401) location.reload(); });
  // Pages answer with a sentence where they fail: it is shown in place. Actions say theirs as a message.
  body.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.elt.classList.contains("live")) event.detail.shouldSwap = true;
  });

  // ── times in the reader's zone ──
  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
  const localise = (where) => {
    for (const time of where.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      if (isNaN(at)) continue;
      time.title = whole.format(at);
      if (/^\d\d:\d\d:\d\d$/.test(time.textContent)) time.textContent = clock.format(at);
    }
  };
  localise(document);
  body.addEventListener("htmx:afterSwap", (event) => {
    localise(event.detail.target);
    const follow = event.detail.target.querySelector("a[data-follow]"); // what this page was waiting for
    if (follow) location.assign(follow.href);
  });

  // ── messages ──
  const said = document.getElementById("said");
  body.addEventListener("tenfold:said", (event) => {
    const { text, mood } = event.detail;
    const line = Object.assign(document.createElement("p"), { textContent: text, className: mood });
    said.append(line);
    setTimeout(() => line.remove(), mood === "bad" ? 12000 : 6000);
  });

  // ── charts ──
  const UNITS = {
    "s": (v) => v < 0.001 ? `${(v * 1e6).toFixed(0)} µs` : v < 1 ? `${+(v * 1000).toPrecision(3)} ms` : v < 60 ? `${+v.toPrecision(3)} s` : `${+(v / 60).toPrecision(3)} min`,
    "/s": (v, most = v) => most && most < 0.1 ? `${+(v * 60).toPrecision(2)}/min` : `${+v.toPrecision(3)}/s`,
    "%": (v) => `${+(v * 100).toPrecision(3)} %`,
    "B": (v) => v < 1e3 ? `${v} B` : v < 1e6 ? `${+(v / 1e3).toPrecision(3)} kB` : v < 1e9 ? `${+(v / 1e6).toPrecision(3)} MB` : `${+(v / 1e9).toPrecision(3)} GB`,
    "": (v) => Math.abs(v) < 1e4 ? `${+v.toPrecision(4)}` : v.toLocaleString(undefined, { maximumFractionDigits: 0 }),
  };
  const COLOURS = ["--accent", "--second", "--third", "--fourth"];
  // A value without neighbours is no line: it is drawn as a point.
  const alone = (u, n) => u.data[n].flatMap((v, k, all) => v != null && all[k - 1] == null && all[k + 1] == null ? [k] : []);
  class Chart extends HTMLElement {
    static observedAttributes = ["data"];
    connectedCallback() {
      this.sized = new ResizeObserver(() => this.plot?.setSize({ width: this.clientWidth, height: this.said.height }));
      this.sized.observe(this);
      this.draw();
    }
    disconnectedCallback() { this.sized?.disconnect(); this.plot?.destroy(); this.plot = null; }
    attributeChangedCallback(_name, before) { if (before !== null && this.isConnected) this.draw(); }
    draw(again) {
      const said = JSON.parse(this.getAttribute("data")), shape = JSON.stringify([said.unit, said.lines]);
      if (this.plot && this.shape === shape && !again) { this.said = said; this.plot.setData(said.data); this.rest(); return; }
      this.plot?.destroy();
      this.said = said; this.shape = shape;
      const show = UNITS[said.unit], soft = css("--soft"), line = css("--line");
      const axis = { stroke: soft, grid: { stroke: line, width: 1 / devicePixelRatio }, ticks: { show: false }, font: "11px system-ui", gap: 4 };
      const times = [["day", 86400, "{D} {MMM}"], ["hour", 3600, "{HH}:{mm}"], ["minute", 60, "{HH}:{mm}"], ["second", 1, "{HH}:{mm}:{ss}"]];
      const series = said.lines.map(([label, mood, fill], n) => {
        const stroke = css(mood ? `--${mood}` : COLOURS[n % COLOURS.length]);
        return { label, stroke, width: 1.6, fill: fill ? faint(stroke) : undefined, points: { show: true, size: 5, fill: stroke, filter: alone }, value: (_u, v) => v == null ? "–" : show(v) };
      });
      this.plot = new uPlot({
        width: this.clientWidth || 300, height: said.height,
        cursor: { sync: { key: "time" }, drag: { setScale: false, x: false, y: false }, points: { size: 7 } },
        scales: { x: { range: () => this.said.window }, y: { range: (_u, _low, high) => [0, high > 0 ? high * 1.12 : 1] } },
        axes: [{ ...axis, grid: { show: false }, size: 30, gap: 8, space: 70, values: times.map(([, s, f]) => [s, f, null, null, null, null, null, null, 1]) }, { ...axis, size: 58, values: (_u, ticks) => ticks.map((v) => show(v, ticks.at(-1))) }],
        legend: { markers: { width: 0, fill: (u, n) => u.series[n].stroke() } },
        series: [{ label: "at", value: (_u, v) => v == null ? "" : clock.format(new Date(v * 1000)) }, ...series],
        hooks: { setCursor: [(u) => { if (u.cursor.idx == null) this.rest(); }] },
      }, said.data, this);
      this.rest();
    }
    rest() { // without a cursor, the legend has the latest values
      if (this.plot && this.plot.cursor.idx == null) this.plot.setLegend({ idx: this.said.data[0].length - 1 }, false);
    }
  }
  customElements.define("tenfold-chart", Chart);
  const redraw = () => document.querySelectorAll("tenfold-chart").forEach((each) => each.draw(true));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  // ── switches ──
  const THEMES = ["", "light", "dark"], NAMED = { "": "Theme: system", light: "Theme: light", dark: "Theme: dark" };
  const themed = document.getElementById("theme"), pauser = document.getElementById("pause");
  themed?.addEventListener("click", () => {
    const html = document.documentElement, next = THEMES[(THEMES.indexOf(html.dataset.theme || "") + 1) % 3];
    if (next) html.dataset.theme = next; else delete html.dataset.theme;
    document.cookie = `tenfold_theme=${next}; path=${root || "/"}; max-age=${next ? 31536000 : 0}; samesite=strict`;
    themed.textContent = NAMED[next];
    redraw();
  });
  const pause = () => {
    paused = !paused;
    pauser.setAttribute("aria-pressed", paused);
    pauser.textContent = paused ? "Paused" : "Pause";
  };
  pauser?.addEventListener("click", pause);
  document.getElementById("menu")?.addEventListener("click", (event) => {
    const open = side.toggleAttribute("data-open");
    event.currentTarget.setAttribute("aria-expanded", open);
  });
  body.addEventListener("change", (event) => { if (event.target.closest("form.filters") && event.target.matches("select")) event.target.form.requestSubmit(); });

  // ── keys ──
  const help = document.getElementById("keys");
  document.getElementById("help")?.addEventListener("click", () => help.showModal());
  let going = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea, select") || document.querySelector("dialog[open]")) return;
    const key = event.key;
    if (Date.now() - going < 1500) {
      going = 0;
      const page = side?.querySelector(`[data-key="${CSS.escape(key)}"]`);
      if (page) { event.preventDefault(); page.click(); return; }
    }
    if (key === "g") going = Date.now();
    else if (key === "p" && pauser) pause();
    else if (key === "?" && help) help.showModal();
    else if (key === "/") {
      const search = document.querySelector("main [role=search] input, main input[type=search]");
      if (search) { event.preventDefault(); search.focus(); search.select(); }
    }
  });
})();
