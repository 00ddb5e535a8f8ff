import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import type { Client, ClientOptions } from "../src/index.js";
import { ConnectionRefused, MemoryGateway } from "../src/testing/index.js";
import { Page, mockRandom, mockTimers, turn, unhandled, watch } from "./support/memory.js";

interface Setup {
  gateway: MemoryGateway;
  client: Client;
  take(): string[];
  /** Lets time go by, and what comes of it happen. */
  pass(ms: number): Promise<void>;
  timers: Set<unknown>;
}

/** Not opened yet; chance takes half of each delay. */
function setUp(t: TestContext, options: ClientOptions = {}, gateway = new MemoryGateway()): Setup {
  const { tick, timers } = mockTimers(t);
  mockRandom(t, 0.5);
  const client = gateway.connect({ autoConnect: false, ...options });
  const { take } = watch(client);
  t.after(() => {
    client.close();
    Page.leave();
  });
  const pass = async (ms: number): Promise<void> => {
    tick(ms);
    await gateway.settled();
  };
  return { gateway, client, take, pass, timers };
}

async function setUpConnected(t: TestContext, options: ClientOptions = {}): Promise<Setup> {
  const setup = setUp(t, options);
  setup.client.connect();
  await setup.gateway.settled();
  assert.deepEqual(setup.take(), ["connecting/start 0", "connected/start"]);
  return setup;
}

/** How many attempts have reached the gateway. */
function countAttempts(): { gateway: MemoryGateway; count(): number } {
  let count = 0;
  const gateway = new MemoryGateway({ admit: () => void count++ });
  return { gateway, count: () => count };
}

test("a first attempt that fails is repeated after a delay, and the count begins anew once connected", async (t) => {
  const { gateway, client, take, pass } = setUp(t);
  assert.equal(client.connection.get().status, "closed");
  gateway.goOffline();
  client.connect();
  await gateway.settled();
  assert.deepEqual(take(), ["connecting/start 0", "connecting/failed 1 +500"]);
  gateway.goOnline();
  await pass(499);
  assert.deepEqual(take(), []);
  await pass(1);
  assert.deepEqual(take(), ["connecting/failed 1", "connected/failed"]);
  gateway.cut();
  await gateway.settled();
  assert.deepEqual(take(), ["recovering/lost 1 +500"]);
  await pass(500);
  assert.deepEqual(take(), ["recovering/lost 1", "connected/lost recovered"]);
  gateway.lose();
  await gateway.settled();
  await pass(500);
  assert.deepEqual(take(), ["recovering/lost 1 +500", "recovering/lost 1", "connected/lost"]);
});

for (const [chance, delays] of [
  [1, [1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000]],
  [0.25, [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000]],
  // Never at once, however it falls.
  [0, [1, 1, 1]],
] as const) {
  test(`delays grow to a limit, all of them by chance: ${chance}`, async (t) => {
    const { gateway, client, take, pass } = setUp(t);
    mockRandom(t, chance);
    gateway.goOffline();
    client.connect();
    await gateway.settled();
    for (const [index, delay] of delays.entries()) {
      assert.equal(take().at(-1), `connecting/failed ${index + 1} +${delay}`);
      await pass(delay);
    }
  });
}

test("delays are as the options say", async (t) => {
  const { gateway, client, take, pass } = setUp(t, { firstDelay: 10, maxDelay: 30 });
  mockRandom(t, 1);
  gateway.goOffline();
  client.connect();
  await gateway.settled();
  for (const delay of [10, 20, 30, 30]) {
    assert.match(take().at(-1) ?? "", new RegExp(` \\+${delay}$`));
    await pass(delay);
  }
});

test("an attempt that leads to nothing ends with its budget", async (t) => {
  const { gateway, client, take, pass } = setUp(t, { connectBudget: 7_000 });
  gateway.goSilent();
  client.connect();
  await pass(6_999);
  assert.deepEqual(take(), ["connecting/start 0"]);
  await pass(1);
  assert.deepEqual(take(), ["connecting/failed 1 +500"]);
  assert.match(client.connection.get().reason.message, /7000 ms/);
  gateway.goOnline();
  await pass(500);
  assert.equal(client.connection.get().status, "connected");
  await pass(7_000);
  assert.equal(client.connection.get().status, "connected");
});

