// The stock socket.io-client with our transport, against a running server:
//   TIDEGATE_URL=http://127.0.0.1:PORT [TIDEGATE_SMALL_STREAM_URL=…] node --test tests/js/
// The server knows the events echo (acknowledges with its arguments), burst (n, size: emits tick {n: 0}, {n: 1}, …
// to this client) and broadcast (sends message to all). The second one ends its streams after a few kilobytes.
import assert from "node:assert/strict";
import { after, afterEach, test } from "node:test";
import { io, withStreaming } from "../../client_js/test/support/client.mjs";
import { buffering, cutAfter, holdingBack, isStream, startProxy } from "./proxy.mjs";

const url = process.env.TIDEGATE_URL;
const smallStreamUrl = process.env.TIDEGATE_SMALL_STREAM_URL;
const FACTOR = Number(process.env.TIDEGATE_TEST_TIMEOUT_FACTOR ?? 1);
const options = { skip: url ? false : "TIDEGATE_URL is not set", timeout: 30_000 * FACTOR };
const optionsForSmall = { ...options, skip: smallStreamUrl ? false : "TIDEGATE_SMALL_STREAM_URL is not set" };

const cleanups = [];
const unhandled = [];
process.on("unhandledRejection", (reason) => unhandled.push(reason));

afterEach(async () => {
  while (cleanups.length) await cleanups.pop()();
});
after(() => assert.deepEqual(unhandled, []));

const isUpstream = ({ method, query }) => method === "POST" && query.transport === "xhr-streaming";
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(condition, what) {
  const deadline = Date.now() + 15_000 * FACTOR;
  while (!condition()) {
    assert.ok(Date.now() < deadline, `never: ${what}`);
    await sleep(5);
  }
}

/** `names: undefined` leaves the choice to the client. */
function connect(server, given = {}) {
  const { names, streaming, ...others } = { names: ["xhr-streaming"], ...given };
  const socket = io(
    server,
    withStreaming({ forceNew: true, reconnection: false, transports: names, streaming, ...others }),
  );
  const client = { socket, ticks: [], upgrades: [], upgradeErrors: [], disconnects: [] };
  const { engine } = socket.io;
  engine.on("upgrade", (transport) => client.upgrades.push(transport.name));
  engine.on("upgradeError", (error) => client.upgradeErrors.push(error));
  socket.on("disconnect", (reason) => client.disconnects.push(reason));
  socket.on("tick", (tick) => client.ticks.push(tick.n));
  client.transport = () => socket.io.engine.transport.name;
  client.connected = new Promise((resolve, reject) => {
    socket.on("connect", resolve);
    socket.on("connect_error", reject);
  });
  client.connected.catch(() => {});
  cleanups.push(() => socket.disconnect());
  return client;
}

async function proxied(hooks, server = url) {
  const proxy = await startProxy(server, hooks);
  cleanups.push(() => proxy.close());
  return proxy;
}

/** Asks for numbered messages and checks that each comes once and in order, and nothing after them. */
async function checkBurst(client, count = 1000, size = 0) {
  client.ticks.length = 0;
  client.socket.emit("burst", count, size);
  await until(() => client.ticks.length >= count, `tick ${count}, only ${client.ticks.length}`);
  await client.socket.emitWithAck("echo");
  assert.deepEqual(client.ticks, Array.from({ length: count }, (_, n) => n));
  assert.deepEqual(client.disconnects, []);
}

/** `ack` of the streams of a session must be what was received: it never falls. */
function checkAcks(proxy) {
  const acks = proxy.requests.filter(isStream).map(({ query }) => Number(query.ack));
  assert.equal(acks[0], 0);
  assert.deepEqual(acks, [...acks].sort((a, b) => a - b));
  return acks;
}

test("as the first transport it carries text and binary both ways", options, async () => {
  const client = connect(url);
  await client.connected;
  assert.equal(client.transport(), "xhr-streaming");
  assert.equal(await client.socket.emitWithAck("echo", "zwölf € 😀 \u001e"), "zwölf € 😀 \u001e");
  const binary = await client.socket.emitWithAck("echo", Buffer.from([0, 30, 255, 98]));
  assert.deepEqual([...binary], [0, 30, 255, 98]);
  const mixed = await client.socket.emitWithAck("echo", { a: [Buffer.from("é")], b: "b" });
  assert.equal(mixed.a[0].toString(), "é");
  await checkBurst(client);
});

