import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { build } from "esbuild";
import { Client } from "../src/index.js";
import { connect, CoreClient, outbox, pageEvents, tokens, type CoreOptions, type TokenNeed } from "../src/core/index.js";
import { requests } from "../src/requests.js";
import type { SocketLike } from "../src/socket-like.js";
import { ConnectionRefused, MemoryGateway } from "../src/testing/index.js";
import { Page, mockRandom, mockTimers, unhandled, watch } from "./support/memory.js";

interface Chat {
  toServer: { say(text: string): number; token(token: string): void; [name: string]: (...args: never[]) => unknown };
  fromServer: { said(text: string): void };
  channels: { news: string };
}

/** A core client that is let in, and a gateway that notes what it has handled. */
async function setUp(t: TestContext, options: CoreOptions = {}, gateway = new MemoryGateway<Chat>()) {
  const { tick, timers } = mockTimers(t);
  mockRandom(t, 0.5);
  const handled: string[] = [];
  gateway.on("say", (text) => handled.push(text));
  const client: CoreClient<Chat> = gateway.connectCore(options);
  const { take } = watch(client);
  t.after(() => {
    client.close();
    Page.leave();
  });
  await gateway.settled();
  const pass = async (ms: number): Promise<void> => {
    tick(ms);
    await gateway.settled();
  };
  return { gateway, client, handled, tick, pass, take, timers };
}

// -- what there is without parts -------------------------------------------------------------------------

test("an event is answered, once there is a connection", async (t) => {
  const { gateway, client, handled } = await setUp(t, { autoConnect: false });
  const answer = client.emit("say", "hello");
  assert.equal(client.outbox.size, 1);
  client.connect();
  assert.equal(await answer, 1);
  gateway.on("pair" as "say", (() => undefined) as never);
  assert.equal(await client.emit("pair"), undefined);
  assert.deepEqual([handled, client.outbox.size], [["hello"], 0]);
});

test("what is sent while early events are told, before the connection is, is sent once", async (t) => {
  mockTimers(t);
  const sent: unknown[] = [];
  const listeners = new Map<string, () => void>();
  const socket = {
    connected: false,
    sendBuffer: [],
    on: (name: string, listener: () => void) => void listeners.set(name, listener),
    emit: (name: string) => void sent.push(name),
  };
  const sender = requests.plug(socket as unknown as SocketLike);
  void sender.add("queued", []);
  void sender.add("join", []);
  socket.connected = true;
  void sender.add("from a handler of an early event", []);
  listeners.get("connect")?.();
  assert.deepEqual(sent, ["queued", "join", "from a handler of an early event"]);
});

test("what is under way when the connection is lost is lost, and not sent again", async (t) => {
  const { gateway, client, handled, pass } = await setUp(t);
  const dropped: unknown[] = [];
  client.outbox.onDropped((error, event, args) => void dropped.push([error.code, event, args]));
  gateway.on("say", (text) => {
    handled.push(text);
    gateway.cut();
    return 0;
  });
  await assert.rejects(client.emit("say", "first"), { code: "lost", message: "say: the connection was lost" });
  const second = client.emit("say", "second");
  gateway.on("say", (text) => handled.push(text));
  await pass(500);
  assert.equal(await second, 2);
  assert.deepEqual(handled, ["first", "second"]);
  assert.deepEqual(dropped, [["lost", "say", ["first"]]]);
});

test("time runs out: expired where it was not sent, and then it never is; timeout where it was", async (t) => {
  const { gateway, client, handled, pass } = await setUp(t);
  const slow = client.emitWith({ timeout: 10 }, "nobody");
  await pass(10);
  await assert.rejects(slow, { code: "timeout", message: "nobody: not answered within 10 ms" });
  gateway.goOffline();
  await gateway.settled();
  const late = client.emitWith({ timeout: 10 }, "say", "late");
  await pass(10);
  await assert.rejects(late, { code: "expired", message: "say: not sent within 10 ms" });
  gateway.goOnline();
  await pass(2_000);
  assert.equal(client.connection.get().status, "connected");
  assert.deepEqual(handled, []);
});

test("an event that the server never answers, as one that no handler is there for, has a minute", async (t) => {
  const { client, pass } = await setUp(t);
  const answer = client.emit("nobody");
  await pass(59_999);
  assert.equal(client.outbox.size, 1);
  await pass(1);
  await assert.rejects(answer, { code: "timeout" });
});

test("thousands under way at a time do not wait for each other", async (t) => {
  const { gateway, client } = await setUp(t);
  const waiting: ((value: number) => void)[] = [];
  gateway.on("say", () => new Promise<number>((resolve) => waiting.push(resolve)));
  const answers = Array.from({ length: 3_000 }, (_, n) => client.emit("say", String(n)));
  for (let turn = 0; turn < 10_000 && waiting.length < 3_000; turn++) await Promise.resolve();
  assert.equal(waiting.length, 3_000);
  waiting.forEach((resolve, n) => resolve(n));
  assert.deepEqual(await Promise.all(answers), Array.from({ length: 3_000 }, (_, n) => n));
});