test("the first attempts after a loss have less, and what hangs costs less time", async (t) => {
  const { gateway, client, take, pass } = await setUpConnected(t, { connectBudget: 8_000 });
  const attempts = async (...expected: (readonly [budget: number, failures: number, delay: number])[]): Promise<void> => {
    for (const [budget, failures, delay] of expected) {
      await pass(budget - 1);
      assert.deepEqual(take(), []);
      await pass(1);
      assert.deepEqual(take(), [`recovering/failed ${failures} +${delay}`]);
      assert.match(client.connection.get().reason.message, new RegExp(`within ${budget} ms`));
      await pass(delay);
      assert.deepEqual(take(), [`recovering/failed ${failures}`]);
    }
  };
  gateway.goSilent();
  gateway.cut();
  await gateway.settled();
  assert.match(take().join(), /^recovering\/lost 1 \+500$/);
  await pass(500);
  assert.deepEqual(take(), ["recovering/lost 1"]);
  await attempts([2_000, 2, 1_000], [4_000, 3, 2_000], [8_000, 4, 4_000], [8_000, 5, 8_000]);
  client.reconnect();
  assert.deepEqual(take(), ["recovering/client 0"]);
  await attempts([2_000, 1, 500], [2_000, 2, 1_000], [4_000, 3, 2_000]);
  // And not again, however long it takes.
  await attempts([8_000, 4, 4_000], [8_000, 5, 8_000]);
  for (let failures = 6; failures < 40; failures++) await attempts([8_000, failures, 10_000]);
});

test("the budget counts until the server has let the client in", async (t) => {
  let isHanging = true;
  const admit = (): Promise<void> | void => (isHanging ? new Promise(() => {}) : undefined);
  const { client, take } = setUp(t, {}, new MemoryGateway({ admit }));
  client.connect();
  await turn();
  assert.deepEqual(take(), ["connecting/start 0"]);
  t.mock.timers.tick(20_000);
  assert.deepEqual(take(), ["connecting/failed 1 +500"]);
  isHanging = false;
  t.mock.timers.tick(500);
  await turn();
  assert.equal(client.connection.get().status, "connected");
});

test("a refusal that is final closes, and a new connect() tries again", async () => {
  for (const refusal of ["not you", { status: 401, code: 4, message: "not you" }]) {
    const gateway = new MemoryGateway();
    const client = gateway.connect({ autoConnect: false });
    const { take } = watch(client);
    gateway.refuse(refusal, { times: 1 });
    client.connect();
    await gateway.settled();
    assert.deepEqual(take(), ["connecting/start 0", "closed/refused"]);
    assert.equal(client.connection.get().reason.message, "not you");
    client.connect();
    await gateway.settled();
    assert.deepEqual(take(), ["connecting/start 0", "connected/start"]);
    client.close();
  }
});

test("a refusal for now is waited for as long as the server says, and does not count as a failure", async (t) => {
  const { gateway, client, take, pass } = setUp(t);
  gateway.refuse({ status: 503, code: 4, message: "The server is shutting down", retryAfter: 8 });
  client.connect();
  await gateway.settled();
  assert.deepEqual(take(), ["connecting/start 0", "connecting/refused 0 +10000"]);
  gateway.refuse({ status: 429, code: 4, message: "Too many" });
  await pass(10_000);
  assert.deepEqual(take(), ["connecting/refused 0", "connecting/refused 0 +6250"]);
  gateway.refuse(new ConnectionRefused("Internal server error"));
  await pass(6_250);
  assert.deepEqual(take(), ["connecting/refused 0", "connecting/refused 0 +6250"]);
  gateway.accept();
  await pass(6_250);
  assert.deepEqual(take(), ["connecting/refused 0", "connected/refused"]);
});

test("another error of the server, or one of a proxy, is repeated as a failure", async (t) => {
  const { gateway, client, take, pass } = setUp(t);
  gateway.refuse({ status: 400, code: 1, message: "Session ID unknown" });
  client.connect();
  await gateway.settled();
  assert.deepEqual(take(), ["connecting/start 0", "connecting/failed 1 +500"]);
  assert.equal(client.connection.get().reason.message, "Session ID unknown");
  gateway.refuse({ status: 502, message: "<html>Bad Gateway</html>" });
  await pass(500);
  assert.deepEqual(take(), ["connecting/failed 1", "connecting/failed 2 +1000"]);
  assert.equal(client.connection.get().reason.message, "xhr poll error");
});

