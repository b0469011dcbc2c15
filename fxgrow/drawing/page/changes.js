// The list beside the picture: what changes, what is pinned and why, or the layers by what they cost. A row leads to its place.

const first = () => (data.changes.some((entry) => CHANGED.includes(entry.kind)) ? "changes" : "pinned");
const HEADS = { changes: "Changes", grown: "Widths that grow", input: "Inputs that grow", output: "Outputs that grow", layer: "New layers",
  block: "New blocks", kernel: "Larger kernels", pinned: "Pinned widths", left: "Left as they are", parameters: "Layers by parameters", flops: "Layers by FLOPs" };
const COSTS = ["parameters", "flops"];
const MOST = 400; // rows
const ADDED = { model: () => 0, factor: (entry) => entry.factor, parameters: (entry) => gain(entry.parameters), flops: (entry) => gain(entry.flops) };
const gain = ([old, now]) => now - old;

for (const [i, entry] of data.changes.entries()) data.changes[i] = { group: "", text: "", factor: 0, parameters: [0, 0], flops: [0, 0], reason: "", layers: 0, ...entry };

function listed() {
  if (COSTS.includes(state.listed)) return layersBy(state.listed);
  const kinds = { changes: CHANGED, grown: GROWN }[state.listed] ?? [state.listed];
  const rows = data.changes.filter((entry) => kinds.includes(entry.kind));
  const by = ADDED[state.order];
  return rows.sort((a, b) => by(b) - by(a) || standing(a) - standing(b));
}

function standing(entry) { // its place in the order of the model
  const level = data.levels.layers ? "layers" : "groups";
  return (entry.at ??= data.levels[level].nodes.indexOf(place(entry, level)));
}

function layersBy(cost) { // the layers of the model, those that cost most first
  const nodes = (data.levels.layers ?? data.levels.groups).nodes.filter((node) => node[cost][1]);
  const rows = nodes.map((node) => ({ kind: "cost", name: node.path || node.what || node.key, group: node.group, key: node.key, text: arrow(node.size, true),
    factor: node.size[0] ? node.size[1] / node.size[0] : 0, parameters: node.parameters, flops: node.flops, reason: "", layers: 0, new: node.new }));
  return rows.sort((a, b) => b[cost][1] - a[cost][1]);
}

function facts(entry) { // the second line of a row
  const found = [entry.new ? "new" : "", entry.factor && entry.factor !== 1 ? times(entry.factor) : ""];
  const whole = COSTS.includes(state.listed);
  const cost = (whole ? state.listed : state.order) === "flops" ? "flops" : "parameters";
  const share = whole && data.totals[cost] ? ` (${Math.round(100 * entry[cost][1] / data.totals[cost][1])} %)` : "";
  if (entry[cost][1]) found.push(`${entry.new ? `+${brief(entry[cost][1])}` : growth(entry[cost])} ${cost === "flops" ? "FLOPs" : "parameters"}${share}`);
  if (entry.layers > 1) found.push(`${entry.layers} layers`);
  return found.filter(Boolean).join(" · ");
}

function row(entry) {
  const item = make("li");
  const button = make("button", "", { type: "button", "data-kind": entry.kind, "data-name": entry.name });
  const swatch = legend.get(entry.group);
  const box = make("span", "", { class: entry.kind === "kernel" ? "sign kernel" : `swatch ${swatch ? swatch.state : entry.new ? "added" : "plain"}` });
  if (swatch) paint(box, swatch);
  const name = make("span", "", { class: "named" });
  name.append(...entry.name.split(/(?<=\.)/).flatMap((step) => [step, make("wbr")])); // broken at its dots
  const why = CHANGED.includes(entry.kind) && entry.group ? "" : entry.reason;
  button.append(box, name, make("b", entry.text));
  for (const text of [facts(entry), why]) if (text) button.append(make("small", text));
  button.addEventListener("click", () => jump(entry));
  for (const [on, off] of [["pointerenter", "pointerleave"], ["focus", "blur"]]) {
    if (!entry.group) continue;
    button.addEventListener(on, () => light([entry.group]));
    button.addEventListener(off, () => light(null));
  }
  item.append(button);
  return item;
}

function enlist(list = state.listed) {
  state.listed = list;
  $("sorting").hidden = COSTS.includes(list);
  const rows = listed(), there = rows.slice(0, MOST).map(row);
  if (rows.length > MOST) there.push(make("li", `and ${(rows.length - MOST).toLocaleString("en")} more`, { class: "hint" }));
  $("changes").hidden = !data.changes.length && !COSTS.includes(list);
  $("changes").open = true;
  $("listed").textContent = `${HEADS[list]} (${rows.length.toLocaleString("en")})`;
  $("rows").replaceChildren(...there);
  for (const button of $("strip").querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.dataset.list === list));
}

// -- to its place -------------------------------------------------------------------------------

const under = (path, above) => path === above || path.startsWith(`${above}.`);

function place(entry, level) { // the box of an entry at a level: its own, one inside it, or one that it was folded into
  const nodes = data.levels[level].nodes;
  if (entry.key && level === "layers") return nodes.find((node) => node.key === entry.key);
  if (entry.group) {
    return nodes.find((node) => node.group === entry.group && node.path === entry.group) ?? nodes.find((node) => node.group === entry.group)
      ?? nodes.find((node) => node.groups.includes(entry.group));
  }
  if (level === "groups") return nodes.find((node) => node.path === entry.name) ?? nodes.find((node) => node.times > 1 && node.paths.includes(entry.name));
  const known = nodes.filter((node) => Boolean(node.new) === Boolean(entry.new) || level === "blocks");
  return known.find((node) => node.path === entry.name) ?? known.find((node) => [node.path, ...node.paths].some((path) => path && under(path, entry.name)))
    ?? known.find((node) => node.path && under(entry.name, node.path));
}

async function jump(entry) { // selects its box and pans to it, opening what is folded
  const levels = [state.level, "layers", "ops", "blocks", "groups"].filter((level) => data.levels[level]);
  const level = levels.find((one) => place(entry, one));
  if (!level) return;
  if (entry.new && !after()) before(true);
  if (state.only && !changes(place(entry, level))) await only(false);
  if (level !== state.level) await change(level);
  const node = place(entry, level);
  if (unfold(node.path) || !shown.nodes.some((one) => one.key === node.key)) await render();
  const i = shown.nodes.findIndex((one) => one.key === node.key);
  if (i < 0) return;
  state.chosen = null;
  choose(shown.nodes[i]);
  reveal(i);
}
