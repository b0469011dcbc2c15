// Above the picture: what growth costs in all, and how many of each kind of change there are. Each figure fills the list.

const KINDS = { // [of one, of several, what is listed]
  width: ["width grows", "widths grow"], input: ["input grows", "inputs grow"], output: ["output grows", "outputs grow"],
  layer: ["new layer", "new layers"], block: ["new block", "new blocks"], kernel: ["larger kernel", "larger kernels"],
  pinned: ["pinned", "pinned"], left: ["left as it is", "left as they are"],
};
const GROWN = ["width", "input", "output"];
const CHANGED = [...GROWN, "layer", "block", "kernel"];

const units = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

function brief(number) { // 1038090240 as "1.04 G"
  const sign = number < 0 ? "−" : "", size = Math.abs(number);
  if (size >= 999.5e12) return sign + size.toExponential(2).replace("e+", "e"); // of data of a user
  for (const [unit, letter] of units) if (size >= unit * 0.9995) return `${sign}${(size / unit).toPrecision(3)} ${letter}`;
  return sign + (Number.isInteger(size) ? String(size) : String(Number(size.toPrecision(3))));
}

const times = (ratio) => `×${ratio >= 100 ? Math.round(ratio) : Number(ratio.toPrecision(3))}`;

function growth([old, now]) { // "462 M → 1.04 G"
  return old === now || !data.grows ? brief(now) : `${brief(old)} → ${brief(now)}`;
}

function ratio([old, now]) {
  return data.grows && old && old !== now ? times(now / old) : "";
}

function chip(list, value, text, more = "") {
  const button = make("button", "", { type: "button", "data-list": list, "aria-pressed": "false" });
  button.append(make("b", value), ` ${text}`);
  if (more) button.append(make("span", more, { class: "ratio" }));
  button.addEventListener("click", () => enlist(state.listed === list ? first() : list));
  return button;
}

function strip() {
  const parts = [];
  for (const [name, text] of [["parameters", "parameters"], ["flops", "FLOPs"]]) {
    const pair = data.totals[name];
    if (pair && pair[1]) parts.push(chip(name, growth(pair), text, ratio(pair)));
    else parts.push(make("span", `${text}: not known`, { class: "unknown" }));
  }
  const number = (kinds) => data.changes.filter((entry) => kinds.includes(entry.kind)).length;
  if (data.grows) {
    const grown = number(GROWN), all = data.legend.length;
    const counted = `${grown}${data.alone ? "" : ` of ${all}`}`;
    parts.push(chip("grown", counted, `${(data.alone ? grown : all) === 1 ? "width" : "widths"} ${grown === 1 ? "grows" : "grow"}`));
  } else parts.push(make("span", data.legend.length === 1 ? "1 width" : `${data.legend.length} widths`, { class: "unknown" }));
  for (const kind of ["input", "output", "layer", "block", "kernel", "pinned", "left"]) {
    const found = number([kind]);
    if (found) parts.push(chip(kind, String(found), KINDS[kind][found === 1 ? 0 : 1]));
  }
  $("strip").replaceChildren(...parts);
}
