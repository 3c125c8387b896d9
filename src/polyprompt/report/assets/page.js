"use strict";
// What the page can do beyond being read: sort and filter tables, name the marks of figures by
// pointer and keyboard, zoom maps, choose the languages of a table of confusions, save.

const tip = document.getElementById("tip");
const make = (tag, text, properties = {}) =>
  Object.assign(document.createElement(tag), { textContent: text }, properties);

function save(name, type, text) {
  const link = make("a", "", { download: name, href: URL.createObjectURL(new Blob([text], { type })) });
  link.click();
  URL.revokeObjectURL(link.href);
}

// Tables ---------------------------------------------------------------------------------------

const number = (text) => {
  const found = text.replace(/[\u2212\u2013](?=\d)/g, "-").replace(/(?<=\d),(?=\d{3})/g, "").match(/[-+]?\d+(\.\d+)?/);
  return found ? Number(found[0]) : Number.NaN;
};

function compare(column, numeric, sign) {
  return (one, other) => {
    const [a, b] = [one, other].map((row) => row.cells[column].textContent.trim());
    if (!numeric) return sign * a.localeCompare(b);
    const [x, y] = [number(a), number(b)];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
    return sign * (x - y);
  };
}

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = make("button", head.textContent, { type: "button" });
    head.replaceChildren(button);
    const numeric = !head.className;
    button.addEventListener("click", () => {
      const first = numeric ? "descending" : "ascending";
      const second = numeric ? "ascending" : "descending";
      const order = head.getAttribute("aria-sort") === first ? second : first;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const rows = [...table.tBodies[0].rows];
      rows.sort(compare(column, numeric, order === "ascending" ? 1 : -1));
      table.tBodies[0].append(...rows);
    });
  });
}

function filterable(table, tools) {
  const rows = [...table.tBodies[0].rows];
  const field = make("input", "", { type: "search", placeholder: "e.g. Swahili, Latn" });
  const label = make("label", "Filter ");
  label.append(field);
  const told = make("span", "");
  told.setAttribute("role", "status");
  field.addEventListener("input", () => {
    const wanted = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !wanted.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    told.textContent = wanted.length ? `${shown} of ${rows.length} rows` : "";
  });
  tools.append(label, told);
}

function written(table) {
  const quoted = (cell) => `"${cell.textContent.trim().replaceAll('"', '""')}"`;
  return [...table.rows].map((row) => [...row.cells].map(quoted).join(",")).join("\n") + "\n";
}

for (const table of document.querySelectorAll("table")) {
  const tools = make("div", "", { className: "tools" });
  if (table.tBodies[0].rows.length > 1) sortable(table);
  if ("filter" in table.dataset) filterable(table, tools);
  const button = make("button", "CSV", { type: "button", title: "Save this table as CSV" });
  const name = table.caption.textContent;
  button.setAttribute("aria-label", `Save as CSV: ${name}`);
  button.addEventListener("click", () => save("table.csv", "text/csv", written(table)));
  tools.append(button);
  table.parentElement.before(tools);
}

// Figures --------------------------------------------------------------------------------------

