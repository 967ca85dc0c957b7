// The tables are in the page already. This sorts and filters their rows, draws the figures and opens records.
// Whatever comes from a record is set as text, never as HTML.

const SVG = "http://www.w3.org/2000/svg";
const one = (selector, inside = document) => inside.querySelector(selector);
const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];

// An element with attributes and children; texts among the children stay texts.
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawn(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const short = (value) => Number(value.toPrecision(3)).toLocaleString("en", { maximumSignificantDigits: 3 });

// ---- light and dark

const theme = one("#theme");
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (systemDark.matches ? "dark" : "light")) === "dark";
const sayTheme = () => theme.setAttribute("aria-pressed", isDark());
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  sayTheme();
});
systemDark.addEventListener("change", sayTheme);
sayTheme();

// ---- sorting: numbers fall first, names rise first, what is missing stays at the end

const names = new Intl.Collator("en", { numeric: true });

function sort(head, table) {
  const heads = all("thead button", table).map((button) => button.parentElement);
  const isKey = head.classList.contains("key");
  const turn = { ascending: "descending", descending: "ascending" };
  const order = turn[head.getAttribute("aria-sort")] ?? (isKey ? "ascending" : "descending");
  for (const each of heads) each.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const key = (row) => {
    const text = row.cells[heads.indexOf(head)].textContent;
    return isKey ? text : parseFloat(text.replaceAll(",", ""));
  };
  const compare = (a, b) => {
    if (isKey) return sign * names.compare(a, b);
    return Number.isNaN(a) - Number.isNaN(b) || (Number.isNaN(a) ? 0 : sign * (a - b));
  };
  for (const body of table.tBodies) {
    const keyed = [...body.rows].map((row) => [key(row), row]);
    body.append(...keyed.sort(([a], [b]) => compare(a, b)).map(([, row]) => row));
  }
}

for (const table of all("table")) {
  one("thead", table).addEventListener("click", (event) => {
    const head = event.target.closest("button")?.parentElement;
    if (head) sort(head, table);
  });
}

// ---- the records and figures, packed

const packed = Uint8Array.from(atob(one("#data").textContent), (letter) => letter.charCodeAt(0));
const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
const { sections, cells, figures } = await new Response(unpacked).json();

// ---- filters and figure of a suite

all("section.suite").forEach((section, number) => {
  const [filters, axes] = all("form", section);
  const rows = all("tbody tr", section);
  const figure = figures[number];
  const shown = () => figure.rows.map((row, i) => ({ ...row, i })).filter(({ i }) => !rows[i].hidden);
  const redraw = () => axes && draw(section, number, figure, shown(), axes.elements);
  const published = one("[name=published]", filters);

  const filter = () => {
    const words = one("input[type=search]", filters).value.toLowerCase().split(/\s+/);
    const wanted = all("select", filters).filter((select) => select.value !== "*");
    for (const row of rows) {
      const name = row.cells[0].textContent.toLowerCase();
      // A published row has no protocol, say, so that a choice of one leaves it where it is.
      const said = (select) => row.getAttribute(`data-${select.dataset.axis}`) ?? select.value;
      const fits = wanted.every((select) => said(select) === select.value);
      row.hidden = !(fits && words.every((word) => name.includes(word)));
    }
    if (published) one("tbody.apart", section).hidden = !published.checked;
    for (const box of all("fieldset input", filters)) {
      for (const cell of all(`.table [data-group="${Number(box.value)}"]`, section)) cell.hidden = !box.checked;
    }
    const seen = rows.filter((row) => !row.hidden && !row.parentElement.hidden);
    one("output", filters).textContent = `${seen.length} of ${rows.length} rows`;
    redraw();
  };
  filters.addEventListener("input", filter);
  axes?.addEventListener("input", redraw);
  for (const form of all("form", section)) form.addEventListener("submit", (event) => event.preventDefault());
  if (axes) new ResizeObserver(redraw).observe(one(".plot", section));
  filter();
});