test("disconnected by the server: closed, and the next connect() is a start", async (t) => {
  const { gateway, client, take, pass } = await setUpConnected(t);
  gateway.socketOf(client)?.disconnect();
  await gateway.settled();
  assert.deepEqual(take(), ["closed/server"]);
  await pass(60_000);
  assert.deepEqual(take(), []);
  client.connect();
  await gateway.settled();
  assert.deepEqual(take(), ["connecting/start 0", "connected/start"]);
});

test("the transport is told, also when it changes, and that of an older connection is not", async (t) => {
  const gateway = new MemoryGateway({ transport: "polling" });
  const { client, pass } = setUp(t, {}, gateway);
  const transport = (): string | undefined => {
    const state = client.connection.get();
    return state.status === "connected" ? state.transport : undefined;
  };
  client.connect();
  await gateway.settled();
  assert.equal(transport(), "polling");
  gateway.upgrade(client, "websocket");
  assert.equal(transport(), "websocket");
  gateway.cut();
  await gateway.settled();
  gateway.upgrade(client, "webtransport");
  assert.equal(client.connection.get().status, "recovering");
  await pass(500);
  assert.equal(transport(), "polling");
});

test("close() ends each state, and leaves no timer", async (t) => {
  const states: Record<string, (setup: Setup) => Promise<void> | void> = {
    "connecting, under way": ({ client }) => client.connect(),
    "connecting, waiting": async ({ gateway, client }) => {
      gateway.goOffline();
      client.connect();
      await gateway.settled();
      assert.equal(client.connection.get().status, "connecting");
    },
    connected: async ({ gateway, client }) => {
      client.connect();
      await gateway.settled();
    },
    "recovering, waiting": async ({ gateway, client }) => {
      client.connect();
      await gateway.settled();
      gateway.cut();
      await gateway.settled();
      assert.equal(client.connection.get().status, "recovering");
    },
    "recovering, under way": async ({ gateway, client, pass }) => {
      client.connect();
      await gateway.settled();
      gateway.cut();
      await gateway.settled();
      gateway.goSilent();
      await pass(500);
    },
    closed: () => {},
  };
  for (const [name, reach] of Object.entries(states)) {
    await t.test(name, async (t) => {
      const setup = setUp(t);
      const { gateway, client, take, pass, timers } = setup;
      await reach(setup);
      take();
      client.close();
      assert.deepEqual(take(), name === "closed" ? [] : ["closed/client"]);
      assert.equal(timers.size, 0);
      gateway.goOnline();
      await pass(60_000);
      assert.deepEqual(take(), []);
      // A client that is away cannot tell that it does not come back.
      assert.equal(gateway.sockets.length, name.startsWith("recovering") ? 1 : 0);
      assert.ok(gateway.sockets.every(({ isConnected }) => !isConnected));
      client.close();
      assert.deepEqual(take(), []);
    });
  }
});

test("connect() during an attempt, a wait or a connection changes nothing", async (t) => {
  const { gateway, count } = countAttempts();
  const { client, take, pass } = setUp(t, {}, gateway);
  client.connect();
  client.connect();
  await gateway.settled();
  client.connect();
  await gateway.settled();
  assert.equal(count(), 1);
  gateway.cut();
  await gateway.settled();
  client.connect();
  await gateway.settled();
  assert.equal(count(), 1);
  take();
  await pass(500);
  assert.deepEqual(take(), ["recovering/lost 1", "connected/lost recovered"]);
  assert.equal(count(), 2);
});

test("a listener that closes: the others hear of nothing after that", async (t) => {
  const { gateway, client, pass, timers } = setUp(t);
  client.connection.subscribe(({ status }) => void (status === "connected" && client.close()));
  const { take } = watch(client);
  client.connect();
  await gateway.settled();
  assert.equal(take().at(-1), "closed/client");
  assert.equal(client.connection.get().status, "closed");
  assert.equal(timers.size, 0);
  await pass(60_000);
  assert.deepEqual(gateway.sockets, []);
});