test("close() rejects what was sent and what waits, and leaves no timer; who does not wait is not troubled", async (t) => {
  const errors = unhandled(t);
  const { gateway, client, timers } = await setUp(t);
  const sent = client.emit("nobody");
  await gateway.settled();
  void client.emit("nobody");
  client.close();
  await assert.rejects(sent, { code: "closed" });
  await assert.rejects(client.emit("say", "too late"), { code: "closed" });
  assert.deepEqual([[...timers], errors, client.outbox.size], [[], [], 0]);
});

test("the server's refusal closes, a loss is recovered from, and both say why", async (t) => {
  const { gateway, take, pass, client } = await setUp(t);
  assert.deepEqual(take(), ["connected/start"]);
  gateway.cut();
  await gateway.settled();
  await pass(500);
  assert.deepEqual(take(), ["recovering/lost 1 +500", "recovering/lost 1", "connected/lost recovered"]);
  gateway.refuse("members only");
  client.reconnect();
  await gateway.settled();
  assert.deepEqual(take(), ["recovering/client 0", "closed/refused"]);
});

test("channels: what was missed comes once and in order, and a new epoch is told as a gap", async (t) => {
  const { gateway, client, pass } = await setUp(t);
  const news = client.channel("news");
  const heard: unknown[] = [];
  news.on("publication", ({ offset, data }) => void heard.push([offset, data]));
  await news.subscribe();
  assert.equal((await news.publish("one")).offset, 1);
  gateway.lose();
  await gateway.settled();
  gateway.channel("news").publish("two");
  gateway.channel("news").publish("three");
  await pass(500);
  assert.deepEqual(heard, [[1, "one"], [2, "two"], [3, "three"]]);
  assert.deepEqual(news.state.get(), { status: "subscribed", recovered: true });
  assert.equal((await news.presence()).length, 1);
  assert.deepEqual((await news.history({ limit: 1, reverse: true })).publications.map(({ data }) => data), ["three"]);
  gateway.restart();
  await gateway.settled();
  await pass(500);
  assert.deepEqual(news.state.get(), { status: "subscribed", recovered: false });
  gateway.channel("news").publish("anew");
  await gateway.settled();
  assert.deepEqual(heard.at(-1), [1, "anew"]);
});

test("channels: a loop reads publications, and a refused publish() says why", async (t) => {
  const gateway = new MemoryGateway<Chat>();
  const { client } = await setUp(t, {}, gateway);
  const heard: string[] = [];
  const loop = (async () => {
    for await (const { data } of client.channel("news")) {
      heard.push(data);
      if (heard.length === 2) break;
    }
  })();
  await gateway.settled();
  gateway.channel("news").publish("one");
  gateway.channel("news").publish("two");
  await loop;
  assert.deepEqual(heard, ["one", "two"]);
  assert.equal(client.channel("news").state.get().status, "unsubscribed");
  await assert.rejects(client.channel("" as "news").publish("x"), { code: "refused" });
});

test("the page and the network are not listened to, and a token is not asked for again", async (t) => {
  const page = new Page();
  const { gateway, client, take } = await setUp(t, { auth: { token: "mine" } });
  assert.deepEqual(gateway.socketOf(client)?.auth, { token: "mine" });
  page.online(false);
  await gateway.settled();
  assert.deepEqual([page.listeners, take()], [0, ["connected/start"]]);
});

test("what socket.io-client will not send is refused, now or after waiting, and harms nothing else", () => {
  const client = connect("http://127.0.0.1:9", { autoConnect: false });
  const { outbox } = client;
  const dropped: string[] = [];
  outbox.onDropped(({ message }) => void dropped.push(message));
  void client.emit("connect");
  void client.emit("say", "behind it");
  const sent: unknown[] = [];
  const socket = Reflect.get(outbox, "socket") as { connected: boolean; packet(packet: { data: unknown }): void; onconnect(id: string): void };
  Object.assign(socket, { packet: ({ data }: { data: unknown }) => void sent.push(data) });
  // What the socket calls when the server has let it in.
  socket.onconnect("id");
  assert.deepEqual(dropped, ['connect: "connect" is a reserved event name']);
  assert.deepEqual(sent, [["say", "behind it"]]);
  assert.equal(client.connection.get().status, "connected");
  client.close();
});

// -- the parts -------------------------------------------------------------------------------------------

