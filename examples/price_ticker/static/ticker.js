// The page: one connection; what comes over it of prices, news and pulses, and how old it is.

const NAMES = { websocket: "WebSocket", "xhr-streaming": "xhr-streaming", polling: "long-polling" };
const REASONS = {
  "ping timeout": "the server went silent",
  "transport close": "the connection was lost",
  "transport error": "the connection failed",
  "parse error": "the server sent something unreadable",
  "websocket error": "nothing got through",
  "xhr poll error": "nothing got through",
  "xhr-streaming: ended before its first packet": "nothing got through",
};
const SHOWN_NEWS = 8;
const SHOWN_BEATS = 60;
const LATE_S = 2;
const OLD_S = 10;

const byId = (id) => document.getElementById(id);
const setText = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const put = (id, text) => setText(byId(id), text);
const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const count = new Intl.NumberFormat();

// The server's clock ----------------------------------------------------------------------------------------

let offsetS = 0;

/** The server's time minus ours, from the quickest of a few answers. */
async function compareClocks() {
  let best = Infinity;
  for (let i = 0; i < 4; i += 1) {
    const asked = Date.now() / 1000;
    const { t } = await (await fetch("clock", { cache: "no-store" })).json();
    const answered = Date.now() / 1000;
    if (answered - asked < best) {
      best = answered - asked;
      offsetS = t - (asked + answered) / 2;
    }
  }
}

const ageOf = (t) => Math.max(0, Date.now() / 1000 + offsetS - t);

// Prices ----------------------------------------------------------------------------------------------------

const rows = new Map();
let epoch = null;
let received = 0;

function element(name, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children);
  return made;
}

function makeRow(symbol) {
  const price = element("td", { className: "price" });
  const bar = element("i");
  const age = element("b");
  const skipped = element("td", { className: "skipped" });
  const node = element(
    "tr",
    {},
    element("th", { scope: "row", textContent: symbol }),
    price,
    element("td", {}, element("div", { className: "age" }, element("span", {}, bar), age)),
    skipped,
  );
  node.dataset.symbol = symbol;
  byId("quotes").append(node);
  return { node, price, bar, age, skipped, n: null, t: 0, value: 0, skips: 0 };
}

function showQuote({ symbol, price, n, t }) {
  let row = rows.get(symbol);
  if (!row) rows.set(symbol, row = makeRow(symbol));
  if (row.n !== null && n <= row.n) return;
  if (row.n !== null) {
    row.skips += n - row.n - 1;
    row.node.dataset.move = price >= row.value ? "up" : "down";
  }
  Object.assign(row, { n, t, value: price });
  row.node.dataset.n = String(n);
  setText(row.price, price.toFixed(2));
}

function showAges() {
  let oldest = 0;
  for (const row of rows.values()) {
    const age = ageOf(row.t);
    oldest = Math.max(oldest, age);
    row.node.dataset.age = age < LATE_S ? "new" : age < OLD_S ? "late" : "old";
    row.bar.style.width = `${Math.min(100, (age / OLD_S) * 100)}%`;
    setText(row.age, `${age.toFixed(2)} s`);
    setText(row.skipped, count.format(row.skips));
  }
  put("oldest", rows.size ? `${oldest.toFixed(2)} s` : "–");
}

let receivedBefore = 0;
function showRate() {
  put("price-rate", `${count.format(received - receivedBefore)}/s`);
  receivedBefore = received;
}

// News ------------------------------------------------------------------------------------------------------

let lastNews = null;
let newsReceived = 0;
let newsMissed = 0;

function showNews({ n, t, text }) {
  if (lastNews !== null && n <= lastNews) return;
  if (lastNews !== null) newsMissed += n - lastNews - 1;
  lastNews = n;
  newsReceived += 1;
  const entry = element("li", {}, element("time", { textContent: clock.format(t * 1000) }), element("span", { textContent: text }));
  entry.dataset.n = String(n);
  byId("news").prepend(entry);
  while (byId("news").children.length > SHOWN_NEWS) byId("news").lastElementChild.remove();
  put("news-received", count.format(newsReceived));
  put("news-missed", count.format(newsMissed));
}

