import assert from "node:assert/strict";
import { test } from "node:test";
import { TidegateError } from "../src/index.js";
import { ConnectionRefused, MemoryGateway } from "../src/testing/index.js";

interface Chat {
  toServer: { say(text: string): number; ask(question: object): object; maybe(a: string, b?: string): string };
  fromServer: { said(line: string): void; name(): string };
}

test("what is sent arrives as a copy, in order, and never at once", async () => {
  const gateway = new MemoryGateway<Chat>();
  const heard: unknown[] = [];
  gateway.on("ask", (question) => (heard.push(question), question));
  const client = gateway.connect();
  const sent = { at: new Date(0), gone: undefined, bytes: Buffer.from([1, 2]), deep: [undefined] };
  const answer = client.emit("ask", sent);
  assert.deepEqual(heard, []);
  const expected = { at: "1970-01-01T00:00:00.000Z", bytes: Buffer.from([1, 2]), deep: [null] };
  assert.deepEqual(await answer, expected);
  assert.deepEqual(heard, [expected]);
  assert.notEqual(heard[0], await answer);
  sent.bytes[0] = 9;
  assert.deepEqual(heard, [expected]);
});

test("the handler gets the context behind the arguments, left out ones too", async () => {
  const gateway = new MemoryGateway<Chat>();
  gateway.on("maybe", (a, b, { socket }) => `${a} ${b} ${socket.id}`);
  const client = gateway.connect();
  assert.equal(await client.emit("maybe", "a"), `a undefined ${gateway.socketOf(client)?.id}`);
  assert.equal(await client.emit("maybe", "a", "b"), `a b ${gateway.socketOf(client)?.id}`);
});

test("handlers that fail or are not there are told apart", async () => {
  const gateway = new MemoryGateway<Chat>();
  const failure = new Error("mine");
  const end = gateway.on("say", async () => {
    throw failure;
  });
  const client = gateway.connect();
  await assert.rejects(client.emit("say", "a"), { code: "failed", message: "say: Internal server error" });
  assert.deepEqual(gateway.failures, [failure]);
  end();
  await assert.rejects(client.emit("say", "a"), { code: "unhandled" });
  // @ts-expect-error: not of the contract; the name is one that the gateway refuses
  await assert.rejects(client.emit("tidegate:once"), (error) => {
    return error instanceof TidegateError && error.code === "refused" && /reserved/.test(error.message);
  });
});

test("a client that was cut gets what it missed, once and in order; one that was lost does not", async () => {
  const gateway = new MemoryGateway<Chat>();
  const heard: string[] = [];
  const client = gateway.connect({ firstDelay: 1 });
  client.on("said", (line) => void heard.push(line));
  const connected = (): Promise<boolean> =>
    new Promise((resolve) => {
      const end = client.connection.subscribe((state) => {
        if (state.status !== "connected") return;
        end();
        resolve(state.recovered);
      });
    });
  await connected();
  gateway.emit("said", "1");
  await gateway.settled();
  gateway.emit("said", "2"); // under way when the connection ends
  gateway.cut();
  gateway.emit("said", "3");
  assert.equal(await connected(), true);
  await gateway.settled();
  assert.deepEqual(heard, ["1", "2", "3"]);
  gateway.cut();
  assert.equal(await connected(), true);
  gateway.emit("said", "4");
  gateway.lose();
  gateway.emit("said", "5");
  assert.notEqual(await connected(), true);
  gateway.emit("said", "6");
  await gateway.settled();
  assert.deepEqual(heard, ["1", "2", "3", "6"]);
  client.close();
});

test("a gateway without recovery keeps no place, and events have no offset", async () => {
  const gateway = new MemoryGateway<Chat>({ recovery: 0 });
  const client = gateway.connect();
  const heard: unknown[][] = [];
  client.on("said", (...args) => void heard.push(args));
  await gateway.settled();
  gateway.emit("said", "text");
  await gateway.settled();
  gateway.cut();
  assert.deepEqual(gateway.sockets, []);
  assert.deepEqual(heard, [["text"]]);
  client.close();
});