test("without upgrades it stays what it is", options, async () => {
  const client = connect(url, { names: ["xhr-streaming", "websocket"], upgrade: false });
  await client.connected;
  await checkBurst(client, 100);
  assert.equal(client.transport(), "xhr-streaming");
});

test("a message to all reaches streams too", options, async () => {
  const [one, other] = [connect(url), connect(url)];
  await Promise.all([one.connected, other.connected]);
  const received = new Promise((resolve) => other.socket.on("message", resolve));
  one.socket.emit("broadcast", "hello");
  assert.equal(await received, "hello");
});

test("the handshake announces that the client counts, and padding is asked for only where wanted", options, async () => {
  const proxy = await proxied({});
  const plain = connect(proxy.url);
  const padded = connect(proxy.url, { streaming: { padding: 2048 } });
  await Promise.all([plain.connected, padded.connected]);
  const [first, second] = proxy.requests.filter(isStream).map(({ query }) => query);
  assert.deepEqual([first.ack, first.padding, first.EIO], ["0", undefined, "4"]);
  assert.deepEqual([second.ack, second.padding], ["0", "2048"]);
  await checkBurst(padded, 100);
});

test("much at once goes up in pieces that the server takes", options, async () => {
  const client = connect(url);
  await client.connected;
  const text = "é".repeat(10_000);
  const answers = await Promise.all(Array.from({ length: 100 }, (_, n) => client.socket.emitWithAck("echo", text + n)));
  assert.deepEqual(answers, answers.map((_, n) => text + n));
  assert.deepEqual(client.disconnects, []);
});

test("a stream that the server ends is followed by the next", optionsForSmall, async () => {
  const proxy = await proxied({}, smallStreamUrl);
  const client = connect(proxy.url);
  await client.connected;
  // The server may write what it has at once, however much, before it ends a stream.
  for (let i = 0; i < 20; i++) await checkBurst(client, 50, 100);
  const acks = checkAcks(proxy);
  assert.ok(acks.length > 10, `${acks.length} streams`);
  assert.ok(acks[acks.length - 1] > 900);
});

test("a stream that is cut anywhere is resumed", options, async () => {
  let bytes = 700;
  // Growing, because one that never lets a message through cannot be resumed for ever.
  const proxy = await proxied({ onResponse: cutAfter(() => (bytes += 997)) });
  const client = connect(proxy.url);
  await client.connected;
  await checkBurst(client, 1000, 40);
  const acks = checkAcks(proxy);
  assert.ok(acks.length > 5, `${acks.length} streams`);
});

test("a stream that a proxy ends inside a record is resumed", options, async () => {
  let bytes = 700;
  const proxy = await proxied({ onResponse: cutAfter(() => (bytes += 1999), (client) => client.end()) });
  const client = connect(proxy.url);
  await client.connected;
  await checkBurst(client, 1000, 40);
  assert.ok(checkAcks(proxy).length > 4);
});

test("small streams that are cut as well are resumed", optionsForSmall, async () => {
  let bytes = 700;
  const proxy = await proxied({ onResponse: cutAfter(() => (bytes += 371)) }, smallStreamUrl);
  const client = connect(proxy.url);
  await client.connected;
  await checkBurst(client, 1000, 40);
  checkAcks(proxy);
});

test("a stream that falls silent is resumed", options, async () => {
  let mute = false;
  const proxy = await proxied({
    onResponse: (request, client) =>
      isStream(request) && { onChunk: (chunk) => !(mute && request.isFirst) && client.write(chunk) },
  });
  const client = connect(proxy.url, { streaming: { stallTimeout: 400 } });
  await client.connected;
  for (const request of proxy.requests) request.isFirst = true;
  mute = true;
  await checkBurst(client, 100);
});

