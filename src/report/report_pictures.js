"use strict";
// Pictures and counts: the weight templates, the confusion matrix, the most wrong samples.

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

// One of many images of `shape` (n, height, width, channels) as a canvas; paint: its bytes to red, green, blue, alpha.
function picture(images, index, label, paint) {
  const [, height, width, channels] = images.shape;
  const canvas = make("canvas", { width, height, role: "img", "aria-label": label });
  const pixels = new ImageData(width, height), from = index * height * width * channels;
  for (let at = 0; at < height * width; at += 1) {
    pixels.data.set(paint(images.bytes.subarray(from + at * channels, from + (at + 1) * channels)), at * 4);
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

const photo = (values) => (values.length === 3 ? [...values, 255] : [values[0], values[0], values[0], 255]);
const FOR = [214, 96, 10], AGAINST = [38, 110, 190];
// 128 is 0: clear, so that the page's own ground shows through.
const signed = ([value]) => [...(value > 128 ? FOR : AGAINST), Math.min(255, Math.abs(value - 128) * 2)];

function templates(run) {
  if (!run.templates) {
    return missing("templates", run.source ? "The model is not one linear layer on grey images, so it has no weight templates to show." : run.missing);
  }
  const images = { ...run.templates, bytes: bytes(run.templates.bytes) };
  const tiles = make("div", { class: "tiles templates", style: "--columns: 10" });
  for (let digit = 0; digit < images.shape[0]; digit += 1) {
    tiles.append(make("figure", {}, picture(images, digit, `Weights for ${NOUN} ${digit}`, signed), make("figcaption", {}, String(digit))));
  }
  const key = (colour, words) => make("span", { class: "key" }, make("i", { style: `background: rgb(${colour})` }), words);
  content("templates").append(
    make("p", { class: "lead" }, `The weights of ${run.source} are ${images.shape[0]} pictures. Ink speaks `, key(FOR, `for the ${NOUN}`), " in some places, ", key(AGAINST, "against it"), " in others."),
    tiles);
}

function confusion(run) {
  const counts = run.confusion;
  if (!counts.length) return missing("confusion", "Not evaluated yet: the test set is counted after each epoch.");
  const row = counts.map((line) => line.reduce((sum, count) => sum + count, 0));
  const column = counts.map((_, guess) => counts.reduce((sum, line) => sum + line[guess], 0));
  const most = Math.max(1, ...counts.flatMap((line, truth) => line.filter((_, guess) => guess !== truth)));
  const heat = make("table", { class: "heat" },
    make("caption", {}, `Rows: the truth; columns: the guess. ${outcome(run)} right after epoch ${run.result.epoch}; the red of each error grows with the root of its count.`),
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, ""), ...counts.map((_, guess) => make("th", { scope: "col" }, String(guess))))));
  heat.append(make("tbody", {}, ...counts.map((line, truth) => make("tr", {}, make("th", { scope: "row" }, String(truth)), ...line.map((count, guess) => {
    const share = guess === truth ? count / Math.max(1, row[truth]) : Math.sqrt(count / most);
    const said = `${truth} taken for ${guess}: ${count} of ${row[truth]}`;
    return make("td", { class: guess === truth ? "right" : count ? "" : "none", style: `--share: ${share.toFixed(3)}`, title: said }, String(count));
  })))));
  const score = (share) => make("td", {}, Number.isFinite(share) ? percent(share, 1) : "\u2013",
    make("div", { class: "bar", "aria-hidden": "true" }, make("i", { style: `--share: ${share || 0}` })));
  const scores = counts.map((line, digit) => {
    const others = line.map((count, guess) => (guess === digit ? -1 : count)), worst = others.indexOf(Math.max(...others));
    return [String(digit), whole(row[digit]), score(line[digit] / column[digit]), score(line[digit] / row[digit]), others[worst] > 0 ? `${worst} (${others[worst]} times)` : "\u2013"];
  });
  content("confusion").append(heat, table([NOUN, "images", "precision", "recall", "most often taken for"], scores, "scores"));
}

function wrong(run) {
  if (!run.wrong) return missing("wrong", run.missing || "Pictures of it need the run's weights and data.");
  const images = { ...run.wrong, bytes: bytes(run.wrong.bytes) };
  if (!run.wrong.rows.length) return missing("wrong", "Nothing: it gets the whole test set right.");
  const tiles = make("div", { class: "tiles wrongs", style: "--columns: 8" });
  run.wrong.rows.forEach(([index, truth, guess, probability], at) => {
    const words = `Test image ${index}: is ${truth}, guessed ${guess} with ${percent(probability, 1)}`;
    const shown = images.shape[0] ? picture(images, at, words, photo) : make("span", {}, `image ${index}`);
    const own = run.weights ? make("button", { title: "Classify it in the drawing box", "data-index": index }, shown) : shown;
    if (run.weights) own.addEventListener("click", () => window.classify(images.bytes.slice(at * 784, (at + 1) * 784), words));
    tiles.append(make("figure", {}, own, make("figcaption", {}, `is ${truth}, guessed ${guess}`, make("small", {}, percent(probability, 1)))));
  });
  const lead = `The ${run.wrong.rows.length} test images of which ${run.source} is surest, and wrong.${run.weights ? " Choose one to see all its probabilities." : ""}`;
  content("wrong").append(make("p", { class: "lead" }, lead), tiles);
}

if (RUN) [templates, confusion, wrong].forEach((show) => show(RUN));
