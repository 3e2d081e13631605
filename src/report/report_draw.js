"use strict";
// A canvas to draw on. What is drawn is prepared as MNIST was (src/predict/picture.py, to the pixel) and classified here.

const SIDE = 28, BOX = 20, EDGE = Math.fround(0.15), TIE = 1e-6;
const PAD = 280, RIM = 2, PEN = 22; // the rim stays empty, so that a drawing is never taken for a photograph

// For each target pixel the source pixels that it averages, as [source, share].
function shares(source, target) {
  return Array.from({ length: target }, (_, at) => {
    const [start, end] = [(at * source) / target, ((at + 1) * source) / target];
    const parts = [];
    for (let from = Math.floor(start); from < Math.min(source, Math.ceil(end)); from += 1) {
      const overlap = Math.min(end, from + 1) - Math.max(start, from);
      if (overlap > 0) parts.push([from, (overlap * target) / source]);
    }
    return parts;
  });
}

function inkBox(ink, side) {
  const box = { top: side, bottom: -1, left: side, right: -1 };
  for (let at = 0; at < ink.length; at += 1) {
    if (ink[at] <= EDGE) continue;
    const [row, column] = [Math.floor(at / side), at % side];
    box.top = Math.min(box.top, row);
    box.bottom = Math.max(box.bottom, row);
    box.left = Math.min(box.left, column);
    box.right = Math.max(box.right, column);
  }
  return box;
}

// Where a side starts so that its centre of mass is in the middle, and all of it inside.
const place = (centre, length) => Math.min(Math.max(Math.floor(SIDE / 2 - centre + 0.5 + TIE), 0), SIDE - length);

// Ink (side x side bytes, light on dark) to 28 x 28 bytes; null where there is none.
function prepared(drawn, side) {
  const largest = drawn.reduce((most, value) => Math.max(most, value), 0);
  if (largest / 255 < 0.05) return null;
  const unit = Math.fround(largest / 255);
  const ink = Float32Array.from(drawn, (value) => Math.fround(value / 255) / unit);
  const box = inkBox(ink, side);
  const [tall, broad] = [box.bottom - box.top + 1, box.right - box.left + 1];
  const [height, width] = [tall, broad].map((length) => Math.max(1, Math.floor((length * BOX) / Math.max(tall, broad) + 0.5)));
  const across = shares(broad, width);
  const small = shares(tall, height).map((rows) => across.map((columns) => {
    let sum = 0;
    for (const [row, weight] of rows) for (const [column, share] of columns) sum += weight * share * ink[(box.top + row) * side + box.left + column];
    return sum;
  }));
  let [mass, down, along] = [0, 0, 0];
  small.forEach((line, row) => line.forEach((value, column) => { mass += value; down += value * row; along += value * column; }));
  const [top, left] = [place(down / mass, height), place(along / mass, width)];
  const pixels = new Uint8Array(SIDE * SIDE);
  small.forEach((line, row) => line.forEach((value, column) => {
    pixels[(top + row) * SIDE + left + column] = Math.min(255, Math.floor(Math.min(1, value) * 255 + 0.5 + TIE));
  }));
  return pixels;
}

// 28 x 28 bytes to a probability for each class: a sigmoid each, or a softmax over all.
function probabilities(pixels, { weight, bias, divisor, activation }) {
  const logits = Array.from(bias, (start, digit) => {
    let sum = start;
    for (let at = 0; at < pixels.length; at += 1) sum += Math.fround(pixels[at] / divisor) * weight[digit * pixels.length + at];
    return sum;
  });
  if (activation === "sigmoid") return logits.map((logit) => 1 / (1 + Math.exp(-logit)));
  const most = Math.max(...logits), powers = logits.map((logit) => Math.exp(logit - most));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}

// The answer beside the pad: the image as the model sees it, and ten bars.
function answer(run) {
  const floats = (text) => new Float32Array(bytes(text).buffer);
  const model = { ...run.weights, weight: floats(run.weights.weight), bias: floats(run.weights.bias) };
  const seen = make("canvas", { class: "seen", width: SIDE, height: SIDE, role: "img", "aria-label": "Nothing drawn yet" });
  const rows = Array.from(model.bias, (_, digit) => {
    const value = make("data", { value: "" }, "\u2013"), bar = make("i", { style: "--share: 0" });
    return { value, bar, line: make("li", {}, make("span", {}, String(digit)), make("div", { class: "bar", "aria-hidden": "true" }, bar), value) };
  });
  const status = make("p", { role: "status", class: "lead" });
  const show = (pixels, words) => {
    const image = { shape: [1, SIDE, SIDE, 1], bytes: pixels || new Uint8Array(SIDE * SIDE) };
    seen.getContext("2d").drawImage(picture(image, 0, "", photo), 0, 0);
    const chances = pixels ? probabilities(pixels, model) : null;
    const guess = chances ? chances.indexOf(Math.max(...chances)) : -1;
    rows.forEach(({ value, bar, line }, digit) => {
      value.value = chances ? chances[digit] : "";
      value.textContent = chances ? percent(chances[digit]) : "\u2013";
      bar.style.setProperty("--share", chances ? chances[digit] : 0);
      line.classList.toggle("guess", digit === guess);
    });
    status.textContent = chances ? `${words || "Drawing"}: classified as ${guess} (${percent(chances[guess], 1)})` : "Draw, and it is classified as you go.";
    seen.setAttribute("aria-label", chances ? "The drawing as the model sees it, 28 x 28 pixels" : "Nothing drawn yet");
  };
  const list = make("ol", { class: "chances", "aria-label": "Probability of each class" }, ...rows.map(({ line }) => line));
  const sum = model.activation === "sigmoid" ? `${rows.length} sigmoids: they need not add up to 100 %.` : "";
  return { show, seen, box: make("div", { class: "answer" }, status, list, make("p", { class: "lead" }, sum)) };
}

