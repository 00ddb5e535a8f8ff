// The page: one connection, the items that come over it, and how the feed behind them is doing.

const SHOWN_ITEMS = 200;
const NAMES = { websocket: "WebSocket", "xhr-streaming": "xhr-streaming", polling: "long-polling" };
const REASONS = {
  "io server disconnect": "the server closed it",
  "ping timeout": "the server went silent",
  "transport close": "the connection was lost",
  "transport error": "the connection failed",
  "parse error": "the server sent something unreadable",
};

const byId = (id) => document.getElementById(id);
const put = (id, text) => { if (byId(id).textContent !== text) byId(id).textContent = text; };
const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const day = new Intl.DateTimeFormat([], { dateStyle: "medium", timeStyle: "short" });

// Items -----------------------------------------------------------------------------------------------------

let epoch = null;
let lastN = null;
let received = 0;
let missed = 0;

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function makeItem(item, isFresh) {
  const entry = document.createElement("li");
  entry.dataset.n = String(item.n);
  entry.classList.toggle("fresh", isFresh);
  const time = element("time", clock.format(item.t * 1000));
  time.dateTime = new Date(item.t * 1000).toISOString();
  const published = item.published === null ? NaN : Date.parse(item.published);
  time.title = Number.isNaN(published) ? "When the server saw it" : `Published ${day.format(published)}`;
  const body = document.createElement("div");
  const title = document.createElement("h3");
  const link = linkTo(item);
  title.append(link ?? item.title);
  body.append(title);
  if (item.summary) body.append(element("p", item.summary));
  entry.append(time, body);
  return entry;
}

function linkTo(item) {
  if (!item.url || !/^https?:\/\//i.test(item.url)) return null;
  const link = element("a", item.title);
  link.href = item.url;
  link.rel = "noopener noreferrer";
  link.target = "_blank";
  return link;
}

function showItem(item, isFresh) {
  const list = byId("items");
  if (list.querySelector(`[data-n="${Number(item.n)}"]`)) return;
  const older = [...list.children].find((entry) => Number(entry.dataset.n) < item.n);
  list.insertBefore(makeItem(item, isFresh), older ?? null);
  while (list.children.length > SHOWN_ITEMS) list.lastElementChild.remove();
}

function showCounts() {
  put("received", String(received));
  put("missed", String(missed));
}

// The feed --------------------------------------------------------------------------------------------------

let nextAt = null;

function showFeed(feed) {
  put("address", feed.sample ? "Sample feed, served by this example itself" : feed.address);
  byId("sample").hidden = !feed.sample;
  const verdicts = { starting: "Not asked yet", ok: "Up to date", unchanged: "Up to date", error: "Not available" };
  byId("verdict").dataset.status = feed.status;
  put("verdict", verdicts[feed.status]);
  const details = {
    starting: "The first answer is on its way.",
    ok: `Asked every ${feed.interval_s} s.`,
    unchanged: `Asked every ${feed.interval_s} s; nothing changed since the last answer.`,
    error: `${feed.error} ${feed.failures > 1 ? `${feed.failures} failures in a row.` : ""}`,
  };
  put("detail", details[feed.status]);
  put("requests", String(feed.requests));
  put("checked", feed.checked_at === null ? "–" : clock.format(feed.checked_at * 1000));
  // Counted from when the news came: the clocks of server and browser may differ.
  nextAt = feed.checked_at === null ? null : performance.now() + feed.next_in_s * 1000;
  showCountdown();
}

function showCountdown() {
  put("next", nextAt === null ? "–" : `${Math.max(0, Math.ceil((nextAt - performance.now()) / 1000))} s`);
}

// The connection --------------------------------------------------------------------------------------------

const { io, XhrStreaming, withStreaming } = globalThis.tidegate ?? globalThis;
const path = new URL("socket.io/", document.baseURI).pathname;
let socket = null;

function optionsFor(wanted) {
  const options = { path, forceNew: true, reconnectionDelayMax: 5000 };
  if (wanted === "auto") return withStreaming ? withStreaming(options) : options;
  return { ...options, transports: [wanted === "xhr-streaming" ? XhrStreaming : wanted] };
}

function showState(state, text) {
  byId("state").dataset.state = state;
  put("state-text", text);
}

function showTransport() {
  const name = socket?.connected ? socket.io.engine?.transport?.name : null;
  put("in-use", name ? NAMES[name] ?? name : "–");
  if (name) showState("connected", `Live · ${NAMES[name] ?? name}`);
}

function connect(wanted) {
  if (socket) {
    socket.off();
    socket.io.off();
    socket.disconnect();
  }
  showState("connecting", "Connecting");
  const current = socket = io(optionsFor(wanted));
  const reconnectLater = () => setTimeout(() => { if (socket === current) current.connect(); }, 3000);
  current.on("connect", () => {
    current.io.engine.on("upgrade", showTransport);
    put("connection-detail", `Connected at ${clock.format(Date.now())}.`);
    showTransport();
  });
  current.on("disconnect", (reason) => {
    const why = REASONS[reason] ?? reason;
    showState("disconnected", "Not connected");
    put("connection-detail", `Lost at ${clock.format(Date.now())}: ${why}.`);
    nextAt = null;
    showCountdown();
    showTransport();
    // The library waits to be told after the server has closed a connection on purpose.
    if (reason === "io server disconnect") reconnectLater();
  });
  current.on("connect_error", (error) => {
    showState("disconnected", "Not connected, trying again");
    const detail = typeof error.description === "number" ? `HTTP ${error.description}` : error.message;
    put("connection-detail", `Could not connect: ${detail}.`);
    if (!current.active) reconnectLater();
  });
  current.io.on("reconnect_attempt", (attempt) => showState("connecting", `Reconnecting, attempt ${attempt}`));
  current.on("welcome", (message) => {
    if (epoch !== null && epoch !== message.epoch) {
      byId("items").replaceChildren();
      lastN = null;
    }
    const isReturn = lastN !== null;
    epoch = message.epoch;
    byId("items").setAttribute("aria-busy", "true");
    for (const item of message.items) showItem(item, isReturn && item.n > lastN);
    byId("items").setAttribute("aria-busy", "false");
    // What the welcome brings was not missed; what fell out of its fifty was.
    const oldest = message.items.length ? message.items[0].n : message.n + 1;
    if (isReturn && oldest > lastN + 1) missed += oldest - lastN - 1;
    lastN = Math.max(lastN ?? 0, message.n);
    showFeed(message.feed);
    showCounts();
  });
  current.on("item", (item) => {
    if (lastN !== null && item.n > lastN + 1) missed += item.n - lastN - 1;
    lastN = Math.max(lastN ?? 0, item.n);
    received += 1;
    showItem(item, true);
    showCounts();
  });
  current.on("feed", showFeed);
  showTransport();
}

// Start -----------------------------------------------------------------------------------------------------

const select = byId("transport");
if (typeof io !== "function") {
  showState("disconnected", "The client script did not load");
} else {
  if (!XhrStreaming) select.querySelector('[value="xhr-streaming"]').disabled = true;
  const asked = new URLSearchParams(location.search).get("transport");
  const option = [...select.options].find((each) => each.value === asked && !each.disabled);
  select.value = option ? asked : "auto";
  select.addEventListener("change", () => {
    const url = new URL(location.href);
    url.searchParams.set("transport", select.value);
    history.replaceState(null, "", url);
    connect(select.value);
  });
  connect(select.value);
  setInterval(showCountdown, 500);
}
