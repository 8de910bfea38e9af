"use strict";
// One object at a time: the server proposes mask and colors, the person accepts or corrects.
const PAINT = {
  black: "#141414", white: "#f5f5f5", gray: "#878787", red: "#d72828", orange: "#f5821e",
  yellow: "#f5dc3c", green: "#32a046", blue: "#2869d7", purple: "#7d3ca5", pink: "#f58cbe",
  brown: "#784b28",
};
const DARK_INK = new Set(["white", "orange", "yellow", "pink"]);
const DOT_PX = 6;
const MAX_GROW = 100; // steps that the server takes, in both directions
const $ = (id) => document.getElementById(id);
const canvas = $("canvas"), pen = canvas.getContext("2d");
const page = { progress: null, object: null, picture: null, suggestion: null, clicks: [], grow: 0,
  label: "", colors: [], touched: false, sureTouched: false, peek: false, asked: 0, answered: 0, cut: null,
  fit: null, busy: false, failed: false };

function make(tag, text = "", kind = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

async function ask(path, method = "GET", body = null) {
  const options = { method, cache: "no-store" };
  if (body) Object.assign(options, { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
  const response = await fetch(path, options);
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.detail), { status: response.status });
  return answer;
}

// What goes wrong is said on the page; the next thing that works takes it away.
async function attempt(work) {
  try {
    await work();
    $("fault").hidden = true;
  } catch (error) {
    $("fault").textContent = error instanceof TypeError
      ? "The server does not answer: is edge-tools annotate still running? Saved answers are safe."
      : error.message;
    $("fault").hidden = false;
  }
}

const marks = () => ({ clicks: page.clicks, grow: page.grow });
const address = (index, what = "") => `/api/objects/${index}${what}`;
const isTerm = (name) => name in PAINT;

async function show(index) {
  const turn = ++page.asked;
  $("place").textContent = `object ${index + 1} of ${page.progress.total}`;
  Object.assign(page, { index, object: null, picture: null, suggestion: null, clicks: [], grow: 0, failed: false });
  tell("");
  draw();
  const found = await load(index).catch((error) => {
    if (turn === page.asked) showNone(index);
    throw error;
  });
  if (turn !== page.asked) return;
  const { object, picture } = found;
  Object.assign(page, { object, picture, clicks: [], grow: 0, touched: false, sureTouched: false });
  const from = object.saved || object.suggestion;
  page.touched = page.sureTouched = Boolean(object.saved);
  choose(from.label, from.colors);
  $("sure").checked = from.sure;
  $("cls").textContent = object.cls || "object";
  $("image").textContent = object.image;
  $("saved").textContent = object.saved ? `saved: ${object.saved.label}` : "";
  document.body.dataset.index = index;
  document.body.dataset.saved = object.saved ? object.saved.label : "";
  take(object.suggestion);
}

async function load(index) {
  const object = await ask(address(index));
  const picture = new Image();
  picture.src = address(index, "/picture.jpg");
  await picture.decode();
  return { object, picture };
}

// An object that cannot be shown has no answer; nothing of the one before stays beside it.
function showNone(index) {
  page.failed = true;
  choose("", []);
  showShares({ shares: {}, surfaces: [] });
  $("sure").checked = false;
  for (const id of ["cls", "image", "saved", "also"]) $(id).textContent = "";
  tell("cannot be shown: Enter goes on");
  Object.assign(document.body.dataset, { index, saved: "", outlines: 0 });
}

function take(suggestion) {
  page.suggestion = suggestion;
  page.answered = page.asked;
  if (!page.touched) choose(suggestion.label, suggestion.colors);
  if (!page.sureTouched) $("sure").checked = suggestion.sure;
  tell(hint(suggestion));
  document.body.dataset.outlines = suggestion.outlines.length;
  showShares(suggestion);
  draw();
}

function tell(text, isBusy = false) {
  $("hint").textContent = text;
  canvas.classList.toggle("busy", isBusy);
}

function hint(suggestion) {
  if (!suggestion.outlines.length) return page.clicks.length ? "nothing found there: click again" : "click on the object";
  return suggestion.is_guess ? "only a guess: click on the object" : "";
}

// One request at a time; what is marked meanwhile goes out in one request after its answer.
async function propose() {
  if (!page.object) return;
  const turn = ++page.asked;
  draw();
  tell("cutting…", true);
  await page.cut;
  if (turn !== page.asked) return;
  const cut = ask(address(page.index, "/mask"), "POST", marks());
  page.cut = cut.catch(() => { if (turn === page.asked) tell("not cut: click again"); });
  const suggestion = await cut;
  if (turn === page.asked) take(suggestion);
}

function showShares({ shares, surfaces }) {
  const parts = Object.entries(shares);
  $("shares").replaceChildren(...parts.map(([name, share]) => {
    const part = make("span", share >= 0.25 ? `${name} ${Math.round(100 * share)} %` : "");
    Object.assign(part.style, { flexGrow: share, flexBasis: 0, background: PAINT[name], color: DARK_INK.has(name) ? "#000" : "#fff" });
    part.title = `${name} ${(100 * share).toFixed(1)} %`;
    return part;
  }));
  $("shares").setAttribute("aria-label", parts.map(([name, share]) => `${name} ${Math.round(100 * share)} percent`).join(", "));
  $("surfaces").replaceChildren(...surfaces.slice(0, 6).map((one) => {
    const line = make("li"), patch = make("i");
    patch.style.background = one.color;
    line.title = `CIELAB ${one.lab.join(", ")}`;
    line.append(patch, `${Math.round(100 * one.share)} % ${one.name}`);
    return line;
  }));
}

function choose(label, colors) {
  page.label = label;
  page.colors = [...colors];
  for (const button of $("terms").children) {
    const { name } = button.dataset;
    button.setAttribute("aria-checked", name === label);
    button.classList.toggle("further", name !== label && page.colors.includes(name));
  }
  const further = page.colors.filter((name) => name !== label);
  $("also").textContent = further.length ? `further: ${further.join(", ")}` : "no further color (shift and its letter)";
}

// A term of the person's own: what it displaces does not stay as a further color unless it was one.
function pick(name) {
  const further = page.colors.filter((color) => color !== name && color !== page.label);
  page.touched = true;
  choose(name, isTerm(name) ? [name, ...further] : name === "mixed" ? page.colors : []);
}

function toggle(name) {
  if (!isTerm(name) || name === page.label) return;
  page.touched = true;
  choose(page.label, page.colors.includes(name) ? page.colors.filter((one) => one !== name) : [...page.colors, name]);
}

async function accept() {
  if (page.failed) return goOn();
  if (!page.object || !page.label || page.busy) return;
  if (page.answered !== page.asked && !page.touched) return; // the colors shown are those before the click
  page.busy = true; // a second Enter must not answer for the next object
  try {
    const answer = { label: page.label, colors: page.colors, sure: $("sure").checked, marks: marks(), revision: page.object.revision };
    page.progress = await ask(address(page.index, "/label"), "PUT", answer).catch(showOutdated);
    showProgress();
    await show(page.progress.next ?? page.index);
  } finally {
    page.busy = false;
  }
}

// Another tab was first: show what it saved beside the note that ours was not.
async function showOutdated(error) {
  if (error.status === 409) {
    page.progress = await ask("/api/progress");
    showProgress();
    await show(page.index);
  }
  throw error;
}

async function goOn() {
  page.progress = await ask(`/api/progress?after=${page.index}`);
  showProgress();
  await show(page.progress.next ?? page.index);
}

async function undo() {
  if (page.clicks.length || page.grow) {
    if (page.grow) page.grow = 0;
    else page.clicks.pop();
    return propose();
  }
  const { index } = await ask("/api/undo", "POST");
  if (index === null) throw new Error("nothing to undo: no answer since the start of the command");
  page.progress = await ask("/api/progress");
  showProgress();
  await show(index);
}

function showProgress() {
  const { labelled, total, title } = page.progress;
  $("title").textContent = title;
  $("progress-text").textContent = labelled === total ? `all ${total} labelled` : `${labelled} of ${total} labelled`;
  $("progress-fill").style.width = `${(100 * labelled) / total}%`;
  $("progress").setAttribute("aria-valuemax", total);
  $("progress").setAttribute("aria-valuenow", labelled);
  document.body.dataset.labelled = labelled;
  for (const button of $("terms").children) {
    button.querySelector("em").textContent = page.progress.counts[button.dataset.name] || "";
  }
}

// After a click with the mouse the keys belong to the page again, not to the button.
function leave(event) {
  if (event.detail) event.currentTarget.blur();
}

function makeTerms() {
  $("terms").replaceChildren(...page.progress.answers.map(({ name, letter, digit }) => {
    const button = make("button"), patch = make("i");
    patch.style.background = PAINT[name] || "transparent";
    button.dataset.name = name;
    button.setAttribute("role", "radio");
    button.append(patch, make("span", name), make("em"), make("kbd", digit ? `${letter.toUpperCase()} ${digit}` : letter.toUpperCase()));
    button.addEventListener("click", (event) => {
      leave(event);
      if (event.shiftKey) toggle(name);
      else pick(name);
    });
    return button;
  }));
}

function place() {
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth, clientHeight } = canvas;
  canvas.width = clientWidth * ratio;
  canvas.height = clientHeight * ratio;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  const { width, height } = page.object;
  const scale = Math.min(clientWidth / width, clientHeight / height);
  page.fit = { left: (clientWidth - width * scale) / 2, top: (clientHeight - height * scale) / 2, width: width * scale, height: height * scale };
}

