import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";
import { Client } from "../src/client.js";
import type { TidegateError } from "../src/errors.js";
import { refusalOf } from "../src/refusals.js";
import { HEARTBEAT_MS, MAX_MISSED, MAX_UNREAD, type FromPage, type FromWorker } from "../src/worker/messages.js";
import { connectShared, serve } from "../src/worker/index.js";
import { ServerSocket } from "./support/server-socket.js";
import { until } from "./support/until.js";
import { startWorker } from "./support/worker-scope.js";

const ends: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  mock.timers.reset();
  for (const end of ends.splice(0)) await end();
});

/** A worker whose server is the test. */
function scene(options: ConstructorParameters<typeof Client>[1] = {}) {
  const socket = new ServerSocket();
  const opened: Client[] = [];
  const worker = startWorker<object>(() => {
    const client = new Client(socket, { firstDelay: 1, maxDelay: 1, ...options });
    opened.push(client);
    return client;
  });
  ends.push(async () => {
    opened.forEach((client) => client.close());
    await worker.close();
  });
  const openPage = async (...args: Parameters<typeof worker.openPage>) => {
    const page = worker.openPage(...args);
    await until(() => page.client.connection.get().status === "connected", "connected");
    return page;
  };
  return { socket, opened, worker, openPage };
}

const statusOf = (client: Client): string => client.connection.get().status;

/** A page that speaks for itself. */
function rawPage(port: MessagePort) {
  const received: FromWorker[] = [];
  port.addEventListener("message", ({ data }) => received.push(data as FromWorker));
  port.start();
  return { received, post: (message: FromPage) => port.postMessage(message) };
}

test("pages share one connection, and each hears each event that it listens to once", async () => {
  const { socket, opened, openPage } = scene();
  const pages = [await openPage(), await openPage(), await openPage()];
  const heard: string[][] = [[], [], []];
  pages.slice(0, 2).forEach(({ client }, i) => client.on("said", (text) => void heard[i]?.push(String(text))));
  await until(() => socket.listenersOf("said") === 1, "the worker listens");
  await pages[1]?.client.emit("sync").catch(() => {});
  socket.tell("said", "one");
  socket.tell("said", "two");
  socket.tell("other", "nobody wants it");
  await until(() => heard[1]?.length === 2 && heard[0]?.length === 2, "both have heard");
  assert.deepEqual(heard, [["one", "two"], ["one", "two"], []]);
  assert.equal(opened.length, 1);
  assert.deepEqual(pages.map(({ client }) => client.connection.get()).map((state) => "transport" in state && state.transport), [
    "test",
    "test",
    "test",
  ]);
});

test("who stops listening hears nothing, and the worker stops when the last one does", async () => {
  const { socket, openPage } = scene();
  const [one, two] = [await openPage(), await openPage()];
  const stop = one.client.on("said", () => assert.fail("not listening"));
  const heard: unknown[] = [];
  const stopTwo = two.client.on("said", (text) => void heard.push(text));
  stop();
  await until(() => socket.listenersOf("said") === 1, "the worker listens");
  await one.client.emit("sync").catch(() => {});
  socket.tell("said", 1);
  await until(() => heard.length === 1, "heard");
  stopTwo();
  await until(() => socket.listenersOf("said") === 0, "the worker does not listen");
});

test("an answer goes to the page that asked, and a failure says what it was", async () => {
  const { socket, openPage } = scene();
  socket.handlers.double = (n: number) => n * 2;
  socket.handlers.nothing = () => undefined;
  socket.handlers.fail = () => Promise.reject(new Error("it broke"));
  const [one, two] = [(await openPage()).client, (await openPage()).client];
  assert.deepEqual(await Promise.all([one.emit("double", 1), two.emit("double", 2), one.emit("double", 3)]), [2, 4, 6]);
  assert.equal(await one.emit("nothing"), undefined);
  await assert.rejects(one.emit("fail"), { code: "failed", message: "fail: it broke" });
  await assert.rejects(two.emit("nobody"), { code: "unhandled", message: "nobody: no handler for 'nobody'" });
});

test("what no port can carry is refused", async () => {
  const { openPage } = scene();
  const { client } = await openPage();
  await assert.rejects(client.emit("double", () => 1), (error: TidegateError) => error.code === "refused");
  assert.equal(client.outbox.size, 0);
});

