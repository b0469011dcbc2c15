// The picture as a file of its own, and a link to what is shown: #level=layers&when=after&select=layer3.0

const LOOKS = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "paint-order", "opacity", "font-weight"];

function standalone() { // with its looks in it, not in the styles of the page
  const from = picture(), copy = from.cloneNode(true);
  const [all, those] = [from, copy].map((svg) => [...svg.querySelectorAll("path, polygon, ellipse, text, .node, .edge")]);
  all.forEach((one, i) => {
    const looks = getComputedStyle(one);
    those[i].setAttribute("style", LOOKS.map((name) => `${name}:${looks.getPropertyValue(name)}`).join(";"));
  });
  const [x, y, width, height] = copy.getAttribute("viewBox").split(" ");
  const ground = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of Object.entries({ x, y, width, height, fill: getComputedStyle(document.body).backgroundColor })) ground.setAttribute(name, value);
  copy.prepend(ground);
  const [wide, high] = natural();
  copy.setAttribute("width", wide);
  copy.setAttribute("height", high);
  for (const name of ["tabindex", "role"]) copy.querySelectorAll(`[${name}]`).forEach((one) => one.removeAttribute(name));
  return new XMLSerializer().serializeToString(copy);
}

function save(blob, suffix) {
  const link = make("a", "", { href: URL.createObjectURL(blob), download: `${data.title.split(":")[0]}_${state.level}_${state.when}.${suffix}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const LARGEST = 8000; // pixels of a side: more than this many a canvas may not have

async function savePng() {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(standalone())}`;
  await image.decode();
  const [wide, high] = natural(), scale = Math.min(2, LARGEST / wide, LARGEST / high);
  const canvas = make("canvas", "", { width: Math.ceil(wide * scale), height: Math.ceil(high * scale) });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  canvas.toBlob((blob) => save(blob, "png"), "image/png");
}

function linked() { // the view in the address
  const chosen = shown.nodes.find((node) => node.key === state.chosen);
  const view = new URLSearchParams({ level: state.level, ...(data.grows ? { when: state.when } : {}), ...(chosen ? { select: chosen.path || chosen.key } : {}) });
  location.hash = view;
}

async function visit() { // what the address asks for; true if it asks for anything
  const view = new URLSearchParams(location.hash.slice(1));
  const level = view.get("level") ?? state.level, select = view.get("select");
  if (!Object.hasOwn(data.levels, level) || ![...view.keys()].some((key) => ["level", "when", "select"].includes(key))) return false;
  if (data.grows && view.has("when")) state.when = view.get("when") === "before" ? "before" : "after";
  document.querySelector(`input[name=when][value=${state.when}]`).checked = true;
  await change(level);
  if (select) await jump({ name: select, group: "", new: data.levels[level].nodes.find((node) => node.path === select)?.new ?? false });
  return true;
}

$("svg").addEventListener("click", () => save(new Blob([standalone()], { type: "image/svg+xml" }), "svg"));
$("png").addEventListener("click", savePng);
$("link").addEventListener("click", linked);
$("link").hidden = location.protocol === "about:"; // a frame in a notebook has no address
addEventListener("hashchange", visit);
