// Lays out and lights up what html.py put into #data. Stands behind layout.js, in one module.

const data = JSON.parse(document.getElementById("data").textContent);
for (const level of Object.values(data.levels)) { // what is as usual was left out
  level.nodes = level.nodes.map((node) => ({ ...data.blank.node, ...node }));
  level.edges = level.edges.map((edge) => ({ ...data.blank.edge, ...edge }));
}
const LARGE = 150; // boxes from which on a level opens with its modules collapsed
const legend = new Map(data.legend.map((swatch) => [swatch.name, swatch]));
const $ = (id) => document.getElementById(id);

const state = { level: data.opening, when: "after", collapsed: {}, zoom: 1, fitted: true, chosen: null, query: "" };
let shown = { nodes: [], edges: [] }; // what is in the picture
let boxes = [], lines = []; // their elements
let settled = null; // the level and the collapsed modules that were laid out last
const layouts = new Map(); // DOT -> SVG

// -- what is shown ------------------------------------------------------------------------------

const after = () => state.when === "after";
const pick = (pair) => pair[after() ? 1 : 0];

function arrow([old, now]) {
  if (!after()) return old ? String(old) : "";
  return !old || old === now ? String(now || "") : `${old}→${now}`;
}

// "3×3→5×5" as it is, or as it was
const timed = (text) => (after() ? text : text.replace(/([^\s→]+)→[^\s→,]+/g, "$1").replace(/ 1 layers\b/, ""));

function own(node) { // what a box is called inside the box of its module
  if (node.home && node.path === node.home) return "";
  let path = node.path;
  if (node.home && path.startsWith(`${node.home}.`)) path = path.slice(node.home.length + 1);
  if (path !== node.path && /^\d/.test(path)) path = `${node.home.split(".").pop()}.${path}`;
  return path === node.what ? "" : path;
}

function prefixes(path) {
  const steps = path.split(".");
  return steps.map((_, i) => steps.slice(0, i + 1).join("."));
}

function collapsedAt(node) {
  const closed = state.collapsed[state.level];
  if (!closed || !closed.size || !node.path || state.level === "groups" || state.level === "blocks") return "";
  return prefixes(node.path).find((path) => closed.has(path)) || "";
}

function visible() {
  const level = data.levels[state.level];
  const classOf = (path) => data.classes[path] || data.classes[path.replace(/_deeper\d+/g, "")] || "";
  const byKey = new Map(level.nodes.map((node) => [node.key, node]));
  const before = !after();
  const into = new Map(level.edges.map((edge) => [edge.target, edge.source]));
  const through = (key) => { // a box that is not there yet stands for what it takes
    const seen = new Set();
    while (before && byKey.get(key)?.new && into.has(key) && !seen.has(key)) { seen.add(key); key = into.get(key); }
    return key;
  };
  const nodes = new Map(), root = new Map();
  for (const node of level.nodes) {
    if (before && node.new) continue;
    const path = collapsedAt(node);
    const key = path ? `module ${path}` : node.key;
    root.set(node.key, key);
    if (!path) { nodes.set(key, node); continue; }
    const box = nodes.get(key);
    if (!box) nodes.set(key, { ...node, key, path, home: "", kind: "module", what: classOf(path), quiet: false, inside: [node.what], start: "", times: 1, module: path });
    else {
      box.inside = [...box.inside, node.what];
      for (const field of ["parameters", "flops"]) box[field] = box[field].map((n, i) => n + node[field][i]);
      box.groups = [...new Set([...box.groups, ...node.groups])];
      if (node.group) {
        const old = node.size[0] || box.new || box.group !== node.group ? node.size[0] : box.size[0]; // a new layer is its last
        Object.assign(box, { group: node.group, state: node.state, reason: node.reason, size: [old, node.size[1]] });
      }
      box.new = box.new && node.new;
    }
  }
  const edges = new Map();
  const ever = new Set(); // between which boxes there is an arrow before growth
  for (const edge of level.edges) if (edge.when !== "after") ever.add(`${root.get(edge.source)}\n${root.get(edge.target)}`);
  for (const edge of level.edges) {
    if (edge.when !== "both" && edge.when !== state.when) continue;
    const source = root.get(through(edge.source)), target = root.get(edge.target);
    if (!source || !target || (source === target && edge.source !== edge.target)) continue;
    const key = `${source}\n${target}`;
    const known = edges.get(key);
    if (known) known.skip = known.skip && edge.skip;
    else edges.set(key, { ...edge, source, target, new: edge.when === "after" && !ever.has(key) });
  }
  const silent = new Set([...nodes.values()].filter((node) => node.quiet).map((node) => node.key));
  for (const edge of edges.values()) edge.quiet = !pick(edge.shapes) && (silent.has(edge.source) || silent.has(edge.target));
  return { nodes: [...nodes.values()], edges: [...edges.values()] };
}

