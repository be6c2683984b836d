// What colours mean: classes have a colour and a shape each, numbers a place on a ramp.
const COLOURS = data.palette.length;
const OWN = 3 * COLOURS; // classes that can be told apart; the rest is grey
const REST = 0; // the slot of what has no class, no number, or no colour of its own

// Of each map the part that stands out from a light page, and from a dark one.
const PARTS = { batlow: [[0, 232], [52, 255]], vik: [[0, 255], [34, 221]] };
const ramps = {};
for (const [name, text] of Object.entries(data.ramps)) {
  const flat = bytes(text);
  ramps[name] = Array.from({ length: 256 }, (_, i) => `rgb(${flat[3 * i]},${flat[3 * i + 1]},${flat[3 * i + 2]})`);
}

// One slot a class: 1 + colour + colours x shape; where there are too many, the most frequent have one.
function slotted(words, of) {
  const many = new Uint32Array(words.length);
  for (let i = 0; i < count; i += 1) if (of[i] !== NONE) many[of[i]] += 1;
  const slots = new Uint8Array(words.length);
  let chosen = [...words.keys()];
  if (words.length > OWN) {
    chosen = chosen.sort((a, b) => many[b] - many[a]).slice(0, OWN).sort((a, b) => a - b);
  }
  chosen.forEach((word, i) => { slots[word] = 1 + i; });
  return { many, slots };
}

function classMode(key, text, group, of, words, slots) {
  return { key, text, group, of, words, slots, hidden: new Set() };
}

function numberMode(key, text, group, of) {
  const sorted = Float64Array.from(of).filter(Number.isFinite).sort();
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))] || 0;
  let [low, high] = [at(0.005), at(0.995)];
  if (low === high) [low, high] = [at(0), at(1)];
  const signed = low < 0 && high > 0 && Math.min(-low, high) > 0.1 * Math.max(-low, high);
  if (signed) {
    high = Math.max(-low, high);
    low = -high;
  }
  const mean = sorted.reduce((sum, value) => sum + value, 0) / (sorted.length || 1);
  return { key, text, group, of, words: null, low, high, mean, middle: at(0.5), least: at(0), most: at(1), ramp: signed ? "vik" : "batlow" };
}

function channelMode(position) {
  const { layer, numbers, low, high } = data.channels;
  const steps = channelSteps.subarray(position * count, (position + 1) * count);
  const of = Float32Array.from(steps, (step) => low[position] + (step / 255) * (high[position] - low[position]));
  return numberMode("channel", `channel ${numbers[position]} of ${layer}`, "Channels", of);
}

const channelSteps = data.channels ? bytes(data.channels.data) : null;
const modes = [];
const vocabulary = slotted(data.classes, label || prediction || []);
if (label) modes.push(classMode("label", "label", "Classes", label, data.classes, vocabulary.slots));
if (prediction) modes.push(classMode("prediction", "prediction", "Classes", prediction, data.classes, vocabulary.slots));
if (right) modes.push(classMode("right", "right or wrong", "Classes", right, ["wrong", "right"], new Uint8Array([2, 1])));
if (probability) modes.push(numberMode("probability", "probability", "Classes", probability));
for (const value of values) {
  modes.push(value.words
    ? classMode(value.name, value.name, "Values", value.of, value.words, slotted(value.words, value.of).slots)
    : numberMode(value.name, value.name, "Values", value.of));
}
if (data.channels) modes.push({ key: "channel", text: `channel of ${data.channels.layer}`, group: "Channels" });
if (!modes.length) modes.push(classMode("none", "nothing", "Classes", new Uint16Array(count).fill(NONE), [], new Uint8Array(0)));

const slot = new Uint8Array(count); // of each point, as it is drawn
const visible = new Uint8Array(count);
const order = Uint32Array.from({ length: count }, (_, i) => i);
let mode = modes[0];

// Points in an order in which what is rare lies on what is common, and classes of a size are mixed.
function ordered() {
  if (!mode.words) {
    const key = (i) => (Number.isFinite(mode.of[i]) ? Math.abs(mode.of[i] - mode.middle) : -1);
    order.sort((a, b) => key(a) - key(b));
    return;
  }
  const mixed = (i) => Math.imul(i + 1, 2654435761) >>> 0;
  const { many } = slotted(mode.words, mode.of);
  const size = (i) => slot[i] === REST ? 99 : Math.floor(Math.log2(mode.of[i] === NONE ? count : many[mode.of[i]]) / 3);
  order.sort((a, b) => size(b) - size(a) || mixed(a) - mixed(b));
}

function coloured() {
  for (let i = 0; i < count; i += 1) {
    const value = mode.of[i];
    if (mode.words) slot[i] = value === NONE ? REST : mode.slots[value];
    else if (!Number.isFinite(value)) slot[i] = REST;
    else slot[i] = 1 + Math.round(254 * Math.min(1, Math.max(0, (value - mode.low) / (mode.high - mode.low || 1))));
  }
  ordered();
  sifted();
}

// Which points are shown: those whose classes are all switched on.
function sifted() {
  visible.fill(1);
  for (const one of modes) {
    if (!one.words || !one.hidden.size) continue;
    for (let i = 0; i < count; i += 1) if (one.hidden.has(one.of[i])) visible[i] = 0;
  }
}

// The page's own colours, read once for light and once for dark.
const styles = new Map();
function style(name) {
  if (!styles.has(name)) styles.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  return styles.get(name);
}
// The colour at a share of the ramp.
function shade(share) {
  const [from, to] = PARTS[mode.ramp][Number(style("--dark"))];
  return ramps[mode.ramp][Math.round(from + share * (to - from))];
}

function colourOf(number) {
  if (number === REST) return style("--rest");
  if (!mode.words) return shade((number - 1) / 254);
  const colour = data.palette[(number - 1) % COLOURS];
  return colour === "ink" ? style("--ink") : colour; // dark on paper, light on a dark screen
}

// The first colours are told apart by any eye; further ones have another shape too.
function shapeOf(number) {
  if (!mode.words || number <= data.clear) return "circle";
  return number <= COLOURS ? "square" : ["triangle", "diamond"][Math.floor((number - 1) / COLOURS) - 1];
}
