// The layout engine of notebooks, in the worker: dagre sets the boxes and the bends, and this draws them, as Graphviz does.

globalThis.fxgrowGraphviz = { load: async () => ({ layout: (text) => laidOut(JSON.parse(text)) }) };

const MANY_ARROWS = 400, LONG = 8, ALL = 4000, LINE = { 11: 13.5, 9: 11 };

function laidOut({ boxes, homes, below, arrows, sign, colour }) {
  const many = arrows.length > MANY_ARROWS; // then without the frames of modules, which take most of the time
  const graph = new dagre.graphlib.Graph({ multigraph: true, compound: true });
  graph.setGraph({ ranksep: 26, nodesep: 18, edgesep: 9, marginx: 8, marginy: 8, ranker: many ? "longest-path" : "network-simplex" });
  boxes.forEach((box, i) => {
    box.height = Math.max(22, box.lines.reduce((sum, [, size]) => sum + LINE[size], 8), box.kernel ? sign + 10 : 0) * (box.round ? 1.25 : 1);
    graph.setNode(`n${i}`, { width: box.width + (box.twice ? 8 : 0), height: box.height + (box.twice ? 8 : 0) });
  });
  if (!many) homes.forEach((home, i) => graph.setNode(`c${i}`, {}));
  boxes.forEach((box, i) => { if (box.home >= 0 && !many) graph.setParent(`n${i}`, `c${box.home}`); });
  below.forEach(([a, b], i) => graph.setEdge(`n${a}`, `n${b}`, { weight: 0 }, `below ${i}`));
  besideOthers(boxes.length, arrows);
  arrows.forEach((arrow, i) => {
    if (arrow.free || arrow.beside) return;
    const ends = [`n${arrow.from}`, `n${arrow.to}`];
    arrow.turned = (arrow.back || arrow.up) && arrow.from !== arrow.to; // from the upper box, so that it does not affect the ranks
    if (arrow.turned) ends.reverse();
    const label = arrow.text ? { width: arrow.wide + 8, height: 11, labelpos: "r", labeloffset: 3 } : {};
    graph.setEdge(...ends, { weight: arrow.weight, ...label }, `e${i}`);
  });
  dagre.layout(graph, { disableOptimalOrderHeuristic: many });
  return written(graph, { boxes, homes, arrows, sign, colour });
}

// Dagre bends an arrow at each row that it passes: the concatenations of a DenseNet pass 40,000. Where all arrows pass more
// than ALL, the long ones are left out of the layout, and drawn beside it.
function besideOthers(number, arrows) {
  const into = Array.from({ length: number }, () => []), from = Array.from({ length: number }, () => []);
  for (const arrow of arrows) {
    if (arrow.free || arrow.back || arrow.up || arrow.from === arrow.to) continue;
    into[arrow.to].push(arrow);
    from[arrow.from].push(arrow);
  }
  const row = Array(number).fill(0), missing = into.map((some) => some.length);
  const ready = missing.flatMap((some, i) => (some ? [] : [i]));
  while (ready.length) {
    const at = ready.pop();
    for (const { to } of from[at]) {
      row[to] = Math.max(row[to], row[at] + 1);
      if (!(missing[to] -= 1)) ready.push(to);
    }
  }
  const long = from.flat().map((arrow) => [arrow, row[arrow.to] - row[arrow.from]]).filter(([, passed]) => passed > LONG);
  if (long.reduce((sum, [, passed]) => sum + passed, 0) < ALL) return;
  const left = [from.map((some) => some.length), into.map((some) => some.length)];
  for (const [arrow] of long) {
    if (left[0][arrow.from] < 2 || left[1][arrow.to] < 2) continue; // it alone says where its box is
    left[0][arrow.from] -= 1;
    left[1][arrow.to] -= 1;
    arrow.beside = true;
  }
}

const xml = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const fixed = (number) => Number(number.toFixed(2));

function written(graph, { boxes, homes, arrows, sign, colour }) {
  const place = (key) => graph.node(key), { width, height } = graph.graph();
  let right = width; // of the picture
  const parts = homes.flatMap((home, i) => (place(`c${i}`) ? cluster(place(`c${i}`), home, i) : []));
  const edges = new Map(graph.edges().map((edge) => [edge.name, graph.edge(edge)]));
  arrows.forEach((arrow, i) => {
    const found = arrow.from === arrow.to ? loop(place(`n${arrow.from}`), arrow.wide) : edges.get(`e${i}`) ?? { points: (arrow.beside ? around : straight)(place(`n${arrow.from}`), place(`n${arrow.to}`)) };
    if (arrow.beside) right = Math.max(right, found.points[1].x + 8);
    parts.push(line(arrow, i, arrow.turned ? [...found.points].reverse() : found.points, found));
  });
  boxes.forEach((box, i) => parts.push(node(box, i, place(`n${i}`), sign, colour)));
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${fixed(right || 16)} ${fixed(height || 16)}"><g class="graph" transform="translate(0 0)">${parts.join("")}</g></svg>`;
}

function frame(x, y, width, height, radius, attributes = "") {
  const [l, t, r, b] = [x - width / 2, y - height / 2, x + width / 2, y + height / 2].map(fixed);
  return `<path ${attributes} d="M${l + radius} ${t}H${r - radius}Q${r} ${t} ${r} ${t + radius}V${b - radius}Q${r} ${b} ${r - radius} ${b}H${l + radius}Q${l} ${b} ${l} ${b - radius}V${t + radius}Q${l} ${t} ${l + radius} ${t}Z"/>`;
}

