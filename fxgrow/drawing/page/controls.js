// Search, keys, zoom, and the start.

let hits = [], next = -1; // the hit that was gone to last

const STATES = ["new", "pinned", "grows", "stays", "kernel"];
const arrows = (text) => text.replace(/\s*(->|→|=>)\s*/g, "→").replace(/(\d)\s*[x*]\s*(?=\d)/g, "$1×");

function sized(node) { // the widths of a box, before and after; of a whole block all those inside
  const whole = node.kind === "block" || node.kind === "module";
  const sizes = [node.size, ...(whole ? node.groups.map((name) => legend.get(name)?.size ?? [0, 0]) : [])];
  return sizes.flatMap((size) => [String(size[0]), String(size[1]), `${size[0]}→${size[1]}`]).filter((text) => text !== "0");
}

function fits(node, word, edges) { // whether a box answers to "new", "pinned", "grows", "stays" or "kernel"
  const whole = node.kind === "block" || node.kind === "module";
  const holds = (paths) => whole && paths.some((path) => node.paths.some((one) => under(one, path)));
  if (word === "new") return node.new || holds(news()) || looped(node, edges);
  if (word === "kernel") return Boolean(node.kernel) || holds(enlarged()) || edges.some((edge) => edge.target === node.key && edge.label.includes("→"));
  return node.state === word || (whole && node.groups.some((name) => legend.get(name)?.state === word));
}

const news = () => data.changes.filter((entry) => entry.new).map((entry) => entry.name);
const enlarged = () => data.changes.filter((entry) => entry.kind === "kernel").map((entry) => entry.name);

function looped(node, edges) { // whether a width has new layers, which are an arrow there and no box
  return edges.some((edge) => edge.when === "after" && edge.label.startsWith("new: ") && edge.source === node.key);
}

function made(node, query, edges) { // whether a layer with such a kernel makes a width: it is an arrow there and no box
  return query.includes("×") && edges.some((edge) => edge.target === node.key && edge.label.includes(query));
}

function answers(node, query, edges = shown.edges) {
  if (!node.segment && STATES.includes(query) && fits(node, query, edges)) return true;
  if (made(node, query, edges)) return true;
  if (!node.segment && /^\d+(→\d+)?$/.test(query) && sized(node).includes(query)) return true;
  if (node.segment) return false; // of a spine, its first box
  return arrows([node.key, node.path, node.what, ...(node.inside ?? []), ...node.paths].join("\n").toLowerCase()).includes(query);
}

function elsewhere(query) { // the first other level with boxes that answer: "; 20 at layers"
  for (const [level, { nodes, edges }] of Object.entries(data.levels)) {
    if (level === state.level) continue;
    const number = nodes.filter((node) => (after() || !node.new) && answers(node, query, edges)).length;
    if (number) return `; ${number.toLocaleString("en")} at ${level}`;
  }
  return "";
}

function search() {
  const query = arrows(state.query.trim().toLowerCase());
  hits = query ? shown.nodes.map((node, i) => (answers(node, query) ? i : -1)).filter((i) => i >= 0) : [];
  const found = new Set(hits);
  shown.nodes.forEach((_, i) => element(i)?.classList.toggle("hit", found.has(i)));
  $("hits").textContent = query ? `${hits.length} found${hits.length ? "" : elsewhere(query)}` : "";
  next = -1;
  if (query && hits.length) reveal(hits[0]);
}

function follow(step = 1) { // to the next hit, or the one before
  if (!hits.length) return;
  next = (Math.max(next, step < 0 ? 0 : -1) + step + hits.length) % hits.length;
  reveal(hits[next]);
  element(hits[next])?.focus();
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
    Enter: () => (hits.includes(i) && (node.module || node.opens) ? open(node) : choose(node)), // what is sought is inside
    " ": () => choose(node),
    e: () => fold(node),
    Escape: escape,
  };
  if (!moves[event.key] || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  event.stopPropagation();
  moves[event.key]();
}

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input[type=search]") || event.ctrlKey || event.metaKey || event.altKey) return;
  const keys = { "/": () => $("search").focus(), b: () => before(!after()), t: () => $("theme").click(), 0: () => $("fit").click(),
    Escape: escape, "+": () => $("larger").click(), "-": () => $("smaller").click(), c: () => $("collapse").click(), x: () => $("expand").click(),
    o: () => only(!state.only), n: () => follow(), N: () => follow(-1) };
  const level = Object.keys(data.levels)[Number(event.key) - 1];
  if (level) { event.preventDefault(); change(level); }
  else if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});

function escape() {
  if (graphviz.asked && settled) stop();
  else clear();
}

function before(now) {
  if (!data.grows) return;
  state.when = now ? "after" : "before";
  document.querySelector(`input[name=when][value=${state.when}]`).checked = true;
  render();
}

function only(now) {
  if (!data.grows) return;
  state.only = now;
  $("only").querySelector("input").checked = now;
  return render().then(begin);
}

function change(level) {
  forget();
  state.level = level;
  state.chosen = null;
  state.collapsed[level] ??= new Set(data.levels[level].nodes.length > LARGE ? homes() : []);
  document.querySelector(`input[name=level][value=${level}]`).checked = true;
  $("details").replaceChildren(hint.cloneNode(true));
  return render().then(() => { if (state.level === level) begin(); });
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
  look();
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
addEventListener("resize", () => { if (state.fitted) fit(); else look(); });
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
$("when").hidden = $("only").hidden = !data.grows;
$("only").querySelector("input").addEventListener("change", (event) => only(event.target.checked));
$("when").style.display = data.grows ? "" : "none";
$("search").addEventListener("input", () => { state.query = $("search").value; search(); });
$("search").addEventListener("keydown", (event) => {
  if (event.key === "Enter") follow();
  if (event.key === "Escape") { $("search").value = state.query = ""; search(); $("search").blur(); clear(); }
});
$("collapse").addEventListener("click", () => { state.collapsed[state.level] = homes(); opened().clear(); render(); });
$("expand").addEventListener("click", () => { state.collapsed[state.level] = new Set(); openAll(); render(); });
$("stop").addEventListener("click", stop);
const darkly = matchMedia("(prefers-color-scheme: dark)");
const dark = (now) => { $("theme").textContent = now ? "Light" : "Dark"; document.documentElement.classList.toggle("dark", now); };
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
  button.addEventListener("click", () => keepLit(swatch.name));
  item.append(button);
  $("legend").querySelector("ul").append(item);
}
const written = { change: "8→12", times: "×3", module: "▸" }; // the other signs are drawn
for (const [name, meaning] of Object.entries(data.signs)) {
  if (!data.grows && ["new", "grows", "change", "kernel"].includes(name)) continue;
  const item = make("li");
  item.append(make("span", written[name], { class: `sign ${written[name] ? "written" : name}`, "aria-hidden": "true" }), make("span", meaning));
  $("signs").querySelector("ul").append(item);
}
if (data.data) { $("colour").append(make("option", data.data.name, { value: "data" })); $("colour").value = state.colour = "data"; }
if (!data.grows) $("colour").querySelector("[value=factor]").remove();
$("colour").addEventListener("change", () => { state.colour = $("colour").value; render(); });
strip();
state.listed = first();
enlist();
$("order").addEventListener("change", () => { state.order = $("order").value; enlist(); });
visit().then((asked) => asked || change(state.level));
