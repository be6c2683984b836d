// What stands beside and over the map.
const element = (id) => document.getElementById(id);

function made(tag, settings = {}, ...children) {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(settings)) {
    if (name in found && name !== "list") found[name] = value;
    else found.setAttribute(name, value);
  }
  found.append(...children);
  return found;
}

// Three digits, thousands with a comma.
function numberText(value) {
  if (!Number.isFinite(value)) return "-";
  const size = Math.abs(value);
  if (size >= 999.5 && size < 1e6) return Math.round(value).toLocaleString("en");
  return size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(2) : String(Number(value.toPrecision(3)));
}
const countText = (value) => value.toLocaleString("en");
const plural = (value) => `${countText(value)} ${data.noun}${value === 1 ? "" : "s"}`;

// Everything that is known of a point, name and text.
function factsOf(i) {
  const facts = [];
  const word = (words, of) => (of[i] === NONE ? "-" : words[of[i]]);
  if (label) facts.push(["label", word(data.classes, label)]);
  if (prediction) facts.push(["prediction", word(data.classes, prediction)]);
  if (probability) facts.push(["probability", numberText(probability[i])]);
  for (const value of values) facts.push([value.name, value.words ? word(value.words, value.of) : numberText(value.of[i])]);
  if (mode.key === "channel" && !mode.words) facts.push([mode.text, numberText(mode.of[i])]);
  return facts;
}

function portrait(i, to, side) {
  const found = thumbnail(i);
  to.hidden = !found;
  if (!found) return;
  const larger = Math.max(1, Math.min(8, side / Math.max(found.width, found.height)));
  const factor = larger >= 2 ? Math.floor(larger) : larger;
  to.width = found.width;
  to.height = found.height;
  to.style.width = `${found.width * factor}px`;
  to.style.height = `${found.height * factor}px`;
  to.style.imageRendering = factor >= 2 ? "pixelated" : "auto";
  to.getContext("2d").drawImage(found.sheet, found.left, found.top, found.width, found.height, 0, 0, found.width, found.height);
}

// The card of a point, beside it and never off the stage.
function showCard(i, said = false) {
  const card = element("card");
  card.hidden = i < 0;
  if (i < 0) return;
  portrait(i, element("big"), view.width < 500 ? 112 : 176);
  const facts = factsOf(i);
  element("facts").replaceChildren(
    made("div", { className: "name" }, data.names[i]),
    ...facts.map(([name, text]) => made("div", { className: "fact" }, made("span", {}, name), made("span", {}, text))),
  );
  const gap = 16;
  const [x, y] = [screenX(i), screenY(i)];
  const left = x + gap + card.offsetWidth <= view.width ? x + gap : x - gap - card.offsetWidth;
  const top = Math.min(y - 20, view.height - card.offsetHeight - 4);
  card.style.left = `${Math.max(4, Math.min(left, view.width - card.offsetWidth - 4))}px`;
  card.style.top = `${Math.max(4, top)}px`;
  if (said) element("spoken").textContent = [data.names[i], ...facts.map((fact) => fact.join(" "))].join(", ");
}

function swatch(number) {
  const dense = window.devicePixelRatio || 1;
  const found = made("canvas", { width: 14 * dense, height: 14 * dense });
  found.style.width = "14px";
  found.style.height = "14px";
  found.setAttribute("aria-hidden", "true");
  const to = found.getContext("2d");
  to.scale(dense, dense);
  mark(to, shapeOf(number), 7, 7, 5);
  to.fillStyle = colourOf(number);
  to.fill();
  to.strokeStyle = style("--rim");
  to.lineWidth = 0.6;
  to.stroke();
  return found;
}

function button(text, act, settings = {}) {
  return made("button", { type: "button", onclick: act, ...settings }, text);
}