function draw() {
  if (!page.picture || !page.object) {
    pen.clearRect(0, 0, canvas.width, canvas.height);
    return;
  }
  place();
  const { left, top, width, height } = page.fit;
  pen.imageSmoothingQuality = "high";
  pen.drawImage(page.picture, left, top, width, height);
  drawBox(page.fit, page.object.box);
  if (!page.peek) drawMask(page.fit);
  for (const click of page.clicks) drawClick(left + click.x * width, top + click.y * height, click.is_object);
}

// Thin, under the mask's shade: it says which of several objects is meant.
function drawBox({ left, top, width, height }, box) {
  if (!box) return;
  const frame = new Path2D();
  frame.rect(left + box[0] * width, top + box[1] * height, box[2] * width, box[3] * height);
  pen.lineWidth = 1.5;
  pen.strokeStyle = "#ffd24d";
  pen.stroke(frame);
}

function drawMask({ left, top, width, height }) {
  const outlines = page.suggestion ? page.suggestion.outlines : [];
  if (!outlines.length) return;
  const shape = new Path2D();
  for (const outline of outlines) {
    outline.forEach(([x, y], number) => shape[number ? "lineTo" : "moveTo"](left + x * width, top + y * height));
    shape.closePath();
  }
  const around = new Path2D();
  around.rect(left, top, width, height);
  around.addPath(shape);
  pen.fillStyle = "rgb(8 12 16 / 55%)";
  pen.fill(around, "evenodd");
  strokeTwice(shape);
}

