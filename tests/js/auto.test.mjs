// The choice of transports by what a network lets through, against a running server:
//   TIDEGATE_URL=http://127.0.0.1:PORT node --test tests/js/auto.test.mjs
// The server is that of streaming.test.mjs; proxies stand for the networks.
import assert from "node:assert/strict";
import { after, afterEach, test } from "node:test";
import { TransportChooser } from "../../client_js/dist/transports/index.js";
import { io } from "../../client_js/test/support/client.mjs";
import { holdingBack, isStream, startProxy } from "./proxy.mjs";

const url = process.env.TIDEGATE_URL;
const FACTOR = Number(process.env.TIDEGATE_TEST_TIMEOUT_FACTOR ?? 1);
const options = { skip: url ? false : "TIDEGATE_URL is not set", timeout: 30_000 * FACTOR };
const NEVER = 3_600_000;

const cleanups = [];
const unhandled = [];
process.on("unhandledRejection", (reason) => unhandled.push(reason));

afterEach(async () => {
  while (cleanups.length) await cleanups.pop()();
});
after(() => assert.deepEqual(unhandled, []));

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const isUpgrade = ({ method }) => method === "UPGRADE";
const isUpstream = ({ method, query }) => method === "POST" && query.transport === "xhr-streaming";

async function until(condition, what) {
  const deadline = Date.now() + 15_000 * FACTOR;
  while (!condition()) {
    assert.ok(Date.now() < deadline, `never: ${what}`);
    await sleep(5);
  }
}

/** A page: what it has stored, and the choosers of its clients report to it. */
function makePage() {
  const stored = new Map();
  const storage = {
    getItem: (key) => stored.get(key) ?? null,
    setItem: (key, text) => stored.set(key, text),
  };
  return { storage, stored };
}

async function network(hooks = {}) {
  const proxy = await startProxy(url, hooks);
  cleanups.push(() => proxy.close());
  return proxy;
}

/** A client of `proxy` that connects as often as it is told to, driven as the client core drives it. */
function makeClient(proxy, { storage } = makePage(), auto = {}) {
  const client = { reports: [], ticks: [], disconnects: [], errors: [] };
  const chooser = new TransportChooser(proxy.url, (report) => client.reports.push(report), {
    retryDelay: NEVER,
    storage,
    ...auto,
  });
  const socket = io(proxy.url, { forceNew: true, autoConnect: false, reconnection: false, tryAllTransports: true });
  socket.on("disconnect", (reason) => client.disconnects.push(reason));
  socket.on("connect_error", (error) => client.errors.push(error));
  socket.on("tick", (tick) => client.ticks.push(tick.n));
  cleanups.push(() => {
    chooser.stop();
    socket.disconnect();
  });
  return Object.assign(client, {
    chooser,
    socket,
    connect() {
      socket.io.opts.transports = chooser.next();
      socket.connect();
      chooser.watch(socket.io.engine);
    },
    async connected() {
      client.connect();
      await until(() => socket.connected, `connected (${client.steps()})`);
    },
    async opened(name, as) {
      const isIt = (report) => report.outcome === "opened" && report.transport === name && (!as || report.as === as);
      await until(() => client.reports.some(isIt), `${name} opened ${as ?? ""} (${client.steps()})`);
    },
    transport: () => socket.io.engine.transport.name,
    steps: () => client.reports.map(({ outcome, as, transport }) => `${outcome} ${as} ${transport}`),
    reason: (outcome, name) =>
      client.reports.find((report) => report.outcome === outcome && report.transport === name)?.reason,
  });
}

/** Asks for numbered messages and checks that each comes once and in order, and nothing after them. */
async function checkBurst(client, count = 300, size = 40) {
  client.ticks.length = 0;
  client.socket.emit("burst", count, size);
  await until(() => client.ticks.length >= count, `tick ${count}, only ${client.ticks.length}`);
  await client.socket.emitWithAck("echo");
  assert.deepEqual(client.ticks, Array.from({ length: count }, (_, n) => n));
  assert.deepEqual(client.disconnects, []);
}

const WEBSOCKET_AT_ONCE = [
  "opened first polling",
  "left first polling",
  "opened upgrade websocket",
];

