// Where things are on the screen, and which point is near.
const layouts = data.places.map((place) => squared(place.name, floats(place.data)));
for (const one of layouts) indexed(one);
let layout = layouts[0];

const view = { x: 0.5, y: 0.5, scale: 1, width: 1, height: 1, fit: 1 };
const screenX = (i) => (layout.x[i] - view.x) * view.scale + view.width / 2;
const screenY = (i) => (layout.y[i] - view.y) * view.scale + view.height / 2;
const worldX = (x) => (x - view.width / 2) / view.scale + view.x;
const worldY = (y) => (y - view.height / 2) / view.scale + view.y;

// A grid of cells with a few points each; a point's place in it never changes.
function indexed(one) {
  const cells = Math.max(1, Math.min(512, Math.round(Math.sqrt(one.held / 2))));
  const cell = (value) => Math.min(cells - 1, Math.max(0, Math.floor(value * cells)));
  const start = new Uint32Array(cells * cells + 1);
  const at = (i) => cell(one.y[i]) * cells + cell(one.x[i]);
  for (let i = 0; i < count; i += 1) if (!Number.isNaN(one.x[i])) start[at(i) + 1] += 1;
  for (let c = 0; c < cells * cells; c += 1) start[c + 1] += start[c];
  const items = new Uint32Array(one.held);
  const next = start.slice();
  for (let i = 0; i < count; i += 1) {
    if (Number.isNaN(one.x[i])) continue;
    items[next[at(i)]] = i;
    next[at(i)] += 1;
  }
  Object.assign(one, { cells, cell, start, items });
  apart(one);
}

// The point nearest to a place, in units of the map; -1 for none that is as near as `within`.
function nearest(x, y, within, one = layout, taken = (i) => visible[i]) {
  const column = one.cell(x);
  const row = one.cell(y);
  let [best, found] = [within * within, -1];
  for (let ring = 0; ring < one.cells; ring += 1) {
    const clear = (ring - 1) / one.cells;
    if (clear > 0 && clear * clear > best) break;
    for (let r = Math.max(0, row - ring); r <= Math.min(one.cells - 1, row + ring); r += 1) {
      const edge = Math.abs(r - row) === ring;
      for (let c = column - ring; c <= column + ring; c += edge || ring === 0 ? 1 : 2 * ring) {
        if (c < 0 || c >= one.cells) continue;
        for (let n = one.start[r * one.cells + c]; n < one.start[r * one.cells + c + 1]; n += 1) {
          const i = one.items[n];
          const away = (one.x[i] - x) ** 2 + (one.y[i] - y) ** 2;
          if (away <= best && taken(i)) [best, found] = [away, i];
        }
      }
    }
  }
  return found;
}

// The usual distance between neighbours, from a sample of points, and whether all are as far apart.
function apart(one) {
  const found = [];
  const step = Math.max(1, Math.floor(one.held / 200));
  for (let n = 0; n < one.held; n += step) {
    const i = one.items[n];
    const other = nearest(one.x[i], one.y[i], Infinity, one, (j) => j !== i);
    if (other >= 0) found.push(Math.hypot(one.x[i] - one.x[other], one.y[i] - one.y[other]));
  }
  found.sort((a, b) => a - b);
  one.spacing = found.length ? found[found.length >> 1] : 0.5;
  one.regular = found.length > 1 && found[Math.floor(0.1 * found.length)] > 0.95 * one.spacing;
}

// The whole map with a margin, in which half a thumbnail has room where those are shown.
function showWhole() {
  const fitting = (width, height) => Math.min(width / Math.max(layout.wide, 0.02), height / Math.max(layout.high, 0.02));
  Object.assign(view, { x: 0.5, y: 0.5, scale: fitting(0.94 * view.width, 0.94 * view.height) });
  const picture = Math.min(pictureWidth(), view.width / 3, view.height / 3);
  if (picture) view.scale = fitting(0.98 * view.width - picture, 0.98 * view.height - picture);
  view.fit = view.scale;
}

// Zoom by a factor; what is at (x, y) on the screen stays there.
function zoom(factor, x = view.width / 2, y = view.height / 2) {
  const [left, top] = [worldX(x), worldY(y)];
  view.scale = Math.min(view.fit * 2000, Math.max(view.fit * 0.5, view.scale * factor));
  view.x = left - (x - view.width / 2) / view.scale;
  view.y = top - (y - view.height / 2) / view.scale;
  kept();
}

function move(dx, dy) {
  view.x -= dx / view.scale;
  view.y -= dy / view.scale;
  kept();
}

// The middle of the screen stays on the map.
function kept() {
  view.x = Math.min(1, Math.max(0, view.x));
  view.y = Math.min(1, Math.max(0, view.y));
}