function show(mark, x, y) {
  tip.textContent = mark.getAttribute("aria-label");
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 12, innerWidth - box.width - 4))}px`;
  tip.style.top = `${y + 18 + box.height > innerHeight ? y - box.height - 10 : y + 18}px`;
}

const hide = () => { tip.hidden = true; };
const isMark = (element) => element instanceof SVGElement && element.getAttribute("role") === "graphics-symbol";

function chosen(mark) {
  const code = mark.dataset.code;
  if (!code) return;
  document.querySelectorAll("tr.chosen").forEach((row) => row.classList.remove("chosen"));
  const part = mark.closest("section, details");
  const rows = [...part.querySelectorAll("tbody tr")];
  const row = rows.find((one) => [...one.cells].some((cell) => cell.textContent === code));
  if (!row) return;
  row.hidden = false;  // where the filter has left it out
  row.classList.add("chosen");
  row.scrollIntoView({ block: "center" });
}

function marked(drawing) {
  const marks = [...drawing.querySelectorAll("[role=graphics-symbol][aria-label]:not(g)")];
  if (!marks.length) return;
  let at = -1;
  marks.forEach((mark) => mark.setAttribute("tabindex", "-1"));
  drawing.addEventListener("pointermove", (event) => {
    if (isMark(event.target)) show(event.target, event.clientX, event.clientY);
    else hide();
  });
  drawing.addEventListener("pointerleave", hide);
  drawing.addEventListener("focusout", hide);
  drawing.addEventListener("click", (event) => { if (isMark(event.target)) chosen(event.target); });
  drawing.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") { hide(); drawing.focus(); return; }
    if (event.key === "Enter" && at >= 0) { chosen(marks[at]); return; }
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    at = at < 0 ? (step > 0 ? 0 : marks.length - 1) : (at + step + marks.length) % marks.length;
    marks[at].focus({ preventScroll: false });
    const box = marks[at].getBoundingClientRect();
    show(marks[at], box.right, box.bottom - 10);
  });
}

function zoomable(drawing, tools) {
  const frame = drawing.querySelector("svg.frame");
  if (!frame) return;
  const whole = frame.getAttribute("viewBox").split(" ").map(Number);
  let [x, y, width, height] = whole;
  const dots = [...frame.querySelectorAll("circle")].map((dot) => [dot, Number(dot.getAttribute("r")), Number(dot.getAttribute("stroke-width"))]);
  const place = () => {
    x = Math.max(0, Math.min(x, whole[2] - width));
    y = Math.max(0, Math.min(y, whole[3] - height));
    frame.setAttribute("viewBox", `${x} ${y} ${width} ${height}`);
    const scale = Math.sqrt(width / whole[2]) * (width / whole[2]) ** 0.25;
    for (const [dot, radius, line] of dots) {
      dot.setAttribute("r", radius * scale);
      dot.setAttribute("stroke-width", line * scale);
    }
  };
  const zoom = (factor, cx = x + width / 2, cy = y + height / 2) => {
    const next = Math.min(whole[2], Math.max(whole[2] / 16, width * factor));
    [x, y] = [cx - (cx - x) * (next / width), cy - (cy - y) * (next / width)];
    [width, height] = [next, next * (whole[3] / whole[2])];
    place();
  };
  const buttons = [["+", "Zoom in", () => zoom(0.6)], ["\u2212", "Zoom out", () => zoom(1 / 0.6)],
    ["Whole world", "Show the whole world", () => zoom(99)]];
  for (const [text, label, act] of buttons) {
    const button = make("button", text, { type: "button" });
    button.setAttribute("aria-label", label);
    button.addEventListener("click", act);
    tools.append(button);
  }
  let from = null;
  frame.addEventListener("pointerdown", (event) => { from = [event.clientX, event.clientY]; });
  addEventListener("pointerup", () => { from = null; });
  frame.addEventListener("pointermove", (event) => {
    if (!from || width === whole[2] || event.pointerType === "touch") return;
    const unit = width / frame.getBoundingClientRect().width;
    x -= (event.clientX - from[0]) * unit;
    y -= (event.clientY - from[1]) * unit;
    from = [event.clientX, event.clientY];
    place();
  });
  frame.addEventListener("dblclick", (event) => {
    const box = frame.getBoundingClientRect();
    zoom(0.6, x + ((event.clientX - box.left) / box.width) * width, y + ((event.clientY - box.top) / box.height) * height);
  });
}

function standing(svg) {
  const copy = svg.cloneNode(true);
  const style = getComputedStyle(document.getElementById("light"));  // a figure on its own is for paper
  const used = copy.querySelector("use");
  if (used) {
    const land = document.getElementById("land").cloneNode(true);
    used.replaceWith(land);
  }
  return new XMLSerializer().serializeToString(copy).replace(/var\((--[\w-]+)\)/g, (_, name) => style.getPropertyValue(name).trim());
}

for (const drawing of document.querySelectorAll(".drawing")) {
  const tools = make("div", "", { className: "tools" });
  marked(drawing);
  zoomable(drawing, tools);
  const button = make("button", "SVG", { type: "button", title: "Save this figure as SVG" });
  button.setAttribute("aria-label", `Save as SVG: ${drawing.getAttribute("aria-label")}`);
  button.addEventListener("click", () => save(`${drawing.dataset.name}.svg`, "image/svg+xml", standing(drawing.firstElementChild)));
  tools.append(button);
  drawing.before(tools);
}

// Confusions -----------------------------------------------------------------------------------

for (const part of document.querySelectorAll(".confusion")) {
  const counts = JSON.parse(part.querySelector("script").textContent);
  const rows = [...part.querySelectorAll("tbody tr")];
  const choice = part.querySelector("select");
  choice.addEventListener("change", () => {
    rows.forEach((row, index) => {
      const own = counts[choice.value][index];
      const sum = own.reduce((a, b) => a + b, 0);
      own.forEach((value, column) => { row.cells[column + 1].textContent = value; });
      row.cells[own.length + 1].textContent = sum ? `${Math.round((100 * own[index]) / sum)} %` : "\u2013";
    });
  });
}

// A link into a folded part opens it; so does printing.
function opened() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
}
addEventListener("hashchange", opened);
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
opened();
