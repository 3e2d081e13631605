"use strict";
// What all of the page uses, and its text: headline, what differs, life, settings, provenance.

const PAGE = JSON.parse(document.getElementById("facts").textContent);
const RUN = PAGE.runs.length === 1 ? PAGE.runs[0] : null;

const byId = (id) => document.getElementById(id);
const content = (id) => document.querySelector(`#${id} .content`);

// An element with attributes and children; text is never read as HTML.
function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "line", "path", "circle", "text", "title", "rect"].includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function missing(id, why) {
  content(id).replaceChildren(make("p", { class: "missing" }, why));
}

const whole = (value) => Number(value).toLocaleString("en", { maximumFractionDigits: 0 });
const percent = (share, decimals = 2) => `${(100 * share).toFixed(decimals)} %`;
const moment = (time) => String(time || "").slice(0, 19).replace("T", " ");

function short(value) {
  if (value === null || value === undefined) return "";
  const size = Math.abs(value);
  if (size >= 1000) return whole(value);
  return size && size < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

function duration(seconds) {
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60), Math.round(seconds % 60)];
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${rest} s` : `${rest} s`;
}

const ranks = (run) => (run.worlds.length ? run.worlds.join(" \u2192 ") : "?");
const outcome = (run) => (run.result ? run.result.value + run.result.of : "");
const embeddedData = (run) => run.data.embedded;

function state(run) {
  if (run.state === "preempted") return `stopped${run.reason ? ` (${run.reason})` : ""}`;
  if (run.state === "killed") return `killed: its process is gone, and wrote nothing after ${moment(run.seen)}`;
  if (run.state === "running") {
    const unseen = run.unseen && ` as ${run.unseen}; whether it still runs cannot be seen from where this page was made`;
    return `running at ${moment(run.seen)}${unseen}`;
  }
  return run.reason ? `${run.state}: ${run.reason}` : run.state;
}

function warn() {
  const embedded = PAGE.runs.filter(embeddedData);
  if (!embedded.length) return;
  const who = RUN ? "this run" : embedded.map((run) => run.name).join(", ");
  const replaced = embedded.find((run) => run.data.note);
  byId("warning").textContent = `Not ${embedded[0].data.embedded}: ${who} trained on the embedded ${embedded[0].data.name}, which this job renders itself.`;
  if (replaced) byId("warning").append(make("small", {}, `Another data set was asked for: ${replaced.data.note}.`));
  byId("warning").hidden = false;
}

function headline(run) {
  const box = make("div", { class: "headline" });
  byId("headline").append(box);
  if (!run.result) {
    box.append(make("p", { class: "percent" }, "Not evaluated yet", make("small", {}, "the first evaluation comes after evaluate.every_epochs or evaluate.every_steps")));
    return;
  }
  const { epoch, name, value, of, text, others, on } = run.result, chosen = on !== run.measured;
  const when = chosen ? `with ${run.checkpoint}` : `after epoch ${epoch} of ${run.epochs}`;
  const detail = make("small", {}, `${text ? name : ""} on the ${run.data.name} ${on} set ${when}${others && `, ${others}`}`.trim());
  if (run.best && (chosen || !run.best.is_last)) detail.append(`; best ${chosen ? `${run.measured} ` : ""}${run.best.text} after epoch ${run.best.epoch}`);
  box.append(
    make("p", { class: "result" }, value, make("span", { class: "of" }, of)),
    make("p", { class: "percent" }, text || name, detail),
  );
}

function keyFacts(run) {
  const times = run.attempts > 1 ? ` in ${run.attempts} attempts` : "";
  const facts = [
    ["Data set", embeddedData(run) ? `${run.data.name} (embedded, not ${run.data.embedded})` : run.data.name],
    ["State", state(run)],
    ["World size", run.worlds.length ? `${ranks(run)} rank${run.worlds.join() === "1" ? "" : "s"}` : "?"],
    ["Training speed", run.samples_per_second ? `${whole(run.samples_per_second)} samples/s` : "not measured yet"],
    ["Wall time", duration(run.wall_seconds) + times],
    ["Steps", whole(run.step)],
  ];
  if (run.saved) facts.push(["Newest checkpoint", `step ${whole(run.saved.step)}, ${moment(run.saved.time)}`]);
  if (run.goes_on) facts.push(["To go on", run.goes_on]);
  if (run.text && run.text.raw) facts.push(["Perplexity", short(run.text.raw.perplexity)], ["Bits per byte", short(run.text.raw.bits_per_byte)]);
  if (run.result && run.result.averaged) facts.push(["Averaged weights", run.result.averaged]);
  if (run.weights_sha256) facts.push(["SHA-256 of the final weights", run.weights_sha256]);
  for (const [name, value] of facts) {
    const hash = name.startsWith("SHA");
    const cell = make("dd", hash ? { class: "hash" } : {}, value);
    byId("key-facts").append(make("div", hash || name.startsWith("Averaged") || value.length > 40 ? { class: "wide" } : {}, make("dt", {}, name), cell));
  }
}

function reproduce(run) {
  if (!run.command) return;
  const git = run.provenance.git;
  const code = git ? `, at commit ${git.commit.slice(0, 10)}${git.dirty ? " with changes" : ""}` : "";
  byId("command").append(make("h3", {}, `To reproduce it${code}`), make("pre", {}, make("code", {}, run.command)));
}

function table(head, rows, className = "") {
  const cell = (tag, value, attributes) => (value instanceof Node && value.tagName === "TD" ? value : make(tag, attributes, value));
  return make("table", { class: className },
    make("thead", {}, make("tr", {}, ...head.map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, cell("th", row[0], { scope: "row" }), ...row.slice(1).map((value) => cell("td", value, {}))))));
}

function compare() {
  const columns = [
    ["result", outcome], ["best", (run) => (run.best ? `${run.best.text} (epoch ${run.best.epoch})` : "")],
    ["state", state], ["data", (run) => run.data.name], ["ranks", ranks],
    ["samples/s", (run) => (run.samples_per_second ? whole(run.samples_per_second) : "")],
    ["wall time", (run) => duration(run.wall_seconds)],
  ];
  const averaged = (run) => (run.result ? run.result.averaged : "");
  if (PAGE.runs.some(averaged)) columns.splice(2, 0, ["averaged weights", averaged]);
  const settings = new Map(PAGE.runs.map((run) => [run, new Map(run.config.map(([key, value]) => [key, [].concat(value).join(", ")]))]));
  for (const key of new Set(PAGE.runs.flatMap((run) => [...settings.get(run).keys()]))) { // another model has other keys
    const value = (run) => settings.get(run).get(key) ?? "\u2013";
    if (!/^(run|data)\./.test(key) && new Set(PAGE.runs.map(value)).size > 1) columns.push([key, value]);
  }
  const origins = [
    ["commit", (run) => (run.provenance.git ? run.provenance.git.commit.slice(0, 10) + (run.provenance.git.dirty ? " + changes" : "") : "")],
    ["torch", (run) => run.provenance.torch || ""], ["devices", (run) => [...new Set(run.provenance.devices || [])].join(", ")],
  ];
  columns.push(...origins.filter(([, value]) => new Set(PAGE.runs.map(value)).size > 1));
  columns.push(["weights", (run) => run.weights_sha256.slice(0, 12)]);
  const name = (run, at) => make("span", { class: `c${at % 8}` }, make("i", { class: "swatch" }), run.name);
  content("compare").append(table(["run", ...columns.map(([head]) => head)], PAGE.runs.map((run, at) => [name(run, at), ...columns.map(([, value]) => value(run))]), "legend-table"));
}

function life(run) {
  if (!run.life.length) return missing("life", "Nothing has happened yet.");
  const rows = run.life.map((event) => {
    const bad = ["failed", "killed", "damaged", "checkpoint failed", "stop"].includes(event.event);
    return [moment(event.time), make("td", bad ? { class: "bad" } : {}, event.text), event.step === null || event.step === undefined ? "" : whole(event.step), event.world_size || ""];
  });
  content("life").append(table(["when", "what", "step", "ranks"], rows, "life"));
}

function seconds(run) {
  if (!run.seconds.length) return;
  content("life").append(
    make("h3", {}, "Where the time of each rank went, in seconds"),
    table(["rank", "computing", "waiting for others", "waiting for data", "saving"], run.seconds, "life"));
}

function settings(run) {
  for (const [key, value, standard] of run.config) {
    const changed = JSON.stringify(value) !== JSON.stringify(standard);
    const text = Array.isArray(value) ? value.join(", ") : String(value);
    content("settings").append(make("div", changed ? { class: "changed" } : {}, make("dt", {}, key), make("dd", {}, text || "\u2013")));
  }
}

function provenance(run) {
  const list = make("dl", { class: "provenance" });
  const add = (name, value) => {
    if (value === null || value === undefined || value === "") return;
    if (Array.isArray(value)) return add(name, [...new Set(value)].join(", "));
    if (typeof value === "object") return Object.entries(value).forEach(([inner, below]) => add(`${name} ${inner}`, below));
    list.append(make("dt", {}, name.replace(/_/g, " ")), make("dd", /[0-9a-f]{40}/.test(value) ? { class: "hash" } : {}, String(value)));
  };
  Object.entries(run.provenance).forEach(([name, value]) => add(name, value));
  if (list.childElementCount) content("provenance").append(list);
  else missing("provenance", "provenance.json is not there yet.");
}

// Sections that do not fit the model or its data are taken away, and one line says why.
function takeAway(unfit) {
  Object.keys(unfit).forEach((id) => byId(id).remove());
  byId("unfit").textContent = `Not on this page: ${Object.values(unfit).join(" ")}`;
  byId("unfit").hidden = !Object.keys(unfit).length;
}

function fill() {
  const names = PAGE.runs.map((run) => run.name).join(", ");
  document.title = RUN ? `${names}${RUN.result ? `: ${outcome(RUN)}` : ""}` : `Compared: ${names}`;
  byId("kicker").textContent = RUN ? "Training run" : `Comparison of ${PAGE.runs.length} training runs`;
  byId("name").textContent = names;
  byId("made").textContent = `Made ${moment(PAGE.made)} from ${PAGE.runs.map((run) => run.path).join(", ")}. Nothing on this page leaves it.`;
  warn();
  byId("compare").hidden = Boolean(RUN);
  byId("key-facts").hidden = !RUN;
  if (RUN) takeAway(RUN.unfit);
  if (RUN) [headline, keyFacts, reproduce, life, seconds, settings, provenance].forEach((write) => write(RUN));
  else {
    compare();
    ["draw", "templates", "confusion", "wrong", "text", "life", "settings", "provenance"].forEach((id) => byId(id).remove());
  }
  for (const section of document.querySelectorAll("section:not([hidden])")) {
    byId("sections").append(make("a", { href: `#${section.id}` }, section.querySelector("h2").textContent));
  }
}

fill();
