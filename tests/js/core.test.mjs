// `connect()` of tidegate-client/core against a running server, in Node.js:
//   TIDEGATE_URL=… TIDEGATE_RECOVERING_URL=… node --test tests/js/core.test.mjs
// The first is tests.support.apps; the second tests.networks.server, which recovers clients.
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { core, refusalOf } from "../../client_js/test/support/client.mjs";
import { startProxy } from "./proxy.mjs";

const { TIDEGATE_URL: url, TIDEGATE_RECOVERING_URL: recovering } = process.env;
const FACTOR = Number(process.env.TIDEGATE_TEST_TIMEOUT_FACTOR ?? 1);
const options = { skip: url && recovering ? false : "the URLs of the servers are not set", timeout: 60_000 * FACTOR };

const cleanups = [];
afterEach(async () => {
  while (cleanups.length) await cleanups.pop()();
});

let names = 0;
const numbers = (count) => Array.from({ length: count }, (_, n) => n);
const inside = async (name) => (await fetch(`${recovering}/clients/${name}`)).json();

/** A client behind a proxy whose connections can all be broken at once. */
async function open(settings = {}) {
  const name = `core-${process.pid}-${names++}`;
  const proxy = await startProxy(recovering);
  cleanups.push(() => proxy.close());
  const client = core.connect(proxy.url, { auth: { client: name }, firstDelay: 50, ...settings });
  cleanups.push(() => client.close());
  const states = [client.connection.get()];
  client.connection.subscribe((state) => states.push(state));
  return { client, states, proxy, name };
}

async function until(condition, what) {
  const deadline = Date.now() + 30_000 * FACTOR;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test("it moves to WebSocket by itself, and events go both ways", options, async () => {
  const { client, name } = await open();
  const received = [];
  client.on("number", (n) => received.push(n));
  assert.equal(await client.emit("number", 0), 0);
  await until(() => client.connection.get().transport === "websocket", "WebSocket");
  await fetch(`${recovering}/clients/${name}/burst?count=100&every_ms=1`, { method: "POST" });
  await until(() => received.length >= 100, "100 numbers");
  assert.deepEqual(received, numbers(100));
});

for (const transport of ["websocket", "xhr-streaming", "polling"]) {
  test(`${transport}: without outbox() each message is handled at most once, and its sender knows which`, options, async () => {
    const { client, states, proxy, name } = await open({ transports: [transport] });
    const received = [];
    client.on("number", (n) => received.push(n));
    await until(() => client.connection.get().status === "connected", "connected");
    await fetch(`${recovering}/clients/${name}/burst?count=500&every_ms=2`, { method: "POST" });
    const outcomes = [];
    for (const n of numbers(200)) {
      outcomes.push(client.emit("number", n).then(() => "answered", ({ code }) => code));
      if (n % 50 === 25) proxy.breakAll();
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    const became = await Promise.all(outcomes);
    await until(() => received.length >= 500, "500 numbers");
    assert.deepEqual(received, numbers(500), "what the server sends is recovered");
    const handled = (await inside(name)).received;
    assert.deepEqual(handled, [...new Set(handled)].sort((a, b) => a - b), "once, and in order");
    assert.deepEqual([...new Set(became)].filter((each) => !["answered", "lost"].includes(each)), []);
    for (const n of numbers(200)) assert.ok(became[n] === "lost" || handled.includes(n), `${n} was answered`);
    assert.ok(states.some(({ status }) => status === "recovering"), "connections broke");
  });
}

test("with outbox() and autoTransports() each message is handled once, whatever breaks", options, async () => {
  const opened = [];
  const onTransport = ({ transport, outcome }) => outcome === "opened" && opened.push(transport);
  const { client, proxy, name } = await open({ outbox: core.outbox(), transports: core.autoTransports({ onTransport }) });
  const sent = [];
  for (const n of numbers(200)) {
    sent.push(client.emit("number", n));
    if (n % 50 === 25) proxy.breakAll();
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  assert.deepEqual(await Promise.all(sent), numbers(200));
  assert.deepEqual((await inside(name)).received, numbers(200));
  assert.ok(opened.includes("polling"), opened.join());
});

test("a namespace that does not exist closes the connection, and says so", options, async () => {
  const client = core.connect(`${url}/nowhere`);
  cleanups.push(() => client.close());
  await until(() => client.connection.get().status === "closed", "closed");
  const { reason } = client.connection.get();
  assert.deepEqual([reason.code, refusalOf(reason.cause).name], ["refused", "invalid_namespace"]);
});