test("binary data comes through, both ways", async () => {
  const { socket, openPage } = scene();
  socket.handlers.echo = (value: unknown) => value;
  const { client } = await openPage();
  const bytes = new Uint8Array([0, 255]);
  assert.deepEqual(await client.emit("echo", { deep: [bytes] }), { deep: [bytes] });
});

test("the worker's outbox takes the messages of all pages in order, also where it is small", async () => {
  const { socket, openPage } = scene({ outbox: { maxMessages: 1 } });
  const later = (n: number) => new Promise((resolve) => setTimeout(resolve, 5, n));
  socket.handlers.number = later;
  const { client } = await openPage();
  assert.deepEqual(await Promise.all([1, 2, 3, 4, 5].map((n) => client.emit("number", n))), [1, 2, 3, 4, 5]);
  assert.deepEqual(socket.sentOf("number"), [[1], [2], [3], [4], [5]]);
});

test("a message that the worker's outbox can never take is refused", async () => {
  const { openPage } = scene({ outbox: { maxBytes: 100 } });
  const { client } = await openPage();
  await assert.rejects(client.emit("big", "x".repeat(200)), { code: "refused" });
});

test("a volatile event is sent now or never", async () => {
  const { socket, openPage } = scene();
  socket.handlers.sync = () => 0;
  const { client } = await openPage();
  client.emitVolatile("cursor", 1);
  await client.emit("sync");
  socket.isAway = true;
  socket.lose();
  client.emitVolatile("cursor", 2);
  await until(() => statusOf(client) === "recovering", "recovering");
  client.emitVolatile("cursor", 3);
  socket.comeBack();
  await client.emit("sync");
  assert.deepEqual(socket.sentOf("cursor"), [[1]]);
});

test("a loss of the connection is seen by every page; what was under way is answered once", async () => {
  const { socket, openPage } = scene();
  let answer = (_: number): void => {};
  socket.handlers.slow = () => new Promise((resolve) => (answer = resolve));
  const [one, two] = [await openPage(), await openPage()];
  const posts = mock.method(one.port, "postMessage");
  const result = one.client.emit("slow", 7);
  await until(() => socket.sentOf("slow").length === 1, "sent");
  const states: string[] = [];
  two.client.connection.subscribe(({ status }) => states.push(status));
  let lost = false;
  one.client.connection.subscribe(({ status }) => (lost ||= status === "recovering"));
  socket.recovered = true;
  socket.lose();
  await until(() => statusOf(two.client) === "connected" && states.includes("recovering"), "back");
  const state = two.client.connection.get();
  assert.equal(state.status === "connected" && state.recovered, true);
  await until(() => socket.sentOf("slow").length === 2, "sent again, by the worker");
  await until(() => lost && statusOf(one.client) === "connected", "the other too");
  answer(7);
  assert.equal(await result, 7);
  const sent = posts.mock.calls.map(({ arguments: [message] }) => (message as FromPage).type);
  assert.equal(sent.filter((type) => type === "once").length, 1);
});

test("without the server's recovery, no page is told of one", async () => {
  const { socket, openPage } = scene();
  const { client } = await openPage();
  const states: string[] = [];
  client.connection.subscribe((state) => states.push(`${state.status} ${"recovered" in state ? state.recovered : ""}`));
  socket.lose();
  await until(() => states.at(-1)?.startsWith("connected") ?? false, "back");
  assert.equal(states.at(-1), "connected false");
});

test("events that the server has kept come after the connection is told", async () => {
  const { socket, openPage } = scene();
  const { client } = await openPage();
  const seen: unknown[] = [];
  client.on("said", (text) => void seen.push(text));
  await until(() => socket.listenersOf("said") === 1, "listening");
  client.connection.subscribe(({ status }) => seen.push(status));
  socket.on("connect", () => ["one", "two"].forEach((text) => socket.tell("said", text)));
  socket.lose();
  await until(() => seen.includes("two"), "both");
  assert.deepEqual(seen.slice(-3), ["connected", "one", "two"]);
});

