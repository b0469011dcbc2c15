// A small map of a picture that is larger than its window: the boxes, and what of them is in the window.

const MAP = [150, 190]; // its largest width and height, pixels

function chart(shapes) { // after the picture is dressed: the frames of its boxes, in the units of the picture
  const svg = picture(), map = $("map");
  const { x, y, width, height } = svg.viewBox.baseVal, at = svg.querySelector("g.graph").transform.baseVal.consolidate().matrix;
  const scale = Math.min(MAP[0] / width, MAP[1] / height);
  for (const [name, value] of Object.entries({ viewBox: `${x} ${y} ${width} ${height}`, width: Math.max(24, width * scale), height: Math.max(24, height * scale) })) map.setAttribute(name, value);
  const drawn = (name) => document.createElementNS("http://www.w3.org/2000/svg", name);
  map.replaceChildren(...shown.nodes.flatMap((node, i) => {
    if (!shapes[i]) return [];
    const box = drawn("rect"), swatch = legend.get(node.group);
    for (const side of ["width", "height"]) box.setAttribute(side, shapes[i][side]);
    box.setAttribute("x", shapes[i].x + at.e);
    box.setAttribute("y", shapes[i].y + at.f);
    if (swatch) paint(box, swatch);
    return [box];
  }));
  const view = drawn("rect");
  view.setAttribute("class", "view");
  map.append(view);
  look();
}

function look() { // where the window is
  const svg = picture(), view = $("map").querySelector(".view");
  if (!svg || !view) return;
  const room = $("stage").getBoundingClientRect(), all = svg.getBoundingClientRect(), part = svg.viewBox.baseVal;
  $("map").toggleAttribute("hidden", all.width <= room.width && all.height <= room.height * 1.1);
  const unit = part.width / all.width, span = (from, to, least, most) => [Math.max(from, least), Math.min(to, most)];
  const [left, right] = span(room.left, room.right, all.left, all.right), [top, bottom] = span(room.top, room.bottom, all.top, all.bottom);
  const frame = { x: part.x + (left - all.left) * unit, y: part.y + (top - all.top) * unit, width: Math.max(0, right - left) * unit, height: Math.max(0, bottom - top) * unit };
  for (const [name, value] of Object.entries(frame)) view.setAttribute(name, value);
}

function aside() { // in the lower corner where it covers fewer boxes
  const map = $("map"), room = $("stage").getBoundingClientRect(), [width, height] = ["width", "height"].map((side) => Number(map.getAttribute(side)) + 20);
  const hidden = (left) => boxes.filter((box) => {
    const at = box?.getBoundingClientRect();
    return at && at.bottom > room.bottom - height && at.top < room.bottom && at.left < left + width && at.right > left;
  }).length;
  const right = hidden(room.left) > hidden(room.left + $("stage").clientWidth - width);
  map.style.left = right ? `${$("stage").clientWidth - width + 10}px` : "";
}

function lead(event) { // the window to a place of the map
  const map = $("map").getBoundingClientRect(), all = picture().getBoundingClientRect(), room = $("stage").getBoundingClientRect();
  const [x, y] = [(event.clientX - map.left) / map.width, (event.clientY - map.top) / map.height];
  $("stage").scrollBy(all.left + x * all.width - room.left - room.width / 2, all.top + y * all.height - room.top - room.height / 2);
}

$("map").addEventListener("pointerdown", (event) => { $("map").setPointerCapture(event.pointerId); lead(event); });
$("map").addEventListener("pointermove", (event) => { if (event.buttons === 1) lead(event); });
$("stage").addEventListener("scroll", look, { passive: true });
