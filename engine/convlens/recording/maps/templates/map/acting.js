// What people do: mouse, fingers, keys and the controls.
const pointers = new Map();
let lassoing = false;
let pressed = null;

function hover(i, said = false) {
  if (state.hovered === i && element("card").hidden === i < 0) return;
  state.hovered = i;
  showCard(i, said);
  redraw();
}

// The view or what is shown of it has changed.
function changed(again = redraw) {
  const [x, y] = state.hovered >= 0 ? [screenX(state.hovered), screenY(state.hovered)] : [-1, -1];
  const seen = x >= 0 && y >= 0 && x <= view.width && y <= view.height && visible[state.hovered];
  showCard(seen ? state.hovered : -1);
  again();
}

function shownAgain() {
  sifted();
  showLegend();
  changed();
}

function select(found) {
  state.selected.fill(0);
  for (const i of found) state.selected[i] = 1;
  state.many = found.length;
  showSelection();
  redraw();
}

function visit(i) {
  if (!visible[i] || Number.isNaN(layout.x[i])) return;
  Object.assign(view, { x: layout.x[i], y: layout.y[i] });
  hover(i, true);
  changed();
}

function inside(path, x, y) {
  let found = false;
  for (let a = 0, b = path.length - 1; a < path.length; b = a, a += 1) {
    const [ax, ay] = path[a];
    const [bx, by] = path[b];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) found = !found;
  }
  return found;
}

function within(path) {
  const found = [];
  for (let i = 0; i < count; i += 1) if (visible[i] && inside(path, screenX(i), screenY(i))) found.push(i);
  return found;
}

function lasso(on) {
  lassoing = on;
  element("lasso").setAttribute("aria-pressed", String(on));
  canvas.classList.toggle("drawing", on);
}

const at = (event) => {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};
const reach = () => Math.max(12, pictureWidth() * 0.6) / view.scale;
const under = ([x, y]) => nearest(worldX(x), worldY(y), reach());

canvas.addEventListener("pointerdown", (event) => {
  if (event.button > 0) return;
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, at(event));
  state.cross = false;
  if (pointers.size === 1) {
    pressed = { from: at(event), moved: false };
    state.path = lassoing || event.shiftKey ? [at(event)] : null;
    if (state.path) hover(-1);
  } else state.path = null;
  redraw();
});

canvas.addEventListener("pointermove", (event) => {
  const now = at(event);
  const before = pointers.get(event.pointerId);
  if (!before) {
    hover(under(now));
    return;
  }
  const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
  pointers.set(event.pointerId, now);
  if (pressed && Math.hypot(now[0] - pressed.from[0], now[1] - pressed.from[1]) > 4) pressed.moved = true;
  if (state.path) state.path.push(now);
  else if (others.length) {
    const [ox, oy] = others[0];
    const apartNow = Math.hypot(now[0] - ox, now[1] - oy);
    const apartBefore = Math.hypot(before[0] - ox, before[1] - oy);
    move((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
    if (apartBefore > 0 && apartNow > 0) zoom(apartNow / apartBefore, (now[0] + ox) / 2, (now[1] + oy) / 2);
    changed(redrawMoving);
  } else if (pressed && pressed.moved) {
    canvas.classList.add("moving");
    move(now[0] - before[0], now[1] - before[1]);
    changed(redrawMoving);
  }
  if (state.path) redraw();
});

function released(event) {
  if (!pointers.delete(event.pointerId)) return;
  canvas.classList.remove("moving");
  if (state.path && event.type === "pointerup") {
    if (pressed.moved) {
      select(within(state.path));
      lasso(false);
    }
    state.path = null;
  } else if (pressed && !pressed.moved && !pointers.size && event.type === "pointerup") hover(under(at(event)), true);
  state.path = pointers.size ? state.path : null;
  pressed = pointers.size ? { from: [0, 0], moved: true } : null;
  redraw();
}
canvas.addEventListener("pointerup", released);
canvas.addEventListener("pointercancel", released);
canvas.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse" && !pointers.size) hover(-1); });
canvas.addEventListener("dblclick", (event) => { zoom(2, ...at(event)); changed(); });
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const lines = event.deltaMode === 1 ? 24 : 1;
  zoom(Math.exp(-Math.max(-240, Math.min(240, event.deltaY * lines)) * (event.ctrlKey ? 0.01 : 0.002)), ...at(event));
  hover(under(at(event)));
  changed(redrawMoving);
}, { passive: false });