// A place on an axis for every value, and its ticks. Zero has no logarithm and stands left of a gap.
function scale(values, from, to, logarithmic) {
  const positive = values.filter((value) => value > 0);
  const log = logarithmic && positive.length > 0 && !values.some((value) => value < 0);
  const zero = Math.min(...positive) / 4;
  const at = (value) => (log ? Math.log10(value || zero) : value);
  let [low, high] = [Math.min(...values.map(at)), Math.max(...values.map(at))];
  const margin = (high - low || 1) * 0.08;
  [low, high] = [low - margin, high + margin];
  const place = (value) => from + ((at(value) - low) / (high - low)) * (to - from);
  if (!log) return { place, ticks: even(low, high) };
  const steps = high - low > 2.5 ? [1] : [1, 2, 5];
  const ticks = [];
  for (let power = Math.floor(low); power <= high; power++) {
    for (const step of steps) {
      const value = step * 10 ** power;
      const clear = !values.includes(0) || value > 1.8 * zero;
      if (Math.log10(value) >= low && Math.log10(value) <= high && clear) ticks.push(value);
    }
  }
  return { place, ticks: values.includes(0) ? [0, ...ticks] : ticks };
}

function even(low, high) {
  const rough = (high - low) / 6;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const ticks = [];
  for (let n = Math.ceil(low / step); n * step <= high; n++) ticks.push(n * step);
  return ticks;
}

function draw(section, number, figure, rows, { x: acrossChoice, y: upChoice, log }) {
  const plot = one(".plot", section);
  const [width, height] = [plot.clientWidth, plot.clientHeight];
  const [across, up] = [figure.axes[acrossChoice.value], figure.axes[upChoice.value]];
  const points = rows
    .map((row) => ({ ...row, x: across[2][row.i], y: up[2][row.i] }))
    .filter((point) => point.x !== null && point.y !== null);
  const caption = one("figcaption", section);
  if (!points.length) {
    plot.replaceChildren();
    caption.textContent = "No row that is shown has both values.";
    return;
  }
  const spread = (values) => Math.max(...values) > 8 * Math.min(...values.filter((value) => value > 0));
  const isLog = (axis, values) => log.checked && !axis[0].includes("(%)") && spread(values);
  const [left, right, top, bottom] = [58, 14, 14, 50];
  const horizontal = scale(points.map((p) => p.x), left, width - right, isLog(across, points.map((p) => p.x)));
  const vertical = scale(points.map((p) => p.y), height - bottom, top, isLog(up, points.map((p) => p.y)));
  for (const point of points) [point.h, point.v] = [horizontal.place(point.x), vertical.place(point.y)];

  const svg = drawn("svg", { width, height, role: "group", "aria-label": `${up[0]} against ${across[0]}` });
  let last = -Infinity;
  for (const tick of horizontal.ticks) {
    const h = horizontal.place(tick);
    svg.append(drawn("line", { class: "grid", x1: h, x2: h, y1: top, y2: height - bottom }));
    if (h - last < 34) continue;
    last = h;
    svg.append(drawn("text", { class: "tick", x: h, y: height - bottom + 16, "text-anchor": "middle" }, short(tick)));
  }
  for (const tick of vertical.ticks) {
    const v = vertical.place(tick);
    svg.append(drawn("line", { class: "grid", x1: left, x2: width - right, y1: v, y2: v }));
    svg.append(drawn("text", { class: "tick", x: left - 8, y: v + 4, "text-anchor": "end" }, short(tick)));
  }
  const middle = (left + width - right) / 2;
  svg.append(drawn("text", { x: middle, y: height - 10, "text-anchor": "middle" }, across[0]));
  const turned = { transform: `translate(14 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" };
  svg.append(drawn("text", turned, up[0]));

  const front = paretoFront(points, across[1], up[1]);
  const path = front.map((point, i) => `${i ? "L" : "M"}${point.h} ${point.v}`).join("");
  svg.append(drawn("path", { class: "front", d: path }));
  for (const point of points) point.box = [point.h - 7, point.v - 7, point.h + 7, point.v + 7];
  const taken = points.map((point) => point.box);
  const behind = points.filter((point) => !front.includes(point));
  for (const point of [...front, ...behind]) {
    const said = `${point.label}: ${up[0]} ${short(point.y)}, ${across[0]} ${short(point.x)}`;
    const link = drawn("a", { href: `#${number}-${point.i}`, class: front.includes(point) ? "ahead" : "behind" });
    const mark = drawn("g", { class: point.family, transform: `translate(${point.h} ${point.v})` });
    mark.append(point.family ? drawn("use", { href: `#mark-${point.family}` }) : drawn("circle", { r: 4 }));
    link.setAttribute("aria-label", said);
    link.append(drawn("title", {}, said), mark);
    const name = label(point, taken, [left, top, width - right, height - bottom]);
    if (name) link.append(name);
    svg.append(link);
  }
  plot.replaceChildren(svg);
  const better = (axis) => `${axis[1] ? "more" : "less"} is better`;
  caption.textContent =
    `Pareto front, from left to right: ${front.map((point) => point.label).join(", ")}. ` +
    `Up: ${better(up)}; across: ${better(across)}. A point leads to its row.`;
}