test("outbox(): a handler runs once, though its answer is lost", async (t) => {
  const { gateway, client, handled, pass } = await setUp(t, { outbox: outbox({ maxMessages: 1 }) });
  gateway.on("say", (text) => {
    if (handled.length === 0) gateway.cut();
    return handled.push(text);
  });
  const answer = client.emit("say", "hello");
  await assert.rejects(client.emit("say", "too many"), { code: "full" });
  await pass(500);
  assert.equal(await answer, 1);
  assert.deepEqual(handled, ["hello"]);
});

test("outbox(): made once, it may be given to several clients, which share nothing", async (t) => {
  const gateway = new MemoryGateway<Chat>();
  const shared = outbox({ maxMessages: 1 });
  const { client } = await setUp(t, { outbox: shared, autoConnect: false }, gateway);
  const other = gateway.connectCore({ outbox: shared, autoConnect: false });
  t.after(() => other.close());
  void client.emit("say", "one");
  assert.deepEqual([client.outbox.size, other.outbox.size], [1, 0]);
});

test("tokens(): a refused token is replaced, and an expiring one is told by an event", async (t) => {
  const needs: TokenNeed[] = [];
  const told: string[] = [];
  const gateway = new MemoryGateway<Chat>({
    admit: ({ token }) => {
      if (token === "stale") throw new ConnectionRefused("the token is not good");
    },
  });
  gateway.on("token", (token) => void told.push(token));
  const jwt = (n: number): string => `.${btoa(JSON.stringify({ exp: 100, n }))}.`;
  const source = (need: TokenNeed): string => {
    needs.push(need);
    return need === "connect" ? "stale" : jwt(needs.length);
  };
  const { client, pass } = await setUp(t, { auth: { name: "Ada" }, token: tokens(source, { event: "token" }) }, gateway);
  await pass(500);
  assert.deepEqual(gateway.socketOf(client)?.auth, { name: "Ada", token: jwt(2) });
  await pass(90_000);
  assert.deepEqual([needs, told], [["connect", "refused", "expiring"], [jwt(3)]]);
});

test("pageEvents(): offline at once, and back without delay", async (t) => {
  const page = new Page();
  const { gateway, client, take } = await setUp(t, { page: pageEvents() });
  page.online(false);
  page.online(true);
  await gateway.settled();
  assert.deepEqual(take(), ["connected/start", "offline/network", "recovering/network 0", "connected/network recovered"]);
  client.close();
  assert.equal(page.listeners, 0);
});

test("pageEvents() with outbox(): a dead connection is noticed when the page is shown; without, it is left alone", async (t) => {
  const page = new Page();
  const { gateway, client, pass, take } = await setUp(t, { page: pageEvents(), outbox: outbox() });
  const other = gateway.connectCore({ page: pageEvents() });
  t.after(() => other.close());
  await gateway.settled();
  await Promise.all([client.emit("say", "hello"), other.emit("say", "hello")]);
  take();
  gateway.goSilent();
  page.show(true);
  await pass(3_000);
  assert.deepEqual(take(), ["recovering/lost 1 +500"]);
  assert.equal(other.connection.get().status, "connected");
});

test("a client with all parts is a client of the core", () => {
  const client = new MemoryGateway().connect({ autoConnect: false });
  assert.ok(client instanceof Client && client instanceof CoreClient);
});

// -- what is given to connect() --------------------------------------------------------------------------

for (const [options, message] of [
  [{ token: () => "secret" }, 'token: not made by tokens() of "tidegate-client/core"'],
  [{ outbox: { maxMessages: 1 } }, 'outbox: not made by outbox() of "tidegate-client/core"'],
  [{ page: true }, 'page: not made by pageEvents() of "tidegate-client/core"'],
  [{ transports: "auto" }, 'transports: not made by autoTransports() of "tidegate-client/core"'],
  [{ transports: ["carrier-pigeon"] }, 'unknown transport "carrier-pigeon"'],
] as const) {
  test(`refused: ${message}`, () => {
    const given = { autoConnect: false, ...options } as never;
    assert.throws(() => connect("http://127.0.0.1:9", given), { name: "TypeError", message });
  });
}

test("connect() leaves out of a bundle what is a part", async () => {
  const { metafile } = await build({
    stdin: { contents: 'export { connect } from "./src/core/index.js";', resolveDir: process.cwd() },
    bundle: true,
    packages: "external",
    format: "esm",
    write: false,
    metafile: true,
  });
  const [output] = Object.values(metafile.outputs);
  const taken = Object.entries(output?.inputs ?? {}).filter(([, { bytesInOutput }]) => bytesInOutput > 0);
  const names = taken.map(([path]) => path.replace(/^src\/|\.ts$/g, ""));
  assert.ok(names.includes("channel") && names.includes("transports/xhr-streaming"), names.join());
  const parts = ["outbox", "token", "page", "auto", "transports/chooser", "transports/memory", "refusals", "client"];
  assert.deepEqual(names.filter((name) => parts.includes(name)), []);
});
