// The page: one connection, the charts it feeds, the counters that check it, and a chat over it.

import { CoreCharts, niceCeiling, Sparkline, TimeChart } from "./charts.js";
import { SequenceTracker } from "./sequence.js";

const PING_EVERY_MS = 2000;
const ACK_TIMEOUT_MS = 5000;
const KEPT_SAMPLES = 120;
const KEPT_ROUND_TRIPS = 60;
const KEPT_CHAT_LINES = 100;
const KEPT_LOG_LINES = 60;

const HINTS = {
  auto: "Begins as xhr-streaming, falls back to long-polling, and moves to WebSocket where that works.",
  websocket: "WebSocket from the first byte. Fails where a proxy does not let it through.",
  "xhr-streaming": "One HTTP response stays open and carries messages as they come. No WebSocket needed.",
  polling: "Long-polling: a request waits for messages, is answered, and the next one follows.",
};
const NAMES = { websocket: "WebSocket", "xhr-streaming": "xhr-streaming", polling: "long-polling" };
const REASONS = {
  "io server disconnect": "the server closed it",
  "io client disconnect": "this page closed it",
  "ping timeout": "the server went silent",
  "transport close": "the connection was lost",
  "transport error": "the connection failed",
  "parse error": "the server sent something unreadable",
  "forced close": "cut on purpose",
};

const byId = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

// What was received -----------------------------------------------------------------------------------------

const tracker = new SequenceTracker();
let epoch = null;
let host = null;
let samples = [];
let cursorN = null; // the sample being read, or null for the newest

function keep(sample) {
  const last = samples[samples.length - 1];
  if (!last || sample.n > last.n) {
    samples.push(sample);
  } else if (!samples.some((kept) => kept.n === sample.n)) {
    samples.push(sample);
    samples.sort((a, b) => a.n - b.n);
  }
  if (samples.length > KEPT_SAMPLES) samples = samples.slice(-KEPT_SAMPLES);
}

function showCounters() {
  const counts = {
    received: tracker.received, missed: tracker.missed, repeated: tracker.repeated, reordered: tracker.reordered,
  };
  for (const [id, count] of Object.entries(counts)) {
    byId(id).textContent = number.format(count);
    byId(id).dataset.alert = id !== "received" && count > 0 ? "bad" : "";
  }
  const away = tracker.missedWhileAway;
  if (away > 0 && away === tracker.missed) byId("missed").dataset.alert = "warn";
  byId("tally-hint").textContent = away > 0
    ? `Missed while this page was not connected: ${number.format(away)}.`
    : "Every sample is numbered; gaps and repeats show here.";
}

// Charts ----------------------------------------------------------------------------------------------------

const GIB = 1024 ** 3;
const maxOf = (shown, value) => shown.reduce((max, sample) => Math.max(max, value(sample)), 0);

function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit > 0 && value < 9.95 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

const cpuChart = new TimeChart(byId("cpu-chart"), {
  series: [{ value: (sample) => sample.cpu, color: "tide", fill: true }],
  top: () => 100,
  label: (value) => `${value} %`,
});
const memoryChart = new TimeChart(byId("mem-chart"), {
  series: [{ value: (sample) => sample.mem.used / GIB, color: "tide", fill: true }],
  top: (shown) => (shown.length ? shown[shown.length - 1].mem.total / GIB : 1),
  label: (value) => (samples.length ? `${value.toFixed(value < 10 ? 1 : 0)} GiB` : ""),
});
const networkChart = new TimeChart(byId("net-chart"), {
  series: [
    { value: (sample) => sample.net.rx_bps, color: "tide", fill: true },
    { value: (sample) => sample.net.tx_bps, color: "sand", dash: [6, 5] },
  ],
  top: (shown) => niceCeiling(Math.max(1000, maxOf(shown, (sample) => Math.max(sample.net.rx_bps, sample.net.tx_bps)))),
  label: (value) => `${bytes(value)}/s`,
});
const loadChart = new TimeChart(byId("load-chart"), {
  series: [
    { value: (sample) => sample.load[2], color: "violet", dash: [1, 5] },
    { value: (sample) => sample.load[1], color: "sand", dash: [6, 5] },
    { value: (sample) => sample.load[0], color: "tide" },
  ],
  top: (shown) => niceCeiling(Math.max(1, host ? host.cpus * 1.15 : 1, maxOf(shown, (sample) => Math.max(...sample.load)))),
  label: (value) => String(Number(value.toFixed(2))),
  mark: () => (host ? { value: host.cpus, text: host.cpus === 1 ? "1 CPU" : `${host.cpus} CPUs` } : null),
});
const coreCharts = new CoreCharts(byId("core-chart"));
const timeCharts = [cpuChart, memoryChart, networkChart, loadChart];