// Those that no other point beats in one of the two and at least equals in the other, from left to right.
function paretoFront(points, moreAcross, moreUp) {
  const gain = (a, b) => [moreAcross ? a.x - b.x : b.x - a.x, moreUp ? a.y - b.y : b.y - a.y];
  const beats = (a, b) => {
    const gains = gain(a, b);
    return gains.every((value) => value >= 0) && gains.some((value) => value > 0);
  };
  return points.filter((point) => !points.some((other) => beats(other, point))).sort((a, b) => a.x - b.x || a.y - b.y);
}

// The name of a point, where it covers neither another name nor another point; else none, as the tooltip says it.
function label(point, taken, [left, top, right, bottom]) {
  const [wide, high] = [point.label.length * 6.4, 13];
  const places = [
    [10, 4, "start", 10],
    [-10, 4, "end", -10 - wide],
    [0, -10, "middle", -wide / 2],
    [0, 19, "middle", -wide / 2],
  ];
  for (const [right_, down, anchor, start] of places) {
    const box = [point.h + start, point.v + down - 10, point.h + start + wide, point.v + down + high - 10];
    const inside = box[0] >= left && box[1] >= top && box[2] <= right && box[3] <= bottom;
    const free = taken.every(
      (other) => box[0] >= other[2] || other[0] >= box[2] || box[1] >= other[3] || other[1] >= box[3] || other === point.box,
    );
    if (inside && free) {
      taken.push(box);
      return drawn("text", { class: "name", x: point.h + right_, y: point.v + down, "text-anchor": anchor }, point.label);
    }
  }
  return null;
}

// ---- the record behind a cell

