// Boxes that open in place: at `groups` and `blocks` a box may stand for several, which take its place when it is opened.

const chains = {}; // per level: { nodes, edges, into } from what it shows at first to what nothing is folded in

function chain(level) {
  if (chains[level]) return chains[level];
  const found = [data.levels[level]];
  for (let { parts } = found[0]; parts; { parts } = parts) found.push({ ...(parts.level ? data.levels[parts.level] : parts), into: parts.into });
  found.forEach((one, depth) => { // what each box stands for, one step down
    one.inside = new Map();
    if (depth + 1 < found.length) for (const [key, box] of Object.entries(found[depth + 1].into)) one.inside.set(box, [...(one.inside.get(box) ?? []), key]);
    one.byKey = new Map(one.nodes.map((node) => [node.key, node]));
  });
  return (chains[level] = found);
}

const opened = () => (state.opened[state.level] ??= new Set());
const mark_of = (depth, key) => `${depth} ${key}`;

function inPlace() { // the boxes and arrows of the level, with what is opened
  const steps = chain(state.level), last = steps.length - 1;
  if (!last) return steps[0];
  const nodes = [], shownAt = steps.map(() => new Map()); // per depth: the visible box of each box
  const put = (depth, key, above) => {
    const node = steps[depth].byKey.get(key), inside = steps[depth].inside.get(key) ?? [];
    const opens = depth < last && (inside.length > 1 || (inside.length && descendants(steps, depth, key).length > 1));
    if (opens && opened().has(mark_of(depth, key))) {
      let [at, under] = [depth + 1, inside];
      for (; under.length === 1 && at < last; at += 1) under = steps[at].inside.get(under[0]); // the same box, a step down
      under.forEach((one) => put(at, one, { depth, key, path: node.path }));
      return;
    }
    const box = { ...node, depth, opens: Boolean(opens), above, home: above && state.level !== "groups" ? above.path : "" };
    nodes.push(box);
    shownAt[depth].set(key, box);
    let under = [key];
    for (let at = depth; at < last; at += 1) {
      under = under.flatMap((one) => steps[at].inside.get(one) ?? []);
      for (const one of under) shownAt[at + 1].set(one, box);
    }
  };
  for (const node of steps[0].nodes) put(0, node.key, null);
  const order = new Map(steps[last].nodes.map((node, i) => [node.key, i]));
  const place = new Map(nodes.map((node) => [node, Math.min(...descendants(steps, node.depth, node.key).map((key) => order.get(key)))]));
  nodes.sort((a, b) => place.get(a) - place.get(b)); // in the order of the model
  const edges = steps.flatMap((step, depth) => step.edges.flatMap((edge) => { // at the depth of the deeper of its boxes
    const ends = [shownAt[depth].get(edge.source), shownAt[depth].get(edge.target)];
    return ends[0] && ends[1] && Math.max(ends[0].depth, ends[1].depth) === depth ? [{ ...edge, source: ends[0].key, target: ends[1].key, folds: ends[0] === ends[1] && edge.source !== edge.target }] : [];
  }));
  return { nodes, edges: edges.filter((edge) => !edge.folds) };
}

function descendants(steps, depth, key) {
  let under = [key];
  for (let at = depth; at < steps.length - 1; at += 1) under = under.flatMap((one) => steps[at].inside.get(one) ?? []);
  return under;
}

function openBox(node) {
  opened().add(mark_of(node.depth, node.key));
  state.chosen = null;
  return render(chain(state.level)[node.depth].inside.get(node.key)[0]);
}

function closeBox({ depth, key }) { // and all that is open in it
  const steps = chain(state.level);
  let under = [key];
  for (let at = depth; at < steps.length; at += 1) {
    for (const one of under) opened().delete(mark_of(at, one));
    under = under.flatMap((one) => steps[at].inside.get(one) ?? []);
  }
  state.chosen = null;
  return render(key);
}

function openAll() {
  for (const [depth, step] of chain(state.level).entries()) for (const key of step.inside.keys()) opened().add(mark_of(depth, key));
}

function fold(node) { // opens or closes what a box belongs to
  if (node.opens) return openBox(node);
  if (node.above) return closeBox(node.above);
  return toggle(node.module || node.home);
}
