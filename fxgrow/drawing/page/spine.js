// A width that many layers read and write is a spine: its box again for every few of them. As spine.py has it.

const SPOKES = 6, SEGMENT = 4;

const ROW = 2; // boxes without arrows beside each other

function loose({ nodes, edges }) { // { hanging: boxes that are only factors of others, alone: boxes without arrows }
  const ends = (those) => new Set(those.filter((edge) => edge.source !== edge.target).flatMap((edge) => [edge.source, edge.target]));
  const arrows = ends(edges.filter((edge) => !edge.skip)), all = ends(edges);
  return { hanging: new Set(edges.filter((edge) => edge.skip && edge.back && !arrows.has(edge.source)).map((edge) => edge.source)), alone: nodes.filter((node) => !all.has(node.key)) };
}

function spined({ nodes, edges }) {
  const places = new Map(nodes.map((node, i) => [node.key, i])), spokes = new Map();
  for (const edge of edges) {
    if (edge.source === edge.target || edge.back) continue;
    if (!spokes.has(edge.source)) spokes.set(edge.source, new Set());
    spokes.get(edge.source).add(places.get(edge.target));
  }
  const starts = new Map();
  for (const [key, found] of spokes) if (found.size > SPOKES) starts.set(key, [...found].sort((a, b) => a - b).filter((_, i) => i % SEGMENT === 0));
  if (!starts.size) return { nodes, edges };
  const passed = (key, place) => starts.get(key).filter((start) => start <= place).length;
  const segment = (key, number) => (number > 0 ? `${key} / ${number}` : key);
  const moved = edges.map((edge) => {
    let { source, target, back } = edge;
    if (source === target || edge.skip) return edge; // a factor of it
    if (starts.has(source) && !edge.back) source = segment(source, passed(source, places.get(target)) - 1);
    if (starts.has(target) && edge.back) {
      const number = passed(target, places.get(edge.source));
      target = segment(target, number);
      back = number === 0;
    }
    return { ...edge, source, target, back: back && edge.back };
  });
  const used = new Set(moved.flatMap((edge) => [edge.source, edge.target]));
  const joined = [], all = nodes.flatMap((node) => {
    if (!starts.has(node.key)) return [node];
    const parts = [node];
    for (let i = 1; i <= starts.get(node.key).length; i += 1) {
      const key = segment(node.key, i);
      if (i === starts.get(node.key).length && !used.has(key)) break; // no layer writes to it
      parts.push({ ...node, key, what: "", times: 1, opens: false, segment: i });
    }
    parts.slice(1).forEach((part, i) => joined.push({ ...data.blank.edge, source: parts[i].key, target: part.key, main: true, spine: true, tip: `the same width: ${node.key}` }));
    return parts;
  });
  return { nodes: all, edges: [...moved, ...joined] };
}
