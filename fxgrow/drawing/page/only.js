// "Only what changes": boxes that growth leaves as they are go, and arrows lead past them.

function changes(node) {
  return node.state === "grows" || node.new || node.what.includes("→") || differs(node.parameters) || differs(node.flops);
}

const differs = ([old, now]) => old !== now;

function past({ nodes, edges }) {
  const kept = new Set(nodes.filter(changes).map((node) => node.key));
  const from = new Map();
  for (const edge of edges) {
    if (!from.has(edge.source)) from.set(edge.source, []);
    from.get(edge.source).push(edge);
  }
  const found = new Map(); // "source\ntarget" -> arrow
  const add = (edge) => { if (!found.has(`${edge.source}\n${edge.target}`)) found.set(`${edge.source}\n${edge.target}`, edge); };
  for (const edge of edges) if (kept.has(edge.source) && kept.has(edge.target)) add(edge);
  for (const source of kept) {
    const seen = new Set();
    const ahead = (from.get(source) ?? []).filter((edge) => !edge.back && !kept.has(edge.target)).map((edge) => edge.target);
    while (ahead.length) {
      const key = ahead.pop();
      if (seen.has(key)) continue;
      seen.add(key);
      for (const edge of from.get(key) ?? []) {
        if (edge.back) continue;
        if (!kept.has(edge.target)) ahead.push(edge.target);
        else if (edge.target !== source) add({ ...data.blank.edge, source, target: edge.target, past: true, shapes: ["", ""], label: "", tip: "past what stays" });
      }
    }
  }
  return { nodes: nodes.filter((node) => kept.has(node.key)), edges: [...found.values()] };
}