test("a cut that lasts ends in a transport error", options, async () => {
  const proxy = await proxied({});
  const client = connect(proxy.url);
  await client.connected;
  await proxy.close();
  await until(() => client.disconnects.length > 0, "disconnect");
  assert.deepEqual(client.disconnects, ["transport error"]);
});

test("a session that is gone ends in a transport error at once", options, async () => {
  const proxy = await proxied({});
  const client = connect(proxy.url);
  await client.connected;
  const { engine } = client.socket.io;
  const before = Date.now();
  engine.transport.query.sid = "no-such-session";
  client.socket.emit("echo");
  await until(() => client.disconnects.length > 0, "disconnect");
  assert.deepEqual(client.disconnects, ["transport error"]);
  assert.ok(Date.now() - before < 2_000 * FACTOR);
});

for (const holdsHead of [false, true]) {
  const what = holdsHead ? "whole responses" : "bodies";
  test(`behind a proxy that holds back ${what} the client falls back to polling`, options, async () => {
    const proxy = await proxied({ onResponse: buffering({ holdsHead }), onUpgrade: "refuse" });
    const client = connect(proxy.url, {
      names: ["xhr-streaming", "polling", "websocket"],
      streaming: { firstRecordTimeout: 300 },
    });
    await client.connected;
    assert.equal(client.transport(), "polling");
    await checkBurst(client);
    assert.equal(proxy.requests.filter(isStream).length, 1);
  });

  test(`behind a proxy that holds back ${what} an upgrade from polling fails and polling goes on`, options, async () => {
    const proxy = await proxied({ onResponse: buffering({ holdsHead }) });
    const client = connect(proxy.url, {
      names: ["polling", "xhr-streaming"],
      streaming: { firstRecordTimeout: 500 },
    });
    await client.connected;
    await checkBurst(client, 100);
    await until(() => client.upgradeErrors.length > 0, "upgrade error");
    assert.match(client.upgradeErrors[0].message, /buffered by a proxy/);
    await checkBurst(client, 500);
    assert.equal(client.transport(), "polling");
  });
}

test("by default a proxy that holds back the end of each response does no harm", options, async () => {
  const proxy = await proxied({ onResponse: holdingBack(), onUpgrade: "refuse" });
  const client = connect(proxy.url, { names: undefined, streaming: { firstRecordTimeout: 500 } });
  await client.connected;
  await until(() => client.upgradeErrors.length > 1, "upgrade errors");
  assert.deepEqual(client.upgradeErrors.map(({ transport }) => transport), ["websocket", "xhr-streaming"]);
  await checkBurst(client, 100);
  assert.equal(client.transport(), "polling");
});

test("alone behind a proxy that holds back the response, the error says so", options, async () => {
  const proxy = await proxied({ onResponse: buffering() });
  const client = connect(proxy.url, { streaming: { firstRecordTimeout: 200 } });
  await assert.rejects(client.connected, /buffered by a proxy/);
});

test("polling upgrades to xhr-streaming, with messages under way", options, async () => {
  const proxy = await proxied({});
  const client = connect(proxy.url, { names: ["polling", "xhr-streaming"] });
  await client.connected;
  await checkBurst(client, 1000, 50);
  await until(() => client.upgrades.length > 0, "upgrade");
  assert.deepEqual(client.upgrades, ["xhr-streaming"]);
  await checkBurst(client, 1000, 50);
  assert.equal(client.transport(), "xhr-streaming");
  const [handshake, ...others] = proxy.requests.map(({ query }) => query);
  assert.equal(handshake.transports, "polling,xhr-streaming");
  assert.ok(others.every(({ transports }) => transports === undefined));
  checkAcks(proxy);
});

test("polling upgrades to xhr-streaming and that is cut and resumed", options, async () => {
  let bytes = 700;
  const proxy = await proxied({ onResponse: cutAfter(() => (bytes += 997)) });
  const client = connect(proxy.url, { names: ["polling", "xhr-streaming"] });
  await client.connected;
  await until(() => client.upgrades.length > 0, "upgrade");
  await checkBurst(client, 1000, 40);
  assert.ok(checkAcks(proxy).length > 5);
});