// White beneath dashed black is seen on any picture.
function strokeTwice(shape) {
  pen.lineWidth = 2;
  pen.strokeStyle = "#fff";
  pen.setLineDash([]);
  pen.stroke(shape);
  pen.strokeStyle = "#000";
  pen.setLineDash([5, 5]);
  pen.stroke(shape);
  pen.setLineDash([]);
}

function drawClick(x, y, isObject) {
  pen.beginPath();
  pen.arc(x, y, DOT_PX, 0, 2 * Math.PI);
  pen.fillStyle = isObject ? "#2fbf71" : "#e5484d";
  pen.fill();
  pen.lineWidth = 2;
  pen.strokeStyle = "#fff";
  pen.stroke();
}

function click(event) {
  if (!page.object) return;
  event.preventDefault();
  const { left, top, width, height } = page.fit;
  const x = (event.offsetX - left) / width, y = (event.offsetY - top) / height;
  if (x < 0 || y < 0 || x > 1 || y > 1) return;
  page.clicks.push({ x, y, is_object: !event.shiftKey && event.type === "click" });
  attempt(propose);
}

function clear() {
  Object.assign(page, { clicks: [], grow: 0 });
  return propose();
}

function grow(step) {
  page.grow = Math.min(Math.max(page.grow + step, -MAX_GROW), MAX_GROW);
  return propose();
}

function move(step) {
  const index = Math.min(Math.max(page.index + step, 0), page.progress.total - 1);
  return index === page.index && page.object ? null : show(index); // at the end: the clicks stay
}

function sure() {
  page.sureTouched = true;
  $("sure").checked = !$("sure").checked;
}

const KEYS = {
  Enter: accept, ArrowLeft: () => move(-1), ArrowRight: () => move(1), Escape: clear,
  "+": () => grow(1), "=": () => grow(1), "-": () => grow(-1), "_": () => grow(-1), z: undo, s: sure,
};

// Where a key gives no Latin letter (Cyrillic, Greek, …), its place on the keyboard counts.
const letter = ({ key, code }) => (key > "~" && code.startsWith("Key") ? code.slice(3) : key).toLowerCase();
// A held key moves on or changes the mask, at the pace of the answers; it answers nothing.
const isIdle = ({ repeat, key }) => repeat && !(page.object && /^([-+=_]|Arrow.*)$/.test(key));

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || !page.progress) return;
  // The focus is on a button only after Tab: there Enter and space press the button.
  const pressing = { Enter: "button", " ": "button, input" }[event.key];
  if (pressing && event.target.closest(pressing)) return event.repeat && event.preventDefault();
  const pressed = event.key.length === 1 ? letter(event) : event.key;
  const answer = page.progress.answers.find(({ letter, digit }) => pressed === letter || pressed === digit);
  if (pressed === " ") peek(true);
  else if (pressed in KEYS) isIdle(event) || attempt(async () => KEYS[pressed]());
  else if (answer && page.object) isIdle(event) || (event.shiftKey && pressed === answer.letter ? toggle : pick)(answer.name);
  else return;
  event.preventDefault();
}

function peek(on) {
  if (page.peek === on) return;
  page.peek = on;
  draw();
}

document.addEventListener("keydown", key);
document.addEventListener("keyup", (event) => { if (event.key === " ") peek(false); });
canvas.addEventListener("click", click);
canvas.addEventListener("contextmenu", click);
window.addEventListener("blur", () => peek(false)); // the release of the key goes elsewhere
window.addEventListener("resize", draw);
new ResizeObserver(draw).observe(canvas);
$("sure").addEventListener("change", () => { page.sureTouched = true; $("sure").blur(); });
for (const [id, work] of Object.entries({ accept, undo, clear, previous: () => move(-1), next: () => move(1), grow: () => grow(1), shrink: () => grow(-1) })) {
  $(id).addEventListener("click", (event) => { leave(event); attempt(async () => work()); });
}
attempt(async () => {
  page.progress = await ask("/api/progress");
  makeTerms();
  showProgress();
  await show(page.progress.next ?? 0);
});
