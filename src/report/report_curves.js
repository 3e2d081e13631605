"use strict";
// The curves: plain SVG, redrawn to the width they have, with one cursor for all.

const HEIGHT = 210, EDGES = { left: 52, right: 10, top: 18, bottom: 24 };
const watchers = []; // each is called with the step under the pointer, or null
const LAST_STEP = Math.max(1, ...PAGE.runs.flatMap((run) => [...run.curves.train.rows, ...run.curves.test.rows].map((row) => row[0])));

const point = (step) => watchers.forEach((watch) => watch(step));

function ticks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) + 0; at * step <= high + step * 1e-9; at += 1) found.push(at * step + 0);
  return found;
}

function logTicks(low, high) {
  const powers = Math.log10(high / low), found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += Math.ceil(powers / 6)) {
    for (const factor of powers > 3 ? [1] : [1, 2, 5]) found.push(factor * 10 ** power);
  }
  return found.filter((value) => value >= low && value <= high);
}

// The vertical axis: from a value to a share of the height, and its ticks.
function axis(values, zero) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (!zero && low > 0 && high / low > 25) {
    return { ticks: logTicks(low, high), share: (value) => Math.log(value / low) / Math.log(high / low) };
  }
  if (zero) low = Math.min(0, low);
  if (high === low) high = low + (Math.abs(low) || 1) * 0.1;
  if (!zero) [low, high] = [low - (high - low) * 0.05, high + (high - low) * 0.05];
  else high += (high - low) * 0.05;
  return { ticks: ticks(low, high, 4), share: (value) => (value - low) / (high - low) };
}

function nearest(points, step) {
  let [low, high] = [0, points.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] <= step) low = middle;
    else high = middle;
  }
  return Math.abs(points[low][0] - step) <= Math.abs(points[high][0] - step) ? points[low] : points[high];
}

