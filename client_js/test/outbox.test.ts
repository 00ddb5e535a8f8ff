import assert from "node:assert/strict";
import { test } from "node:test";
import { TidegateError } from "../src/index.js";
import type { SocketLike } from "../src/socket-like.js";
import { Outbox } from "../src/outbox.js";
import { MemoryGateway } from "../src/testing/index.js";
import { mockRandom, mockTimers, turn, unhandled } from "./support/memory.js";

interface Sent {
  readonly args: unknown[];
  answer(...values: unknown[]): void;
}

/** A socket that sends nowhere: the test is the server. */
function socketOf(): { socket: SocketLike; sent: Sent[]; connect(): void; disconnect(): void } {
  const listeners: Record<string, () => void> = {};
  const sent: Sent[] = [];
  const socket = {
    connected: false,
    recovered: false,
    io: { _close: () => {} },
    auth: {},
    sendBuffer: [] as unknown[],
    connect: () => {},
    disconnect: () => {},
    emit: (event: string, ...args: unknown[]) => {
      assert.equal(event, "tidegate:once");
      assert.equal(socket.connected, true);
      sent.push({ answer: args.pop() as Sent["answer"], args });
    },
    volatile: { emit: () => {} },
    on: (event: string, listener: () => void) => void (listeners[event] = listener),
    off: () => {},
  };
  return {
    socket,
    sent,
    connect: () => {
      socket.connected = true;
      listeners.connect?.();
    },
    disconnect: () => {
      socket.connected = false;
      listeners.disconnect?.();
    },
  };
}

/** What became of each: its value, or the code of its error. */
function outcomes(promises: Promise<unknown>[]): Promise<unknown[]> {
  return Promise.all(promises.map((each) => each.catch((error: TidegateError) => error.code)));
}

const numbers = (sent: Sent[]): unknown[] => sent.map(({ args }) => args[1]);
const floors = (sent: Sent[]): unknown[] => sent.map(({ args }) => args[2]);

test("messages are numbered from 1 in one stream, with the floor of what is not answered", async () => {
  const { socket, sent, connect } = socketOf();
  const outbox = new Outbox(socket);
  const results = ["a", "b", "c"].map((text) => outbox.add("say", [text, 1]));
  assert.equal(sent.length, 0);
  connect();
  assert.deepEqual(numbers(sent), [1, 2, 3]);
  assert.deepEqual(floors(sent), [1, 1, 1]);
  assert.deepEqual(sent[1]?.args.slice(3), ["say", "b", 1]);
  assert.match(String(sent[0]?.args[0]), /^[A-Za-z0-9_-]{16,64}$/);
  assert.equal(new Set(sent.map(({ args }) => args[0])).size, 1);
  sent[1]?.answer(0, "B");
  void outbox.add("say", ["d"]);
  assert.deepEqual([sent[3]?.args[1], sent[3]?.args[2]], [4, 1]);
  sent[0]?.answer(0);
  void outbox.add("say", ["e"]);
  assert.deepEqual([sent[4]?.args[1], sent[4]?.args[2]], [5, 3]);
  sent[2]?.answer(0, 1, 2);
  assert.deepEqual(await Promise.all(results), [undefined, "B", [1, 2]]);
  outbox.close();
});

test("two outboxes have streams of their own", () => {
  const [one, two] = [socketOf(), socketOf()];
  for (const { socket, connect } of [one, two]) {
    const outbox = new Outbox(socket);
    void outbox.add("say", []);
    connect();
    outbox.close();
  }
  assert.notEqual(one.sent[0]?.args[0], two.sent[0]?.args[0]);
});

test("a hundred are under way at a time; an answer makes room for the next", () => {
  const { socket, sent, connect } = socketOf();
  const outbox = new Outbox(socket);
  for (let i = 0; i < 150; i++) void outbox.add("say", [i]);
  connect();
  assert.equal(sent.length, 100);
  sent[50]?.answer(0);
  assert.equal(sent.length, 101);
  assert.equal(sent[100]?.args[4], 100);
  assert.equal(outbox.size, 149);
  outbox.close();
});

test("after a reconnect what is not answered is sent again, oldest first, with its number", () => {
  const { socket, sent, connect, disconnect } = socketOf();
  const outbox = new Outbox(socket);
  for (const text of ["a", "b", "c"]) void outbox.add("say", [text]);
  connect();
  sent[0]?.answer(0);
  disconnect();
  void outbox.add("say", ["d"]);
  sent.length = 0;
  connect();
  assert.deepEqual(
    sent.map(({ args }) => [args[1], args[2], args[4]]),
    [[2, 2, "b"], [3, 2, "c"], [4, 2, "d"]],
  );
  outbox.close();
});