test("a listener that closes before an attempt has begun", async (t) => {
  const { gateway, count } = countAttempts();
  const { client, timers } = setUp(t, {}, gateway);
  client.connection.subscribe(({ status }) => void (status === "connecting" && client.close()));
  client.connect();
  await gateway.settled();
  assert.equal(count(), 0);
  assert.equal(timers.size, 0);
});

test("no network: offline at once, nothing is tried, and the way back is without delay", async (t) => {
  const page = new Page();
  const { gateway, client, take, pass, timers } = await setUpConnected(t);
  page.online(false);
  assert.deepEqual(take(), ["offline/network"]);
  assert.equal(timers.size, 0);
  await pass(60_000);
  assert.deepEqual(take(), []);
  page.online(true);
  await gateway.settled();
  assert.deepEqual(take(), ["recovering/network 0", "connected/network recovered"]);
  client.close();
});

test("no network from the start, and during a wait", async (t) => {
  const page = new Page();
  page.navigator.onLine = false;
  const { gateway, client, take, pass } = setUp(t);
  client.connect();
  assert.deepEqual(take(), ["offline/network"]);
  page.online(true);
  gateway.goOffline();
  await gateway.settled();
  assert.deepEqual(take(), ["connecting/network 0", "connecting/failed 1 +500"]);
  page.navigator.onLine = false; // not told
  await pass(500);
  assert.deepEqual(take(), ["offline/network"]);
  gateway.goOnline();
  page.online(true);
  await gateway.settled();
  assert.deepEqual(take(), ["connecting/network 0", "connected/network"]);
});

test("the network comes back during a wait: the attempt is made at once, and only that", async (t) => {
  const page = new Page();
  const { gateway, count } = countAttempts();
  const { client, take, pass } = setUp(t, {}, gateway);
  gateway.goOffline();
  client.connect();
  await gateway.settled();
  take();
  gateway.goOnline();
  page.online(true);
  page.online(true);
  page.show(true);
  await gateway.settled();
  assert.deepEqual(take(), ["connecting/failed 0", "connected/failed"]);
  await pass(60_000);
  assert.equal(count(), 1);
});

for (const [name, sleep, wake] of [
  ["frozen and thawed", (page: Page) => page.freeze(), (page: Page) => page.resume()],
  ["in the back/forward cache", (page: Page) => page.hide(true), (page: Page) => page.showAgain(true)],
] as const) {
  test(`a page that is ${name} leaves its connection, and not its place`, async (t) => {
    const page = new Page();
    const { gateway, take, pass, timers } = await setUpConnected(t);
    sleep(page);
    await gateway.settled();
    assert.deepEqual(take(), ["offline/page"]);
    assert.deepEqual(
      gateway.sockets.map(({ isConnected }) => isConnected),
      [false],
    );
    assert.equal(timers.size, 0);
    await pass(60_000);
    wake(page);
    await gateway.settled();
    assert.deepEqual(take(), ["recovering/page 0", "connected/page recovered"]);
  });
}

test("a page that goes for good takes its place with it", async (t) => {
  const page = new Page();
  const { gateway, client } = await setUpConnected(t);
  page.hide(false);
  await gateway.settled();
  assert.deepEqual(gateway.sockets, []);
  client.close();
});

test("pageshow of a page that was never in the cache, and a hidden page, change nothing", async (t) => {
  const page = new Page();
  const { gateway, client, take, pass } = await setUpConnected(t);
  gateway.on("say", () => 1);
  await client.emit("say");
  gateway.goSilent(); // a probe would find out
  page.showAgain(false);
  page.show(false);
  await pass(60_000);
  assert.deepEqual(take(), []);
});

test("a sleeping page that loses the network tries nothing before both are over", async (t) => {
  const page = new Page();
  const { gateway, take } = await setUpConnected(t);
  page.freeze();
  page.navigator.onLine = false;
  page.resume();
  assert.deepEqual(take(), ["offline/page", "offline/network"]);
  page.online(true);
  await gateway.settled();
  assert.deepEqual(take(), ["recovering/network 0", "connected/network recovered"]);
});