test("xhr-streaming upgrades to websocket, with messages under way", options, async () => {
  const client = connect(url, { names: ["xhr-streaming", "websocket"] });
  await client.connected;
  await checkBurst(client, 1000, 50);
  await until(() => client.upgrades.length > 0, "upgrade");
  assert.deepEqual(client.upgrades, ["websocket"]);
  await checkBurst(client, 1000, 50);
});

test("small streams upgrade to websocket, with messages under way", optionsForSmall, async () => {
  for (let i = 0; i < 5; i++) {
    const client = connect(smallStreamUrl, { names: ["xhr-streaming", "websocket"] });
    await client.connected;
    await checkBurst(client, 1000, 50);
    await until(() => client.upgrades.length > 0, "upgrade");
    await checkBurst(client, 100);
  }
});

test("a stream that is cut while it is paused for an upgrade loses nothing", options, async () => {
  let isMute = false;
  const muted = new Set();
  const proxy = await proxied({
    upgradeDelayMs: 200,
    onResponse(request, client) {
      if (!isStream(request)) return undefined;
      return {
        onChunk: (chunk) => (isMute ? muted.add(client) : client.write(chunk)),
        onEnd: () => isMute || client.end(),
      };
    },
  });
  const client = connect(proxy.url, { names: ["xhr-streaming", "websocket"] });
  await client.connected;
  isMute = true;
  const check = checkBurst(client, 1000, 40);
  await new Promise((resolve) => client.socket.io.engine.on("upgrading", resolve));
  await sleep(100);
  assert.deepEqual(client.upgrades, []);
  isMute = false;
  assert.equal(muted.size, 1);
  for (const response of muted) response.destroy();
  await check;
  assert.deepEqual(client.upgrades, ["websocket"]);
  await checkBurst(client, 100);
});

test("streams that are cut all the time upgrade to websocket", options, async () => {
  for (let i = 0; i < 4; i++) {
    let bytes = 300 + 37 * i;
    const proxy = await proxied({ upgradeDelayMs: 100 * i, onResponse: cutAfter(() => (bytes += 1500)) });
    const client = connect(proxy.url, { names: ["xhr-streaming", "websocket"] });
    await client.connected;
    await checkBurst(client, 1000, 40);
    await until(() => client.upgrades.length > 0, "upgrade");
    await checkBurst(client, 100);
  }
});

test("one request carries packets up at a time, the upgrade packet too", options, async () => {
  const proxy = await proxied({ delayMs: (request) => (isUpstream(request) ? 60 : 0) });
  const client = connect(proxy.url, { names: ["polling", "xhr-streaming"] });
  const answers = [];
  for (let n = 0; n < 50; n++) {
    answers.push(client.socket.emitWithAck("echo", n));
    await sleep(10);
  }
  await client.connected;
  assert.deepEqual(await Promise.all(answers), answers.map((_, n) => n));
  const posts = proxy.requests.filter(isUpstream);
  assert.ok(posts.length > 3);
  for (const [i, post] of posts.entries()) assert.ok(i === 0 || post.at >= posts[i - 1].overAt, `request ${i}`);
});

test("an upgrade waits until what is on its way up has arrived", options, async () => {
  const delayMs = 300;
  const proxy = await proxied({ delayMs: (request) => (isUpstream(request) ? delayMs : 0), upgradeDelayMs: 50 });
  const client = connect(proxy.url, { names: ["xhr-streaming", "websocket"] });
  await client.connected;
  const answer = client.socket.emitWithAck("echo", 1);
  await until(() => client.upgrades.length > 0, "upgrade");
  const posts = proxy.requests.filter(isUpstream);
  assert.ok(posts.every(({ at }) => Date.now() - at >= delayMs - 5));
  assert.equal(await answer, 1);
});

test("nothing sent by the client during an upgrade is lost", options, async () => {
  for (const names of [["polling", "xhr-streaming"], ["xhr-streaming", "websocket"]]) {
    const client = connect(url, { names });
    const answers = [];
    for (let n = 0; n < 300; n++) {
      answers.push(client.socket.emitWithAck("echo", n));
      await sleep(1);
    }
    await client.connected;
    assert.deepEqual(await Promise.all(answers), answers.map((_, n) => n));
    assert.deepEqual(client.upgrades, names.slice(1));
  }
});

