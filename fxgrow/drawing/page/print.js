// Print: the picture at a size that reads, cut into pages where no box is cut, one column of pages after the other.

const PAGE = [186, 245].map((mm) => mm * 72 / 25.4); // of A4 and of Letter within margins of 12 mm, less a caption
const LEAST = 7 / 9; // the smallest text of a picture has 9 points, on paper at least 7

// A length in parts of a limit: each ends before what would be cut through. Where that leaves hardly anything, the next
// part begins with what this one cuts, so that each box is whole in one of them.
function cuts(spans, length, first, limit) {
  const found = [];
  let start = 0;
  for (let room = first; length - start > room; room = limit) {
    const end = start + room, least = start + room / 3;
    const cut = (at) => spans.filter(([from, to]) => from < at && at < to);
    const gaps = spans.map(([from]) => from - 1).filter((at) => at > least && at <= end && !cut(at).length);
    found.push([start, gaps.length ? Math.max(...gaps) : end]);
    start = gaps.length ? Math.max(...gaps) : Math.min(end, ...cut(end).map(([from]) => from - 1).filter((from) => from > least));
  }
  return [...found, [start, length]];
}

function tiles() {
  const [, , width, height] = picture().getAttribute("viewBox").split(" ").map(Number);
  const scale = Math.min(1, Math.max(PAGE[0] / width, LEAST));
  const at = picture().querySelector("g.graph").transform.baseVal.consolidate().matrix;
  const spans = boxes.filter(Boolean).map((box) => box.querySelector("path, polygon, ellipse").getBBox());
  const across = cuts(spans.map(({ x, width }) => [x + at.e - 2, x + at.e + width + 2]), width, PAGE[0] / scale, PAGE[0] / scale);
  const down = cuts(spans.map(({ y, height }) => [y + at.f - 2, y + at.f + height + 2]), height, PAGE[1] / scale * 0.85, PAGE[1] / scale); // the first page has the title
  const found = [];
  for (const [i, [x, right]] of across.entries()) for (const [j, [y, low]] of down.entries()) {
    const [w, h] = [right - x, low - y];
    const tile = make("figure");
    const part = picture().cloneNode(true);
    part.setAttribute("viewBox", `${x} ${y} ${w} ${h}`);
    part.setAttribute("width", `${w * scale}pt`);
    part.setAttribute("height", `${h * scale}pt`);
    part.classList.remove("lit");
    tile.append(part);
    if (across.length > 1) tile.prepend(make("figcaption", `column ${i + 1} of ${across.length}, page ${j + 1} of ${down.length}`));
    found.push(tile);
  }
  return found;
}

addEventListener("beforeprint", () => { if (picture()) $("print").replaceChildren(...tiles()); });
addEventListener("afterprint", () => $("print").replaceChildren());
