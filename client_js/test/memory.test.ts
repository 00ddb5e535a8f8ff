import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { TransportMemory, type MemoryStorage } from "../src/transports/memory.js";

const HOUR = 3_600_000;

/** A storage that works, and what it holds. */
function makeStorage(): MemoryStorage & { readonly entries: Map<string, string> } {
  const entries = new Map<string, string>();
  return {
    entries,
    getItem: (key) => entries.get(key) ?? null,
    setItem: (key, text) => void entries.set(key, text),
  };
}

let origins = 0;
/** What storage does not take stays in the page, so each test has an origin of its own. */
const newOrigin = (): string => `https://${++origins}.test`;

function setConnectionType(type: string | undefined): void {
  Object.defineProperty(globalThis, "navigator", { configurable: true, value: type ? { connection: { type } } : {} });
}

const navigatorBefore = Object.getOwnPropertyDescriptor(globalThis, "navigator");

beforeEach(() => {
  mock.timers.reset();
  mock.timers.enable({ apis: ["Date"], now: 1_000_000 });
});
afterEach(() => {
  if (navigatorBefore) Object.defineProperty(globalThis, "navigator", navigatorBefore);
  else Reflect.deleteProperty(globalThis, "navigator");
});

test("what carried last is remembered for an hour from when it carried last, also by the next page", () => {
  const storage = makeStorage();
  const origin = newOrigin();
  const memory = new TransportMemory(origin, { storage });
  assert.deepEqual(memory.last, {});
  memory.remember("websocket", 120);
  mock.timers.tick(HOUR - 1);
  const next = new TransportMemory(origin, { storage });
  assert.deepEqual([next.last.name, next.last.ms], ["websocket", 120]);
  next.remember("websocket", 120);
  mock.timers.tick(HOUR - 1);
  assert.equal(memory.last.name, "websocket");
  mock.timers.tick(1);
  assert.deepEqual(memory.last, {});
});

test("origins and kinds of network are remembered apart", () => {
  const storage = makeStorage();
  const [origin, other] = [newOrigin(), newOrigin()];
  const memory = new TransportMemory(origin, { storage });
  setConnectionType("wifi");
  memory.remember("polling", 50);
  assert.equal(new TransportMemory(other, { storage }).last.name, undefined);
  setConnectionType("cellular");
  assert.equal(memory.last.name, undefined);
  memory.remember("websocket", 200);
  setConnectionType("wifi");
  assert.equal(memory.last.name, "polling");
  setConnectionType(undefined);
  assert.equal(memory.last.name, undefined);
  assert.deepEqual([...storage.entries.keys()].sort(), [
    `tidegate transport cellular ${origin}`,
    `tidegate transport wifi ${origin}`,
  ]);
});

test("a broken entry is as none, and is replaced", () => {
  for (const text of ["", "{", "null", "3", '"websocket"', "[]", '{"until":"x"}', '{"until":1e99,"demoted":null}', '{"demoted":7}']) {
    const storage = makeStorage();
    const origin = newOrigin();
    storage.setItem(`tidegate transport undefined ${origin}`, text);
    const memory = new TransportMemory(origin, { storage });
    setConnectionType(undefined);
    assert.equal(memory.last.name, undefined, text);
    assert.equal(memory.isDemoted("websocket"), false, text);
    memory.remember("polling", 1);
    assert.equal(memory.last.name, "polling", text);
    for (let i = 0; i < 3; i++) memory.died("websocket");
    assert.equal(memory.isDemoted("websocket"), true, text);
  }
});

test("storage that is blocked leaves the memory of the page", () => {
  const blocked = (): never => {
    throw new DOMException("denied", "SecurityError");
  };
  for (const options of [{ storage: { getItem: blocked, setItem: blocked } }, {}]) {
    const origin = newOrigin();
    new TransportMemory(origin, options).remember("xhr-streaming", 70);
    const { name, ms } = new TransportMemory(origin, options).last;
    assert.deepEqual([name, ms], ["xhr-streaming", 70]);
  }
});

test("storage that is full does not bring back what it held before", () => {
  const storage = makeStorage();
  const origin = newOrigin();
  const memory = new TransportMemory(origin, { storage });
  memory.remember("websocket", 100);
  const { setItem } = storage;
  storage.setItem = () => {
    throw new DOMException("full", "QuotaExceededError");
  };
  memory.remember("polling", 50);
  assert.equal(memory.last.name, "polling");
  storage.setItem = setItem;
  memory.remember("xhr-streaming", 60);
  assert.equal(memory.last.name, "xhr-streaming");
  assert.match([...storage.entries.values()].join(), /xhr-streaming/);
});

test("three deaths in a row demote, for ten minutes and for the next page too", () => {
  const storage = makeStorage();
  const origin = newOrigin();
  const memory = new TransportMemory(origin, { storage });
  memory.remember("websocket", 100);
  assert.deepEqual([memory.died("websocket"), memory.died("websocket")], [0, 0]);
  memory.lived("websocket");
  assert.deepEqual([memory.died("websocket"), memory.died("websocket")], [0, 0]);
  assert.equal(memory.died("xhr-streaming"), 0);
  assert.equal(memory.isDemoted("websocket"), false);
  assert.equal(memory.died("websocket"), 600_000);
  assert.deepEqual(memory.last, {});
  memory.remember("xhr-streaming", 80);
  const next = new TransportMemory(origin, { storage });
  mock.timers.tick(599_999);
  assert.deepEqual([next.isDemoted("websocket"), next.isDemoted("xhr-streaming")], [true, false]);
  next.forget();
  assert.equal(next.isDemoted("websocket"), true);
  mock.timers.tick(1);
  assert.equal(next.isDemoted("websocket"), false);
  assert.deepEqual([memory.died("websocket"), memory.died("websocket")], [0, 0]);
});

test("another network forgives failures, and keeps what can be no failure", () => {
  const memory = new TransportMemory(newOrigin(), { storage: makeStorage() });
  for (const [name, kept] of [["websocket", "websocket"], ["xhr-streaming", undefined], ["polling", undefined]] as const) {
    for (let i = 0; i < 5; i++) memory.died("websocket");
    memory.remember(name, 5);
    memory.forgive();
    assert.equal(memory.last.name, kept);
    assert.equal(memory.isDemoted("websocket"), false);
    assert.deepEqual([memory.died("websocket"), memory.died("websocket")], [0, 0]);
    memory.forgive();
  }
});