test("where polling could upgrade to both, websocket wins", options, async () => {
  for (const names of [["polling", "xhr-streaming", "websocket"], ["polling", "websocket", "xhr-streaming"]]) {
    const proxy = await proxied({});
    const client = connect(proxy.url, { names });
    await client.connected;
    await checkBurst(client, 1000, 50);
    await until(() => client.upgrades.length > 0, "upgrade");
    assert.deepEqual(client.upgrades, ["websocket"]);
    await checkBurst(client, 100);
    assert.equal(proxy.requests.filter(isStream).length, 0);
  }
});

test("where websocket is refused, polling upgrades to xhr-streaming without further delay", options, async () => {
  const proxy = await proxied({ onUpgrade: "refuse" });
  const client = connect(proxy.url, {
    names: ["polling", "xhr-streaming", "websocket"],
    streaming: { upgradeDelay: 60_000 },
  });
  await client.connected;
  await until(() => client.upgrades.length > 0, "upgrade");
  assert.deepEqual(client.upgrades, ["xhr-streaming"]);
  await checkBurst(client);
});

test("where websocket hangs, polling upgrades to xhr-streaming after the delay", options, async () => {
  const proxy = await proxied({ onUpgrade: "hang" });
  const client = connect(proxy.url, {
    names: ["polling", "xhr-streaming", "websocket"],
    streaming: { upgradeDelay: 300 },
  });
  await client.connected;
  await until(() => client.upgrades.length > 0, "upgrade");
  assert.deepEqual(client.upgrades, ["xhr-streaming"]);
  await checkBurst(client);
});

test("where websocket is refused, xhr-streaming goes on", options, async () => {
  const proxy = await proxied({ onUpgrade: "refuse" });
  const client = connect(proxy.url, { names: ["xhr-streaming", "polling", "websocket"] });
  await client.connected;
  await until(() => client.upgradeErrors.length > 0, "upgrade error");
  await checkBurst(client);
  assert.equal(client.transport(), "xhr-streaming");
});

test("disconnecting leaves no request open", options, async () => {
  for (const names of [["xhr-streaming"], ["polling", "xhr-streaming"]]) {
    const proxy = await proxied({});
    const client = connect(proxy.url, { names });
    await client.connected;
    if (names.length > 1) await until(() => client.upgrades.length > 0, "upgrade");
    client.socket.disconnect();
    // The close packet is the last of them; it may come to the proxy after the stream has ended.
    await until(() => proxy.requests.some(({ body }) => body === "1"), "the close packet");
    await until(() => proxy.requests.every(({ isOver }) => isOver), "end of all requests");
    const count = proxy.requests.length;
    await sleep(300);
    assert.equal(proxy.requests.length, count);
    assert.deepEqual(client.disconnects, ["io client disconnect"]);
  }
});

test("disconnecting while connecting or probing leaves no request open", options, async () => {
  for (const [names, delay] of [["xhr-streaming"], ["polling", "xhr-streaming"]].flatMap((names) =>
    [0, 2, 5, 10, 20, 40].map((delay) => [names, delay]),
  )) {
    const proxy = await proxied({});
    const client = connect(proxy.url, { names });
    await sleep(delay);
    client.socket.disconnect();
    await sleep(100);
    await until(() => proxy.requests.filter(isStream).every(({ isOver }) => isOver), `end of all streams (${names}, ${delay})`);
  }
});

test("a client that reconnects goes the same way again", options, async () => {
  const client = connect(url, { reconnection: true, reconnectionDelay: 10 });
  await client.connected;
  client.socket.io.engine.close();
  await until(() => client.disconnects.length > 0, "disconnect");
  await until(() => client.socket.connected, "reconnect");
  client.disconnects.length = 0;
  await checkBurst(client, 100);
  assert.equal(client.transport(), "xhr-streaming");
});
