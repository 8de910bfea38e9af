"use strict";
// Asks the API again and again while the page is seen. Text is set as text, never as markup.
const PICTURE_MS = 250, LIST_MS = 1000, STATS_MS = 2000, TIMEOUT_MS = 5000;
const MAX_EVENTS = 50;
const COLORS = {
  black: "#141414", white: "#f5f5f5", gray: "#878787", red: "#d72828", orange: "#f5821e",
  yellow: "#f5dc3c", green: "#32a046", blue: "#2869d7", purple: "#7d3ca5", pink: "#f58cbe",
  brown: "#784b28",
};
const $ = (id) => document.getElementById(id);
let info = null;
let camera = ""; // whose picture is shown

function make(tag, text = "", kind = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

function row(name, ...cells) {
  const line = make("tr"), head = make("th", name);
  head.scope = "row";
  line.append(head, ...cells.map((text) => make("td", text)));
  return line;
}

const ask = (path, headers = {}) =>
  fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });

async function read(path) {
  const response = await ask(path);
  return response.ok ? response.json() : null;
}

// Live regions speak when their text changes: leave it alone when it does not.
function tell(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

// What is the same stays in place, and with it a selection and a screen reader's position.
function fill(id, children) {
  const parent = $(id);
  children.forEach((child, place) => {
    const old = parent.children[place];
    if (!old) parent.append(child);
    else if (!old.isEqualNode(child)) old.replaceWith(child);
  });
  while (parent.children.length > children.length) parent.lastElementChild.remove();
}

function tellState(id, text, level) {
  tell(id, text);
  $(id).className = `state ${level}`;
}

const size = (bytes) => {
  const unit = bytes >= 1e9 ? [1e9, "GB"] : bytes >= 1e6 ? [1e6, "MB"] : [1e3, "kB"];
  return `${(bytes / unit[0]).toFixed(bytes >= 1e6 ? 1 : 0)} ${unit[1]}`;
};

function span(seconds) {
  const [days, hours] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24];
  const minutes = Math.floor(seconds / 60) % 60;
  if (days) return `${days} d ${hours} h`;
  return hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min` : `${Math.floor(seconds)} s`;
}

let tag = "", shown = "";
let current = 0; // when the picture shown was last known to be the newest; 0: none is shown
function showNoPicture() {
  tag = "";
  current = 0;
  $("picture").hidden = true;
  $("no-picture").hidden = false;
}

async function showPicture() {
  if (!camera) return;
  const [asked, boxes] = [camera, $("boxes").checked];
  const response = await ask(`/api/frame.jpg?camera=${asked}&boxes=${boxes}`, tag ? { "If-None-Match": tag } : {});
  if (asked !== camera) return;
  if (response.status === 304) current = Date.now();
  if (response.status !== 200) return;
  const address = URL.createObjectURL(await response.blob());
  $("picture").src = address;
  await $("picture").decode();
  if (shown) URL.revokeObjectURL(shown);
  shown = address;
  tag = response.headers.get("ETag") || "";
  current = Date.now();
  $("picture").hidden = false;
  $("no-picture").hidden = true;
  $("figure").dataset.frame = tag;
}

function showCamera(name) {
  camera = $("camera").value = name;
  showNoPicture();
  tell("picture-text", camera);
  showPicture().catch(() => {});
}

function showCameras() {
  fill("camera", info.cameras.map((name) => make("option", name)));
  $("chooser").hidden = info.cameras.length < 2;
  if (!info.cameras.includes(camera)) showCamera(info.cameras[0]);
}

// One word while they agree, else each camera with its own.
function stateOf(cameras) {
  const states = cameras.map(([, one]) => one.state + (one.paused ? ", paused" : ""));
  if (new Set(states).size <= 1) return states[0] || "starting";
  return cameras.map(([name], place) => `${name} ${states[place]}`).join("; ");
}

let seen = null; // when the daemon last answered
async function showHealth() {
  const response = await ask("/healthz");
  const health = await response.json();
  seen = new Date();
  document.body.classList.remove("away");
  const cameras = Object.entries(health.cameras);
  const levels = cameras.map(([, one]) => (one.paused ? "" : { live: "good", lost: "bad", ended: "bad" }[one.state] || ""));
  tellState("camera-state", stateOf(cameras), ["bad", "", "good"].find((one) => levels.includes(one)) || "");
  const failing = cameras.length ? ["not working", "bad"] : ["starting", ""];
  tellState("daemon-state", ...(response.ok ? ["working", "good"] : failing));
  const frameAge = health.cameras[camera]?.frame_age_s ?? null;
  if (frameAge === null) showNoPicture();
  const age = Math.max(frameAge, (Date.now() - current) / 1000);
  $("picture").alt = `Newest frame of ${camera}`;
  tell("picture-text", current ? `${camera}, ${age < 2 ? "now" : span(age) + " ago"}` : camera || "camera");
}

// What the page still shows is from before; it must not look as if it were true now.
function showAway() {
  const since = seen ? ` since ${seen.toLocaleTimeString()}` : "";
  tellState("daemon-state", `not reachable${since}`, "bad");
  tellState("camera-state", "not known", "");
  tellState("broker-state", "not known", "");
  tell("picture-text", current ? `${camera}, as of ${new Date(current).toLocaleTimeString()}` : "");
  document.body.classList.add("away");
}

// With its date, unless that is today.
function moment(utc) {
  const when = new Date(utc);
  return when.toDateString() === new Date().toDateString() ? when.toLocaleTimeString() : when.toLocaleString();
}

function eventLine(event) {
  const line = document.createElement("li");
  const [color] = event.colors;
  const paint = color ? COLORS[color.name] : undefined;
  const patch = make("span", "", paint ? "patch" : "patch none");
  if (paint) patch.style.background = paint;
  const name = make("span", `${event.label} `);
  name.append(make("span", event.kind, `kind ${event.kind}`));
  const time = make("time", moment(event.captured_utc));
  time.dateTime = event.captured_utc;
  const facts = [`score ${event.score.toFixed(2)}`];
  facts.push(...event.colors.map((one) => `${one.name} ${Math.round(100 * one.score)} %`));
  if (info && info.cameras.length > 1) facts.push(event.camera);
  if (event.zones.length) facts.push(`in ${event.zones.join(", ")}`);
  if (event.kind === "end") facts.push(`seen for ${span(event.duration_s)}`);
  line.append(patch, name, time, make("small", facts.join(" · ")));
  return line;
}

const eventKey = ({ id, frame_id, kind }) => `${id} ${frame_id} ${kind}`;
let newest = "", day = "";
// Newer lines go above those there, so that these do not move while they are read.
async function showEvents() {
  const events = await read(`/api/events?limit=${MAX_EVENTS}`);
  if (!events) return;
  const today = new Date().toDateString();
  const known = today === day ? events.findIndex((event) => eventKey(event) === newest) : -1;
  if (known < 0) $("events").replaceChildren(...events.map(eventLine));
  else $("events").prepend(...events.slice(0, known).map(eventLine));
  while ($("events").children.length > events.length) $("events").lastElementChild.remove();
  $("no-events").hidden = events.length > 0;
  newest = events.length ? eventKey(events[0]) : "";
  day = today;
}

function showBudget(stats) {
  const ms = (value) => (value === undefined ? "–" : value.toFixed(value < 10 ? 2 : 1));
  const { p50, p95 } = stats.latency_ms;
  const promise = info ? info.budget_ms : 0;
  tell("age", p95 === undefined ? "–" : `${p95.toFixed(0)} ms`);
  tell("promise", promise ? `of ${promise} ms promised (95th percentile)${p50 === undefined ? "" : `; median ${p50.toFixed(0)} ms`}` : "");
  const isKnown = promise && p95 !== undefined;
  const share = isKnown ? (100 * p95) / promise : 0;
  $("gauge").className = `gauge ${share > 100 ? "bad" : share > 80 ? "warn" : ""}`;
  $("gauge").setAttribute("aria-valuenow", Math.min(100, share).toFixed(0));
  $("gauge").setAttribute("aria-valuetext", isKnown ? `${p95.toFixed(0)} of ${promise} ms` : "not known yet");
  $("gauge-fill").style.width = `${Math.min(100, share)}%`;
  $("gauge-mark").style.left = isKnown ? `${Math.min(100, (100 * p50) / promise)}%` : "";
  const why = stats.degraded ? `Work is being saved: ${stats.degraded}. ` : "";
  tell("budget-note", `${why}Late results ${stats.late}, color crops shed ${stats.colors_shed}.`);
  const stages = Object.entries(stats.stages_ms).filter(([, one]) => one.p50 !== undefined);
  fill("stages", stages.map(([name, one]) => row(name, ms(one.p50), ms(one.p95), ms(one.p99))));
}

function showFrames(stats) {
  tell("rate", stats.frames_per_s.toFixed(1));
  const faster = stats.detected_faster;
  const outcomes = [["detected", stats.detected - faster]];
  if (faster) outcomes.push(["detected by the faster model", faster]);
  for (const [cause, count] of Object.entries(stats.skipped)) outcomes.push([`skipped: ${cause}`, count]);
  const all = outcomes.reduce((sum, [, count]) => sum + count, 0) || 1;
  fill("skips", outcomes.map(([name, count]) =>
    row(name, count.toLocaleString(), `${((100 * count) / all).toFixed(1)} %`),
  ));
  const cameras = Object.entries(stats.cameras);
  $("cameras").hidden = cameras.length < 2;
  fill("camera-rows", cameras.map(([name, one]) =>
    row(name, one.frames_per_s.toFixed(1), one.detected.toLocaleString(), one.frames.toLocaleString()),
  ));
}

function showBoard(stats) {
  const broker = stats.mqtt.state, [state] = broker.split(":");
  tellState("broker-state", state, state === "connected" ? "good" : "bad");
  const cameras = Object.values(stats.cameras);
  const facts = [
    ["Broker", broker],
    ["Running for", span(stats.uptime_s)],
    ["Temperature", stats.temperature_c === null ? null : `${stats.temperature_c.toFixed(1)} °C`],
    ["Memory", stats.rss_bytes === null ? null : size(stats.rss_bytes)],
    ["Load, 1 min", stats.load_1min === null ? null : stats.load_1min.toFixed(2)],
    ["Processor", stats.cpu_hz === null ? null : `${(stats.cpu_hz / 1e9).toFixed(2)} GHz ${stats.cpu_governor || ""}`],
    ["Camera reconnects", cameras.reduce((sum, one) => sum + one.reconnects, 0)],
    ["Events", stats.events.toLocaleString()],
    ["Waiting for the broker", stats.spool.waiting.toLocaleString()],
    ["Lost to a full spool", stats.spool.lost.toLocaleString()],
    ["Acknowledged within (p95)", stats.mqtt.ack_ms_p95 ? `${stats.mqtt.ack_ms_p95} ms` : "–"],
    ["Spool", stats.spool.failure || size(stats.spool.used_bytes)],
  ];
  const known = facts.filter(([, text]) => text !== null);
  fill("board", known.flatMap(([name, text]) => [make("dt", name), make("dd", text)]));
}

function showInfo() {
  document.title = `${info.device} · edge`;
  tell("device", info.device);
  tell("version", `edge ${info.version}`);
  showCameras();
  fill("models", Object.entries(info.models).map(([role, model]) => {
    const pulled = model.pulled === null ? "" : ` (pulled as ${model.pulled})`;
    const line = make("li", `${role}: ${model.name} ${model.version}${pulled}`);
    const proof = model.integer_only ? "integer-only" : "not integer-only";
    line.append(make("small", `${proof} · ${model.runtime} · sha256 ${model.sha256.slice(0, 12)}…`));
    return line;
  }));
}

async function showStats() {
  info = (await read("/api/info")) || info;
  if (info) showInfo();
  const stats = await read("/api/stats");
  if (!stats) return;
  showBudget(stats);
  showFrames(stats);
  showBoard(stats);
}

function every(ms, work, failed = () => {}) {
  const turn = async () => {
    try {
      if (!document.hidden) await work();
    } catch {
      failed();
    }
    setTimeout(turn, ms);
  };
  turn();
}

$("boxes").addEventListener("change", () => { tag = ""; showPicture().catch(() => {}); });
$("camera").addEventListener("change", () => showCamera($("camera").value));
every(PICTURE_MS, showPicture);
every(LIST_MS, showHealth, showAway);
every(LIST_MS, showEvents);
every(STATS_MS, showStats);