test("with nothing remembered it goes from polling to websocket, and begins there the next time", options, async () => {
  const proxy = await network();
  const page = makePage();
  const first = makeClient(proxy, page);
  await first.connected();
  await first.opened("websocket");
  assert.deepEqual(first.steps(), WEBSOCKET_AT_ONCE);
  assert.equal(first.reason("left", "polling"), "upgraded to websocket");
  await checkBurst(first);
  assert.equal(proxy.requests.filter(isStream).length, 0);
  first.socket.disconnect();
  await until(() => first.steps().length > 3, "left");
  assert.deepEqual(first.steps().slice(3), ["left upgrade websocket"]);
  assert.equal(first.reason("left", "websocket"), "forced close");

  const before = proxy.requests.length;
  const second = makeClient(proxy, page);
  await second.connected();
  assert.deepEqual(second.steps(), ["opened remembered websocket"]);
  assert.deepEqual(proxy.requests.slice(before).map(({ method }) => method), ["UPGRADE"]);
  await checkBurst(second);
});

test("where websocket is refused it goes on to xhr-streaming, and there at once the next time", options, async () => {
  const proxy = await network({ onUpgrade: "refuse" });
  const page = makePage();
  const first = makeClient(proxy, page);
  await first.connected();
  await first.opened("xhr-streaming");
  assert.deepEqual(first.steps(), [
    "opened first polling",
    "failed upgrade websocket",
    "left first polling",
    "opened upgrade xhr-streaming",
  ]);
  assert.match(first.reason("failed", "websocket"), /websocket/);
  await checkBurst(first);

  const before = proxy.requests.length;
  const second = makeClient(proxy, page);
  await second.connected();
  await second.opened("xhr-streaming");
  assert.deepEqual(second.steps(), ["opened first polling", "left first polling", "opened remembered xhr-streaming"]);
  assert.equal(proxy.requests.slice(before).filter(isUpgrade).length, 0);
  await checkBurst(second);
});

test("where websocket hangs it is given up in its time", options, async () => {
  const proxy = await network({ onUpgrade: "hang" });
  const client = makeClient(proxy, makePage(), { openTimeout: { websocket: 200 } });
  await client.connected();
  await client.opened("xhr-streaming");
  assert.deepEqual(client.steps().slice(0, 2), ["opened first polling", "failed upgrade websocket"]);
  assert.match(client.reason("failed", "websocket"), /not open within 200 ms/);
  await checkBurst(client);
});

for (const how of ["refuse", "hang"]) {
  test(`where a remembered websocket begins to ${how}, it falls back to polling and forgets`, options, async () => {
    const proxy = await network();
    const page = makePage();
    const first = makeClient(proxy, page);
    await first.connected();
    await first.opened("websocket");
    first.socket.disconnect();

    proxy.hooks.onUpgrade = how;
    const second = makeClient(proxy, page);
    await second.connected();
    await second.opened("xhr-streaming");
    assert.deepEqual(second.steps(), [
      "failed remembered websocket",
      "opened fallback polling",
      "left fallback polling",
      "opened upgrade xhr-streaming",
    ]);
    if (how === "hang") assert.match(second.reason("failed", "websocket"), /not open within \d+ ms/);
    await checkBurst(second);
    second.socket.disconnect();

    const third = makeClient(proxy, page);
    await third.connected();
    await third.opened("xhr-streaming", "remembered");
  });
}

test("behind a proxy that holds back the end of a burst it stays on polling, and tries nothing at once the next time", options, async () => {
  const proxy = await network({ onUpgrade: "refuse", onResponse: holdingBack() });
  const page = makePage();
  const first = makeClient(proxy, page);
  await first.connected();
  await until(() => first.reason("failed", "xhr-streaming"), `streaming given up (${first.steps()})`);
  assert.match(first.reason("failed", "xhr-streaming"), /buffered by a proxy/);
  assert.equal(first.transport(), "polling");
  for (let i = 0; i < 5; i++) await checkBurst(first, 100);

  const before = proxy.requests.length;
  const second = makeClient(proxy, page);
  await second.connected();
  await checkBurst(second, 100);
  assert.deepEqual(second.steps(), ["opened remembered polling"]);
  assert.equal(proxy.requests.slice(before).filter((each) => isStream(each) || isUpgrade(each)).length, 0);
});

