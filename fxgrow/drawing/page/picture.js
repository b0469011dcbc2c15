// The picture: laid out, made to answer to the pointer and the keys, and lit up.

let turn = 0;

async function render(keep = null) { // the key of the box that gets the focus
  const mine = ++turn;
  const next = visible(), text = described(next);
  if (!layouts.has(text)) {
    const quiet = busy(next.nodes.length);
    const found = await lay(text);
    clearInterval(quiet);
    if (found?.svg) {
      layouts.set(text, found.svg);
      document.body.dataset.layoutMs = Math.round(found.ms);
    }
    if (mine !== turn) return;
    if (found?.error) { $("busy").firstChild.textContent = failed(found.error, next.nodes.length); return; }
  } else stopLaying();
  $("busy").hidden = true;
  $("empty").hidden = next.nodes.length > 0;
  const svg = new DOMParser().parseFromString(layouts.get(text), "image/svg+xml").documentElement;
  svg.querySelectorAll("title").forEach((title) => title.remove());
  svg.setAttribute("role", "group");
  svg.setAttribute("aria-label", `${data.title}, ${state.level}, ${state.when} growth`);
  const focused = state.level === settled?.level ? boxes.indexOf(document.activeElement) : -1;
  keep ??= shown.nodes[focused]?.key;
  const held = state.level === settled?.level ? anchor(next) : null;
  shown = next;
  settled = { level: state.level, closed: new Set(state.collapsed[state.level]) };
  $("picture").replaceChildren(document.importNode(svg, true));
  const ids = new Map([...picture().querySelectorAll("g[id]")].map((one) => [one.id, one]));
  boxes = shown.nodes.map((_, i) => ids.get(`n${i}`));
  lines = shown.edges.map((_, i) => ids.get(`e${i}`));
  dress();
  recolour();
  document.body.dataset.shown = `${state.level} ${state.when}`;
  if (state.fitted) fit();
  else zoom(state.zoom);
  if (held) hold(held);
  look();
  aside();
  search();
  choice();
  boxes[keep ? shown.nodes.findIndex((node) => node.key === keep) : -1]?.focus();
  modules();
  widths();
}

function failed(error, number) {
  return small ? `${number.toLocaleString("en")} boxes are too many for the layout engine of a notebook (${error}). Draw a file, which has a larger one: fxgrow.draw(…, "page.html")` : `Graphviz failed: ${error}`;
}

const centre = (one) => { const { left, top, width, height } = one.getBoundingClientRect(); return [left + width / 2, top + height / 2]; };

function anchor(next) { // the box nearest to the middle of the window that the next picture has, too, and where it is
  const [x, y] = centre($("stage")), keys = new Set(next.nodes.map((node) => node.key));
  let nearest = null, least = Infinity;
  shown.nodes.forEach((node, i) => {
    if (!boxes[i] || !keys.has(node.key)) return;
    const at = centre(boxes[i]), far = Math.hypot(at[0] - x, at[1] - y);
    if (far < least) [nearest, least] = [{ key: node.key, at }, far];
  });
  return nearest;
}

function hold({ key, at }) { // the picture stays where it was
  const box = boxes[shown.nodes.findIndex((node) => node.key === key)];
  if (!box) return;
  const now = centre(box);
  $("stage").scrollBy(now[0] - at[0], now[1] - at[1]);
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
  const frames = [...$("picture").querySelectorAll(".cluster")].map((box) => [box, box.querySelector("path, polygon").getBBox()]);
  shown.nodes.forEach((node, i) => {
    const box = boxes[i];
    if (!box) return;
    const swatch = legend.get(node.group);
    box.classList.add(node.kind);
    box.querySelectorAll("text").forEach((line) => { line.setAttribute("text-anchor", "middle"); line.setAttribute("x", shapes[i].x + (shapes[i].width - (larger(node) ? SIGN + 10 : 0)) / 2); });
    box.querySelectorAll(`polygon[fill="${NEW}"]`).forEach((one) => one.classList.add("was"));
    box.querySelectorAll(`polygon[fill=none][stroke="${NEW}"]`).forEach((one) => one.classList.add("becomes"));
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
    box.addEventListener("dblclick", () => fold(node));
    box.addEventListener("keydown", (event) => walk(event, node, i));
  });
  shown.edges.forEach((edge, i) => {
    const line = lines[i];
    if (!line) return;
    if (edge.skip || edge.quiet) line.classList.add("skip");
    if (edge.skip && edge.back) line.classList.add("factor");
    if (edge.new) line.classList.add("new");
    if (edge.spine) { line.classList.add("spine"); paint(line, legend.get(shown.nodes.find((node) => node.key === edge.source).group)); }
    if (edge.label.includes("→") && after()) line.classList.add("larger");
    if (edge.past) line.classList.add("past");
    if (edge.tip) tipped(line, edge.tip);
  });
  const names = document.createElementNS("http://www.w3.org/2000/svg", "g"); // of modules, above the arrows
  frames.forEach(([box, frame]) => {
    const text = box.querySelector("text"), home = text?.textContent.trim();
    text?.setAttribute("text-anchor", "start"); // Graphviz guesses how wide it is
    text?.setAttribute("x", frame.x + 8);
    box.setAttribute("data-module", home);
    box.addEventListener("click", () => { if (!moved) foldHome(home); });
    const name = document.createElementNS("http://www.w3.org/2000/svg", "g");
    name.setAttribute("class", "name");
    name.setAttribute("data-module", home);
    name.append(text);
    name.addEventListener("click", () => { if (!moved) foldHome(home); });
    names.append(name);
  });
  picture().querySelector("g.graph").append(names);
  chart(shapes);
}

function paint(box, swatch) {
  box.classList.add("c");
  for (const name of ["fill", "line"]) swatch[name].forEach((colour, i) => box.style.setProperty(`--${name}-${i}`, colour));
}

function light(groups, node = null) {
  const svg = picture();
  if (!svg) return;
  if (!groups && state.kept) groups = [state.kept];
  svg.classList.toggle("lit", Boolean(groups && groups.length));
  const lit = new Set(groups || []);
  const beside = new Set(); // where each width is one box, its neighbours read it
  if (state.level === "groups") for (const edge of shown.edges) {
    if (edge.source === node?.key) beside.add(edge.target);
    if (edge.target === node?.key) beside.add(edge.source);
  }
  const near = shown.nodes.map((one) => one === node || beside.has(one.key) || one.groups.some((name) => lit.has(name)));
  const on = shown.nodes.map((one) => one === node || [...lit].some((name) => isOf(one, name))); // it makes or hands on the width; the others read it
  const index = new Map(shown.nodes.map((one, i) => [one.key, i]));
  shown.nodes.forEach((_, i) => { element(i)?.classList.toggle("on", on[i]); element(i)?.classList.toggle("near", near[i] && !on[i]); });
  shown.edges.forEach((edge, i) => {
    const [from, to] = [index.get(edge.source), index.get(edge.target)];
    const touched = (on[from] && near[to]) || (beside.size && on[to] && near[from]);
    lines[i]?.classList.toggle("on", Boolean(touched));
  });
  if (groups && groups.length && !state.chosen) describe(node || { kind: "width", path: groups[0], groups, group: groups[0], size: legend.get(groups[0]).size, inside: [] }, !node && groups[0] === state.kept);
  else if (!groups && !state.chosen) $("details").replaceChildren(hint.cloneNode(true));
}

const hint = document.querySelector(".hint");