test("a second answer, and one that comes late, change nothing", async (t) => {
  const { tick } = mockTimers(t);
  const { socket, sent, connect } = socketOf();
  const outbox = new Outbox(socket, { timeout: 100 });
  connect();
  const [one, two] = [outbox.add("say", ["a"]), outbox.add("say", ["b"])];
  sent[0]?.answer(0, "first");
  sent[0]?.answer(0, "second");
  tick(100);
  sent[1]?.answer(0, "late");
  assert.deepEqual(await outcomes([one, two]), ["first", "timeout"]);
  assert.equal(outbox.size, 0);
  assert.equal(outbox.bytes, 0);
});

test("each answer of the gateway has a code, and its message", async () => {
  const { socket, sent, connect } = socketOf();
  const outbox = new Outbox(socket);
  connect();
  for (const [number, code] of ["failed", "unhandled", "forgotten", "refused"].entries()) {
    const result = outbox.add("say", []);
    sent.at(-1)?.answer(number + 1, { message: "why" });
    await assert.rejects(result, (error) => {
      assert.ok(error instanceof TidegateError);
      assert.deepEqual([error.code, error.message], [code, "say: why"]);
      return true;
    });
  }
});

test("time runs out: expired where it was not sent, timeout where it was", async (t) => {
  const { tick, timers } = mockTimers(t);
  const { socket, connect } = socketOf();
  const outbox = new Outbox(socket, { timeout: 1_000 });
  const dropped: unknown[] = [];
  outbox.onDropped(({ code }, event, args) => void dropped.push([code, event, ...args]));
  const unsent = outbox.add("say", ["a"]);
  tick(999);
  assert.equal(outbox.size, 1);
  tick(1);
  connect();
  const sent = outbox.add("say", ["b"], 10);
  tick(10);
  assert.deepEqual(await outcomes([unsent, sent]), ["expired", "timeout"]);
  assert.deepEqual(dropped, [["expired", "say", "a"], ["timeout", "say", "b"]]);
  assert.equal(timers.size, 0);
});

test("the outbox takes no more messages than it may", async () => {
  const { socket } = socketOf();
  const outbox = new Outbox(socket, { maxMessages: 2 });
  for (const n of [1, 2]) void outbox.add("say", [n]);
  await assert.rejects(outbox.add("say", [3]), { code: "full" });
  assert.equal(outbox.size, 2);
  outbox.close();
});

test("the outbox takes no more bytes than it may, and gives them back", async () => {
  const { socket, sent, connect } = socketOf();
  const outbox = new Outbox(socket, { maxBytes: 100 });
  connect();
  void outbox.add("say", ["x".repeat(56)]); // with ["…"]: 60
  assert.equal(outbox.bytes, 60);
  const full = outbox.add("say", ["x".repeat(37)]); // 41
  await assert.rejects(full, { code: "full", message: "the outbox holds 1 messages, 60 bytes" });
  void outbox.add("say", ["x".repeat(36)]);
  assert.equal(outbox.bytes, 100);
  for (const each of sent) each.answer(0);
  assert.equal(outbox.bytes, 0);
});

for (const [name, binary, bytes] of [
  ["an ArrayBuffer", new ArrayBuffer(1_000), 1_000],
  ["a view of a part", new Uint8Array(new ArrayBuffer(5_000), 10, 1_000), 1_000],
  ["a Float64Array", new Float64Array(125), 1_000],
  ["a Blob", new Blob([new Uint8Array(1_000)]), 1_000],
] as const) {
  test(`binary data counts as what it takes: ${name}`, () => {
    const { socket } = socketOf();
    const outbox = new Outbox(socket);
    void outbox.add("say", [{ in: binary }]);
    assert.ok(Math.abs(outbox.bytes - bytes) < 20, String(outbox.bytes));
    outbox.close();
  });
}

test("binary data counts as what it takes: a Buffer of Node.js", () => {
  const { socket } = socketOf();
  const outbox = new Outbox(socket);
  void outbox.add("say", [{ in: Buffer.alloc(1_000) }]);
  assert.ok(Math.abs(outbox.bytes - 1_000) < 20, String(outbox.bytes));
  outbox.close();
});

test("close() rejects what was sent and what waits, and leaves no timer", async (t) => {
  const { timers } = mockTimers(t);
  const { socket, connect } = socketOf();
  const outbox = new Outbox(socket);
  const dropped: string[] = [];
  outbox.onDropped(({ code }) => void dropped.push(code));
  connect();
  const results = Array.from({ length: 103 }, (_, i) => outbox.add("say", [i]));
  outbox.close();
  assert.equal(timers.size, 0);
  assert.deepEqual(await outcomes(results), Array(103).fill("closed"));
  assert.equal(dropped.length, 103);
  assert.deepEqual([outbox.size, outbox.bytes], [0, 0]);
});