test("the server is answered by the first page that does, and gets no answer that it has not asked for", async () => {
  const { socket, openPage } = scene();
  const [one, two] = [await openPage(), await openPage()];
  one.client.on("question", () => new Promise(() => {}));
  two.client.on("question", (n) => Number(n) + 1);
  const heard: unknown[] = [];
  two.client.on("told", (n) => heard.push(n));
  await until(() => socket.listenersOf("told") === 1, "listening");
  const posts = mock.method(two.port, "postMessage");
  const answers: unknown[] = [];
  socket.tell("question", 41, (...values: unknown[]) => answers.push(...values));
  socket.tell("told", 1);
  await until(() => answers.length > 0 && heard.length > 0, "an answer");
  assert.deepEqual(answers, [42]);
  assert.equal(posts.mock.calls.filter(({ arguments: [message] }) => (message as FromPage).type === "answer").length, 1);
});

function withChannels(socket: ServerSocket): { offset: number } {
  const stream = { offset: 5 };
  socket.handlers["channel:subscribe"] = ({ channel, since }: { channel: string; since?: { offset: number } }) =>
    channel === "secret"
      ? { error: { message: "members only", retry: "no" } }
      : {
          offset: stream.offset,
          epoch: "e",
          ...(since && {
            recovered: true,
            publications: Array.from({ length: stream.offset - since.offset }, (_, i) => ({
              channel,
              offset: since.offset + i + 1,
              data: `missed ${since.offset + i + 1}`,
            })),
          }),
        };
  socket.handlers["channel:unsubscribe"] = () => ({});
  return stream;
}

test("pages at the same place of a channel ask once; the last that leaves unsubscribes", async () => {
  const { socket, openPage } = scene();
  const stream = withChannels(socket);
  const [one, two, three] = [await openPage(), await openPage(), await openPage()];
  const heard: unknown[][] = [[], []];
  [one, two].forEach(({ client }, i) => client.channel("news").on("publication", ({ data }) => heard[i]?.push(data)));
  await Promise.all([one.client.channel("news").subscribe(), two.client.channel("news").subscribe()]);
  const questions = socket.sentOf("channel:subscribe");
  assert.ok(questions.length <= 2 && questions.length >= 1);
  stream.offset++;
  socket.tell("channel:publication", { channel: "news", offset: stream.offset, data: "six" });
  await until(() => heard.every((list) => list.length === 1), "both");
  assert.deepEqual(heard, [["six"], ["six"]]);
  assert.equal(three.client.channel("news").state.get().status, "unsubscribed");

  one.client.channel("news").unsubscribe();
  await one.client.emit("sync").catch(() => {});
  assert.equal(socket.sentOf("channel:unsubscribe").length, 0);
  // Dies without a word.
  two.port.close();
  await until(() => socket.sentOf("channel:unsubscribe").length === 1, "unsubscribed");
});

test("after a reconnect each page goes on where it was", async () => {
  const { socket, openPage } = scene();
  const stream = withChannels(socket);
  const [one, two] = [await openPage(), await openPage()];
  const heard: unknown[][] = [[], []];
  [one, two].forEach(({ client }, i) => client.channel("news").on("publication", ({ data }) => heard[i]?.push(data)));
  await Promise.all([one.client.channel("news").subscribe(), two.client.channel("news").subscribe()]);
  socket.lose();
  stream.offset += 2;
  await until(() => heard.every((list) => list.length === 2), "both");
  assert.deepEqual(heard, [
    ["missed 6", "missed 7"],
    ["missed 6", "missed 7"],
  ]);
  assert.deepEqual(one.client.channel("news").state.get(), { status: "subscribed", recovered: true });
});

test("a channel that is refused says why, and is not unsubscribed from", async () => {
  const { socket, openPage } = scene();
  withChannels(socket);
  const { client } = await openPage();
  await assert.rejects(client.channel("secret").subscribe(), { code: "refused", message: "secret: members only" });
  client.close();
  assert.equal(socket.sentOf("channel:unsubscribe").length, 0);
});

test("without channels at the gateway, subscribing is refused at once", async () => {
  const { openPage } = scene();
  const { client } = await openPage();
  await assert.rejects(client.channel("news").subscribe(), { code: "refused" });
});