test("more than is kept cannot be recovered", async () => {
  const gateway = new MemoryGateway<Chat>({ recovery: 2 });
  const client = gateway.connect({ firstDelay: 1 });
  const heard: string[] = [];
  client.on("said", (line) => void heard.push(line));
  const recovered: boolean[] = [];
  client.connection.subscribe((state) => void (state.status === "connected" && recovered.push(state.recovered)));
  await gateway.settled();
  for (const missed of [["1", "2"], ["3", "4", "5"]]) {
    gateway.cut();
    for (const line of missed) gateway.emit("said", line);
    await new Promise<void>((resolve) => {
      const end = client.connection.subscribe(({ status }) => void (status === "connected" && (end(), resolve())));
    });
    await gateway.settled();
  }
  assert.deepEqual([recovered[1], recovered[2]], [true, false]);
  assert.deepEqual(heard, ["1", "2"]);
  client.close();
});

test("the gateway asks a client, and hears where that cannot be", async () => {
  const gateway = new MemoryGateway<Chat>();
  const client = gateway.connect();
  client.on("name", async () => "Ada");
  await gateway.settled();
  const socket = gateway.socketOf(client);
  assert.ok(socket);
  assert.equal(await socket.ask("name"), "Ada");
  const asked = socket.ask("name");
  gateway.cut();
  await assert.rejects(asked, /ended/);
  await assert.rejects(socket.ask("name"), /not connected/);
  client.close();
});

test("admit() sees what the client sends, and its errors say why", async () => {
  const gateway = new MemoryGateway<Chat>({
    admit: async ({ name }) => {
      if (name === "Ada") return;
      if (name === "Eve") throw new ConnectionRefused("not you", { since: 1970 });
      throw new Error("mine");
    },
  });
  const ada = gateway.connect({ auth: { name: "Ada" } });
  const eve = gateway.connect({ auth: { name: "Eve" } });
  const nobody = gateway.connect();
  await gateway.settled();
  assert.equal(ada.connection.get().status, "connected");
  assert.deepEqual(gateway.socketOf(ada)?.auth, { name: "Ada" });
  const refused = eve.connection.get();
  assert.equal(refused.status, "closed");
  assert.equal(refused.reason.message, "not you");
  assert.deepEqual((refused.reason.cause as { data: unknown }).data, { since: 1970 });
  assert.equal(nobody.connection.get().status, "connecting");
  assert.equal(nobody.connection.get().reason.message, "Internal server error");
  for (const client of [ada, eve, nobody]) client.close();
});

test("a scheduler decides when packets arrive, and not in which order", async () => {
  const due: (() => void)[] = [];
  const gateway = new MemoryGateway<Chat>({ schedule: (deliver) => void due.push(deliver) });
  const heard: string[] = [];
  gateway.on("say", (text) => heard.push(text));
  const client = gateway.connect();
  const run = async (): Promise<void> => {
    while (due.length > 0) {
      due.pop()?.(); // the newest first
      await Promise.resolve();
    }
  };
  await run();
  assert.equal(client.connection.get().status, "connected");
  const answers = Promise.all(["a", "b", "c"].map((text) => client.emit("say", text)));
  let isSettled = false;
  void gateway.settled().then(() => (isSettled = true));
  await Promise.resolve();
  assert.equal(isSettled, false);
  const running = setInterval(() => void run());
  assert.deepEqual(await answers, [1, 2, 3]);
  await gateway.settled();
  clearInterval(running);
  assert.deepEqual(heard, ["a", "b", "c"]);
  client.close();
});

test("what the client sends before it closes arrives, and its place is gone", async () => {
  const gateway = new MemoryGateway<Chat>();
  const heard: string[] = [];
  gateway.on("say", (text) => heard.push(text));
  const client = gateway.connect();
  await gateway.settled();
  void client.emit("say", "bye");
  client.close();
  await gateway.settled();
  assert.deepEqual(heard, ["bye"]);
  assert.deepEqual(gateway.sockets, []);
});

test("subscribers share no object, with each other or with the history", async () => {
  const gateway = new MemoryGateway();
  const clients = [gateway.connect(), gateway.connect()];
  const heard: { list: number[] }[] = [];
  for (const client of clients) {
    client.channel("news").on("publication", ({ data }) => {
      heard.push(data as { list: number[] });
      heard[0]?.list.push(heard.length);
    });
    await client.channel("news").subscribe();
  }
  gateway.channel("news").publish({ list: [] });
  await gateway.settled();
  assert.deepEqual(heard, [{ list: [1, 2] }, { list: [] }]);
  assert.deepEqual(gateway.channel("news").history[0]?.data, { list: [] });
  for (const client of clients) client.close();
});
