// Beside the picture: what is known of a box, the modules to open and close.

function choose(node) {
  state.chosen = state.chosen === node.key ? null : node.key;
  state.kept = null;
  mark();
  if (state.chosen) describe(node, true);
}

function keepLit(name) { // a width, lit until Escape
  state.kept = state.kept === name ? null : name;
  state.chosen = null;
  mark();
  if (!state.kept) return;
  light([name]);
  reveal(shown.nodes.findIndex((node) => isOf(node, name)));
}

// Whether a box is of a width; one for many that are alike is of each of them.
const isOf = (node, name) => node.group === name || (state.level === "groups" && node.times > 1 && node.groups.includes(name));

function clear() {
  state.chosen = state.kept = null;
  mark();
  light(null);
}

function mark() {
  shown.nodes.forEach((node, i) => element(i)?.classList.toggle("chosen", node.key === state.chosen));
  for (const item of $("legend").querySelectorAll("li")) item.firstChild.setAttribute("aria-pressed", String(item.dataset.name === state.kept));
}

function choice() { // in a new picture, what was chosen in the old one
  const chosen = shown.nodes.find((node) => node.key === state.chosen);
  if (!chosen) state.chosen = null;
  if (!shown.nodes.some((node) => isOf(node, state.kept))) state.kept = null;
  mark();
  light(null);
  if (chosen) describe(chosen, true);
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
  const value = data.data && node.kind !== "width" ? valued(node) : null;
  if (value) row(data.data.name, String(value.value) + (value.of > 1 ? ` (the largest of ${value.of})` : ""));
  if (node.kind !== "group") row("with", (node.inside || []).slice(0, 40).join(", "));
  const swatch = legend.get(node.group);
  if (swatch) {
    row("width", `${swatch.name} (${arrow(swatch.size)})`);
    const free = swatch.state === "stays"; // nothing pins it
    row(free && !data.grows ? "growth" : swatch.state, (free && data.grows ? "in this plan; " : "") + swatch.reason);
    row("layers", swatch.layers.slice(0, whole ? 60 : 8).join(", ") + (swatch.layers.length > (whole ? 60 : 8) ? ", …" : ""));
  }
  const others = (node.groups || []).filter((name) => name !== node.group);
  row(swatch ? "other widths" : "widths", others.slice(0, 12).join(", ") + (others.length > 12 ? ", …" : ""));
  parts.push(list);
  const all = node.kind === "width" || state.level === "groups"; // it stands for a whole width
  const steps = !whole ? [] : all ? ties(node.group) : why(node.start);
  if (steps.length) {
    parts.push(make("p", all ? "Operators that tie its layers:" : `Why it has the same width as ${swatch ? swatch.name : "the others"}:`));
    const path = make("ol", "", { class: "why" });
    for (const [from, site, to] of steps.slice(0, all ? MOST_TIES : undefined)) {
      const step = make("li", `${from} `);
      step.append(make("i", site), ` ${to}`);
      path.append(step);
    }
    if (all && steps.length > MOST_TIES) path.append(make("li", `… and ${steps.length - MOST_TIES} more`));
    parts.push(path);
  }
  const module = node.opens ? node.path || node.key : node.above ? node.above.path || node.above.key : node.module || node.home;
  if (whole && module) {
    const button = make("button", node.module || node.opens ? `Expand ${module}` : `Collapse ${module}`, { type: "button" });
    button.addEventListener("click", () => fold(node));
    parts.push(button);
  }
  $("details").replaceChildren(...parts);
}

function why(start) {
  const steps = [];
  for (let at = start; data.ties[at] && steps.length < 200; at = data.ties[at][0]) steps.push([at, data.ties[at][1], data.ties[at][0]]);
  return steps;
}

const MOST_TIES = 40; // of a width

function ties(group) { // from every box of a width, each step once
  const boxes = Object.values(data.levels).flatMap((level) => level.nodes).filter((node) => node.group === group);
  const steps = new Map(boxes.flatMap((node) => why(node.start)).map((step) => [step[0], step]));
  return [...steps.values()];
}

// -- modules ------------------------------------------------------------------------------------

function toggle(path) {
  if (!path) return;
  const closed = (state.collapsed[state.level] ??= new Set());
  if (closed.has(path)) closed.delete(path);
  else closed.add(path);
  state.chosen = null;
  render(closed.has(path) ? `module ${path}` : firstIn(path));
}

function firstIn(path) { // the first box of a module that was opened, which gets the focus
  const node = data.levels[state.level].nodes.find((one) => one.path && under(one.path, path));
  const around = node && collapsedAt(node);
  return around ? `module ${around}` : node?.key ?? null;
}

function unfold(path) { // says whether something was folded
  const closed = state.collapsed[state.level] ?? new Set(), above = new Set(prefixes(path || ""));
  state.collapsed[state.level] = new Set([...closed].filter((one) => !above.has(one)));
  return state.collapsed[state.level].size < closed.size;
}

function foldHome(path) { // the module or the opened box around others
  const inside = shown.nodes.find((node) => node.above && node.home === path);
  return inside ? closeBox(inside.above) : toggle(path);
}

async function open(node) { // and on to the first hit in it
  const path = node.module || node.path;
  if (node.opens) opened().add(mark_of(node.depth, node.key));
  else unfold(path);
  state.chosen = null;
  await render();
  next = hits.findIndex((i) => [shown.nodes[i].path, ...shown.nodes[i].paths].some((one) => one === path || one.startsWith(`${path}.`))) - 1;
  follow();
}

function homes() {
  return new Set(data.levels[state.level].nodes.map((node) => node.home).filter(Boolean));
}

// The legend: the widths of the picture, with their sizes at the time.
function widths() {
  const there = new Set(shown.nodes.flatMap((node) => (state.level === "groups" ? [node.group, ...node.groups] : [node.group])));
  for (const item of $("legend").querySelectorAll("li")) {
    const swatch = legend.get(item.dataset.name);
    item.hidden = !there.has(swatch.name);
    item.querySelector("b").textContent = arrow(swatch.size);
  }
}

function modules() {
  const list = $("modules").querySelector("ul");
  const foldable = state.level === "layers" || state.level === "ops";
  $("modules").hidden = !foldable;
  $("collapse").hidden = $("expand").hidden = !foldable && chain(state.level).length < 2;
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