// The nearest point within 45 degrees of a direction.
function beyond(dx, dy) {
  const from = state.hovered;
  let [best, found] = [Infinity, -1];
  for (let i = 0; i < count; i += 1) {
    if (!visible[i] || i === from) continue;
    const [x, y] = [layout.x[i] - layout.x[from], layout.y[i] - layout.y[from]];
    const along = x * dx + y * dy;
    const across = Math.abs(x * dy - y * dx);
    if (along > 0 && across <= along && along + across < best) [best, found] = [along + across, i];
  }
  return found;
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const arrow = ARROWS[event.key];
  if (arrow && event.shiftKey && state.hovered >= 0) {
    const next = beyond(...arrow);
    if (next >= 0) visit(next);
  } else if (arrow) move(-60 * arrow[0], -60 * arrow[1]);
  else if (event.key === "+" || event.key === "=") zoom(1.4);
  else if (event.key === "-") zoom(1 / 1.4);
  else if (event.key === "0" || event.key === "Home") showWhole();
  else if (event.key === "Escape") {
    select([]);
    lasso(false);
    state.path = null;
    state.cross = false;
    hover(-1);
    redraw();
    return;
  } else return;
  event.preventDefault();
  state.cross = true;
  if (!(arrow && event.shiftKey)) hover(nearest(view.x, view.y, Infinity), true);
  changed();
});
canvas.addEventListener("blur", () => { state.cross = false; redraw(); });

function recolour() {
  const key = element("colour").value;
  mode = modes[Number(key)];
  element("channel-label").hidden = mode.key !== "channel" || !data.channels;
  if (mode.key === "channel" && data.channels) mode = channelMode(Number(element("channel").value));
  state.only = -1;
  coloured();
  showLegend();
  showSelection();
  changed();
}

function resized() {
  const dense = window.devicePixelRatio || 1;
  const before = view.scale / view.fit;
  const [x, y] = [view.x, view.y];
  view.width = canvas.clientWidth;
  view.height = canvas.clientHeight;
  canvas.width = Math.round(view.width * dense);
  canvas.height = Math.round(view.height * dense);
  showWhole();
  if (sized) Object.assign(view, { x, y, scale: view.fit * before });
  sized = true;
  draw();
}
let sized = false;

function filled(select, options) {
  const groups = new Map();
  for (const [value, text, group] of options) {
    if (group && !groups.has(group)) {
      groups.set(group, made("optgroup", { label: group }));
      select.append(groups.get(group));
    }
    (group ? groups.get(group) : select).append(made("option", { value }, text));
  }
}

filled(element("colour"), modes.map((one, i) => [String(i), one.text, one.group]));
if (data.channels) {
  filled(element("channel"), data.channels.numbers.map((number, i) => [String(i), String(number)]));
  element("channel").value = String(data.channels.first);
}
const first = modes.findIndex((one) => one.key === data.colour);
element("colour").value = String(Math.max(0, first));
element("colour").onchange = recolour;
element("channel").onchange = recolour;
element("places-label").hidden = layouts.length < 2;
filled(element("places"), layouts.map((one, i) => [String(i), one.name]));
element("places").onchange = () => { layout = layouts[Number(element("places").value)]; showWhole(); hover(-1); redraw(); };
element("pictures-label").hidden = !data.thumbnails;
element("pictures").onchange = () => { state.pictures = element("pictures").value; redraw(); };
element("closer").onclick = () => { zoom(1.5); changed(); };
element("farther").onclick = () => { zoom(1 / 1.5); changed(); };
element("whole").onclick = () => { showWhole(); changed(); };
element("lasso").onclick = () => lasso(!lassoing);
element("find").oninput = () => {
  const text = element("find").value.trim().toLowerCase();
  const known = (of, i) => of && of[i] !== NONE && data.classes[of[i]].toLowerCase().includes(text);
  select(text ? [...slot.keys()].filter((i) => data.names[i].toLowerCase().includes(text) || known(label, i) || known(prediction, i)) : []);
};
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  styles.clear();
  showLegend();
  redraw();
});
new ResizeObserver(resized).observe(canvas);
recolour();
