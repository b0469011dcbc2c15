// Colours by a measure: the growth factor, parameters, FLOPs or the user's data, from pale to strong, in at most five steps.

const NAMES = { factor: "growth factor", parameters: "parameters", flops: "FLOPs" };

function measure(node) { // of a box, or null
  if (state.colour === "factor") return !node.new && node.size[0] ? node.size[1] / node.size[0] : null;
  if (state.colour === "data") return valued(node)?.value ?? null;
  return pick(node[state.colour]) || null;
}

function valued(node) { // the user's number: its own, else the largest inside, else that of the nearest module around
  const given = data.data?.values ?? {};
  const mine = [node.key, node.group === node.path ? node.group : "", node.path, ...node.paths].filter((name) => Object.hasOwn(given, name));
  const holds = node.kind === "block" || node.kind === "module" || node.kind === "group";
  const inside = holds ? Object.keys(given).filter((name) => [node.path, ...node.paths, ...(node.kind === "group" ? node.inside : [])].some((path) => path && under(name, path))) : [];
  const names = [...new Set([...mine, ...inside])];
  if (names.length) return { value: Math.max(...names.map((name) => given[name])), of: names.length };
  const around = prefixes(node.path || "").reverse().find((name) => Object.hasOwn(given, name));
  return around === undefined ? null : { value: given[around], of: 1 };
}

function scale(values) { // the steps: { low, high, paint }
  const steps = data.ramp.length;
  const distinct = [...new Set(values)].sort((a, b) => a - b);
  const paint = (i, of) => data.ramp[of === 1 ? steps >> 1 : Math.round(i * (steps - 1) / (of - 1))];
  if (distinct.length <= steps) return distinct.map((value, i) => ({ low: value, high: value, paint: paint(i, distinct.length) }));
  const [least, most] = [distinct[0], distinct.at(-1)];
  const log = least > 0 && most / least > 20;
  const at = (part) => (log ? least * (most / least) ** part : least + (most - least) * part);
  return data.ramp.map((_, i) => ({ i, inside: distinct.filter((value) => step(value, at, steps) === i) })).filter(({ inside }) => inside.length)
    .map(({ i, inside }) => ({ low: inside[0], high: inside.at(-1), paint: data.ramp[i] }));
}

function step(value, at, steps) {
  for (let i = 1; i < steps; i += 1) if (value < at(i / steps)) return i - 1;
  return steps - 1;
}

function recolour() { // after the picture is dressed
  const plain = state.colour === "width";
  $("legend").hidden = !plain;
  $("scale").hidden = plain;
  if (plain) return;
  const values = shown.nodes.map(measure);
  const steps = scale(values.filter((value) => value !== null));
  shown.nodes.forEach((_, i) => {
    const box = boxes[i], found = steps.find(({ low, high }) => values[i] !== null && values[i] >= low && values[i] <= high);
    if (!box) return;
    box.classList.toggle("plain", !found);
    if (found) paint(box, found.paint);
    else box.classList.remove("c");
  });
  $("scale").querySelector("h3").textContent = caption();
  $("scale").querySelector("ul").replaceChildren(...steps.map((one) => line(one, values)));
}

function caption() {
  if (state.colour === "data") return data.data.name;
  const total = data.totals[state.colour];
  return NAMES[state.colour] + (total ? `: ${growth(total)} in all` : "");
}

function line({ low, high, paint: colours }, values) {
  const item = make("li"), swatch = make("span", "", { class: "swatch" });
  paint(swatch, colours);
  const text = state.colour === "factor" ? times : brief;
  const number = values.filter((value) => value !== null && value >= low && value <= high).length;
  const range = text(low) === text(high) ? text(low) : `${text(low)} – ${text(high)}`;
  item.append(swatch, make("span", range), make("span", `${number} ${number === 1 ? "box" : "boxes"}`, { class: "number" }));
  return item;
}