// The pad: strokes by pointer, finger or arrow keys; `changed` gets its bytes.
function pad(changed) {
  const canvas = make("canvas", { width: PAD, height: PAD, tabindex: 0, role: "application",
    "aria-label": "Drawing box. Arrow keys move the pen, space puts it down or lifts it, escape clears." });
  const hint = make("span", { class: "hint" }, "Draw here"), pen = make("span", { class: "pen" });
  const brush = canvas.getContext("2d", { willReadFrequently: true });
  let strokes = [], waiting = false;
  const redraw = () => {
    waiting = false;
    hint.hidden = strokes.length > 0;
    brush.reset();
    brush.fillRect(0, 0, PAD, PAD);
    brush.rect(RIM, RIM, PAD - 2 * RIM, PAD - 2 * RIM);
    brush.clip();
    Object.assign(brush, { strokeStyle: "#fff", lineWidth: PEN, lineCap: "round", lineJoin: "round" });
    for (const [[x, y], ...rest] of strokes) {
      brush.beginPath();
      brush.moveTo(x, y);
      for (const to of rest.length ? rest : [[x + 0.01, y]]) brush.lineTo(...to);
      brush.stroke();
    }
    const colours = brush.getImageData(0, 0, PAD, PAD).data;
    changed(Uint8Array.from({ length: PAD * PAD }, (_, at) => colours[4 * at])); // white on black: red is all of it
  };
  const later = () => { if (!waiting) { waiting = true; requestAnimationFrame(redraw); } };
  const clear = () => { strokes = []; keys.lift(); redraw(); };
  const undo = () => { strokes.pop(); keys.lift(); redraw(); };
  pointers(canvas, (start) => { strokes.push([start]); later(); }, (to) => { strokes[strokes.length - 1].push(to); later(); });
  const keys = keyboard(canvas, pen, (start) => { strokes.push([start]); later(); }, (to) => { strokes[strokes.length - 1].push(to); later(); }, clear);
  const button = (text, act) => { const made = make("button", { type: "button" }, text); made.addEventListener("click", act); return made; };
  const box = make("div", {}, make("div", { class: "pad" }, canvas, pen, hint), make("div", { class: "buttons" }, button("Clear", clear), button("Undo", undo)));
  return { box, clear };
}

function pointers(canvas, begin, go) {
  let held = null; // one pointer draws: a second finger is ignored
  const where = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * PAD) / box.width, ((event.clientY - box.top) * PAD) / box.height];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (held !== null || event.button !== 0) return;
    held = event.pointerId;
    canvas.setPointerCapture(held);
    event.preventDefault();
    begin(where(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== held) return;
    const all = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
    (all.length ? all : [event]).forEach((one) => go(where(one)));
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => { if (event.pointerId === held) held = null; });
}

function keyboard(canvas, pen, begin, go, clear) {
  let [x, y, down] = [PAD / 2, PAD / 4, false];
  const show = () => {
    pen.style.left = `${(100 * x) / PAD}%`;
    pen.style.top = `${(100 * y) / PAD}%`;
    pen.classList.toggle("down", down);
  };
  const moves = { ArrowLeft: [-8, 0], ArrowRight: [8, 0], ArrowUp: [0, -8], ArrowDown: [0, 8] };
  canvas.addEventListener("keydown", (event) => {
    if (event.key in moves) {
      [x, y] = [x + moves[event.key][0], y + moves[event.key][1]].map((to) => Math.min(PAD - PEN, Math.max(PEN, to)));
      if (down) go([x, y]);
    } else if (event.key === " ") {
      down = !down;
      if (down) begin([x, y]);
    } else if (event.key === "Escape") clear();
    else return;
    event.preventDefault();
    show();
  });
  show();
  return { lift: () => { down = false; show(); } };
}

function drawing(run) {
  if (!run.weights) {
    return missing("draw", run.why.draw);
  }
  const result = answer(run);
  const board = pad((drawn) => result.show(prepared(drawn, PAD)));
  window.classify = (pixels, words) => {
    board.clear();
    result.show(pixels, words);
    byId("draw").scrollIntoView();
  };
  content("draw").append(
    make("p", { class: "lead" }, `Classified in this page by the weights of ${run.checkpoint}. The model sees the drawing cropped, fitted into 20 x 20 pixels and centred by its mass in 28 x 28, as MNIST was made.`),
    make("div", { class: "drawing" }, board.box, make("figure", {}, result.seen, make("figcaption", {}, "as the model sees it")), result.box));
  board.clear();
}

if (RUN && byId("draw")) drawing(RUN);