const dialog = one("#record");
one("main").addEventListener("click", (event) => {
  const button = event.target.closest("[data-cell]");
  if (button) open(cells[Number(button.dataset.cell)]);
});
one("#close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

function open(cell) {
  one("#record-title").textContent = cell.title;
  one("#record-place").textContent = cell.place;
  one("#record-body").replaceChildren(...(cell.tasks ? [breakdown(cell)] : record(cell)));
  if (dialog.open) one("#close").focus();
  else dialog.showModal();
  dialog.scrollTop = 0;
}

// The tasks that a mean is made of, each of which opens its own records.
function breakdown({ tasks, seeds, text }) {
  const head = element("tr", {}, ...["task", "group", "score"].map((name, i) => element("th", { scope: "col", ...(i < 2 ? { class: "key" } : {}) }, name)));
  const rows = tasks.map(([group, number]) => {
    const button = element("button", { type: "button" }, cells[number].task);
    button.addEventListener("click", () => open(cells[number]));
    const name = element("th", { scope: "row" }, button);
    return element("tr", {}, name, element("td", { class: "key" }, group), element("td", {}, cells[number].text));
  });
  const ends = [...seeds.map(([seed, value]) => [`seed ${seed}`, value.toFixed(2)]), ["mean", text]];
  const sums = ends.map(([name, value]) => element("tr", {}, element("th", { scope: "row" }, name), element("td"), element("td", {}, value)));
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows), element("tbody", { class: "apart" }, ...sums));
  return element("div", { class: "table", tabindex: 0, role: "region", "aria-label": "Scores by task" }, table);
}

function record({ runs, pictures, commands }) {
  const failed = runs.filter((run) => run.reason || run.log);
  return [
    seeds(runs),
    ...failed.flatMap(why),
    ...(pictures ? answers(pictures) : []),
    ...curves(runs),
    element("h3", {}, "To repeat it"),
    ...commands.map(command),
    element("h3", {}, "Settings"),
    ...settings(runs),
  ];
}

function seeds(runs) {
  const metrics = [...new Set(runs.flatMap((run) => Object.keys(run.scores)))];
  const some = (key) => runs.some((run) => run[key] !== null);
  const columns = [
    ["seed", (run) => run.seed],
    ...metrics.map((metric) => [`${metric.replaceAll("_", " ")} (%)`, (run) => run.scores[metric]]),
    ["state", (run) => run.state],
    ["total (s)", (run) => run.seconds.total],
    ["training (s)", (run) => run.seconds.fit],
    ...(some("memory") ? [["peak memory (MiB)", (run) => run.memory && Math.round(run.memory / 2 ** 20)]] : []),
    ...(some("energy") ? [["energy (J)", (run) => run.energy]] : []),
    ["started", (run) => run.started.slice(0, 16).replace("T", " ")],
  ];
  const cell = ([name, value], run) => {
    const text = String(value(run) ?? "—");
    return element("td", name === "state" && text !== "done" ? { class: "bad" } : {}, text);
  };
  const head = element("tr", {}, ...columns.map(([name]) => element("th", { scope: "col" }, name)));
  const body = runs.map((run) => element("tr", {}, ...columns.map((column) => cell(column, run))));
  const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
  const wrapped = element("div", { class: "table", tabindex: 0, role: "region", "aria-label": "Scores by seed" }, table);
  const files = element("pre", {}, runs.map((run) => run.file).join("\n"));
  return element("div", {}, element("h3", {}, "Scores"), wrapped, files);
}

function why(run) {
  const log = run.log ? [element("pre", {}, run.log)] : [];
  return [element("h3", {}, `Seed ${run.seed}: ${run.state}`), element("p", { class: "bad" }, run.reason), ...log];
}

// What a run drew, of one seed. The images are in the page; a picture that is wider than a phone scrolls by itself.
function answers({ seed, panels, folder, images }) {
  const side = `from left to right: ${panels}`;
  const shown = images.map(([address, width, height], i) => {
    const alt = `Scored image ${i + 1}, ${side}`;
    const image = element("img", { src: address, width, height, alt, decoding: "async" });
    return element("div", { class: "picture", tabindex: 0, role: "region", "aria-label": alt }, image);
  });
  const said = images.length ? `Each ${side}. All are in ${folder}.` : `Left out of this page; they are in ${folder}.`;
  const title = `Seed ${seed}: the first ${images.length || ""} scored images`.replace("  ", " ");
  const inside = [element("summary", {}, title), element("p", { class: "faint" }, said), ...shown];
  return [element("h3", {}, "Drawn answers"), element("details", {}, ...inside)];
}