// Pulse -----------------------------------------------------------------------------------------------------

let lastPulse = null;
let pulses = 0;
let pulsesMissed = 0;

function showPulse({ n }) {
  const gap = lastPulse === null ? 0 : n - lastPulse - 1;
  lastPulse = n;
  pulses += 1;
  pulsesMissed += gap;
  const beats = byId("beats");
  for (let i = 0; i < Math.min(gap, SHOWN_BEATS); i += 1) beats.append(element("li"));
  beats.append(element("li", { className: "heard" }));
  while (beats.children.length > SHOWN_BEATS) beats.firstElementChild.remove();
  put("pulse-received", count.format(pulses));
  put("pulse-missed", count.format(pulsesMissed));
}

// The connection --------------------------------------------------------------------------------------------

const { connect } = globalThis.tidegate ?? {};
const path = new URL("socket.io/", document.baseURI).pathname;
let client = null;
let isReturning = false;
let retryAt;

const sentence = (text) => text[0].toUpperCase() + text.slice(1);

function showState(state) {
  const { status, reason } = state;
  const isNew = status === "connected" && byId("state").dataset.state !== "connected";
  if (status === "recovering") isReturning = true;
  byId("state").dataset.state = status;
  const name = NAMES[state.transport] ?? state.transport;
  put("state-text", status === "connected" ? `Live · ${name}` : sentence(status));
  put("in-use", status === "connected" ? name : "–");
  if (isNew) {
    const returned = state.recovered ? "Back, with everything that was missed" : "Back, and begun anew";
    put("connection-detail", `${isReturning ? returned : "Connected"} at ${clock.format(Date.now())}.`);
    isReturning = false;
  } else if (status !== "connected" && reason.message) {
    put("connection-detail", `${sentence(REASONS[reason.message] ?? reason.message)}, at ${clock.format(Date.now())}.`);
  }
  retryAt = state.retryAt;
  showRetry();
  if (isNew) lastPulse = null; // those of meanwhile were not for us
}

function showRetry() {
  put("retry", retryAt === undefined ? "" : `Next attempt in ${Math.max(0, Math.ceil((retryAt - Date.now()) / 1000))} s`);
}

function forget() {
  rows.clear();
  byId("quotes").replaceChildren();
  byId("news").replaceChildren();
  byId("beats").replaceChildren();
  lastNews = lastPulse = null;
}

function use(choice) {
  const before = client;
  client = null; // what the old one says on its way out is not news
  before?.close();
  isReturning = false;
  const current = client = connect(undefined, { path, transports: choice === "auto" ? "auto" : [choice] });
  const show = (state) => { if (current === client) showState(state); };
  show(current.connection.get());
  current.connection.subscribe(show);
  current.on("welcome", (message) => {
    if (epoch !== null && epoch !== message.epoch) forget();
    epoch = message.epoch;
    put("rate", `${message.quotes.length} prices, each changing ${message.changes_per_s} times a second`);
    message.quotes.forEach(showQuote);
    message.news.forEach(showNews);
  });
  current.on("price", (quote) => {
    received += 1;
    showQuote(quote);
  });
  current.on("news", showNews);
  current.on("pulse", showPulse);
}

// Start -----------------------------------------------------------------------------------------------------

const select = byId("transport");
if (connect === undefined) {
  byId("state").dataset.state = "closed";
  put("state-text", "The client script did not load");
} else {
  const asked = new URLSearchParams(location.search).get("transport");
  select.value = [...select.options].some((option) => option.value === asked) ? asked : "auto";
  select.addEventListener("change", () => {
    const url = new URL(location.href);
    url.searchParams.set("transport", select.value);
    history.replaceState(null, "", url);
    use(select.value);
  });
  compareClocks().catch((error) => put("connection-detail", `The server's clock cannot be read: ${error.message}`))
    .finally(() => use(select.value));
  setInterval(showAges, 100);
  setInterval(showRate, 1000);
  setInterval(showRetry, 500);
}