// -- DOT ----------------------------------------------------------------------------------------

const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const html = (text) => String(text).replace(/[&<>"']/g, (c) => escapes[c]);
const quoted = (text) => `"${String(text).replace(/\\/g, "\\\\").replace(/"/g, '\\"')}"`;

function short(path, limit = 34) { // of a long path the last steps
  if (path.length <= limit) return path;
  const steps = path.split(".");
  while (steps.length > 1 && steps.join(".").length >= limit) steps.shift();
  return `…${steps.join(".").slice(-limit)}`;
}

function named(node) { // the second line of a box
  return [node.module ? "▸" : "", node.new ? "new:" : "", timed(node.what), node.times > 1 ? `×${node.times}` : ""].filter(Boolean).join(" ");
}

function label(node) {
  const rows = [];
  const size = arrow(node.size), what = named(node), path = short(own(node));
  if (size) rows.push(`<B>${html(size)}</B>`);
  if (what) rows.push(html(what));
  if (path) rows.push(`<FONT POINT-SIZE="9">${html(path)}</FONT>`);
  return rows.join("<BR/>") || html(node.key);
}

const ruler = document.createElement("canvas").getContext("2d");

function room(node) { // in inches: Graphviz has no fonts here, and guesses
  const wide = (font, text) => { ruler.font = `${font} Helvetica, Arial, sans-serif`; return text ? ruler.measureText(text).width : 0; };
  const what = named(node), small = node.quiet ? "9px" : "11px";
  const width = Math.max(wide("bold 11px", arrow(node.size)), wide(small, what), wide("9px", short(own(node))), wide(small, own(node) || what ? "" : node.key));
  return ((width + 18) * (node.kind === "join" ? 1.25 : 1) / 72).toFixed(2);
}

function dot({ nodes, edges }) {
  const many = edges.length > data.many[0], very = edges.length > data.many[1];
  const effort = (many ? " nslimit=2 mclimit=0.5" : "") + (very ? " nslimit=0.5 nslimit1=0.5 mclimit=0.1 splines=polyline" : "");
  const font = 'fontname="Helvetica,Arial,sans-serif"';
  const rows = [
    "digraph fxgrow {",
    `graph [bgcolor=transparent rankdir=TB ranksep=0.35 nodesep=0.25 ${font}${effort}]`,
    `node [shape=box style="rounded,filled" margin="0.12,0.06" height=0.3 fontsize=11 ${font}]`,
    `edge [fontsize=9 arrowsize=0.6 ${font}]`,
  ];
  const index = new Map(nodes.map((node, i) => [node.key, i]));
  const homes = new Map();
  nodes.forEach((node, i) => {
    const shape = (node.kind === "join" ? ' shape=ellipse margin="0.02" height=0.2' : "")
      + (node.quiet ? " fontsize=9 height=0.2" : "") + (node.new ? " peripheries=2" : "");
    const line = `n${i} [id="n${i}" width=${room(node)} label=<${label(node)}>${shape}]`;
    if (!homes.has(node.home)) homes.set(node.home, []);
    homes.get(node.home).push(line);
  });
  let number = 0;
  for (const [home, inside] of homes) {
    if (!home) { rows.push(...inside); continue; }
    rows.push(`subgraph cluster${number} { graph [id="c${number}" tooltip=${quoted(home)} label=${quoted(home)} labeljust=l style=rounded fontsize=10]`, ...inside, "}");
    number += 1;
  }
  edges.forEach((edge, i) => {
    const text = timed(edge.label) || pick(edge.shapes);
    let [from, to] = [edge.source, edge.target];
    let extra = text ? ` label=${quoted(`\u00a0\u00a0${text}\u00a0`)}` : "";
    if (!edge.skip && !edge.quiet) extra += edge.main ? " weight=40" : " weight=4";
    if (edge.back && edge.skip) extra += " constraint=false arrowhead=none";
    else if (edge.back && from !== to) { [from, to] = [to, from]; extra += " dir=back"; } // it goes around what is between
    rows.push(`n${index.get(from)} -> n${index.get(to)} [id="e${i}"${extra}]`);
  });
  return [...rows, "}"].join("\n");
}

// -- the picture --------------------------------------------------------------------------------

let turn = 0;

async function render(keep = null) {
  const mine = ++turn;
  const next = visible(), text = dot(next);
  if (!layouts.has(text)) {
    const quiet = busy(next.nodes.length);
    const found = await lay(text);
    clearInterval(quiet);
    if (found?.svg) {
      layouts.set(text, found.svg);
      document.body.dataset.layoutMs = Math.round(found.ms);
    }
    if (mine !== turn) return;
    if (found?.error) { $("busy").firstChild.textContent = `Graphviz failed: ${found.error}`; return; }
  } else stopLaying();
  $("busy").hidden = true;
  shown = next;
  settled = { level: state.level, closed: new Set(state.collapsed[state.level]) };
  const svg = new DOMParser().parseFromString(layouts.get(text), "image/svg+xml").documentElement;
  svg.querySelectorAll("title").forEach((title) => title.remove());
  svg.setAttribute("role", "group");
  svg.setAttribute("aria-label", `${data.title}, ${state.level}, ${state.when} growth`);
  $("picture").replaceChildren(document.importNode(svg, true));
  const ids = new Map([...picture().querySelectorAll("g[id]")].map((one) => [one.id, one]));
  boxes = shown.nodes.map((_, i) => ids.get(`n${i}`));
  lines = shown.edges.map((_, i) => ids.get(`e${i}`));
  dress();
  document.body.dataset.shown = `${state.level} ${state.when}`;
  if (state.fitted) fit();
  else zoom(state.zoom);
  search();
  boxes[keep ? shown.nodes.findIndex((node) => node.key === keep) : -1]?.focus();
  modules();
  widths();
}

function busy(number) { // says so, and counts
  const [said, start] = [$("busy"), Date.now()];
  said.firstChild.textContent = `Laying out ${number.toLocaleString("en")} boxes …`;
  $("seconds").textContent = "";
  said.hidden = false;
  $("stop").hidden = true;
  return setInterval(() => {
    const seconds = Math.floor((Date.now() - start) / 1000);
    if (seconds) $("seconds").textContent = `${seconds} s`;
    $("stop").hidden = !settled || !graphviz.worker;
  }, 250);
}

function forget() { // what was being laid out is wanted no more: its modules are as they were
  if (settled && graphviz.asked && settled.level === state.level) state.collapsed[state.level] = new Set(settled.closed);
  else if (graphviz.asked) delete state.collapsed[state.level];
}

function stop() {
  if (!settled || !graphviz.asked) return;
  change(settled.level);
}

const picture = () => $("picture").querySelector("svg");
const element = (i) => boxes[i];
const tipped = (box, text) => {
  const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
  title.textContent = text;
  box.prepend(title);
};

function dress() {
  const shapes = boxes.map((box) => box?.querySelector("path, polygon, ellipse").getBBox()); // all read before any is written
  shown.nodes.forEach((node, i) => {
    const box = boxes[i];
    if (!box) return;
    const swatch = legend.get(node.group);
    box.classList.add(node.kind);
    box.querySelectorAll("text").forEach((line) => { line.setAttribute("text-anchor", "middle"); line.setAttribute("x", shapes[i].x + shapes[i].width / 2); });
    if (node.state) box.classList.add(node.state);
    if (node.new) box.classList.add("new");
    if (node.quiet) box.classList.add("quiet");
    if (swatch) paint(box, swatch);
    else box.classList.add("plain");
    box.setAttribute("data-path", node.path || node.key);
    box.setAttribute("tabindex", i ? "-1" : "0"); // one stop for Tab; the arrow keys go on from there
    box.setAttribute("role", "button");
    box.setAttribute("aria-label", [arrow(node.size), node.new ? "new" : "", node.what, node.path, node.state, node.reason].filter(Boolean).join(", "));
    tipped(box, [node.path || node.key, node.reason].filter(Boolean).join("\n"));
    box.addEventListener("pointerenter", () => light(node.group ? [node.group] : node.groups, node));
    box.addEventListener("pointerleave", () => light(null));
    box.addEventListener("focus", () => { boxes.forEach((one) => one?.setAttribute("tabindex", one === box ? "0" : "-1")); light(node.group ? [node.group] : node.groups, node); });
    box.addEventListener("blur", () => light(null));
    box.addEventListener("click", () => { if (!moved) choose(node); });
    box.addEventListener("dblclick", () => toggle(node.module || node.home));
    box.addEventListener("keydown", (event) => walk(event, node, i));
  });
  shown.edges.forEach((edge, i) => {
    const line = lines[i];
    if (!line) return;
    if (edge.skip || edge.quiet) line.classList.add("skip");
    if (edge.skip && edge.back) line.classList.add("factor");
    if (edge.new) line.classList.add("new");
    if (edge.tip) tipped(line, edge.tip);
  });
  const names = document.createElementNS("http://www.w3.org/2000/svg", "g"); // of modules, above the arrows
  $("picture").querySelectorAll(".cluster").forEach((box) => {
    const text = box.querySelector("text"), home = text?.textContent.trim();
    box.setAttribute("data-module", home);
    box.addEventListener("click", () => { if (!moved) toggle(home); });
    const name = document.createElementNS("http://www.w3.org/2000/svg", "g");
    name.setAttribute("class", "name");
    name.setAttribute("data-module", home);
    name.append(text);
    name.addEventListener("click", () => { if (!moved) toggle(home); });
    names.append(name);
  });
  picture().querySelector("g.graph").append(names);
}

function paint(box, swatch) {
  box.classList.add("c");
  for (const name of ["fill", "line"]) swatch[name].forEach((colour, i) => box.style.setProperty(`--${name}-${i}`, colour));
}

function light(groups, node = null) {
  const svg = picture();
  if (!svg) return;
  svg.classList.toggle("lit", Boolean(groups && groups.length));
  const lit = new Set(groups || []);
  const beside = new Set(); // where each width is one box, its neighbours read it
  if (state.level === "groups") for (const edge of shown.edges) {
    if (edge.source === node?.key) beside.add(edge.target);
    if (edge.target === node?.key) beside.add(edge.source);
  }
  const near = shown.nodes.map((one) => one === node || beside.has(one.key) || one.groups.some((name) => lit.has(name)));
  const on = shown.nodes.map((one) => one === node || lit.has(one.group)); // it makes or hands on the width; the others read it
  const index = new Map(shown.nodes.map((one, i) => [one.key, i]));
  shown.nodes.forEach((_, i) => { element(i)?.classList.toggle("on", on[i]); element(i)?.classList.toggle("near", near[i] && !on[i]); });
  shown.edges.forEach((edge, i) => {
    const [from, to] = [index.get(edge.source), index.get(edge.target)];
    const touched = (on[from] && near[to]) || (beside.size && on[to] && near[from]);
    lines[i]?.classList.toggle("on", Boolean(touched));
  });
  if (groups && groups.length && !state.chosen) describe(node || { path: groups[0], groups, group: groups[0], size: legend.get(groups[0]).size, inside: [] }, false);
  else if (!groups && !state.chosen) $("details").replaceChildren(hint.cloneNode(true));
}

const hint = document.querySelector(".hint");

// -- details ------------------------------------------------------------------------------------

function choose(node) {
  state.chosen = state.chosen === node.key ? null : node.key;
  mark();
  if (state.chosen) describe(node, true);
}

function mark() {
  shown.nodes.forEach((node, i) => element(i)?.classList.toggle("chosen", node.key === state.chosen));
}

function make(tag, text = "", attributes = {}) {
  const found = document.createElement(tag);
  if (text) found.textContent = text;
  for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
  return found;
}

function describe(node, whole) {
  const parts = [make("h2", node.path || node.key)];
  const list = make("dl");
  const row = (name, text) => { if (text) list.append(make("dt", name), make("dd", text)); };
  const counts = ([old, now]) => (old || now ? `${old.toLocaleString("en")}${old !== now && data.grows ? ` → ${now.toLocaleString("en")}` : ""}` : "");
  row("what", [node.new ? "new:" : "", node.what, node.times > 1 ? `×${node.times}` : ""].filter(Boolean).join(" "));
  row("size", node.size && (node.size[0] === node.size[1] || !node.size[0] ? String(node.size[1] || "") : `${node.size[0]} → ${node.size[1]}`));
  if (node.parameters) row("parameters", counts(node.parameters));
  if (node.flops) row("FLOPs", counts(node.flops));
  if (node.kind !== "group") row("with", (node.inside || []).slice(0, 40).join(", "));
  const swatch = legend.get(node.group);
  if (swatch) {
    row("width", `${swatch.name} (${arrow(swatch.size)})`);
    row(swatch.state, swatch.reason);
    row("layers", swatch.layers.slice(0, whole ? 60 : 8).join(", ") + (swatch.layers.length > (whole ? 60 : 8) ? ", …" : ""));
  }
  const others = (node.groups || []).filter((name) => name !== node.group);
  row(swatch ? "also touches" : "widths", others.slice(0, 12).join(", ") + (others.length > 12 ? ", …" : ""));
  parts.push(list);
  const steps = whole ? why(node.start) : [];
  if (steps.length) {
    parts.push(make("p", `Why it moves with ${swatch ? swatch.name : "the others"}:`));
    const path = make("ol", "", { class: "why" });
    for (const [from, site, to] of steps) {
      const step = make("li", `${from} `);
      step.append(make("i", site), ` ${to}`);
      path.append(step);
    }
    parts.push(path);
  }
  const module = node.module || node.home;
  if (whole && module) {
    const button = make("button", node.module ? `Expand ${module}` : `Collapse ${module}`, { type: "button" });
    button.addEventListener("click", () => toggle(module));
    parts.push(button);
  }
  $("details").replaceChildren(...parts);
}

function why(start) {
  const steps = [];
  for (let at = start; data.ties[at] && steps.length < 200; at = data.ties[at][0]) steps.push([at, data.ties[at][1], data.ties[at][0]]);
  return steps;
}

// -- modules ------------------------------------------------------------------------------------

function toggle(path) {
  if (!path) return;
  const closed = (state.collapsed[state.level] ??= new Set());
  if (closed.has(path)) closed.delete(path);
  else closed.add(path);
  state.chosen = null;
  render(closed.has(path) ? `module ${path}` : null);
}

function homes() {
  return new Set(data.levels[state.level].nodes.map((node) => node.home).filter(Boolean));
}

// The legend: the widths of the picture, with their sizes at the time.
function widths() {
  const there = new Set(shown.nodes.map((node) => node.group));
  for (const item of $("legend").querySelectorAll("li")) {
    const swatch = legend.get(item.dataset.name);
    item.hidden = !there.has(swatch.name);
    item.querySelector("b").textContent = arrow(swatch.size);
  }
}

function modules() {
  const list = $("modules").querySelector("ul");
  const foldable = state.level === "layers" || state.level === "ops";
  $("modules").hidden = $("collapse").hidden = $("expand").hidden = !foldable;
  if (!foldable) return;
  const closed = state.collapsed[state.level] ?? new Set();
  const number = new Map();
  for (const node of data.levels[state.level].nodes) for (const path of prefixes(node.path || "").slice(0, node.path ? undefined : 0)) number.set(path, (number.get(path) || 0) + 1);
  const items = [...number].filter(([, number]) => number > 1).map(([path, number]) => {
    const item = make("li");
    const button = make("button", `${closed.has(path) ? "▸" : "▾"} ${path} (${number})`, { type: "button", "aria-expanded": String(!closed.has(path)) });
    item.style.paddingLeft = `${(path.split(".").length - 1) * 12}px`;
    button.addEventListener("click", () => toggle(path));
    item.append(button);
    return item;
  });
  list.replaceChildren(...items);
}

// -- search, keys, zoom ---------------------------------------------------------------------------

let hits = [], next = 0;

function search() {
  const query = state.query.trim().toLowerCase();
  const text = (node) => [node.key, node.path, node.what, node.group, ...node.inside].join(" ").toLowerCase();
  hits = query ? shown.nodes.map((node, i) => (text(node).includes(query) ? i : -1)).filter((i) => i >= 0) : [];
  const found = new Set(hits);
  shown.nodes.forEach((_, i) => element(i)?.classList.toggle("hit", found.has(i)));
  $("hits").textContent = query ? `${hits.length} found` : "";
  next = 0;
  if (query && hits.length) reveal(hits[0]);
}

function reveal(i) {
  element(i)?.scrollIntoView({ block: "center", inline: "center" });
}

function walk(event, node, i) {
  const index = new Map(shown.nodes.map((one, at) => [one.key, at]));
  const go = (keys) => { if (keys.length) { element(index.get(keys[0]))?.focus(); reveal(index.get(keys[0])); } };
  const moves = {
    ArrowDown: () => go(shown.edges.filter((e) => e.source === node.key && !e.back).sort((a, b) => a.skip - b.skip).map((e) => e.target)),
    ArrowUp: () => go(shown.edges.filter((e) => e.target === node.key && !e.back).sort((a, b) => a.skip - b.skip).map((e) => e.source)),
    ArrowRight: () => go(shown.nodes.slice(i + 1).map((one) => one.key)),
    ArrowLeft: () => go(shown.nodes.slice(0, i).reverse().map((one) => one.key)),
    Enter: () => choose(node),
    " ": () => choose(node),
    e: () => toggle(node.module || node.home),
    Escape: () => { state.chosen = null; mark(); $("details").replaceChildren(hint.cloneNode(true)); },
  };
  if (!moves[event.key] || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  event.stopPropagation();
  moves[event.key]();
}

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input[type=search]") || event.ctrlKey || event.metaKey || event.altKey) return;
  const keys = { "/": () => $("search").focus(), b: () => before(!after()), t: () => $("theme").click(), 0: () => $("fit").click(),
    Escape: stop, "+": () => $("larger").click(), "-": () => $("smaller").click(), c: () => $("collapse").click(), x: () => $("expand").click() };
  const level = Object.keys(data.levels)[Number(event.key) - 1];
  if (level) { event.preventDefault(); change(level); }
  else if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});

function before(now) {
  if (!data.grows) return;
  state.when = now ? "after" : "before";
  document.querySelector(`input[name=when][value=${state.when}]`).checked = true;
  render();
}

function change(level) {
  forget();
  state.level = level;
  state.chosen = null;
  state.collapsed[level] ??= new Set(data.levels[level].nodes.length > LARGE ? homes() : []);
  document.querySelector(`input[name=level][value=${level}]`).checked = true;
  $("details").replaceChildren(hint.cloneNode(true));
  render().then(() => { if (state.level === level) begin(); });
}

function begin() { // where the model begins
  const [stage, first] = [$("stage"), boxes[0]?.getBoundingClientRect()];
  if (!first) return;
  const room = stage.getBoundingClientRect();
  stage.scrollTo(stage.scrollLeft + first.left + first.width / 2 - room.left - room.width / 2, 0);
}

function natural() {
  const [, , width, height] = (picture()?.getAttribute("viewBox") || "0 0 1 1").split(" ").map(Number);
  return [width * 4 / 3, height * 4 / 3]; // points to pixels
}

function zoom(to) {
  state.zoom = Math.min(4, Math.max(0.08, to));
  const [width, height] = natural();
  picture()?.setAttribute("width", `${width * state.zoom}px`);
  picture()?.setAttribute("height", `${height * state.zoom}px`);
}

function fit() {
  const [width] = natural();
  state.fitted = true;
  zoom(Math.min(1, Math.max(0.3, ($("stage").clientWidth - 32) / width)));
}

const by = (factor) => () => { state.fitted = false; zoom(state.zoom * factor); };
$("larger").addEventListener("click", by(1.25));
$("smaller").addEventListener("click", by(0.8));
$("fit").addEventListener("click", fit);
addEventListener("resize", () => { if (state.fitted) fit(); });
$("stage").addEventListener("wheel", (event) => {
  if (!event.ctrlKey) return;
  event.preventDefault();
  by(event.deltaY < 0 ? 1.1 : 0.9)();
}, { passive: false });

let held = null, moved = false;
$("stage").addEventListener("pointerdown", (event) => { held = [event.clientX, event.clientY, $("stage").scrollLeft, $("stage").scrollTop]; moved = false; });
addEventListener("pointermove", (event) => {
  if (!held || event.buttons !== 1) return;
  const [x, y] = [event.clientX - held[0], event.clientY - held[1]];
  if (Math.abs(x) + Math.abs(y) > 5) { moved = true; $("stage").classList.add("moving"); }
  if (moved) $("stage").scrollTo(held[2] - x, held[3] - y);
});
addEventListener("pointerup", () => { held = null; $("stage").classList.remove("moving"); setTimeout(() => { moved = false; }); });

// -- start --------------------------------------------------------------------------------------

$("title").textContent = data.title;
$("notes").textContent = data.notes.join(" · ");
for (const [i, level] of Object.keys(data.levels).entries()) {
  const choice = make("label", "", { title: `${data.levels[level].nodes.length} boxes (${i + 1})` });
  const input = make("input", "", { type: "radio", name: "level", value: level });
  input.addEventListener("change", () => change(level));
  choice.append(input, ` ${level}`);
  $("levels").append(choice);
}
document.querySelectorAll("input[name=when]").forEach((input) => input.addEventListener("change", () => before(input.value === "after")));
$("when").hidden = !data.grows;
$("when").style.display = data.grows ? "" : "none";
$("search").addEventListener("input", () => { state.query = $("search").value; search(); });
$("search").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && hits.length) { next = (next + 1) % hits.length; reveal(hits[next]); element(hits[next])?.focus(); }
  if (event.key === "Escape") { $("search").value = state.query = ""; search(); $("search").blur(); }
});
$("collapse").addEventListener("click", () => { state.collapsed[state.level] = homes(); render(); });
$("expand").addEventListener("click", () => { state.collapsed[state.level] = new Set(); render(); });
$("stop").addEventListener("click", stop);
const darkly = matchMedia("(prefers-color-scheme: dark)");
const dark = (now) => { $("theme").setAttribute("aria-pressed", String(now)); document.documentElement.classList.toggle("dark", now); };
$("theme").addEventListener("click", () => dark(!document.documentElement.classList.contains("dark")));
darkly.addEventListener("change", () => dark(darkly.matches));
dark(darkly.matches);
for (const swatch of data.legend) {
  const item = make("li", "", { "data-name": swatch.name });
  const button = make("button", "", { type: "button", title: swatch.reason });
  const box = make("span", "", { class: `swatch ${swatch.state}` });
  paint(box, swatch);
  const name = make("span");
  name.append(...swatch.name.split(/(?<=\.)/).flatMap((step) => [step, make("wbr")])); // broken at its dots
  button.append(box, name, make("b", arrow(swatch.size)));
  for (const [on, off] of [["pointerenter", "pointerleave"], ["focus", "blur"]]) {
    button.addEventListener(on, () => light([swatch.name]));
    button.addEventListener(off, () => light(null));
  }
  item.append(button);
  $("legend").querySelector("ul").append(item);
}
change(state.level);