test("a page that closes leaves nothing behind", async () => {
  const { socket, openPage } = scene();
  withChannels(socket);
  const [one, two] = [await openPage(), await openPage()];
  one.client.on("said", () => {});
  await one.client.channel("news").subscribe();
  one.client.close();
  await until(() => socket.listenersOf("said") === 0, "no listener");
  await until(() => socket.sentOf("channel:unsubscribe").length === 1, "unsubscribed");
  assert.equal(statusOf(two.client), "connected");
});

test("when the last page has gone, the connection is closed after a while; the next page opens it again", async () => {
  const { socket, opened, openPage } = scene();
  const page = await openPage();
  mock.timers.enable({ apis: ["setTimeout"] });
  page.client.close();
  const hasEnded = async (): Promise<void> => {
    const deadline = process.hrtime.bigint() + 10_000_000_000n;
    while (socket.connected) {
      assert.ok(process.hrtime.bigint() < deadline, "never: closed");
      mock.timers.tick(1_000);
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  await hasEnded();
  assert.equal(opened[0] && statusOf(opened[0]), "closed");
  mock.timers.reset();
  await openPage();
  assert.equal(opened.length, 1);
});

test("a page that does not answer the heartbeat is given up, and may come back", async () => {
  mock.timers.enable({ apis: ["setInterval"] });
  const { socket, worker, openPage } = scene();
  const other = await openPage();
  const { received, post } = rawPage(worker.scope.attach());
  post({ type: "hello", session: 1, events: ["said"] });
  await until(() => received.some(({ type }) => type === "state"), "a session");
  for (let i = 0; i <= MAX_MISSED; i++) {
    const pings = received.filter(({ type }) => type === "ping").length;
    mock.timers.tick(HEARTBEAT_MS);
    if (i < MAX_MISSED) await until(() => received.filter(({ type }) => type === "ping").length > pings, "a ping");
    // The other page has answered.
    await other.client.emit("sync").catch(() => {});
  }
  await until(() => received.some(({ type }) => type === "gone"), "given up");
  assert.equal(socket.listenersOf("said"), 0);
  assert.equal(statusOf(other.client), "connected");
  post({ type: "hello", session: 2, events: ["said"] });
  await until(() => socket.listenersOf("said") === 1, "back");
});

test("a page that leaves too much unread loses its session, and comes back without recovery", async () => {
  const { socket, worker, openPage } = scene();
  const { received, post } = rawPage(worker.scope.attach());
  post({ type: "hello", session: 1, events: ["said"] });
  const other = await openPage();
  const heard: unknown[] = [];
  other.client.on("said", (n) => heard.push(n));
  await until(() => socket.listenersOf("said") === 1, "listening");
  await other.client.emit("sync").catch(() => {});
  // In portions, which the page that reads keeps up with.
  for (let n = 0; n < MAX_UNREAD + 100; n++) {
    socket.tell("said", n);
    if (n % 200 === 199) await until(() => heard.length === n + 1, "read");
  }
  await until(() => received.some(({ type }) => type === "gone"), "given up");
  await until(() => heard.length === MAX_UNREAD + 100, "the other page has all");
  assert.equal(received.filter(({ type }) => type === "event").length, MAX_UNREAD);
  assert.equal(statusOf(other.client), "connected");
});

test("a page that is told that its session has ended begins another", async () => {
  const { port1, port2 } = new MessageChannel();
  ends.push(() => port1.close());
  const hellos: number[] = [];
  const connected = { status: "connected", transport: "test", recovered: false } as const;
  port2.addEventListener("message", ({ data }) => {
    const message = data as FromPage;
    if (message.type !== "hello") return;
    hellos.push(message.session);
    port2.postMessage({ type: "state", session: message.session, upstream: connected });
  });
  port2.start();
  const client = connectShared(port1);
  ends.push(() => client.close());
  await until(() => statusOf(client) === "connected", "connected");
  const reasons: string[] = [];
  client.connection.subscribe(({ status, reason }) => reasons.push(`${status}: ${reason.message}`));
  port2.postMessage({ type: "gone", session: 1, message: "too slow" });
  await until(() => hellos.length === 2 && statusOf(client) === "connected", "connected again");
  assert.equal(reasons[0], "recovering: too slow");
  // Of a session that is over.
  port2.postMessage({ type: "gone", session: 1, message: "late" });
  port2.postMessage({ type: "ack", id: 99, values: [] });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(statusOf(client), "connected");
});

test("a worker that says nothing is noticed", async () => {
  mock.timers.enable({ apis: ["setInterval"] });
  const { port1 } = new MessageChannel();
  const client = connectShared(port1);
  ends.push(
    () => port1.close(),
    () => client.close(),
  );
  for (let i = 0; i <= MAX_MISSED; i++) mock.timers.tick(HEARTBEAT_MS);
  const { status, reason } = client.connection.get();
  assert.deepEqual([status, reason.message], ["connecting", "the worker does not answer"]);
});

test("a refusal closes every page, with what the server said, until one connects anew", async () => {
  const socket = new ServerSocket();
  socket.isAway = true;
  const worker = startWorker<object>(() => new Client(socket));
  ends.push(() => worker.close());
  const [one, two] = [worker.openPage().client, worker.openPage().client];
  const refuse = (error: Error): void => socket.tell("connect_error", error);
  await until(() => socket.attempts === 1, "an attempt");
  await until(() => statusOf(two) === "connecting", "both wait");
  refuse(Object.assign(new Error("no entry"), { data: { code: 7 } }));
  await until(() => statusOf(one) === "closed" && statusOf(two) === "closed", "closed");
  const { reason } = one.connection.get();
  assert.equal(reason.code, "refused");
  assert.equal(reason.message, "no entry");
  assert.deepEqual((reason.cause as { data?: unknown }).data, { code: 7 });

  one.connect();
  await until(() => socket.attempts === 2, "another attempt");
  const body = JSON.stringify({ code: 0, message: "Transport unknown; allowed are polling" });
  refuse(Object.assign(new Error("xhr poll error"), { context: { status: 400, responseText: body, getResponseHeader: () => null } }));
  await until(() => statusOf(one) === "closed", "closed again");
  assert.equal(refusalOf(one.connection.get().reason.cause)?.name, "unknown_transport");
});

test("the server's disconnect is final for every page", async () => {
  const { socket, openPage } = scene();
  const { client } = await openPage();
  socket.lose("io server disconnect");
  await until(() => statusOf(client) === "closed", "closed");
  assert.equal(client.connection.get().reason.code, "server");
});

test("options of the connection are refused in a page", () => {
  const { port1 } = new MessageChannel();
  // @ts-expect-error: of the one connection
  assert.throws(() => connectShared(port1, { auth: { user: 1 } }), /auth cannot differ from page to page/);
  // @ts-expect-error: of the one connection
  assert.throws(() => connectShared(port1, { url: "https://example.com" }), TypeError);
  port1.close();
});

test("without workers there is a connection of the page's own, which is told", async () => {
  const socket = new ServerSocket();
  const reasons: string[] = [];
  const client = connectShared(() => new (globalThis as never as { SharedWorker: new () => MessagePort }).SharedWorker(), {
    fallback: () => new Client(socket),
    onFallback: (reason) => reasons.push(reason),
  });
  await until(() => statusOf(client) === "connected", "connected");
  client.close();
  assert.equal(reasons.length, 1);
  assert.match(String(reasons[0]), /^no worker: /);
  assert.throws(() => connectShared(() => assert.fail("none here")), /none here, and there is no fallback/);
});

test("an open() that throws is told to the page", async () => {
  const { port1, port2 } = new MessageChannel();
  serve(port2, () => {
    throw new TypeError("not a URL");
  });
  const client = connectShared(port1);
  await until(() => statusOf(client) === "closed", "closed");
  assert.equal(client.connection.get().reason.message, "not a URL");
  port1.close();
});

test("serve() in a page is refused", () => {
  const page = Object.assign(new EventTarget(), { document: {} });
  assert.throws(() => serve(page, () => assert.fail("not opened")), /in the script of a worker/);
});

interface Chat {
  toServer: { say(text: string): number };
}

/** Not run: a contract goes through, and what is wrong does not compile. */
export function types(scope: Window & typeof globalThis, worker: SharedWorker, own: () => Client<Chat>): void {
  serve(scope, own);
  const client = connectShared<Chat>(worker, { fallback: own });
  client.emit("say", "hello") satisfies Promise<number>;
  // @ts-expect-error: no such event
  void client.emit("shout", "hello");
  // @ts-expect-error: what opens the client, not the client
  serve(scope, own());
}
