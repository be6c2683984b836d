// The canvas.
const canvas = document.getElementById("map");
const brush = canvas.getContext("2d");
const sheets = [];
const state = { hovered: -1, selected: new Uint8Array(count), many: 0, only: -1, path: null, cross: false, pictures: "near" };
let atlas = null;
let waiting = false;
let cost = 0; // milliseconds of the last drawing of every point
let step = 1; // while things move every so many points are drawn, if all take too long
let still = 0;

for (const address of data.thumbnails ? data.thumbnails.sheets : []) {
  const image = new Image();
  image.onload = redraw;
  image.src = address;
  sheets.push(image);
}

// The sheet and the corner of a point's thumbnail; null until the sheet is there.
function thumbnail(i) {
  if (!data.thumbnails) return null;
  const { width, height, columns, rows } = data.thumbnails;
  const sheet = sheets[Math.floor(i / (columns * rows))];
  if (!sheet.complete || !sheet.naturalWidth) return null;
  const n = i % (columns * rows);
  return { sheet, left: (n % columns) * width, top: Math.floor(n / columns) * height, width, height };
}

function mark(to, shape, x, y, r) {
  to.beginPath();
  if (shape === "circle") to.arc(x, y, r, 0, 2 * Math.PI);
  else if (shape === "square") to.rect(x - 0.88 * r, y - 0.88 * r, 1.76 * r, 1.76 * r);
  else {
    const corners = shape === "diamond"
      ? [[0, -1.25], [1.05, 0], [0, 1.25], [-1.05, 0]]
      : [[0, -1.2], [1.15, 0.85], [-1.15, 0.85]];
    corners.forEach(([dx, dy]) => to.lineTo(x + dx * r, y + dy * r));
    to.closePath();
  }
}

// Every mark that can be needed, drawn once and then copied.
function stamped(radius, dense) {
  const key = [radius, dense, mode.key, mode.text, style("--page")].join();
  if (atlas && atlas.key === key) return atlas;
  const size = Math.ceil(2 * (1.25 * radius + 1.5) * dense);
  const made = document.createElement("canvas");
  made.width = 32 * size;
  made.height = 8 * size;
  const to = made.getContext("2d");
  to.strokeStyle = style("--rim");
  to.lineWidth = 0.6 * dense;
  for (let n = 0; n < (mode.words ? OWN + 1 : 256); n += 1) {
    mark(to, shapeOf(n), ((n % 32) + 0.5) * size, (Math.floor(n / 32) + 0.5) * size, radius * dense);
    to.fillStyle = colourOf(n);
    to.fill();
    to.stroke();
  }
  atlas = { key, size, made };
  return atlas;
}

const pointRadius = () => {
  const usual = Math.min(6, Math.max(1.75, 0.3 * view.fit / Math.sqrt(layout.held || 1)));
  const zoomed = usual * Math.min(2.5, Math.max(1, view.scale / view.fit) ** 0.4);
  return Math.round(zoomed * 2) / 2;
};

// How wide thumbnails are on the screen; 0 where points are drawn.
function pictureWidth() {
  if (!data.thumbnails || state.pictures === "never") return 0;
  const { width } = data.thumbnails;
  const seen = (view.scale * 0.55) / Math.sqrt(layout.held || 1) >= 24 || view.scale * layout.spacing >= 14;
  if (!seen && state.pictures === "near") return 0;
  const room = view.scale * layout.spacing * (layout.regular ? 0.92 : 1.2);
  return Math.max(14, Math.min(room, Math.max(64, 2 * width), 128));
}

function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    draw();
  });
}

// The same while the map moves: as many points as can be drawn in time, and all of them when it rests.
function redrawMoving() {
  step = Math.max(1, Math.round(cost / 20));
  clearTimeout(still);
  if (step > 1) {
    still = setTimeout(() => {
      step = 1;
      redraw();
    }, 150);
  }
  redraw();
}

