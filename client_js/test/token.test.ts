import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import type { Client, ClientOptions, TokenNeed } from "../src/index.js";
import { ConnectionRefused, MemoryGateway } from "../src/testing/index.js";
import { mockRandom, mockTimers, turn, unhandled, watch } from "./support/memory.js";

type Accepts = (token: unknown) => boolean;

/** A JWT that nobody has signed. */
function jwt(lifeS: number, name = "x"): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  // Text that is different in base64 and base64url.
  return `${part({ alg: "none" })}.${part({ exp: Date.now() / 1_000 + lifeS, name, text: "???>>>ÿ" })}.`;
}

function setUp(t: TestContext, token: (need: TokenNeed) => string | Promise<string>, options: ClientOptions = {}) {
  const { tick, timers } = mockTimers(t);
  mockRandom(t, 0.5);
  const tokens: unknown[] = [];
  const needs: TokenNeed[] = [];
  const rules: { accepts: Accepts } = { accepts: () => true };
  const gateway = new MemoryGateway<{ toServer: { token(token: string): void } }>({
    admit: (auth) => {
      tokens.push(auth.token);
      if (!rules.accepts(auth.token)) throw new ConnectionRefused("the token is not good");
    },
  });
  const client: Client<{ toServer: { token(token: string): void } }> = gateway.connect({
    token: (need) => {
      needs.push(need);
      return token(need);
    },
    ...options,
  });
  const { take } = watch(client);
  t.after(() => client.close());
  return { gateway, client, tick, timers, tokens, needs, take, rules };
}

test("the token is asked for when it is needed, sent beside auth, and kept", async (t) => {
  const { gateway, client, tick, tokens, needs } = setUp(t, async () => "T", { auth: { name: "Ada" } });
  await gateway.settled();
  assert.deepEqual(gateway.socketOf(client)?.auth, { name: "Ada", token: "T" });
  gateway.lose();
  await gateway.settled();
  tick(500);
  await gateway.settled();
  assert.deepEqual([tokens, needs], [["T", "T"], ["connect"]]);
});

test("a JWT is replaced before it expires, and the new one is told by an event", async (t) => {
  const { gateway, client, tick, needs } = setUp(t, () => jwt(100), { tokenEvent: "token" });
  const told: string[] = [];
  gateway.on("token", (token) => void told.push(token));
  await gateway.settled();
  tick(89_999);
  await gateway.settled();
  assert.deepEqual(needs, ["connect"]);
  tick(1);
  await gateway.settled();
  assert.deepEqual(needs, ["connect", "expiring"]);
  assert.deepEqual(told, [jwt(100)]);
  // And that one in its turn.
  tick(90_000);
  await gateway.settled();
  assert.deepEqual(told, [told[0], jwt(100)]);
  assert.equal(client.connection.get().status, "connected");
});

test("of a long life half a minute is left at most", async (t) => {
  const { gateway, tick, needs } = setUp(t, () => jwt(3_600));
  await gateway.settled();
  tick(3_569_999);
  await turn();
  assert.deepEqual(needs, ["connect"]);
  tick(1);
  await turn();
  assert.deepEqual(needs, ["connect", "expiring"]);
});

for (const [name, token] of [
  ["no JWT", () => "plain"],
  ["looks like one", () => "a.b.c"],
  ["has expired", () => jwt(-10)],
  ["says nothing of it", () => `x.${Buffer.from("{}").toString("base64")}.`],
] as const) {
  test(`a token that does not expire, or has, is not renewed: ${name}`, async (t) => {
    const { gateway, timers } = setUp(t, token);
    await gateway.settled();
    assert.equal(timers.size, 0);
  });
}

test("a refused token is replaced at once, as a failure counts", async (t) => {
  const { gateway, take, tick, tokens, needs, rules } = setUp(t, (need) => (need === "connect" ? "old" : "new"));
  rules.accepts = (token) => token === "new";
  await gateway.settled();
  assert.deepEqual(take(), ["connecting/refused 1 +500"]);
  tick(500);
  await gateway.settled();
  assert.deepEqual(take(), ["connecting/refused 1", "connected/refused"]);
  assert.deepEqual([tokens, needs], [["old", "new"], ["connect", "refused"]]);
  // Accepted in between, so that another refusal is worth another token.
  rules.accepts = (token) => tokens.length > 3 && token === "new";
  gateway.lose();
  await gateway.settled();
  tick(500);
  await gateway.settled();
  tick(1_000);
  await gateway.settled();
  assert.equal(take().at(-1), "connected/refused");
});

test("a token that was fetched because of a refusal, and is refused, is the end", async (t) => {
  const { gateway, client, tick, timers, take, rules } = setUp(t, () => jwt(100));
  rules.accepts = () => false;
  await gateway.settled();
  tick(500);
  await gateway.settled();
  assert.equal(take().at(-1), "closed/refused");
  assert.equal(client.connection.get().reason.message, "the token is not good");
  client.close();
  assert.equal(timers.size, 0);
});

test("without a source a refusal is the end at once", async (t) => {
  const { timers } = mockTimers(t);
  const gateway = new MemoryGateway();
  gateway.refuse("no");
  const client = gateway.connect();
  await gateway.settled();
  assert.equal(client.connection.get().status, "closed");
  assert.equal(timers.size, 0);
});