function showCharts() {
  const cursor = cursorN === null ? null : samples.find((sample) => sample.n === cursorN) ?? null;
  for (const chart of [...timeCharts, coreCharts]) chart.show(samples, cursor);
  const shown = cursor ?? samples[samples.length - 1];
  if (!shown) return;
  const put = (id, text) => { byId(id).textContent = text; };
  put("cpu-now", `${shown.cpu.toFixed(1)} %`);
  put("mem-now", `${shown.mem.pct.toFixed(1)} %`);
  put("mem-note", `${(shown.mem.used / GIB).toFixed(1)} of ${(shown.mem.total / GIB).toFixed(1)} GiB`);
  put("rx-now", `${bytes(shown.net.rx_bps)}/s`);
  put("tx-now", `${bytes(shown.net.tx_bps)}/s`);
  put("load1-now", shown.load[0].toFixed(2));
  put("load5-now", shown.load[1].toFixed(2));
  put("load15-now", shown.load[2].toFixed(2));
  const { clients } = samples[samples.length - 1];
  put("clients", clients === 1 ? "1 client connected" : `${number.format(clients)} clients connected`);
  const when = cursor ? `at ${clock.format(shown.t * 1000)}` : "now";
  const describe = (id, text) => byId(id).setAttribute("aria-label", `${text} ${when}`);
  describe("cpu-chart", `Processor: ${shown.cpu.toFixed(1)} percent`);
  describe("core-chart", `Cores: ${shown.cores.map((pct) => `${Math.round(pct)} percent`).join(", ")}`);
  describe("mem-chart", `Memory: ${shown.mem.pct.toFixed(1)} percent`);
  describe("net-chart", `Network: ${bytes(shown.net.rx_bps)} per second in, ${bytes(shown.net.tx_bps)} per second out`);
  describe("load-chart", `Load: ${shown.load.map((load) => load.toFixed(2)).join(", ")}`);
}

function readAt(sample) {
  cursorN = sample && sample !== samples[samples.length - 1] ? sample.n : null;
  showCharts();
}

for (const [chart, id] of [[cpuChart, "cpu-chart"], [memoryChart, "mem-chart"], [networkChart, "net-chart"], [loadChart, "load-chart"]]) {
  const canvas = byId(id);
  canvas.addEventListener("pointermove", (event) => readAt(chart.sampleAt(event.clientX)));
  canvas.addEventListener("pointerleave", () => readAt(null));
  canvas.addEventListener("blur", () => readAt(null));
  canvas.addEventListener("keydown", (event) => {
    const at = cursorN === null ? samples.length - 1 : samples.findIndex((sample) => sample.n === cursorN);
    const targets = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: samples.length - 60, End: samples.length - 1, Escape: samples.length - 1 };
    if (samples.length === 0 || !(event.key in targets)) return;
    event.preventDefault();
    const oldest = Math.max(0, samples.length - 60);
    readAt(samples[Math.min(samples.length - 1, Math.max(oldest, targets[event.key]))]);
  });
}

// The connection --------------------------------------------------------------------------------------------

const { io, XhrStreaming, withStreaming } = globalThis.tidegate ?? globalThis;
const path = new URL("socket.io/", document.baseURI).pathname;
let socket = null;
let choice = "auto";
let connectedAt = null;
let roundTrips = [];
const spark = new Sparkline(byId("rtt-chart"));

function optionsFor(wanted) {
  const options = { path, forceNew: true, reconnectionDelayMax: 5000 };
  if (wanted === "auto" && withStreaming) return withStreaming(options);
  if (wanted === "auto") return { ...options, transports: ["polling", "websocket"] };
  return { ...options, transports: [wanted === "xhr-streaming" ? XhrStreaming : wanted] };
}

