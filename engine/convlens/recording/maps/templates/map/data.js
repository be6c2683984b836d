// What the page shows: arrays by point.
const data = JSON.parse(document.getElementById("data").textContent);
const count = data.count;
const NONE = 0xffff;

function bytes(text) {
  const raw = atob(text);
  const found = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i += 1) found[i] = raw.charCodeAt(i);
  return found;
}
const floats = (text) => (text === null ? null : new Float32Array(bytes(text).buffer));
const shorts = (text) => (text === null ? null : new Uint16Array(bytes(text).buffer));

const label = shorts(data.label);
const prediction = shorts(data.prediction);
const right = shorts(data.right);
const probability = floats(data.probability);
const values = data.values.map((value) => ({
  name: value.name,
  words: value.words,
  of: value.words ? shorts(value.data) : floats(value.data),
}));

// A layout is where points are, moved into a square with sides of 1; what has no place is NaN.
function squared(name, flat) {
  const placed = (i) => Number.isFinite(flat[2 * i]) && Number.isFinite(flat[2 * i + 1]);
  let [left, far, low, top, held] = [Infinity, -Infinity, Infinity, -Infinity, 0];
  for (let i = 0; i < count; i += 1) {
    if (!placed(i)) continue;
    held += 1;
    left = Math.min(left, flat[2 * i]);
    far = Math.max(far, flat[2 * i]);
    low = Math.min(low, flat[2 * i + 1]);
    top = Math.max(top, flat[2 * i + 1]);
  }
  const side = Math.max(far - left, top - low) || 1;
  const x = new Float64Array(count).fill(NaN);
  const y = new Float64Array(count).fill(NaN);
  for (let i = 0; i < count; i += 1) {
    if (!placed(i)) continue;
    x[i] = (flat[2 * i] - (left + far) / 2) / side + 0.5;
    y[i] = 0.5 - (flat[2 * i + 1] - (top + low) / 2) / side;
  }
  const wide = held ? (far - left) / side : 1;
  const high = held ? (top - low) / side : 1;
  return { name, x, y, held, wide, high };
}