test("who does not wait is not troubled by unhandled rejections", async (t) => {
  const errors = unhandled(t);
  const { socket } = socketOf();
  const outbox = new Outbox(socket, { maxMessages: 1 });
  void outbox.add("say", []);
  void outbox.add("say", []);
  outbox.close();
  await turn();
  assert.deepEqual(errors, []);
});

test("a probe is answered at once by who has never shown that it understands", () => {
  const { socket, connect } = socketOf();
  const outbox = new Outbox(socket);
  connect();
  const answers: boolean[] = [];
  outbox.probe((isAlive) => void answers.push(isAlive));
  assert.deepEqual(answers, [true]);
});

test("a probe is number 0, and its time is limited", (t) => {
  const { tick, timers } = mockTimers(t);
  const { socket, sent, connect } = socketOf();
  const outbox = new Outbox(socket);
  connect();
  void outbox.add("say", []);
  sent[0]?.answer(0);
  const answers: boolean[] = [];
  outbox.probe((isAlive) => void answers.push(isAlive));
  assert.deepEqual(sent[1]?.args.slice(1), [0, 0]);
  sent[1]?.answer(0);
  assert.deepEqual([answers, timers.size], [[true], 0]);
  outbox.probe((isAlive) => void answers.push(isAlive));
  tick(3_000);
  assert.deepEqual(answers, [true, false]);
});

test("a handler runs once, though its answer is lost", async () => {
  const gateway = new MemoryGateway<{ toServer: { say(text: string): string } }>();
  const client = gateway.connect({ firstDelay: 1 });
  const handled: string[] = [];
  gateway.on("say", (text) => {
    handled.push(text);
    if (handled.length <= 2) gateway.cut();
    return text.toUpperCase();
  });
  assert.deepEqual(await Promise.all(["a", "b", "c"].map((text) => client.emit("say", text))), ["A", "B", "C"]);
  assert.deepEqual(handled, ["a", "b", "c"]);
  client.close();
});

test("a copy that comes while the handler runs gets its answer", async () => {
  const gateway = new MemoryGateway<{ toServer: { say(): number } }>();
  const client = gateway.connect({ firstDelay: 1 });
  let end = (_: number): void => {};
  let count = 0;
  gateway.on("say", () => new Promise<number>((resolve) => ((end = resolve), count++)));
  const answer = client.emit("say");
  while (count === 0) await turn();
  gateway.cut();
  await new Promise<void>((resolve) => {
    client.connection.subscribe(({ status }) => void (status === "connected" && resolve()));
  });
  await turn();
  end(7);
  assert.equal(await answer, 7);
  assert.equal(count, 1);
  client.close();
});

test("whoever sends on hearing of a connection sends behind what waits", async (t) => {
  const { tick } = mockTimers(t);
  mockRandom(t, 0.5);
  const gateway = new MemoryGateway<{ toServer: { say(text: string): void } }>();
  const client = gateway.connect();
  await gateway.settled();
  const handled: string[] = [];
  gateway.on("say", (text) => void handled.push(text));
  client.connection.subscribe(({ status }) => void (status === "connected" && client.emit("say", "c")));
  gateway.goSilent();
  void client.emit("say", "a");
  gateway.goOnline();
  gateway.cut();
  await gateway.settled();
  void client.emit("say", "b");
  tick(500);
  await gateway.settled();
  assert.deepEqual(handled, ["a", "b", "c"]);
  client.close();
});

test("an outbox that is closed takes nothing until it is opened again", async () => {
  const { socket, sent, connect } = socketOf();
  const outbox = new Outbox(socket);
  const dropped: string[] = [];
  outbox.onDropped((error, event) => dropped.push(`${event} ${error.code}`));
  connect();
  outbox.close();
  await assert.rejects(outbox.add("late", []), { code: "closed" });
  assert.deepEqual([dropped, sent.length], [["late closed"], 0]);
  outbox.open();
  void outbox.add("again", []).catch(() => {});
  assert.equal(sent.length, 1);
  outbox.close();
});

test("arguments that are no JSON are the caller's mistake, and thrown", () => {
  const outbox = new Outbox(socketOf().socket);
  assert.throws(() => outbox.add("say", [1n]), TypeError);
  assert.equal(outbox.size, 0);
});

test("bytes are those of UTF-8", () => {
  const outbox = new Outbox(socketOf().socket);
  void outbox.add("say", ["€€"]);
  assert.equal(outbox.bytes, '["€€"]'.length + 4);
  outbox.close();
});

test("what socket.io-client keeps of a dying connection is left to the outbox", () => {
  const { socket, connect, disconnect } = socketOf();
  new Outbox(socket);
  connect();
  socket.sendBuffer.push("kept");
  disconnect();
  assert.deepEqual(socket.sendBuffer, []);
});