for (const [name, wake] of [
  ["the page is shown", (page: Page) => page.show(true)],
  ["the network changes", (page: Page) => page.changeNetwork()],
  ["the network is back", (page: Page) => page.online(true)],
] as const) {
  test(`${name}: a connection that is alive stays`, async (t) => {
    const page = new Page();
    const { gateway, client, take, pass } = await setUpConnected(t);
    gateway.on("say", () => 1);
    await client.emit("say"); // so that the client knows that answers can be expected
    wake(page);
    await gateway.settled();
    await pass(60_000);
    assert.deepEqual(take(), []);
  });

  test(`${name}: a connection that is dead is left, and recovered`, async (t) => {
    const page = new Page();
    const { gateway, client, take, pass } = await setUpConnected(t);
    gateway.on("say", () => 1);
    await client.emit("say");
    gateway.goSilent();
    gateway.goOnline();
    gateway.emit("news", 1);
    wake(page);
    await pass(2_999);
    assert.deepEqual(take(), []);
    await pass(1);
    assert.deepEqual(take(), ["recovering/lost 1 +500"]);
    const heard: unknown[] = [];
    client.on("news", (line) => void heard.push(line));
    await pass(500);
    assert.deepEqual(take(), ["recovering/lost 1", "connected/lost recovered"]);
    assert.deepEqual(heard, [1]);
  });
}

test("a probe of a connection that has ended says nothing of the next one", async (t) => {
  const page = new Page();
  const { gateway, client, take, pass } = await setUpConnected(t);
  gateway.on("say", () => 1);
  await client.emit("say");
  gateway.goSilent();
  page.show(true);
  gateway.goOnline();
  gateway.cut();
  await gateway.settled();
  await pass(500);
  assert.equal(client.connection.get().status, "connected");
  take();
  await pass(2_500);
  assert.deepEqual(take(), []);
});

test("close() during a probe leaves no timer", async (t) => {
  const page = new Page();
  const { gateway, client, timers } = await setUpConnected(t);
  gateway.on("say", () => 1);
  await client.emit("say");
  gateway.goSilent();
  page.show(true);
  client.close();
  assert.equal(timers.size, 0);
});

test("after close() the page is not listened to", async (t) => {
  const page = new Page();
  const { gateway, client, take } = await setUpConnected(t);
  assert.ok(page.listeners > 0);
  client.close();
  assert.equal(page.listeners, 0);
  take();
  page.freeze();
  page.resume();
  page.online(false);
  page.online(true);
  page.hide(true);
  page.showAgain(true);
  await gateway.settled();
  assert.deepEqual(take(), []);
  assert.deepEqual(gateway.sockets, []);
});

test("a token that fails after close() starts nothing", async (t) => {
  const errors = unhandled(t);
  let fail = (_: unknown): void => {};
  const { gateway, client, take, timers } = setUp(t, {
    token: () => new Promise<string>((_, reject) => (fail = reject)),
  });
  client.connect();
  await gateway.settled();
  client.close();
  take();
  fail(new Error("no token"));
  await turn();
  assert.deepEqual(take(), []);
  assert.equal(timers.size, 0);
  assert.deepEqual(errors, []);
});

test("without a place at the server a connection is not recovered, and says so with false", async (t) => {
  const { client, gateway } = setUp(t, {}, new MemoryGateway({ recovery: 0 }));
  client.connect();
  await gateway.settled();
  const state = client.connection.get();
  assert.equal(state.status === "connected" && state.recovered, false);
});

test("a token that fails while the page sleeps does not wake it", async (t) => {
  const page = new Page();
  let fail = (_: unknown): void => {};
  const { gateway, client, take } = setUp(t, {
    token: () => new Promise<string>((_, reject) => (fail = reject)),
  });
  client.connect();
  await gateway.settled();
  page.freeze();
  take();
  fail(new Error("no token"));
  await turn();
  assert.ok(take().every((state) => state === "offline/page"));
  assert.equal(client.connection.get().status, "offline");
});

test("closed while the page slept: connect() connects", async (t) => {
  const page = new Page();
  const { gateway, client, take } = await setUpConnected(t);
  page.freeze();
  client.close();
  page.resume();
  take();
  client.connect();
  await gateway.settled();
  assert.deepEqual(take(), ["connecting/start 0", "connected/start recovered"]);
});
