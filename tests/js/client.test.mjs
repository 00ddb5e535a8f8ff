// `connect()` against a running server, in Node.js:
//   TIDEGATE_URL=… TIDEGATE_RECOVERING_URL=… TIDEGATE_FULL_URL=… node --test tests/js/client.test.mjs
// The first is tests.support.apps; the second tests.networks.server, which recovers clients; the third lets in a single
// session.
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { connect, refusalOf } from "../../client_js/test/support/client.mjs";
import { startProxy } from "./proxy.mjs";

const { TIDEGATE_URL: url, TIDEGATE_RECOVERING_URL: recovering, TIDEGATE_FULL_URL: full } = process.env;
const FACTOR = Number(process.env.TIDEGATE_TEST_TIMEOUT_FACTOR ?? 1);
const options = { skip: url && recovering && full ? false : "the URLs of the servers are not set", timeout: 60_000 * FACTOR };
const TRANSPORTS = ["websocket", "xhr-streaming", "polling"];

const cleanups = [];
afterEach(async () => {
  while (cleanups.length) await cleanups.pop()();
});

let names = 0;
const newName = () => `node-${process.pid}-${names++}`;

function open(server, settings = {}) {
  const client = connect(server, settings);
  cleanups.push(() => client.close());
  const states = [client.connection.get()];
  client.connection.subscribe((state) => states.push(state));
  return { client, states };
}

async function until(condition, what) {
  const deadline = Date.now() + 30_000 * FACTOR;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const numbers = (count) => Array.from({ length: count }, (_, n) => n);
const inside = async (name) => (await fetch(`${recovering}/clients/${name}`)).json();

/** A proxy whose connections can all be broken at once. */
async function breakable() {
  const proxy = await startProxy(recovering);
  cleanups.push(() => proxy.close());
  return proxy;
}

for (const transport of [...TRANSPORTS, "auto"]) {
  test(`${transport}: numbers both ways arrive once and in order while connections break`, options, async () => {
    const name = newName();
    const proxy = await breakable();
    const { client, states } = open(proxy.url, {
      auth: { client: name },
      transports: transport === "auto" ? transport : [transport],
      firstDelay: 50,
    });
    const received = [];
    client.on("number", (n) => received.push(n));
    await until(() => client.connection.get().status === "connected", "connected");
    await fetch(`${recovering}/clients/${name}/burst?count=1000&every_ms=2`, { method: "POST" });
    let [breaks, broken] = [0, 0];
    const breaking = setInterval(() => breaks++ < 6 && (broken += proxy.breakAll()), 250);
    const sent = [];
    for (const n of numbers(500)) {
      sent.push(client.emit("number", n));
      if (n % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    }
    assert.deepEqual(await Promise.all(sent), numbers(500));
    await until(() => received.length >= 1000, `1000 numbers, only ${received.length}`);
    clearInterval(breaking);
    assert.deepEqual(received, numbers(1000));
    assert.deepEqual((await inside(name)).received, numbers(500));
    assert.equal(client.outbox.size, 0);
    assert.ok(broken > 0, "connections broke");
    // A stream that breaks is resumed beneath the connection; only a WebSocket cannot be.
    const lost = states.findIndex(({ status }) => status === "recovering");
    assert.ok(lost > 0 || transport !== "websocket", "the client noticed");
    const back = lost > 0 ? states.slice(lost).filter(({ status }) => status === "connected") : [];
    assert.ok(back.every(({ recovered }) => recovered), "each time with what was missed");
  });
}

test("a connection that breaks off in a move to WebSocket is replaced at once", options, async () => {
  const name = newName();
  const proxy = await breakable();
  // The WebSocket answers the probe and dies, while the poll that has to come back first is still held.
  proxy.hooks.webSocketLifeMs = 100;
  proxy.hooks.delayMs = ({ method, query }) => (method === "GET" && query.sid && proxy.hooks.webSocketLifeMs ? 1_000 : 0);
  const { client, states } = open(proxy.url, { auth: { client: name }, transports: ["polling", "websocket"], firstDelay: 50 });
  const sent = numbers(20).map((n) => client.emit("number", n));
  await until(() => states.some(({ reason }) => reason.message.includes("in a move to another transport")), "the broken move");
  delete proxy.hooks.webSocketLifeMs;
  assert.deepEqual(await Promise.all(sent), numbers(20));
  await until(() => client.connection.get().transport === "websocket", "WebSocket");
  assert.deepEqual((await inside(name)).received, numbers(20));
});

test("what is sent before there is a connection, and while there is none, waits", options, async () => {
  const name = newName();
  const proxy = await breakable();
  const { client } = open(proxy.url, { auth: { client: name }, firstDelay: 50 });
  const early = client.emit("number", 0);
  assert.equal(await early, 0);
  proxy.hooks.isDown = true;
  proxy.breakAll();
  await until(() => client.connection.get().status === "recovering", "recovering");
  const late = client.emit("number", 1);
  await assert.rejects(client.emitWith({ timeout: 50 }, "number", 2), { code: "expired" });
  proxy.hooks.isDown = false;
  assert.equal(await late, 1);
  assert.deepEqual((await inside(name)).received, [0, 1]);
});

test("a namespace that does not exist closes the connection, and says so", options, async () => {
  const { client, states } = open(`${url}/nowhere`);
  await until(() => client.connection.get().status === "closed", "closed");
  const { reason } = client.connection.get();
  assert.deepEqual([reason.code, reason.message], ["refused", "Invalid namespace"]);
  assert.equal(refusalOf(reason.cause).name, "invalid_namespace");
  assert.deepEqual(states.map(({ status }) => status), ["connecting", "closed"]);
});

test("a handler that refuses closes the connection with its words", options, async () => {
  const { client } = open(url, { auth: { refuse: true } });
  await until(() => client.connection.get().status === "closed", "closed");
  assert.equal(client.connection.get().reason.message, "no entry");
});

test("a client that is disconnected by the server stays away until it is told otherwise", options, async () => {
  const { client } = open(url);
  client.emit("disconnect_me").catch(() => {});
  await until(() => client.connection.get().status === "closed", "closed");
  assert.equal(client.connection.get().reason.code, "server");
  client.connect();
  await until(() => client.connection.get().status === "connected", "connected again");
});

test("a server that is full is asked again when it said so, not before", options, async () => {
  const first = open(full);
  await until(() => first.client.connection.get().status === "connected", "the first is in");
  const second = open(full);
  await until(() => second.client.connection.get().reason.code === "refused", "the second is refused");
  const { status, retryAt, reason } = second.client.connection.get();
  assert.equal(status, "connecting");
  assert.equal(refusalOf(reason.cause).name, "too_many_connections");
  assert.equal(refusalOf(reason.cause).retry, "later");
  assert.ok(retryAt - Date.now() > 4_000, "after the five seconds that it was told");
});