function curve(points, x, y) {
  let path = "", pen = false;
  for (const [step, value] of points) {
    if (value === null || value === undefined) pen = false;
    else {
      path += `${pen ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = true;
    }
  }
  return path;
}

// series: [{ name, colour, points: [[step, value]], dots }]; format: a value as text, or for an axis whose ticks are so far `apart`.
function chart(title, series, format, zero = false) {
  series = series.filter((one) => one.points.some(([, value]) => value !== null));
  if (!series.length) return;
  const scale = axis(series.flatMap((one) => one.points.map(([, value]) => value)).filter((value) => value !== null), zero);
  const at = make("span", { class: "at" });
  const values = series.map(() => make("data", {}));
  const legend = make("ul", { class: "legend" }, ...series.map((one, index) => make("li", { class: `c${one.colour}` },
    make("i", { class: one.dashed ? "swatch dashed" : one.dots ? "swatch dots" : "swatch" }), `${one.name} `, values[index])));
  const frame = make("div");
  const figure = make("figure", { class: "chart" }, make("div", { class: "chart-head" }, make("h3", {}, title), at), legend, frame);
  content("curves").append(figure);
  const drawn = { svg: null, x: null };
  const draw = () => Object.assign(drawn, plot(frame, title, series, scale, format));
  watchers.push((step) => readOut(step, drawn, series, values, at, format));
  draw();
  new ResizeObserver(draw).observe(frame);
  readOut(null, drawn, series, values, at, format);
}

function plot(frame, title, series, scale, format) {
  const width = Math.max(240, frame.clientWidth || 480);
  const x = (step) => EDGES.left + (step / LAST_STEP) * (width - EDGES.left - EDGES.right);
  const y = (value) => HEIGHT - EDGES.bottom - scale.share(value) * (HEIGHT - EDGES.top - EDGES.bottom);
  const svg = make("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, tabindex: 0, role: "slider",
    "aria-label": summary(title, series, format), "aria-valuemin": 0, "aria-valuemax": LAST_STEP, "aria-valuenow": LAST_STEP, "aria-valuetext": "last step" });
  const apart = scale.ticks[1] - scale.ticks[0] || 1;
  for (const value of scale.ticks) {
    svg.append(make("line", { class: "grid", x1: EDGES.left, x2: width - EDGES.right, y1: y(value), y2: y(value) }),
      make("text", { x: EDGES.left - 8, y: y(value) + 4, "text-anchor": "end" }, format(value, apart)));
  }
  for (const step of ticks(0, LAST_STEP, width / 110)) {
    svg.append(make("text", { x: x(step), y: HEIGHT - 6, "text-anchor": "middle" }, whole(step)));
  }
  markAll(svg, x);
  for (const one of series) {
    const faint = one.points.length > 200 ? " faint" : "";
    svg.append(make("path", { class: `curve c${one.colour}${faint}${one.dashed ? " dashed" : ""}`, d: curve(one.points, x, y) }));
    if (one.points.length > 1 && !(one.dots && one.points.length <= 40)) continue;
    for (const [step, value] of one.points) {
      if (value !== null) svg.append(make("circle", { class: `dot c${one.colour}`, cx: x(step), cy: y(value), r: 3 }));
    }
  }
  svg.append(make("line", { class: "cursor", y1: EDGES.top, y2: HEIGHT - EDGES.bottom, visibility: "hidden" }));
  listen(svg, width);
  if (frame.contains(document.activeElement)) setTimeout(() => svg.focus());
  frame.replaceChildren(svg);
  return { svg, x };
}

// Where runs were interrupted, resumed or resized; numbered where there is one run, else in the run's colour.
function markAll(svg, x) {
  PAGE.runs.forEach((run, of) => run.marks.forEach((mark, number) => {
    const line = { x1: x(mark.step), x2: x(mark.step), y1: EDGES.top - 3, y2: HEIGHT - EDGES.bottom };
    const tip = make("title", {}, `step ${whole(mark.step)}: ${mark.text}`);
    svg.append(make("line", { class: RUN ? "mark" : `mark c${of % 8}`, ...line }, tip));
    if (RUN) svg.append(make("text", { class: "mark-label", x: x(mark.step), y: EDGES.top - 7 }, String(number + 1)));
  }));
}

// The pointer, a finger and the arrow keys choose the step.
function listen(svg, width) {
  const follow = (event) => {
    const box = svg.getBoundingClientRect(), along = ((event.clientX - box.left) * width) / box.width;
    point(Math.min(LAST_STEP, Math.max(0, ((along - EDGES.left) / (width - EDGES.left - EDGES.right)) * LAST_STEP)));
  };
  svg.addEventListener("pointermove", follow);
  svg.addEventListener("pointerdown", follow);
  // A finger leaves with each tap: what it pointed at stays.
  svg.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") point(null); });
  svg.addEventListener("blur", (event) => {
    if (!event.relatedTarget || !event.relatedTarget.closest(".chart")) point(null);
  });
  svg.addEventListener("keydown", (event) => {
    const now = Number(svg.getAttribute("aria-valuenow")), jump = LAST_STEP / 50;
    const to = { ArrowLeft: now - jump, ArrowRight: now + jump, Home: 0, End: LAST_STEP }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    point(Math.min(LAST_STEP, Math.max(0, to)));
  });
}

function readOut(step, drawn, series, values, at, format) {
  const found = series.map((one) => (step === null ? one.points.findLast(([, value]) => value !== null) : nearest(one.points, step)));
  found.forEach(([, value], index) => {
    values[index].textContent = value === null ? "not finite" : format(value);
    values[index].value = value === null ? "NaN" : value;
  });
  at.textContent = step === null ? "last" : `step ${whole(step)}`;
  const cursor = drawn.svg.querySelector(".cursor");
  cursor.setAttribute("visibility", step === null ? "hidden" : "visible");
  if (step !== null) ["x1", "x2"].forEach((end) => cursor.setAttribute(end, drawn.x(step)));
  drawn.svg.setAttribute("aria-valuenow", Math.round(step === null ? LAST_STEP : step));
  drawn.svg.setAttribute("aria-valuetext", `${at.textContent}: ${series.map((one, index) => `${one.name} ${values[index].textContent}`).join(", ")}`);
}

function summary(title, series, format) {
  const ends = series.map((one) => {
    const known = one.points.filter(([, value]) => value !== null);
    const [first, last] = [known[0], known[known.length - 1]];
    return `${one.name} from ${format(first[1])} at step ${whole(first[0])} to ${format(last[1])} at step ${whole(last[0])}`;
  });
  return `${title} over steps: ${ends.join("; ")}`;
}

const titled = (name) => (name[0].toUpperCase() + name.slice(1)).replace(/_/g, " ");

// Training columns with a chart of their own; the first one, the loss, shares its chart with the metric of its name.
const TRAINING = {
  grad_norm: ["Gradient norm before clipping", "norm", short, false],
  lr: ["Learning rate", "rate", short, true],
  samples_per_second: ["Samples per second since the start or resume", "mean", (value, apart) => (apart && value >= 1e4 ? `${short(value / 1000)}k` : whole(value)), true],
};

function curves() {
  const all = (kind, name, options) => PAGE.runs.flatMap((run, at) => {
    const { columns, rows } = run.curves[kind], column = columns.indexOf(name);
    if (column < 0) return [];
    return [{ colour: at % 8, ...options, name: RUN ? options.name : run.name + (options.dashed ? ", averaged" : ""), points: rows.map((row) => [row[0], row[column]]) }];
  });
  const trained = (name) => all("train", name, { name: "train" });
  const measured = [...new Set(PAGE.runs.map((run) => run.measured))].join(" or ");
  const raw = (name) => all("test", name, { name: measured, dots: true, ...(RUN && { colour: 1 }) });
  const averaged = (name) => all("test", `average_${name}`, { name: `${measured}, averaged weights`, dots: true, dashed: true, ...(RUN && { colour: 2 }) });
  const averages = new Set(PAGE.runs.flatMap((run) => run.averages));
  const tested = (name) => [...raw(name), ...(averages.has(`average_${name}`) ? averaged(name) : [])];
  const number = (value, apart) => (apart ? short(value) : value.toPrecision(4));
  const share = (value, apart) => percent(value, apart > 0.0099 ? 0 : apart > 0.00099 ? 1 : 2);
  const names = [...new Set(PAGE.runs.flatMap((run) => run.curves.test.columns.slice(2).filter((name) => !run.averages.includes(name))))];
  const format = (name) => (PAGE.runs.some((run) => run.shares.includes(name)) ? share : number);
  const loss = PAGE.runs[0].curves.train.columns[1], shared = RUN && names.includes(loss);
  chart(shared ? titled(loss) : `Training ${loss}`, [...trained(loss), ...(shared ? tested(loss) : [])], number);
  for (const name of names) if (!(shared && name === loss)) chart(`${titled(name)} on the ${measured} set`, tested(name), format(name));
  for (const [name, [title, label, text, zero]] of Object.entries(TRAINING)) chart(title, all("train", name, { name: label }), text, zero);
  if (!content("curves").childElementCount) missing("curves", "No line in metrics.jsonl yet: the first one comes after log.every steps.");
  if (RUN) byId("curves").querySelector(".marks").append(...RUN.marks.map((mark) => make("li", {}, `Step ${whole(mark.step)}: ${mark.text}`)));
}

curves();