function showLegend() {
  const legend = element("legend");
  const title = made("h2", {}, mode.text);
  const left = modes.filter((one) => one !== mode && one.words && one.hidden.size);
  const notes = left.map((one) => made("div", { className: "do quiet" },
    `${countText(one.hidden.size)} switched off by ${one.text} `,
    button("show", () => { one.hidden.clear(); shownAgain(); })));
  if (!mode.words) {
    const stops = Array.from({ length: 17 }, (_, k) => shade(k / 16));
    const ends = [
      (mode.least < mode.low ? "≤ " : "") + numberText(mode.low),
      (mode.most > mode.high ? "≥ " : "") + numberText(mode.high),
    ];
    const ramp = made("div", { className: "ramp", role: "img", "aria-label": `from ${ends[0]} to ${ends[1]}` });
    ramp.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
    const some = mode.key === "channel" && data.channels.numbers.length < data.channels.of;
    if (some) notes.push(made("p", { className: "quiet" },
      `Here are the ${data.channels.numbers.length} of ${countText(data.channels.of)} channels that vary most.`));
    legend.replaceChildren(title, ramp, made("div", { className: "ends" }, made("span", {}, ends[0]), made("span", {}, ends[1])), ...notes);
    return;
  }
  const { many } = slotted(mode.words, mode.of);
  const used = [...mode.words.keys()].filter((word) => many[word]);
  const none = mode.of.reduce((sum, value) => sum + (value === NONE), 0);
  if (used.some((word) => mode.slots[word] === REST)) used.sort((a, b) => (mode.slots[a] === REST) - (mode.slots[b] === REST));
  const rows = used.map((word) => [word, mode.words[word], many[word], mode.slots[word]]);
  if (none) rows.push([NONE, "none", none, REST]);
  const every = (on) => () => {
    mode.hidden.clear();
    if (!on) rows.forEach(([word]) => mode.hidden.add(word));
    shownAgain();
  };
  if (used.some((word) => mode.slots[word] === REST)) notes.push(made("p", { className: "quiet" },
    `The ${OWN} most frequent have a colour of their own.`));
  legend.replaceChildren(
    made("div", { className: "head" }, title, made("span", { className: "do" }, button("all", every(true)), button("none", every(false)))),
    made("ul", { className: "classes" }, ...rows.map(([word, text, held, number]) => {
      const box = made("input", { type: "checkbox", checked: !mode.hidden.has(word) });
      box.onchange = () => {
        mode.hidden[box.checked ? "delete" : "add"](word);
        sifted();
        changed();
      };
      const stand = (only) => () => { state.only = only; redraw(); };
      box.onfocus = stand(word);
      box.onblur = stand(-1);
      return made("li", { onmouseenter: stand(word), onmouseleave: stand(-1) }, made("label", { title: text }, box, swatch(number),
        made("span", { className: "word" }, text), made("span", { className: "many" }, countText(held))));
    })),
    ...notes,
  );
}

function showSelection() {
  const panel = element("selection");
  panel.hidden = !state.many;
  if (!state.many) return;
  const chosen = [...order.keys()].filter((i) => state.selected[i]);
  const names = () => `${chosen.map((i) => data.names[i]).join("\n")}\n`;
  const parts = [
    made("h2", { role: "status" }, `${plural(chosen.length)} selected`),
    made("div", { className: "do" }, button("copy names", (event) => copied(names(), event.target)),
      button("download", () => downloaded(names())), button("clear", () => select([]))),
  ];
  const by = mode.words ? mode : modes.find((one) => one.words && one.words.length);
  if (by && by.words.length) {
    const many = new Map();
    for (const i of chosen) many.set(by.of[i], (many.get(by.of[i]) || 0) + 1);
    const rows = [...many].sort((a, b) => b[1] - a[1]);
    parts.push(made("ul", { className: "counts", "aria-label": by.text }, ...rows.slice(0, 12).map(([word, held]) => {
      const bar = made("span");
      bar.style.width = `${(100 * held) / rows[0][1]}%`;
      const text = word === NONE ? "none" : by.words[word];
      return made("li", {}, made("span", { className: "word", title: text }, text),
        made("span", { className: "bar", "aria-hidden": "true" }, bar), made("span", { className: "many" }, countText(held)));
    })));
    if (rows.length > 12) parts.push(made("p", { className: "quiet" }, `and ${countText(rows.length - 12)} more`));
  }
  if (!mode.words) {
    const held = chosen.map((i) => mode.of[i]).filter(Number.isFinite);
    const mean = held.reduce((sum, value) => sum + value, 0) / held.length;
    parts.push(made("p", { className: "quiet" }, `${mode.text}: mean ${numberText(mean)}, of all ${numberText(mode.mean)}`));
  }
  const first = chosen.slice(0, 60);
  parts.push(made("div", { className: "shown" }, ...first.map((i) => {
    const held = made("button", { type: "button", title: data.names[i], "aria-label": data.names[i] });
    const picture = made("canvas", { "aria-hidden": "true" });
    portrait(i, picture, 40);
    if (picture.hidden) {
      held.className = "text";
      held.append(data.names[i]);
    } else held.append(picture);
    held.onclick = () => visit(i);
    held.onfocus = () => hover(i, true);
    return held;
  })));
  if (chosen.length > first.length) parts.push(made("p", { className: "quiet" }, `the first ${first.length} of ${countText(chosen.length)}`));
  panel.replaceChildren(...parts);
}

async function copied(text, from) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = made("textarea", { value: text });
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  from.textContent = "copied";
}

function downloaded(text) {
  const address = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  made("a", { href: address, download: "selected.txt" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