function curves(runs) {
  if (!runs.some((run) => run.at.length > 1)) return [];
  const keys = [...new Set(runs.flatMap((run) => Object.keys(run.curves)))];
  const charts = element("div", { class: "charts" }, ...keys.map((key) => chart(runs.filter((run) => run.curves[key]), key)));
  return [element("h3", {}, "Training"), charts];
}

function chart(runs, key) {
  const [width, height, left, right, top, bottom] = [400, 210, 46, 10, 24, 32];
  const [title] = runs[0].curves[key];
  const { unit } = runs[0];
  const drawable = runs.map((run) => run.at.map((at, i) => [at, run.curves[key][1][i]]).filter(([, value]) => value !== null));
  const values = drawable.flat();
  const svg = drawn("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title} by ${unit}` });
  svg.append(drawn("text", { x: left, y: 13 }, title));
  if (!values.length) return svg;
  const last = Math.max(...values.map(([at]) => at));
  const most = Math.max(...values.map(([, value]) => value)) || 1;
  const least = Math.min(0, ...values.map(([, value]) => value));
  const h = (at) => left + ((at - 1) / Math.max(1, last - 1)) * (width - left - right);
  const v = (value) => height - bottom - ((value - least) / (most - least)) * (height - top - bottom);
  for (const tick of even(least, most)) {
    svg.append(drawn("line", { class: "grid", x1: left, x2: width - right, y1: v(tick), y2: v(tick) }));
    svg.append(drawn("text", { class: "tick", x: left - 6, y: v(tick) + 4, "text-anchor": "end" }, short(tick)));
  }
  for (const tick of even(1, Math.max(2, last)).filter(Number.isInteger)) {
    svg.append(drawn("text", { class: "tick", x: h(tick), y: height - bottom + 15, "text-anchor": "middle" }, String(tick)));
  }
  svg.append(drawn("text", { class: "tick", x: width - right, y: height - 3, "text-anchor": "end" }, unit));
  drawable.forEach((curve, i) => {
    const points = curve.map(([at, value]) => `${h(at)},${v(value)}`).join(" ");
    const line = drawn("polyline", { class: `curve seed-${i % 4}`, points });
    line.append(drawn("title", {}, `seed ${runs[i].seed}`));
    svg.append(line);
    if (runs.length > 1 && left + title.length * 6 < width - right - runs.length * 64) {
      const at = width - right - (runs.length - i) * 64;
      svg.append(drawn("line", { class: `curve seed-${i % 4}`, x1: at, x2: at + 16, y1: 9, y2: 9 }));
      svg.append(drawn("text", { x: at + 20, y: 13 }, `seed ${runs[i].seed}`));
    }
  });
  return svg;
}

function command(text) {
  const copy = element("button", { type: "button", class: "copy" }, "Copy");
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(copy.previousSibling); // no clipboard for this page: the keys do it
      copy.textContent = "Selected";
    }
  });
  const words = text.split(/ (?=--)/).flatMap((word) => [element("span", { class: "word" }, word), " "]);
  return element("div", {}, element("pre", {}, ...words.slice(0, -1)), copy);
}

// Sections that several seeds share are shown once.
function settings(runs) {
  const seen = new Map();
  for (const run of runs) for (const id of run.sections) seen.set(id, [...(seen.get(id) ?? []), run.seed]);
  const ordered = [...seen].sort(([a], [b]) => order(a) - order(b));
  return ordered.map(([id, seeds]) => {
    const [title, rows] = sections[id];
    const some = seeds.length < runs.length ? ` (seed ${seeds.join(", ")})` : "";
    const list = element("dl", {}, ...rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
    const isOpen = ["Method", "Code"].includes(title) ? { open: "" } : {};
    return element("details", isOpen, element("summary", {}, title + some), list);
  });
}

const TITLES = [...new Set(sections.map(([title]) => title))];
const order = (id) => TITLES.indexOf(sections[id][0]);
