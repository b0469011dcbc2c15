// Print: the picture at a size that reads, cut into pages where no box is cut, one column of pages after the other.

const PAGE = [186, 245].map((mm) => mm * 72 / 25.4); // of A4 and of Letter within margins of 12 mm, less a caption
const LEAST = 7 / 9; // the smallest text of a picture has 9 points, on paper at least 7

// Where to cut a length into parts of a limit: before what would be cut through, unless that leaves hardly anything.
function cuts(spans, length, first, limit) {
  const found = [0];
  for (let room = first; length - found.at(-1) > room; room = limit) {
    const start = found.at(-1), end = start + room;
    const clear = (at) => !spans.some(([from, to]) => from < at && at < to);
    const gaps = spans.map(([from]) => from - 1).filter((at) => at > start + room / 3 && at <= end && clear(at));
    found.push(gaps.length ? Math.max(...gaps) : end);
  }
  return [...found, length];
}

function tiles() {
  const [, , width, height] = picture().getAttribute("viewBox").split(" ").map(Number);
  const scale = Math.min(1, Math.max(PAGE[0] / width, LEAST));
  const at = picture().querySelector("g.graph").transform.baseVal.consolidate().matrix;
  const spans = boxes.filter(Boolean).map((box) => box.querySelector("path, polygon, ellipse").getBBox());
  const across = cuts(spans.map(({ x, width }) => [x + at.e - 2, x + at.e + width + 2]), width, PAGE[0] / scale, PAGE[0] / scale);
  const down = cuts(spans.map(({ y, height }) => [y + at.f - 2, y + at.f + height + 2]), height, PAGE[1] / scale * 0.85, PAGE[1] / scale); // the first page has the title
  const found = [];
  for (let i = 1; i < across.length; i += 1) for (let j = 1; j < down.length; j += 1) {
    const [x, y, w, h] = [across[i - 1], down[j - 1], across[i] - across[i - 1], down[j] - down[j - 1]];
    const tile = make("figure");
    const part = picture().cloneNode(true);
    part.setAttribute("viewBox", `${x} ${y} ${w} ${h}`);
    part.setAttribute("width", `${w * scale}pt`);
    part.setAttribute("height", `${h * scale}pt`);
    part.classList.remove("lit");
    tile.append(part);
    if (across.length > 2) tile.prepend(make("figcaption", `column ${i} of ${across.length - 1}, page ${j} of ${down.length - 1}`));
    found.push(tile);
  }
  return found;
}

addEventListener("beforeprint", () => { if (picture()) $("print").replaceChildren(...tiles()); });
addEventListener("afterprint", () => $("print").replaceChildren());