test("a source that fails is asked again after the usual delay", async (t) => {
  let failures = 2;
  const { gateway, client, tick, take } = setUp(t, async () => {
    if (failures-- > 0) throw new Error("the login server is away");
    return "T";
  });
  await gateway.settled();
  assert.deepEqual(take(), ["connecting/failed 1 +500"]);
  assert.equal(client.connection.get().reason.message, "the login server is away");
  tick(500);
  await gateway.settled();
  tick(1_000);
  await gateway.settled();
  assert.deepEqual(take().slice(-2), ["connecting/failed 2", "connected/failed"]);
});

test("whatever a source throws, it is a failure like others", async (t) => {
  const errors = unhandled(t);
  // Libraries for requests put the body of an answer there.
  const withData = Object.assign(new Error("503"), { data: { login: "down" } });
  const thrown: [unknown, string][] = [["text", "text"], [undefined, "undefined"], [withData, "503"]];
  const { gateway, client, tick, take } = setUp(t, async () => {
    const next = thrown[0];
    if (next) throw next[0];
    return "T";
  });
  for (const delay of [500, 1_000, 2_000]) {
    await gateway.settled();
    assert.match(take().at(-1) ?? "", /^connecting\/failed/);
    assert.equal(client.connection.get().reason.message, thrown.shift()?.[1]);
    tick(delay);
  }
  await gateway.settled();
  await turn();
  assert.equal(client.connection.get().status, "connected");
  assert.deepEqual(errors, []);
});

test("a renewal that fails is repeated, and the connection goes on", async (t) => {
  let count = 0;
  const { gateway, client, tick, needs } = setUp(t, async () => {
    if (++count === 2) throw new Error("away");
    return jwt(100);
  });
  await gateway.settled();
  tick(90_000);
  await gateway.settled();
  assert.deepEqual(needs, ["connect", "expiring"]);
  tick(5_000);
  await gateway.settled();
  assert.deepEqual(needs, ["connect", "expiring", "expiring"]);
  assert.equal(client.connection.get().status, "connected");
});

test("one who reconnects while a token is being renewed waits for the new one", async (t) => {
  let give = (_: string): void => {};
  const { gateway, tick, tokens, needs, take } = setUp(t, (need) =>
    need === "connect" ? jwt(100, "old") : new Promise<string>((resolve) => (give = resolve)),
  );
  await gateway.settled();
  tick(90_000);
  gateway.cut();
  await gateway.settled();
  tick(500);
  await gateway.settled();
  assert.equal(tokens.length, 1);
  give("new");
  await gateway.settled();
  assert.equal(tokens.at(-1), "new");
  assert.deepEqual(needs, ["connect", "expiring"]);
  assert.equal(take().at(-1), "connected/lost recovered");
});

test("a token that comes too late for its attempt is used by the next", async (t) => {
  const given: ((token: string) => void)[] = [];
  const { gateway, client, tick, tokens, needs } = setUp(t, () => new Promise((resolve) => void given.push(resolve)), {
    connectBudget: 1_000,
  });
  await gateway.settled();
  tick(1_000); // the budget
  tick(500); // the delay
  await gateway.settled();
  given[0]?.("T");
  await gateway.settled();
  assert.equal(client.connection.get().status, "connected");
  assert.deepEqual([tokens, needs], [["T"], ["connect"]]);
});

test("a token that comes after close() is not renewed", async (t) => {
  let give = (_: string): void => {};
  const { gateway, client, timers } = setUp(t, () => new Promise<string>((resolve) => (give = resolve)));
  await gateway.settled();
  client.close();
  give(jwt(100));
  await turn();
  assert.equal(timers.size, 0);
});

test("a renewal that comes to nothing after close() is the last", async (t) => {
  let refuse = (): void => {};
  const { gateway, client, tick, timers, needs } = setUp(t, (need) =>
    need === "connect" ? jwt(100) : new Promise((_, reject) => (refuse = () => reject(new Error("no")))),
  );
  await gateway.settled();
  tick(90_000);
  await turn();
  assert.deepEqual(needs, ["connect", "expiring"]);
  client.close();
  refuse();
  await turn();
  assert.equal(timers.size, 0);
});

test("after close() and connect() a token is renewed again", async (t) => {
  const { gateway, client, tick, needs, timers } = setUp(t, () => jwt(100));
  await gateway.settled();
  client.close();
  assert.equal(timers.size, 0);
  tick(50_000);
  client.connect();
  await gateway.settled();
  tick(45_000); // nine tenths of what is left
  await gateway.settled();
  assert.deepEqual(needs, ["connect", "expiring"]);
});

test("a token that was being fetched when the server refused the last one is not used", async (t) => {
  const given: ((token: string) => void)[] = [];
  const { gateway, tick, tokens, needs, take } = setUp(t, (need) =>
    need === "connect" ? jwt(100, "old") : new Promise<string>((resolve) => void given.push(resolve)),
  );
  await gateway.settled();
  tick(90_000);
  gateway.cut();
  await gateway.settled();
  gateway.refuse({ status: 401, code: 4, message: "not any more" }, { times: 1 });
  tick(500);
  await gateway.settled();
  given[0]?.("stale");
  await gateway.settled();
  tick(1_000);
  await gateway.settled();
  given[1]?.("new");
  await gateway.settled();
  assert.deepEqual(needs, ["connect", "expiring", "refused"]);
  assert.equal(tokens.at(-1), "new");
  assert.equal(take().at(-1), "connected/refused recovered");
});
