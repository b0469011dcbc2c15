// What html.py put into #data, what of it is shown, and how Graphviz is told. The page's scripts are one module,
// in the order that html.py gives.

const data = await unpacked("data").then((found) => found.json());
for (let level of Object.values(data.levels)) for (; level?.nodes; level = level.parts) { // what is as usual was left out
  level.nodes = level.nodes.map((node) => ({ ...data.blank.node, ...node }));
  level.edges = level.edges.map((edge) => ({ ...data.blank.edge, ...edge }));
}
const LARGE = 150; // boxes from which on a level opens with its modules collapsed
const legend = new Map(data.legend.map((swatch) => [swatch.name, swatch]));
const $ = (id) => document.getElementById(id);

const state = { level: data.opening, when: "after", collapsed: {}, opened: {}, zoom: 1, fitted: true, query: "",
  listed: "changes", order: "model", only: false, colour: "width", chosen: null, kept: null }; // a box that stays described, a width that stays lit: one of the two at most
let shown = { nodes: [], edges: [] }; // what is in the picture
let boxes = [], lines = []; // their elements
let settled = null; // the level and the collapsed modules that were laid out last
const layouts = new Map(); // DOT -> SVG

// -- what is shown ------------------------------------------------------------------------------

const after = () => state.when === "after";
const pick = (pair) => pair[after() ? 1 : 0];