test("a proxy that holds back the end of a burst does not keep it from websocket", options, async () => {
  const client = makeClient(await network({ onResponse: holdingBack() }));
  await client.connected();
  await client.opened("websocket");
  assert.deepEqual(client.steps(), WEBSOCKET_AT_ONCE);
  await checkBurst(client);
});

test("a websocket that keeps dying young is left alone for a while", options, async () => {
  const proxy = await network({ webSocketLifeMs: 50 });
  const client = makeClient(proxy);
  for (let deaths = 1; deaths <= 3; deaths++) {
    client.connect();
    await until(() => client.disconnects.length === deaths, `death ${deaths} (${client.steps()})`);
  }
  const ends = client.reports.filter(({ outcome, transport }) => outcome === "left" && transport === "websocket");
  assert.deepEqual(ends.map(({ reason }) => /not used for 600 s/.test(reason)), [false, false, true]);
  client.reports.length = client.disconnects.length = 0;

  const before = proxy.requests.length;
  await client.connected();
  await client.opened("xhr-streaming");
  await checkBurst(client);
  assert.deepEqual(client.steps(), ["opened first polling", "left first polling", "opened upgrade xhr-streaming"]);
  assert.equal(proxy.requests.slice(before).filter(isUpgrade).length, 0);
});

test("a demoted websocket is tried again in the same session once its time is over", options, async () => {
  const proxy = await network({ webSocketLifeMs: 50 });
  const client = makeClient(proxy, makePage(), { demoteFor: 1_500, retryDelay: 200 });
  for (let deaths = 1; deaths <= 3; deaths++) {
    client.connect();
    await until(() => client.disconnects.length === deaths, `death ${deaths} (${client.steps()})`);
  }
  client.reports.length = client.disconnects.length = 0;
  delete proxy.hooks.webSocketLifeMs;
  await client.connected();
  await client.opened("websocket", "retried upgrade");
  await checkBurst(client);
});

test("an xhr-streaming that keeps breaking steps down to polling", options, async () => {
  let isBreaking = false;
  const proxy = await network({
    onUpgrade: "refuse",
    onResponse(request, client) {
      if (isBreaking && isUpstream(request)) client.destroy();
    },
  });
  const client = makeClient(proxy);
  for (let deaths = 1; deaths <= 3; deaths++) {
    isBreaking = false;
    client.reports.length = 0;
    await client.connected();
    await client.opened("xhr-streaming");
    isBreaking = true;
    client.socket.emit("echo");
    await until(() => client.disconnects.length === deaths, `death ${deaths}`);
  }
  assert.match(client.reason("left", "xhr-streaming"), /transport error, again and again: not used for 600 s/);
  client.reports.length = client.disconnects.length = 0;
  await client.connected();
  await until(() => client.reason("failed", "websocket"), "websocket refused");
  await checkBurst(client);
  assert.equal(client.transport(), "polling");
  assert.deepEqual(client.steps(), ["opened first polling", "failed upgrade websocket"]);
});

/** Numbered messages without a pause, both ways, while `change()` happens. */
async function checkUnderWay(client, change) {
  client.ticks.length = 0;
  const answers = [];
  let isOver = false;
  const changing = change().finally(() => (isOver = true));
  let count = 0;
  while (!isOver) {
    for (let i = 0; i < 5; i++) answers.push(client.socket.emitWithAck("echo", answers.length));
    count += await client.socket.emitWithAck("burst", 50, 40);
  }
  await changing;
  assert.deepEqual(await Promise.all(answers), answers.map((_, n) => n));
  await client.socket.emitWithAck("echo");
  assert.deepEqual(client.ticks, Array.from({ length: count }, (_, n) => n % 50));
  assert.deepEqual(client.disconnects, []);
}

