"use strict";
// A model of text: perplexity, bits per byte, and what it continues.

function perByte(run) {
  const { raw, averaged, why } = run.text;
  if (!raw) return make("p", { class: "missing" }, why);
  const words = (found) => `perplexity ${short(found.perplexity)}, ${short(found.bits_per_byte)} bits per byte`;
  const beside = averaged ? `; the averaged weights: ${words(averaged)}` : "";
  return make("p", { class: "lead" }, `${measuredWith(run)}: ${words(raw)}${beside}. Perplexity is exp(loss), bits per byte are loss / ln 2.`);
}

function text(run) {
  const { samples, no_samples: why } = run.text;
  content("text").append(perByte(run));
  if (!samples.length) return content("text").append(make("p", { class: "missing" }, why));
  const lead = `The first half of a few test blocks, and what ${run.checkpoint} continues them with: the likeliest byte each time.`;
  content("text").append(make("p", { class: "lead" }, lead));
  const cell = (words) => make("td", {}, make("code", {}, words));
  const lines = samples.map(([begin, model, truth]) => [make("code", {}, begin), cell(model), cell(truth)]);
  content("text").append(table(["the text begins", "the model continues", "the text continues"], lines, "continued"));
}

if (RUN && byId("text")) text(RUN);