function showState(state, text) {
  byId("state").dataset.state = state;
  if (byId("state-text").textContent !== text) byId("state-text").textContent = text;
  byId("main").dataset.stale = String(state !== "connected");
}

function log(text, kind = "plain") {
  const list = byId("log");
  const newest = list.firstElementChild;
  let times = 1;
  if (newest?.dataset.text === text) {
    times = Number(newest.dataset.times) + 1;
    newest.remove();
  }
  const entry = document.createElement("li");
  Object.assign(entry.dataset, { kind, text, times });
  entry.append(timeElement(Date.now()), element("span", times > 1 ? `${text} (${times} times)` : text));
  list.prepend(entry);
  while (list.children.length > KEPT_LOG_LINES) list.lastChild.remove();
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function timeElement(ms) {
  const made = element("time", clock.format(ms));
  made.dateTime = new Date(ms).toISOString();
  return made;
}

function showTransport() {
  const name = socket?.connected ? socket.io.engine?.transport?.name : null;
  byId("client-transport").textContent = name ? NAMES[name] ?? name : "–";
  if (!name) byId("server-transport").textContent = "–";
  if (name) showState("connected", `Connected · ${NAMES[name] ?? name}`);
}

function connect(wanted) {
  choice = wanted;
  for (const button of byId("transports").children) {
    button.setAttribute("aria-pressed", String(button.dataset.transport === wanted));
  }
  byId("transport-hint").textContent = HINTS[wanted];
  if (socket) {
    socket.offAny();
    socket.off();
    socket.io.off();
    socket.disconnect();
    log(`Switching to ${wanted === "auto" ? "auto" : NAMES[wanted]}`);
  }
  connectedAt = null;
  showState("connecting", "Connecting");
  socket = io(optionsFor(wanted));
  listen(socket);
  showTransport();
}

function listen(current) {
  const manager = current.io;
  current.on("connect", () => {
    connectedAt = performance.now();
    const engine = manager.engine;
    log(`Connected over ${NAMES[engine.transport.name] ?? engine.transport.name}${current.recovered ? ", with what was missed" : ""}`, "good");
    engine.on("upgrade", (transport) => {
      log(`Upgraded to ${NAMES[transport.name] ?? transport.name}`, "good");
      showTransport();
      ping();
    });
    engine.on("upgradeError", (error) => log(`Upgrade failed: ${error.message}`, "bad"));
    showTransport();
    ping();
  });
  current.on("disconnect", (reason) => {
    connectedAt = null;
    const why = REASONS[reason] ?? reason;
    log(`Disconnected: ${why} (${reason})`, "bad");
    showState("disconnected", `Disconnected: ${why}`);
    showTransport();
    // The library waits to be told after the server has closed a connection on purpose.
    if (reason === "io server disconnect") setTimeout(() => { if (socket === current) current.connect(); }, 2000);
  });
  current.on("connect_error", (error) => {
    const detail = typeof error.description === "number" ? `HTTP ${error.description}` : error.message;
    log(`Could not connect over ${choice === "auto" ? "any transport" : NAMES[choice]}: ${detail}`, "bad");
    showState("disconnected", "Not connected, trying again");
    if (!current.active) setTimeout(() => { if (socket === current) current.connect(); }, 3000);
  });
  manager.on("reconnect_attempt", (attempt) => showState("connecting", `Reconnecting, attempt ${attempt}`));
  current.on("welcome", welcome);
  current.on("sample", (sample) => {
    tracker.deliver(sample.n);
    keep(sample);
    showCounters();
    showCharts();
  });
  current.on("chat", (line) => showLines([line]));
}

function welcome(message) {
  if (epoch !== null && epoch !== message.epoch) {
    log("The server has started anew; counting from here");
    tracker.reset();
    samples = [];
    byId("lines").replaceChildren();
  }
  epoch = message.epoch;
  host = message.host;
  if (!socket.recovered) tracker.resumeAfter(message.n);
  for (const sample of message.history) keep(sample);
  const cpus = host.cpus === 1 ? "1 CPU" : `${host.cpus} CPUs`;
  byId("host").textContent = `The machine behind this page: ${cpus}, ${host.platform}, ${host.python}`;
  showLines(message.chat);
  showCounters();
  showCharts();
}

function ping() {
  const current = socket;
  if (!current?.connected) return;
  const sentAt = performance.now();
  current.timeout(ACK_TIMEOUT_MS).emit("transport_in_use", (error, answer) => {
    if (error || current !== socket) return;
    const ms = performance.now() - sentAt;
    roundTrips = [...roundTrips, ms].slice(-KEPT_ROUND_TRIPS);
    const sorted = [...roundTrips].sort((a, b) => a - b);
    const median = sorted[Math.floor(sorted.length / 2)];
    byId("rtt").textContent = inMs(ms);
    byId("rtt-hint").textContent = `Median ${inMs(median)}, worst ${inMs(sorted[sorted.length - 1])} ms`;
    spark.show(roundTrips);
    byId("server-transport").textContent = NAMES[answer.transport] ?? answer.transport;
  });
}

function inMs(ms) {
  return ms < 9.95 ? ms.toFixed(1) : String(Math.round(ms));
}

function showUptime() {
  if (connectedAt === null) {
    byId("uptime").textContent = "–";
    return;
  }
  const seconds = Math.floor((performance.now() - connectedAt) / 1000);
  const pad = (value) => String(value).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  byId("uptime").textContent = `${hours ? `${hours}:` : ""}${pad(Math.floor(seconds / 60) % 60)}:${pad(seconds % 60)}`;
}

// Chat ------------------------------------------------------------------------------------------------------

const mine = new Set();

function showLines(lines) {
  const list = byId("lines");
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  for (const line of lines) {
    if (list.querySelector(`[data-id="${Number(line.id)}"]`)) continue;
    const item = document.createElement("li");
    item.dataset.id = String(line.id);
    item.classList.toggle("mine", mine.has(line.id));
    item.append(element("b", line.name), timeElement(line.t * 1000), element("span", line.text));
    list.append(item);
  }
  while (list.children.length > KEPT_CHAT_LINES) list.firstChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

function say(event) {
  event.preventDefault();
  const text = byId("chat-text");
  const name = byId("chat-name").value.trim();
  const error = byId("chat-error");
  error.textContent = "";
  if (!socket?.connected) {
    error.textContent = "Not connected at the moment; the line was not sent.";
    return;
  }
  remember(name);
  const sent = text.value;
  text.value = "";
  text.focus();
  socket.timeout(ACK_TIMEOUT_MS).emit("chat", { name, text: sent }, (failure, answer) => {
    if (!failure && answer.ok) {
      mine.add(answer.id);
      byId("lines").querySelector(`[data-id="${Number(answer.id)}"]`)?.classList.add("mine");
      return;
    }
    error.textContent = failure ? "No answer from the server; the line may not have been sent." : answer.error;
    if (text.value === "") text.value = sent;
  });
}

function remember(name) {
  try {
    localStorage.setItem("tidegate-demo-name", name);
  } catch {
    // Storage can be switched off; then the name lasts as long as the page.
  }
}

function rememberedName() {
  try {
    const name = localStorage.getItem("tidegate-demo-name");
    if (name) return name;
  } catch {
    // As above.
  }
  return `Guest ${Math.floor(100 + Math.random() * 900)}`;
}

// Start -----------------------------------------------------------------------------------------------------

byId("chat-name").value = rememberedName();
byId("chat-form").addEventListener("submit", say);
byId("cut").addEventListener("click", () => {
  if (!socket?.connected) return;
  log("Cutting the connection; it should come back by itself");
  socket.io.engine.close();
});
byId("transports").addEventListener("click", (event) => {
  const wanted = event.target.dataset?.transport;
  if (!wanted) return;
  const url = new URL(location.href);
  url.searchParams.set("transport", wanted);
  history.replaceState(null, "", url);
  connect(wanted);
});

if (typeof io !== "function") {
  showState("disconnected", "The client script did not load");
  log("socket.io/tidegate-client.min.js could not be loaded", "bad");
} else {
  if (!XhrStreaming) {
    const button = document.querySelector('[data-transport="xhr-streaming"]');
    button.disabled = true;
    button.title = "Not in this client";
  }
  const asked = new URLSearchParams(location.search).get("transport");
  const button = [...byId("transports").children].find((each) => each.dataset.transport === asked && !each.disabled);
  connect(button ? asked : "auto");
  setInterval(ping, PING_EVERY_MS);
  setInterval(showUptime, 1000);
}
