// The page: one connection, the items that come over it, and how the feed behind them is doing.

const SHOWN_ITEMS = 200;
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
  if (status === "connected") return;
  nextAt = null; // of the feed: nobody tells us any more
  showCountdown();
}

function showRetry() {
  put("retry", retryAt === undefined ? "" : `Next attempt in ${Math.max(0, Math.ceil((retryAt - Date.now()) / 1000))} s`);
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
  use(select.value);
  setInterval(showCountdown, 500);
  setInterval(showRetry, 500);
}
