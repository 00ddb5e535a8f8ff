import assert from "node:assert/strict";
import { test } from "node:test";
import { io } from "socket.io-client";
import { Client } from "../src/index.js";
import type { SocketLike } from "../src/socket-like.js";
import { MemoryGateway } from "../src/testing/index.js";
import { mockRandom, mockTimers } from "./support/memory.js";

interface Chat {
  toServer: { say(text: string): number };
  fromServer: { said(text: string, more?: string): void; name(greeting: string): string | undefined };
  channels: { a: number; b: number; c: number };
}

test("emit() resolves with what the handler returned", async () => {
  const gateway = new MemoryGateway();
  const client = gateway.connect();
  for (const value of [1, "text", null, [1, 2], { deep: [true] }, undefined]) {
    gateway.on("say", () => value);
    assert.deepEqual(await client.emit("say"), value);
  }
  client.close();
});

test("emitWith() limits the time of one message", async (t) => {
  const { tick } = mockTimers(t);
  const gateway = new MemoryGateway<Chat>();
  gateway.on("say", () => new Promise<number>(() => {}));
  const client = gateway.connect();
  const short = client.emitWith({ timeout: 10 }, "say", "a");
  const long = client.emit("say", "b");
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
  tick(10);
  await assert.rejects(short, { code: "timeout" });
  tick(59_990);
  await assert.rejects(long, { code: "timeout" });
  client.close();
});

test("several listeners of an event are told, until they end it", async () => {
  const gateway = new MemoryGateway<Chat>();
  const client = gateway.connect();
  const heard: string[] = [];
  const end = client.on("said", (text) => void heard.push(`one ${text}`));
  client.on("said", (text) => void heard.push(`two ${text}`));
  await gateway.settled();
  gateway.emit("said", "a");
  await gateway.settled();
  end();
  end();
  gateway.emit("said", "b");
  await gateway.settled();
  assert.deepEqual(heard, ["one a", "two a", "two b"]);
  client.close();
});

for (const [recovery, what] of [[1_000, "with a place at the server"], [0, "without one"]] as const) {
  test(`arguments are those that were sent, ${what}`, async () => {
    const gateway = new MemoryGateway<Chat>({ recovery });
    const client = gateway.connect();
    const heard: unknown[][] = [];
    client.on("said", (...args) => void heard.push(args));
    await gateway.settled();
    gateway.emit("said", "a");
    gateway.emit("said", "a", "b");
    await gateway.settled();
    assert.deepEqual(heard, [["a"], ["a", "b"]]);
    client.close();
  });

  test(`a handler that returns answers the server, ${what}`, async () => {
    const gateway = new MemoryGateway<Chat>({ recovery });
    const client = gateway.connect();
    client.on("name", (greeting) => (greeting === "hello" ? "Ada" : undefined));
    await gateway.settled();
    const socket = gateway.socketOf(client);
    assert.equal(await socket?.ask("name", "hello"), "Ada");
    assert.equal(await socket?.ask("name", "bye"), undefined);
    client.close();
  });
}

test("arguments are those that were sent, where a conflated event came late and has null for an offset", () => {
  const socket = io("http://127.0.0.1:9", { autoConnect: false });
  const client = new Client<Chat>(socket as unknown as SocketLike, { autoConnect: false });
  const heard: unknown[][] = [];
  client.on("said", (...args) => void heard.push(args));
  // What the socket calls for a packet, and the id of its place.
  const { emitEvent } = socket as unknown as { emitEvent(data: unknown[]): void };
  emitEvent.call(socket, ["said", "a", null]);
  Object.assign(socket, { _pid: "place" });
  emitEvent.call(socket, ["said", "a", null]);
  emitEvent.call(socket, ["said", "a", null, "offset"]);
  assert.deepEqual(heard, [["a", null], ["a"], ["a", null]]);
});

test("emitVolatile() sends at this moment or never", async (t) => {
  const { tick } = mockTimers(t);
  mockRandom(t, 0.5);
  const gateway = new MemoryGateway<Chat>();
  const heard: string[] = [];
  gateway.on("say", (text) => heard.push(text));
  const client = gateway.connect();
  client.emitVolatile("say", "too early");
  await gateway.settled();
  client.emitVolatile("say", "now");
  await gateway.settled();
  gateway.cut();
  await gateway.settled();
  client.emitVolatile("say", "away");
  tick(500);
  await gateway.settled();
  assert.deepEqual(heard, ["now"]);
  assert.equal(client.outbox.size, 0);
  client.close();
});

test("autoConnect: false waits for connect(), and what was sent before goes then", async () => {
  const gateway = new MemoryGateway<Chat>();
  gateway.on("say", (text) => text.length);
  const client = gateway.connect({ autoConnect: false });
  const length = client.emit("say", "hello");
  await gateway.settled();
  assert.deepEqual(gateway.sockets, []);
  client.connect();
  assert.equal(await length, 5);
  client.close();
});

test("options of the outbox are taken", async () => {
  const gateway = new MemoryGateway<Chat>();
  const client = gateway.connect({ autoConnect: false, outbox: { maxMessages: 1 } });
  void client.emit("say", "a");
  await assert.rejects(client.emit("say", "b"), { code: "full" });
  client.close();
});

test("channel() gives the same object each time", () => {
  const client = new MemoryGateway<Chat>().connect({ autoConnect: false });
  assert.equal(client.channel("a"), client.channel("a"));
  assert.notEqual(client.channel("a"), client.channel("b"));
});

test("several channels go on over reconnects, each with its own", async (t) => {
  const { tick } = mockTimers(t);
  mockRandom(t, 0.5);
  const gateway = new MemoryGateway<Chat>();
  const client = gateway.connect();
  const heard: string[] = [];
  for (const name of ["a", "b", "c"] as const) {
    client.channel(name).on("publication", ({ channel, data }) => void heard.push(`${channel}${data}`));
    if (name !== "c") await client.channel(name).subscribe();
  }
  for (let round = 1; round <= 3; round++) {
    if (round === 2) gateway.lose();
    else gateway.cut();
    for (const name of ["a", "b", "c"] as const) gateway.channel(name).publish(round);
    await gateway.settled();
    tick(500);
    await gateway.settled();
  }
  assert.deepEqual(heard, ["a1", "b1", "a2", "b2", "a3", "b3"]);
  client.close();
});

test("close() and connect(): a new start, with the same channels and handlers", async () => {
  const gateway = new MemoryGateway<Chat>();
  const client = gateway.connect();
  const heard: string[] = [];
  client.on("said", (text) => void heard.push(text));
  await client.channel("a").subscribe();
  client.close();
  assert.equal(client.channel("a").state.get().status, "unsubscribed");
  client.connect();
  await client.channel("a").subscribe();
  gateway.emit("said", "a");
  await gateway.settled();
  assert.deepEqual(heard, ["a"]);
  client.close();
});

test("reconnect() replaces the connection at once, and from wherever it is", async () => {
  const gateway = new MemoryGateway();
  const client = gateway.connect();
  await gateway.settled();
  const states: string[] = [];
  client.connection.subscribe(({ status, reason }) => states.push(`${status} ${reason.code}`));
  client.reconnect();
  await gateway.settled();
  const state = client.connection.get();
  assert.deepEqual(states, ["recovering client", "connected client"]);
  assert.equal(state.status === "connected" && state.recovered, true);
  client.close();
  client.reconnect();
  await gateway.settled();
  assert.equal(client.connection.get().status, "connected");
  client.close();
});
