// The page: one connection, the charts it feeds, the counters that check it, and a chat over it.

import { CoreCharts, niceCeiling, Sparkline, TimeChart } from "./charts.js";
import { ChatView } from "./chat.js";
import { SequenceTracker } from "./sequence.js";
import { StateView } from "./state.js";
import { nameOf, transportReport } from "./words.js";

const PING_EVERY_MS = 2000;
const ANSWER_WITHIN_MS = 5000;
const KEPT_SAMPLES = 120;
const KEPT_ROUND_TRIPS = 60;
const KEPT_LOG_LINES = 60;

const HINTS = {
  auto: "Finds out what the network lets through: WebSocket, else xhr-streaming, else long-polling.",
  websocket: "WebSocket from the first byte. Fails where a proxy does not let it through.",
  "xhr-streaming": "One HTTP response stays open and carries messages as they come. No WebSocket needed.",
  polling: "Long-polling: a request waits for messages, is answered, and the next one follows.",
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

const { connect } = globalThis.tidegate ?? {};
const path = new URL("socket.io/", document.baseURI).pathname;
let client = null;
let connectedAt = null;
let roundTrips = [];
const spark = new Sparkline(byId("rtt-chart"));
const stateView = new StateView({
  state: byId("state"), headline: byId("state-text"), why: byId("state-why"),
  wait: byId("wait"), countdown: byId("countdown"), bar: byId("countdown-bar"),
  complete: byId("came-complete"), gap: byId("came-gap"),
}, log);
const chat = new ChatView({
  lines: byId("lines"), waiting: byId("waiting"), send: (...event) => client.emit(...event), makeTime: timeElement,
});

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

function use(choice) {
  for (const button of byId("transports").children) {
    button.setAttribute("aria-pressed", String(button.dataset.transport === choice));
  }
  byId("transport-hint").textContent = HINTS[choice];
  const before = client;
  client = null; // what the old one says on its way out is not news
  if (before) {
    log(`Switching to ${choice === "auto" ? "auto" : nameOf(choice)}`);
    before.close();
  }
  stateView.begin();
  listen(client = connect(undefined, {
    path,
    transports: choice === "auto" ? "auto" : [choice],
    onTransport: (report) => log(...transportReport(report)),
  }));
}

function listen(current) {
  const show = (state) => { if (current === client) showState(state); };
  show(current.connection.get());
  current.connection.subscribe(show);
  current.on("welcome", welcome);
  current.on("sample", (sample) => {
    tracker.deliver(sample.n);
    keep(sample);
    showCounters();
    showCharts();
  });
  current.on("chat", (line) => chat.show([line]));
}

function showState(state) {
  const isConnected = state.status === "connected";
  stateView.show(state);
  chat.connectionChanged(isConnected);
  byId("main").dataset.stale = String(!isConnected);
  byId("chat-hint").textContent = isConnected
    ? "Each line is kept until the server has answered it, and said once."
    : "No connection: what you send waits here, and is said once when it is back.";
  byId("chat-hint").dataset.alert = isConnected ? "" : "warn";
  byId("cut").hidden = state.status === "closed";
  byId("cut").disabled = !isConnected;
  byId("again").hidden = state.status !== "closed";
  byId("client-transport").textContent = isConnected ? nameOf(state.transport) : "–";
  if (!isConnected) {
    byId("server-transport").textContent = "–";
    connectedAt = null;
  } else {
    connectedAt ??= performance.now();
    void ping();
  }
  showUptime();
}

// Sent to who begins anew; who comes back to its place gets what it has missed instead.
function welcome(message) {
  if (epoch !== null && epoch !== message.epoch) {
    log("The server has started anew; counting from here");
    tracker.reset();
    samples = [];
    chat.forget();
  }
  epoch = message.epoch;
  host = message.host;
  tracker.resumeAfter(message.n);
  for (const sample of message.history) keep(sample);
  const cpus = host.cpus === 1 ? "1 CPU" : `${host.cpus} CPUs`;
  byId("host").textContent = `The machine behind this page: ${cpus}, ${host.platform}, ${host.python}`;
  chat.show(message.chat);
  showCounters();
  showCharts();
}

let pings = 0;

async function ping() {
  const current = client;
  if (current?.connection.get().status !== "connected") return;
  const connection = connectedAt;
  const isLast = ((n) => () => n === pings)(pings += 1);
  const sentAt = performance.now();
  let answer;
  try {
    answer = await current.emitWith({ timeout: ANSWER_WITHIN_MS }, "transport_in_use");
  } catch {
    return; // the state tells what is wrong, if anything is
  }
  // An answer that had to wait for another connection says nothing about either.
  if (current !== client || connection !== connectedAt) return;
  const ms = performance.now() - sentAt;
  roundTrips = [...roundTrips, ms].slice(-KEPT_ROUND_TRIPS);
  const sorted = [...roundTrips].sort((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)];
  byId("rtt").textContent = inMs(ms);
  byId("rtt-hint").textContent = `Median ${inMs(median)}, worst ${inMs(sorted[sorted.length - 1])} ms`;
  spark.show(roundTrips);
  if (isLast()) byId("server-transport").textContent = nameOf(answer.transport);
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

function say(event) {
  event.preventDefault();
  const text = byId("chat-text");
  const name = byId("chat-name").value.trim();
  remember(name);
  chat.say(name, text.value);
  text.value = "";
  text.focus();
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
  log("Asking the server to break the connection off, without a good-bye");
  client.emitVolatile("cut");
});
byId("again").addEventListener("click", () => client.connect());
byId("transports").addEventListener("click", (event) => {
  const wanted = event.target.dataset?.transport;
  if (!wanted) return;
  const url = new URL(location.href);
  url.searchParams.set("transport", wanted);
  history.replaceState(null, "", url);
  use(wanted);
});

if (connect === undefined) {
  byId("state").dataset.state = "closed";
  byId("state-text").textContent = "The client script did not load";
  byId("state-why").textContent = "socket.io/tidegate-client.min.js is missing; reload the page to try again.";
  log("socket.io/tidegate-client.min.js could not be loaded", "bad");
} else {
  const asked = new URLSearchParams(location.search).get("transport");
  use([...byId("transports").children].some((button) => button.dataset.transport === asked) ? asked : "auto");
  setInterval(ping, PING_EVERY_MS);
  setInterval(showUptime, 1000);
}