function draw() {
  const began = performance.now();
  const dense = window.devicePixelRatio || 1;
  brush.setTransform(1, 0, 0, 1, 0, 0);
  brush.clearRect(0, 0, canvas.width, canvas.height);
  const width = pictureWidth();
  const some = state.many > 0 || state.only >= 0;
  for (const chosen of some ? [false, true] : [null]) {
    brush.globalAlpha = chosen === false ? 0.2 : 1;
    if (width) drawPictures(width, dense, chosen);
    else drawMarks(dense, chosen);
  }
  brush.globalAlpha = 1;
  brush.setTransform(dense, 0, 0, dense, 0, 0);
  drawOver(width);
  if (step === 1) cost = performance.now() - began;
}

// Whether a point stands out: the class pointed at in the legend, else what is selected.
const lit = (i) => (state.only >= 0 ? mode.of[i] === state.only : state.selected[i] === 1);

function drawMarks(dense, chosen) {
  const { size, made } = stamped(pointRadius(), dense);
  const half = size / 2;
  for (let n = 0; n < count; n += step) {
    const i = order[n];
    if (!visible[i] || (chosen !== null && lit(i) !== chosen)) continue;
    const x = screenX(i) * dense - half;
    const y = screenY(i) * dense - half;
    if (!(x > -size && y > -size && x < canvas.width && y < canvas.height)) continue;
    brush.drawImage(made, (slot[i] % 32) * size, Math.floor(slot[i] / 32) * size, size, size, x, y, size, size);
  }
}

function drawPictures(width, dense, chosen) {
  const wide = width * dense;
  const high = (wide * data.thumbnails.height) / data.thumbnails.width;
  const frame = Math.max(2, Math.min(4, 0.1 * width)) * dense;
  brush.imageSmoothingEnabled = wide < 2 * data.thumbnails.width;
  for (let n = 0; n < count; n += step) {
    const i = order[n];
    if (!visible[i] || (chosen !== null && lit(i) !== chosen)) continue;
    const x = screenX(i) * dense - wide / 2;
    const y = screenY(i) * dense - high / 2;
    if (!(x > -wide && y > -high && x < canvas.width && y < canvas.height)) continue;
    brush.fillStyle = colourOf(slot[i]);
    brush.fillRect(x - frame, y - frame, wide + 2 * frame, high + 2 * frame);
    const found = thumbnail(i);
    if (found) brush.drawImage(found.sheet, found.left, found.top, found.width, found.height, x, y, wide, high);
  }
}

// What lies over the points: the one pointed at, the lasso, the cross of the keyboard.
function drawOver(width) {
  brush.strokeStyle = style("--ink");
  brush.lineWidth = 2;
  if (state.hovered >= 0 && visible[state.hovered]) {
    const [x, y] = [screenX(state.hovered), screenY(state.hovered)];
    brush.beginPath();
    if (width) {
      const high = (width * data.thumbnails.height) / data.thumbnails.width;
      brush.rect(x - width / 2 - 3, y - high / 2 - 3, width + 6, high + 6);
    } else brush.arc(x, y, pointRadius() + 3.5, 0, 2 * Math.PI);
    brush.stroke();
  }
  if (state.cross) {
    const [x, y] = [view.width / 2, view.height / 2];
    brush.lineWidth = 1;
    brush.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      brush.moveTo(x + 6 * dx, y + 6 * dy);
      brush.lineTo(x + 14 * dx, y + 14 * dy);
    }
    brush.stroke();
  }
  if (state.path) {
    brush.beginPath();
    state.path.forEach(([x, y]) => brush.lineTo(x, y));
    brush.closePath();
    brush.strokeStyle = style("--accent");
    brush.lineWidth = 1.5;
    brush.stroke();
    brush.globalAlpha = 0.15;
    brush.fillStyle = style("--accent");
    brush.fill();
    brush.globalAlpha = 1;
  }
}