for (const [from, to] of [["polling", "websocket"], ["polling", "xhr-streaming"], ["xhr-streaming", "websocket"]]) {
  test(`a late upgrade from ${from} to ${to} loses and repeats nothing`, options, async () => {
    let holds = from === "polling";
    const hold = holdingBack();
    const proxy = await network({
      onUpgrade: "refuse",
      onResponse: (request, client) => (holds ? hold(request, client) : undefined),
    });
    const page = makePage();
    const client = makeClient(proxy, page, { retryDelay: 100 });
    await client.connected();
    if (from === "polling") await until(() => client.reason("failed", "xhr-streaming"), "streaming given up");
    else await client.opened(from);
    await checkUnderWay(client, async () => {
      await sleep(50);
      if (to === "websocket") proxy.hooks.onUpgrade = "pass";
      else holds = false;
      await client.opened(to, "retried upgrade");
      await sleep(50);
    });
    assert.equal(client.transport(), to);
    await checkBurst(client);
  });
}

test("when the network changes, what failed is tried at once", options, async () => {
  const proxy = await network({ onUpgrade: "refuse" });
  const client = makeClient(proxy);
  await client.connected();
  await client.opened("xhr-streaming");
  proxy.hooks.onUpgrade = "pass";
  await checkUnderWay(client, async () => {
    client.chooser.networkChanged();
    await client.opened("websocket", "retried upgrade");
  });
  await checkBurst(client);
});

test("a network that changes while something is tried has all of it tried once more", options, async () => {
  const proxy = await network({ onUpgrade: "hang" });
  const client = makeClient(proxy, makePage(), { openTimeout: { websocket: 300 } });
  await client.connected();
  await until(() => proxy.requests.some(isUpgrade), "websocket tried");
  proxy.hooks.onUpgrade = "pass";
  client.chooser.networkChanged();
  await client.opened("websocket", "retried upgrade");
  await checkBurst(client);
});

test("what has nothing to be reached by reports every failure, and the client the last", options, async () => {
  const proxy = await network();
  await proxy.close();
  const client = makeClient(proxy);
  client.connect();
  await until(() => client.errors.length > 0, "connect_error");
  assert.deepEqual(client.steps(), ["failed first polling", "failed fallback xhr-streaming", "failed fallback websocket"]);
  assert.ok(client.reports.every(({ reason }) => reason !== ""));
});

test("a polling that hangs is given up in its time", options, async () => {
  const proxy = await network({ delayMs: ({ query }) => (query.transport === "polling" ? 3_000 : 0) });
  const client = makeClient(proxy, makePage(), { openTimeout: { polling: 200 } });
  await client.connected();
  assert.deepEqual(client.steps().slice(0, 2), ["failed first polling", "opened fallback xhr-streaming"]);
  await client.opened("websocket");
  await checkBurst(client);
});

test("a server's goodbye and the client's own are no deaths", options, async () => {
  const client = makeClient(await network());
  for (let i = 0; i < 4; i++) {
    await client.connected();
    await client.opened("websocket");
    client.socket.disconnect();
    await until(() => client.disconnects.length === i + 1, "disconnect");
    assert.doesNotMatch(client.reports.at(-1).reason, /not used/);
    client.reports.length = 0;
  }
});

test("a client that may not upgrade stays where it is", options, async () => {
  const proxy = await network();
  const client = makeClient(proxy, makePage(), { retryDelay: 20 });
  client.socket.io.opts.upgrade = false;
  await client.connected();
  await sleep(200);
  await checkBurst(client);
  assert.deepEqual(client.steps(), ["opened first polling"]);
});

test("after stop nothing is tried again", options, async () => {
  const proxy = await network({ onUpgrade: "refuse" });
  const client = makeClient(proxy, makePage(), { retryDelay: 20 });
  await client.connected();
  await until(() => proxy.requests.filter(isUpgrade).length > 1, "tried again");
  client.chooser.stop();
  await sleep(50);
  const before = proxy.requests.filter(isUpgrade).length;
  await sleep(300);
  assert.equal(proxy.requests.filter(isUpgrade).length, before);
  await checkBurst(client);
});

test("a connection that is replaced before it has closed disturbs the next in nothing", options, async () => {
  const client = makeClient(await network());
  await client.connected();
  await client.opened("websocket");
  client.socket.emit("echo", "x".repeat(100_000));
  client.socket.disconnect();
  client.disconnects.length = 0;
  await client.connected();
  await client.opened("websocket", "remembered");
  await checkBurst(client);
});