const words = (text, x, y, size, more = "") => `<text x="${fixed(x)}" y="${fixed(y)}" font-family="Helvetica,Arial,sans-serif" font-size="${size}"${more}>${xml(text)}</text>`;

function cluster({ x, y, width, height }, home, i) {
  if (!width) return [];
  return [`<g id="c${i}" class="cluster">${frame(x, y - 4, width, height + 8, 6, 'fill="none" stroke="black"')}${words(home, x - width / 2 + 6, y - height / 2 + 4, 10)}</g>`];
}

function node(box, i, { x, y }, sign, colour) {
  const round = `<ellipse cx="${fixed(x)}" cy="${fixed(y)}" rx="${fixed(box.width / 2)}" ry="${fixed(box.height / 2)}" stroke="black"/>`;
  const parts = [box.round ? round : frame(x, y, box.width, box.height, 8, 'stroke="black"')];
  if (box.twice) parts.push(frame(x, y, box.width + 8, box.height + 8, 11, 'fill="none" stroke="black"'));
  let at = y - box.lines.reduce((sum, [, size]) => sum + LINE[size], 0) / 2;
  for (const [text, size, bold] of box.lines) {
    at += LINE[size];
    parts.push(words(text, x, at - 0.27 * size, size, `${bold ? ' font-weight="bold"' : ""} text-anchor="middle"`));
  }
  if (box.kernel) {
    const [[a, b], [c, d]] = box.kernel.map((sizes) => [1, ...sizes].slice(-2)), unit = sign / Math.max(...box.kernel[1]);
    const square = (h, w, look) => { const [l, t, r, u] = [x + box.width / 2 - sign / 2 - 6 - w * unit / 2, y - h * unit / 2, x + box.width / 2 - sign / 2 - 6 + w * unit / 2, y + h * unit / 2].map(fixed); return `<polygon ${look} points="${l},${t} ${r},${t} ${r},${u} ${l},${u}"/>`; };
    parts.push(square(a, b, `fill="${colour}"`), square(c, d, `fill="none" stroke="${colour}"`));
  }
  return `<g id="n${i}" class="node">${parts.join("")}</g>`;
}

function straight(a, b) { // between the borders of two boxes
  const cut = (from, to) => {
    const [dx, dy] = [to.x - from.x, to.y - from.y], part = Math.min(from.width / 2 / Math.abs(dx || 1e-9), from.height / 2 / Math.abs(dy || 1e-9));
    return { x: from.x + dx * part, y: from.y + dy * part };
  };
  return [cut(a, b), cut(b, a)];
}

function around(a, b) { // from the right border of a box to that of one far below
  const [from, to] = [a, b].map(({ x, y, width }) => ({ x: x + width / 2, y })), out = Math.max(from.x, to.x) + 14 + Math.abs(to.y - from.y) / 24;
  return [from, { x: out, y: from.y + 8 }, { x: out, y: to.y - 8 }, to];
}

function loop({ x, y, width }, wide) { // from a box to itself, at its right
  const right = x + width / 2;
  return { points: [[0, -6], [12, -11], [20, 0], [12, 11], [0, 6]].map(([dx, dy]) => ({ x: right + dx, y: y + dy })), x: right + 22 + wide / 2, y };
}

function line(arrow, i, points, { x, y }) {
  const size = 6, [last, before] = [points.at(-1), points.at(-2)], far = Math.hypot(last.x - before.x, last.y - before.y) || 1;
  const unit = { x: (last.x - before.x) / far, y: (last.y - before.y) / far };
  const end = arrow.head ? { x: last.x - unit.x * size, y: last.y - unit.y * size } : last;
  const parts = [`<path fill="none" stroke="black"${arrow.spine ? ' stroke-width="5"' : ""} d="${curve([...points.slice(0, -1), end])}"/>`];
  const corner = (side) => `${fixed(end.x - side * unit.y * 2.4)},${fixed(end.y + side * unit.x * 2.4)}`;
  if (arrow.head) parts.push(`<polygon fill="black" stroke="black" points="${corner(1)} ${fixed(last.x)},${fixed(last.y)} ${corner(-1)}"/>`);
  if (arrow.text && x !== undefined) parts.push(words(arrow.text, x - arrow.wide / 2 + 2, y + 3, 9));
  return `<g id="e${i}" class="edge">${parts.join("")}</g>`;
}

function curve(points) { // a uniform cubic B-spline that begins and ends at its first and last point
  const at = (p) => `${fixed(p.x)} ${fixed(p.y)}`, mix = (a, b, c, parts) => ({ x: (a.x * parts[0] + b.x * parts[1] + c.x * parts[2]) / 6, y: (a.y * parts[0] + b.y * parts[1] + c.y * parts[2]) / 6 });
  if (points.length < 3) return `M${at(points[0])}L${at(points.at(-1))}`;
  const zero = { x: 0, y: 0 }, parts = [`M${at(points[0])}L${at(mix(points[0], points[1], zero, [5, 1, 0]))}`];
  for (let i = 1; i < points.length; i += 1) {
    const [a, b, c] = [points[i - 1], points[i], points[i + 1] ?? points[i]];
    parts.push(`C${at(mix(a, b, zero, [4, 2, 0]))} ${at(mix(a, b, zero, [2, 4, 0]))} ${at(mix(a, b, c, [1, 4, 1]))}`);
  }
  return `${parts.join("")}L${at(points.at(-1))}`;
}
