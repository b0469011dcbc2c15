// What a picture is made of, for the small layout engine of notebooks: boxes with the sizes of their text, and arrows.

const described = (next) => (small ? spec(next) : dot(next));

function spec({ nodes, edges }) {
  const index = new Map(nodes.map((node, i) => [node.key, i])), { hanging, alone } = loose({ nodes, edges });
  const homes = [...new Set(nodes.map((node) => node.home).filter(Boolean))];
  return JSON.stringify({
    boxes: nodes.map((node) => {
      const font = node.quiet ? 9 : 11, what = named(node), path = node.segment ? "" : short(own(node));
      const lines = [[arrow(node.size), 11, true], [what, font], [path, 9]].filter(([text]) => text);
      if (!lines.length) lines.push([node.key, font]);
      return { lines, width: 72 * room(node), round: node.kind === "join", twice: Boolean(node.new), home: homes.indexOf(node.home), kernel: larger(node) ? node.kernel : null };
    }),
    homes,
    below: alone.slice(ROW).map((node, i) => [index.get(alone[i].key), index.get(node.key)]), // without an arrow
    arrows: edges.map((edge) => {
      const factor = edge.skip && edge.back, text = timed(edge.label) || pick(edge.shapes);
      return { from: index.get(edge.source), to: index.get(edge.target), text: edge.spine ? "" : text, wide: text ? textOf(text) : 0, back: edge.back && !factor,
        head: !factor && !edge.spine, free: factor && !hanging.has(edge.source), up: factor && hanging.has(edge.source), spine: edge.spine,
        weight: edge.spine ? 100 : edge.skip || edge.quiet ? 1 : edge.main ? 40 : 4 };
    }),
    sign: SIGN, colour: NEW,
  });
}

function textOf(text) { // the width of a label, in points
  ruler.font = "9px Helvetica, Arial, sans-serif";
  return ruler.measureText(text).width;
}
