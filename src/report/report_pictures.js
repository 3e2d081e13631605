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

// What a class is called.
const named = (run, label) => (run.classes && run.classes[label] !== undefined ? run.classes[label] : String(label));

const photo = (values) => (values.length === 3 ? [...values, 255] : [values[0], values[0], values[0], 255]);
const FOR = [214, 96, 10], AGAINST = [38, 110, 190];
// 128 is 0: clear, so that the page's background shows through.
const signed = ([value]) => [...(value > 128 ? FOR : AGAINST), Math.min(255, Math.abs(value - 128) * 2)];

function templates(run) {
  if (!run.templates) return missing("templates", run.why.templates);
  const images = { ...run.templates, bytes: bytes(run.templates.bytes) };
  const tiles = make("div", { class: "tiles templates", style: "--columns: 10" });
  for (let label = 0; label < images.shape[0]; label += 1) {
    tiles.append(make("figure", {}, picture(images, label, `Weights for class ${named(run, label)}`, signed), make("figcaption", {}, named(run, label))));
  }
  const key = (colour, words) => make("span", { class: "key" }, make("i", { style: `background: rgb(${colour})` }), words);
  content("templates").append(
    make("p", { class: "lead" }, `The weights of ${run.checkpoint} as pictures, one for each class. A light pixel raises its logit where the picture is `, key(FOR, "orange"), " and lowers it where it is ", key(AGAINST, "blue"), "."),
    tiles);
}

// Which weights, on which samples: of the newest evaluation, or of the result with data.validation.
function measuredWith(run) {
  const { epoch, on } = run.result;
  return on === run.measured ? `The last step's weights after epoch ${epoch}, on the ${on} set` : `${run.checkpoint || "best.pt"} on the ${on} set`;
}

function pairs(run) {
  const { rows, classes, wrong, file } = run.pairs;
  byId("confusion").querySelector("h2").textContent = "Most confused pairs";
  const words = `${measuredWith(run)}: ${outcome(run)}, ${whole(wrong)} wrong. Of ${whole(classes)} classes the pairs that were confused most often; all are in ${file}.`;
  content("confusion").classList.remove("pair");
  content("confusion").append(make("p", { class: "lead" }, words));
  const lines = rows.map(([truth, guess, count, samples]) => [named(run, truth), named(run, guess), whole(count), `${percent(count / samples, 1)} of ${whole(samples)}`]);
  if (lines.length) content("confusion").append(table(["truth", "guess", "count", "share of the truth's samples"], lines, "pairs"));
}

function confusion(run) {
  const counts = run.confusion;
  if (run.pairs && run.result) return pairs(run);
  if (!counts.length || !run.result) return missing("confusion", run.why.confusion || "Not evaluated yet.");
  const row = counts.map((line) => line.reduce((sum, count) => sum + count, 0));
  const column = counts.map((_, guess) => counts.reduce((sum, line) => sum + line[guess], 0));
  const most = Math.max(1, ...counts.flatMap((line, truth) => line.filter((_, guess) => guess !== truth)));
  const long = counts.some((_, label) => named(run, label).length > 4);
  const heat = make("table", { class: long ? "heat long" : "heat" },
    make("caption", {}, `Rows: the truth; columns: the guess. ${measuredWith(run)}: ${outcome(run)}; the red of each error grows with the root of its count.`),
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, ""), ...counts.map((_, guess) => make("th", { scope: "col", title: named(run, guess) }, make("span", {}, named(run, guess)))))));
  heat.append(make("tbody", {}, ...counts.map((line, truth) => make("tr", {}, make("th", { scope: "row", title: named(run, truth) }, named(run, truth)), ...line.map((count, guess) => {
    const share = guess === truth ? count / Math.max(1, row[truth]) : Math.sqrt(count / most);
    const tip = `${named(run, truth)} taken for ${named(run, guess)}: ${count} of ${row[truth]}`;
    return make("td", { class: guess === truth ? "right" : count ? "" : "none", style: `--share: ${share.toFixed(3)}`, title: tip }, String(count));
  })))));
  const score = (share) => make("td", {}, Number.isFinite(share) ? percent(share, 1) : "\u2013",
    make("div", { class: "bar", "aria-hidden": "true" }, make("i", { style: `--share: ${share || 0}` })));
  const scores = counts.map((line, label) => {
    const others = line.map((count, guess) => (guess === label ? -1 : count)), worst = others.indexOf(Math.max(...others));
    return [named(run, label), whole(row[label]), score(line[label] / column[label]), score(line[label] / row[label]), others[worst] > 0 ? `${named(run, worst)} (${others[worst]} times)` : "\u2013"];
  });
  if (counts.length > 10) content("confusion").classList.remove("pair");
  content("confusion").append(heat, table(["class", "samples", "precision", "recall", "most often taken for"], scores, "scores"));
}

function wrong(run) {
  if (!run.wrong) return missing("wrong", run.why.wrong);
  const images = { ...run.wrong, bytes: bytes(run.wrong.bytes) };
  if (!run.wrong.rows.length) return missing("wrong", "No sample: the whole test set is classified right.");
  const tiles = make("div", { class: "tiles wrongs", style: "--columns: 8" });
  run.wrong.rows.forEach(([index, truth, guess, probability], at) => {
    const words = `Test image ${index}: is ${named(run, truth)}, guessed ${named(run, guess)} with ${percent(probability, 1)}`;
    const size = images.bytes.length / run.wrong.rows.length;
    const canvas = images.shape[0] ? picture(images, at, words, photo) : make("span", {}, `image ${index}`);
    const tile = run.weights ? make("button", { title: "Classify it in the drawing box", "data-index": index }, canvas) : canvas;
    if (run.weights) tile.addEventListener("click", () => window.classify(images.bytes.slice(at * size, (at + 1) * size), words));
    tiles.append(make("figure", {}, tile, make("figcaption", {}, `is ${named(run, truth)}, guessed ${named(run, guess)}`, make("small", {}, percent(probability, 1)))));
  });
  const lead = `The ${run.wrong.rows.length} test images whose wrong class has the highest probability under ${run.checkpoint}.${run.weights ? " Choose one to see all its probabilities." : ""}`;
  content("wrong").append(make("p", { class: "lead" }, lead), tiles);
}

const SECTIONS = { templates, confusion, wrong };
if (RUN) Object.entries(SECTIONS).forEach(([id, fillIn]) => byId(id) && fillIn(RUN));