function arrow([old, now], always = false) { // always: also before growth
  if (!after() && !always) return old ? String(old) : "";
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
  const level = inPlace();
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
    if (!box) nodes.set(key, { ...node, key, path, home: "", kind: "module", what: classOf(path), quiet: false, inside: [node.what], paths: [node.path, ...node.paths], start: "", times: 1, module: path });
    else {
      box.inside.push(node.what);
      box.paths.push(node.path, ...node.paths);
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
  const all = { nodes: [...nodes.values()], edges: [...edges.values()] };
  const kept = state.only ? past(all) : all;
  return state.level === "groups" ? spined(kept) : kept;
}

// -- DOT ----------------------------------------------------------------------------------------

const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const html = (text) => String(text).replace(/[&<>"']/g, (c) => escapes[c]);
const quoted = (text) => `"${String(text).replace(/\\/g, "\\\\").replace(/"/g, '\\"')}"`;

const WORDED = 27, LEAST_PATH = 14, LEAST_STEP = 6; // letters of a name that has words, of the path in it, and of a step at least

function short(name, limit = 34) { // the words around a path ("heads of", "per head") and the end of the path
  const [, before, path, after] = name.match(/^(.* of )?(\S*)(.*)$/s), words = (before ?? "").length + after.length;
  return words ? `${before ?? ""}${shortPath(path, Math.max(Math.min(limit, WORDED) - words, LEAST_PATH))}${after}` : shortPath(name, limit);
}

function shortPath(path, limit) { // of a long path the last steps; a number keeps the step before it
  if (path.length <= limit) return path;
  const steps = path.split(".");
  while (steps.length > 1 && steps.join(".").length >= limit && !/^\d+$/.test(steps[1])) steps.shift();
  const rest = steps.slice(1).map((step) => `.${step}`).join("");
  const dropped = steps.join(".") === path ? "" : "…";
  const room = Math.max(2, limit - dropped.length - rest.length);
  let first = steps[0];
  if (first.length > room && room < LEAST_STEP && rest.length > 1 && rest.length <= limit) return `…${rest.slice(1)}`;
  if (first.length > room) { // both its ends may tell it from others
    const end = Math.floor((room - 1) / 2);
    first = `${first.slice(0, room - 1 - end)}…${first.slice(first.length - end)}`;
  }
  const found = `${dropped}${first}${rest}`;
  return found.length <= limit ? found : `…${path.slice(1 - limit)}`;
}

function named(node) { // the second line of a box
  return [node.module || node.opens ? "▸" : "", node.new ? "new:" : "", timed(node.what), node.times > 1 ? `×${node.times}` : ""].filter(Boolean).join(" ");
}

function label(node) {
  const rows = [];
  const size = arrow(node.size), what = named(node), path = node.segment ? "" : short(own(node));
  if (size) rows.push(`<B>${html(size)}</B>`);
  if (what) rows.push(html(what));
  if (path) rows.push(`<FONT POINT-SIZE="9">${html(path)}</FONT>`);
  const text = rows.join("<BR/>") || html(node.key);
  const table = "<TABLE BORDER='0' CELLBORDER='0' CELLSPACING='0' CELLPADDING='2'>";
  return larger(node) ? `${table}<TR><TD WIDTH='${Math.ceil(textWidth(node)) + 8}'>${text}</TD><TD>${kernelSign(node.kernel)}</TD></TR></TABLE>` : text;
}

const SIGN = 20, NEW = "#1a7f37"; // the side of the sign of a larger kernel, points; dress() gives its parts their classes
const larger = (node) => node.kernel && after();

function kernelSign(kernel) { // the old one, filled, inside the outline of the new one, true to scale
  const [[height, width], [high, wide]] = kernel.map((sizes) => [1, ...sizes].slice(-2));
  const size = SIGN / Math.max(...kernel[1]);
  const room = (w, h, more = 0) => ` FIXEDSIZE='TRUE' WIDTH='${Math.round(w * size) + more}' HEIGHT='${Math.round(h * size) + more}'`;
  const table = (border, w, h, inside) => `<TABLE BORDER='${border}' COLOR='${NEW}' CELLBORDER='0' CELLSPACING='0' CELLPADDING='0'${room(w, h, 2 * border)}><TR>${inside}</TR></TABLE>`;
  return table(1, wide, high, `<TD${room(wide, high)}>${table(0, width, height, `<TD${room(width, height)} BGCOLOR='${NEW}'></TD>`)}</TD>`);
}

const ruler = document.createElement("canvas").getContext("2d");

function textWidth(node) { // the width of what a box says, in points: Graphviz has no fonts here, and guesses
  const wide = (font, text) => { ruler.font = `${font} Helvetica, Arial, sans-serif`; return text ? ruler.measureText(text).width : 0; };
  const what = named(node), small = node.quiet ? "9px" : "11px";
  return Math.max(wide("bold 11px", arrow(node.size)), wide(small, what), wide("9px", node.segment ? "" : short(own(node))), wide(small, own(node) || what ? "" : node.key));
}

function room(node) { // of a box, in inches
  return ((textWidth(node) + 18 + (larger(node) ? SIGN + 18 : 0)) * (node.kind === "join" ? 1.25 : 1) / 72).toFixed(2);
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
  const { hanging, alone } = loose({ nodes, edges });
  alone.slice(ROW).forEach((node, i) => rows.push(`n${index.get(alone[i].key)} -> n${index.get(node.key)} [style=invis]`));
  edges.forEach((edge, i) => {
    const text = timed(edge.label) || pick(edge.shapes);
    let [from, to] = [edge.source, edge.target];
    if (edge.spine) { rows.push(`n${index.get(from)} -> n${index.get(to)} [id="e${i}" weight=100 dir=none penwidth=5]`); return; }
    let extra = text ? ` label=${quoted(`\u00a0\u00a0${text}\u00a0`)}` : "";
    if (!edge.skip && !edge.quiet) extra += edge.main ? " weight=40" : " weight=4";
    if (edge.back && edge.skip && hanging.has(from)) { [from, to] = [to, from]; extra += " arrowhead=none"; }
    else if (edge.back && edge.skip) extra += " constraint=false arrowhead=none";
    else if (edge.back && from !== to) { [from, to] = [to, from]; extra += " dir=back"; } // it goes around what is between
    rows.push(`n${index.get(from)} -> n${index.get(to)} [id="e${i}"${extra}]`);
  });
  return [...rows, "}"].join("\n");
}
