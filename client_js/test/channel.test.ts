import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import type { Channel, ChannelState, Client, ClientOptions, Publication } from "../src/index.js";
import { MemoryGateway, type MemoryChannel, type MemoryGatewayOptions } from "../src/testing/index.js";
import { mockRandom, mockTimers, turn, unhandled } from "./support/memory.js";

interface News {
  channels: { news: number };
  toServer: { say(): void };
}

interface Setup {
  gateway: MemoryGateway<News>;
  client: Client<News>;
  /** As the client and as the gateway see it. */
  channel: Channel<number>;
  news: MemoryChannel<number>;
  heard: unknown[];
  states: string[];
  pass(ms: number): Promise<void>;
  timers: Set<unknown>;
}

function inWords(state: ChannelState): string {
  if (state.status === "subscribed") return `subscribed ${state.recovered}`;
  return state.status === "unsubscribed" ? `unsubscribed ${state.reason?.code}` : state.status;
}

function setUp(t: TestContext, options: MemoryGatewayOptions<News> = {}, clientOptions: ClientOptions = {}): Setup {
  const { tick, timers } = mockTimers(t);
  mockRandom(t, 0.5);
  const gateway = new MemoryGateway<News>(options);
  const client = gateway.connect(clientOptions);
  const channel = client.channel("news");
  const heard: unknown[] = [];
  const states: string[] = [];
  channel.on("publication", ({ data }) => void heard.push(data));
  channel.state.subscribe((state) => void states.push(inWords(state)));
  const pass = async (ms: number): Promise<void> => {
    await gateway.settled();
    tick(ms);
    await gateway.settled();
  };
  t.after(() => client.close());
  return { gateway, client, channel, news: gateway.channel("news"), heard, states, pass, timers };
}

async function setUpSubscribed(t: TestContext, options: MemoryGatewayOptions<News> = {}): Promise<Setup> {
  const setup = setUp(t, options);
  await setup.channel.subscribe();
  assert.deepEqual(setup.states.splice(0), ["subscribing", "subscribed undefined"]);
  return setup;
}

test("publications come in order, with their places", async (t) => {
  const { channel, news, gateway } = await setUpSubscribed(t);
  const heard: Publication<number>[] = [];
  channel.on("publication", (publication) => void heard.push(publication));
  for (const data of [10, 20, 30]) news.publish(data);
  await gateway.settled();
  assert.deepEqual(heard, [10, 20, 30].map((data, index) => ({ channel: "news", offset: index + 1, data })));
});

test("nothing comes before subscribe() and after unsubscribe()", async (t) => {
  const { channel, news, heard, states, gateway, timers } = setUp(t);
  await gateway.settled();
  news.publish(1);
  await channel.subscribe();
  news.publish(2);
  await gateway.settled();
  channel.unsubscribe();
  news.publish(3); // before the gateway knows
  await gateway.settled();
  assert.deepEqual(news.subscribers, []);
  assert.deepEqual(heard, [2]);
  assert.equal(states.at(-1), "unsubscribed undefined");
  assert.equal(timers.size, 0);
});

test("subscribe() before there is a connection, and while offline, is kept", async (t) => {
  const { channel, news, heard, states, gateway, pass } = setUp(t);
  gateway.goOffline();
  let isDone = false;
  void channel.subscribe().then(() => (isDone = true));
  await gateway.settled();
  assert.deepEqual([states, isDone], [["subscribing"], false]);
  gateway.goOnline();
  await pass(500);
  assert.equal(isDone, true);
  news.publish(1);
  await gateway.settled();
  assert.deepEqual(heard, [1]);
});

test("each subscribe() is undone by one unsubscribe(), and one too many does nothing", async (t) => {
  const { channel, news, gateway, states } = await setUpSubscribed(t);
  await channel.subscribe();
  assert.deepEqual(states, []);
  channel.unsubscribe();
  await gateway.settled();
  assert.equal(news.subscribers.length, 1);
  channel.unsubscribe();
  channel.unsubscribe();
  await gateway.settled();
  assert.equal(news.subscribers.length, 0);
  await channel.subscribe();
  assert.equal(news.subscribers.length, 1);
});

test("subscribe() is rejected where unsubscribe() comes first", async (t) => {
  const { channel, gateway, news } = setUp(t);
  await gateway.settled();
  const subscribed = channel.subscribe();
  channel.unsubscribe();
  await assert.rejects(subscribed, { code: "closed" });
  await gateway.settled();
  assert.deepEqual(news.subscribers, []);
});

test("what was missed comes after a reconnect, once and in order, be the place kept or not", async (t) => {
  const { gateway, news, heard, states, pass } = await setUpSubscribed(t);
  for (const lose of [() => gateway.cut(), () => gateway.lose()]) {
    news.publish(1);
    await gateway.settled();
    news.publish(2); // under way
    lose();
    news.publish(3);
    await pass(500);
    news.publish(4);
    await gateway.settled();
    assert.deepEqual(heard.splice(0), [1, 2, 3, 4]);
    assert.deepEqual(states.splice(0), ["subscribing", "subscribed true"]);
  }
});

test("a client too far behind is told of the gap, and goes on from there", async (t) => {
  const { gateway, news, heard, states, pass } = await setUpSubscribed(t, { channels: { history: 2 } });
  gateway.cut();
  for (const data of [1, 2, 3]) news.publish(data);
  await pass(500);
  news.publish(4);
  await gateway.settled();
  assert.deepEqual(heard, [4]);
  assert.deepEqual(states, ["subscribing", "subscribed false"]);
  gateway.cut();
  for (const data of [5, 6]) news.publish(data);
  await pass(500);
  assert.deepEqual(heard, [4, 5, 6]);
  assert.equal(states.at(-1), "subscribed true");
});

test("another stream while away: a gap, and its numbers from there", async (t) => {
  const { gateway, news, heard, states, pass } = await setUpSubscribed(t);
  for (const data of [1, 2, 3]) news.publish(data);
  await gateway.settled();
  gateway.cut();
  news.forgetHistory();
  for (const data of [4, 5, 6, 7]) news.publish(data); // further than the old one
  await pass(500);
  news.publish(8);
  await gateway.settled();
  assert.deepEqual(heard, [1, 2, 3, 8]);
  assert.deepEqual(states, ["subscribing", "subscribed false"]);
});

test("another stream while connected: the subscription is made anew, with a gap", async (t) => {
  const { gateway, news, heard, states, pass } = await setUpSubscribed(t);
  for (const data of [1, 2, 3]) news.publish(data);
  await gateway.settled();
  news.forgetHistory();
  await gateway.settled();
  assert.deepEqual(states, ["subscribing"]);
  await pass(3_000);
  news.publish(4);
  await gateway.settled();
  assert.deepEqual(heard, [1, 2, 3, 4]);
  assert.deepEqual(states, ["subscribing", "subscribed false"]);
});

test("a subscription that the gateway ends for good", async (t) => {
  const { gateway, channel, news, states, pass, timers } = await setUpSubscribed(t);
  const reader = (async () => {
    for await (const _ of channel);
  })();
  await gateway.settled();
  news.end("the right was taken away");
  await assert.rejects(reader, { code: "refused", message: "news: the right was taken away" });
  assert.deepEqual(states, ["unsubscribed refused"]);
  await pass(60_000);
  assert.deepEqual(news.subscribers, []);
  assert.equal(timers.size, 0);
});

test("a channel without history cannot say what was missed, and says so", async (t) => {
  const { gateway, news, heard, states, pass } = await setUpSubscribed(t, { channels: { history: 0 } });
  news.publish(1);
  await gateway.settled();
  gateway.cut();
  news.publish(2);
  await pass(500);
  news.publish(3);
  await gateway.settled();
  assert.deepEqual(heard, [1, 3]);
  assert.deepEqual(states, ["subscribing", "subscribed false"]);
});

test("a gap is filled from the history before what comes behind it", async (t) => {
  const { gateway, news, heard, states } = await setUpSubscribed(t);
  news.publish(1);
  news.publishUnheard(2);
  news.publish(3);
  news.publish(4);
  await gateway.settled();
  assert.deepEqual(heard, [1, 2, 3, 4]);
  assert.deepEqual(states, ["subscribing", "subscribed true"]);
});

test("a gap that the history does not reach any more is told", async (t) => {
  const { gateway, news, heard, states } = await setUpSubscribed(t, { channels: { history: 1 } });
  news.publish(1);
  await gateway.settled();
  for (const data of [2, 3]) news.publishUnheard(data);
  news.publish(4);
  await gateway.settled();
  news.publish(5);
  await gateway.settled();
  assert.deepEqual(heard, [1, 5]);
  assert.deepEqual(states, ["subscribing", "subscribed false"]);
});

test("copies are dropped", async (t) => {
  const { gateway, news, heard } = await setUpSubscribed(t);
  news.publish(1);
  news.repeat();
  news.publish(2);
  news.repeat();
  await gateway.settled();
  assert.deepEqual(heard, [1, 2]);
});

test("publications that come before the answer are kept, and those that it has too are dropped", async (t) => {
  const { gateway, client, channel, news, heard, pass } = await setUpSubscribed(t);
  gateway.cut();
  for (const data of [1, 2]) news.publish(data);
  // As where a node subscribes first, and looks into the history then.
  client.connection.subscribe(({ status }) => {
    if (status === "connected") for (const each of news.history) channel.received("publication", { ...each, client: "" });
  });
  await pass(500);
  assert.deepEqual(heard, [1, 2]);
});

for (const [name, refuse] of [
  ["at first", async ({ news, channel }: Setup) => {
    news.refuse("members only");
    await assert.rejects(channel.subscribe(), { code: "refused", message: "news: members only" });
  }],
  ["later on", async ({ gateway, news, channel, pass }: Setup) => {
    await channel.subscribe();
    gateway.cut();
    news.refuse("members only");
    await pass(500);
  }],
] as const) {
  test(`refused for good ${name}: unsubscribed, and not asked again`, async (t) => {
    const setup = setUp(t);
    const { channel, news, states, pass, timers } = setup;
    await refuse(setup);
    assert.equal(states.at(-1), "unsubscribed refused");
    assert.equal(timers.size, 0);
    news.accept();
    await pass(60_000);
    assert.deepEqual(news.subscribers, []);
    await channel.subscribe();
    assert.equal(news.subscribers.length, 1);
  });
}

test("refused for now: asked again after some time", async (t) => {
  const { gateway, channel, news, states, pass } = setUp(t);
  news.refuse("busy", { retry: "later" });
  let isDone = false;
  void channel.subscribe().then(() => (isDone = true));
  await gateway.settled();
  news.accept();
  await pass(2_999);
  assert.equal(isDone, false);
  await pass(1);
  assert.equal(isDone, true);
  assert.deepEqual(states, ["subscribing", "subscribed undefined"]);
});

test("a question without an answer is asked again", async (t) => {
  let failures = 1;
  const { gateway, news, channel, pass } = setUp(t, {
    infoOf: () => {
      if (failures-- > 0) throw new Error("no answer to this one");
    },
  });
  let isDone = false;
  void channel.subscribe().then(() => (isDone = true));
  await pass(9_999);
  assert.equal(isDone, false);
  await pass(1);
  assert.equal(isDone, true);
  assert.equal(news.subscribers.length, 1);
  assert.equal(gateway.failures.length, 1);
});

test("the answer to an older question says nothing", async (t) => {
  const { gateway, channel, news, states } = setUp(t);
  await gateway.settled();
  news.refuse("not yet");
  const first = channel.subscribe();
  queueMicrotask(() => news.accept()); // behind the first question
  channel.unsubscribe();
  const second = channel.subscribe();
  await assert.rejects(first, { code: "closed" });
  await second;
  assert.deepEqual(states, ["subscribing", "unsubscribed undefined", "subscribing", "subscribed undefined"]);
});

test("what comes before the answer and is not in it is delivered behind it", async (t) => {
  const { gateway, client, channel, news, heard, pass } = await setUpSubscribed(t);
  gateway.cut();
  for (const data of [1, 2]) news.publish(data);
  // Of a node that is ahead of the one that answers.
  client.connection.subscribe(({ status }) => {
    if (status === "connected") channel.received("publication", { channel: "news", offset: 3, data: 3, client: "" });
  });
  await pass(500);
  assert.deepEqual(heard, [1, 2, 3]);
});

test("what has shown a gap is delivered behind what fills it", async (t) => {
  const { gateway, channel, news, heard } = await setUpSubscribed(t);
  news.publish(1);
  await gateway.settled();
  news.publishUnheard(2);
  channel.received("publication", { channel: "news", offset: 3, data: 3, client: "" });
  await gateway.settled();
  assert.deepEqual(heard, [1, 2, 3]);
});

test("unsubscribe() while the network is away: not asked for again", async (t) => {
  const { gateway, channel, news, pass, states } = await setUpSubscribed(t);
  gateway.cut();
  await gateway.settled();
  channel.unsubscribe();
  await pass(500);
  assert.deepEqual(news.subscribers, []);
  assert.deepEqual(states, ["subscribing", "unsubscribed undefined"]);
});

test("unsubscribed and subscribed again in one breath: what comes is of the second time", async (t) => {
  const { gateway, channel, news, heard } = await setUpSubscribed(t);
  news.publish(1);
  await gateway.settled();
  channel.unsubscribe();
  const again = channel.subscribe();
  news.publish(2);
  await again;
  news.publish(3);
  await gateway.settled();
  assert.deepEqual(heard, [1, 3]);
  assert.equal(news.subscribers.length, 1);
});

test("a listener that unsubscribes hears no more of what was missed", async (t) => {
  const { gateway, channel, news, heard, pass } = await setUpSubscribed(t);
  channel.on("publication", ({ data }) => void (data === 2 && channel.unsubscribe()));
  gateway.cut();
  for (const data of [1, 2, 3]) news.publish(data);
  await pass(500);
  assert.deepEqual(heard, [1, 2]);
});

test("closing the client ends its subscriptions", async (t) => {
  const { client, channel, news, states, gateway, timers } = await setUpSubscribed(t);
  const reader = (async () => {
    for await (const _ of channel);
  })();
  await gateway.settled();
  client.close();
  await assert.rejects(reader, { code: "closed" });
  await gateway.settled();
  assert.deepEqual(states, ["unsubscribed closed"]);
  assert.deepEqual(news.subscribers, []);
  assert.equal(timers.size, 0);
});

test("who does not wait for subscribe() or publish() is not troubled by unhandled rejections", async (t) => {
  const errors = unhandled(t);
  const { channel, client, gateway } = setUp(t);
  gateway.goOffline();
  void channel.subscribe();
  void channel.publish(1);
  await gateway.settled();
  client.close();
  await turn();
  assert.deepEqual(errors, []);
});

test("publish() offline is sent later, and resolves with the position; the publisher hears it too", async (t) => {
  const { gateway, channel, news, heard, pass } = await setUpSubscribed(t);
  gateway.goOffline();
  await gateway.settled();
  const published = channel.publish(7);
  gateway.goOnline();
  await pass(500);
  assert.deepEqual(await published, news.position);
  await gateway.settled();
  assert.deepEqual(heard, [7]);
});

test("publish() is done once, though the answer is lost", async (t) => {
  const { gateway, channel, news, heard, pass } = await setUpSubscribed(t);
  const published = channel.publish(7);
  await Promise.resolve(); // it has arrived
  gateway.cut();
  await gateway.settled();
  await pass(500);
  assert.deepEqual(await published, { offset: 1, epoch: news.position?.epoch });
  assert.deepEqual([heard, news.history.length], [[7], 1]);
});

test("publish(), presence() and history() are rejected where they are refused", async (t) => {
  const { channel, news } = setUp(t);
  news.refuse("not today", { questions: ["publish", "presence", "history"] });
  for (const answer of [channel.publish(1), channel.presence(), channel.history()]) {
    await assert.rejects(answer, { code: "refused", message: "not today" });
  }
  await channel.subscribe();
});

test("presence, join and leave tell of others, with what the application says of them", async (t) => {
  const { gateway, client, channel, pass } = await setUpSubscribed(t, { infoOf: ({ auth }) => auth.name });
  const told: unknown[] = [];
  channel.on("join", ({ client, info }) => void told.push(["join", client, info]));
  channel.on("leave", ({ client, info }) => void told.push(["leave", client, info]));
  const other = gateway.connect({ auth: { name: "Ada" } });
  await other.channel("news").subscribe();
  const [mine, hers] = [client, other].map((each) => gateway.socketOf(each)?.id);
  assert.deepEqual(await channel.presence(), [{ client: mine }, { client: hers, info: "Ada" }]);
  gateway.cut(other);
  await pass(500);
  other.channel("news").unsubscribe();
  await gateway.settled();
  assert.deepEqual(told, ["join", "leave", "join", "leave"].map((what) => [what, hers, "Ada"]));
  other.close();
});

test("history in pages, both ways", async (t) => {
  const { channel, news } = setUp(t);
  for (const data of [1, 2, 3, 4, 5]) news.publish(data);
  const epoch = news.position?.epoch ?? "";
  const data = async (options?: object): Promise<number[]> =>
    (await channel.history(options)).publications.map((each) => each.data);
  assert.deepEqual(await data(), [1, 2, 3, 4, 5]);
  assert.deepEqual(await data({ limit: 2 }), [1, 2]);
  assert.deepEqual(await data({ since: { offset: 2, epoch }, limit: 2 }), [3, 4]);
  assert.deepEqual(await data({ reverse: true, limit: 2 }), [5, 4]);
  assert.deepEqual(await data({ reverse: true, since: { offset: 4, epoch } }), [3, 2, 1]);
  const { publications, ...position } = await channel.history({ limit: 0 });
  assert.deepEqual([publications, position], [[], { offset: 5, epoch }]);
  await assert.rejects(channel.history({ since: { offset: 2, epoch: "other" } }), { code: "refused" });
});

test("malformed questions are told what is allowed", async () => {
  const gateway = new MemoryGateway();
  const client = gateway.connect();
  gateway.channel("bare", { history: 0, presence: false });
  const channel = "news";
  for (const [question, body, message] of [
    ["subscribe", undefined, "a question is one object: {channel, ...}"],
    ["subscribe", ["news"], "a question is one object: {channel, ...}"],
    ["subscribe", {}, "channel must be text of 1 to 255 characters"],
    ["presence", { channel: "" }, "channel must be text of 1 to 255 characters"],
    ["presence", { channel: "x".repeat(256) }, "channel must be text of 1 to 255 characters"],
    ["subscribe", { channel, since: 3 }, "since must be {offset, epoch}: an integer of 0 or more, and text"],
    ["history", { channel, since: { offset: -1, epoch: "a" } }, "since must be {offset, epoch}: an integer of 0 or more, and text"],
    ["history", { channel, limit: 1.5 }, "limit must be an integer of 0 or more"],
    ["history", { channel, reverse: 1 }, "reverse must be true or false"],
    ["publish", { channel }, "data is missing"],
    ["presence", { channel: "bare" }, "bare has no presence"],
    ["history", { channel: "bare" }, "bare has no history"],
  ] as const) {
    const answer = await client.emit(`channel:${question}`, body);
    assert.deepEqual(answer, { error: { message, retry: "no" } });
  }
  assert.deepEqual(await client.emit("channel:unsubscribe", { channel }), {});
  assert.deepEqual(await client.emit("channel:publish", { channel: "bare", data: null }), {});
  client.close();
});

test("a loop reads publications from now on, and unsubscribes at its end", async (t) => {
  const { gateway, channel, news } = setUp(t);
  const read: number[] = [];
  const reader = (async () => {
    for await (const { data } of channel) {
      read.push(data);
      if (data === 3) break;
    }
  })();
  await gateway.settled();
  for (const data of [1, 2, 3, 4]) news.publish(data);
  await reader;
  await gateway.settled();
  assert.deepEqual(read, [1, 2, 3]);
  assert.deepEqual(news.subscribers, []);
});

test("two loops read the same, each at its own pace", async (t) => {
  const { gateway, channel, news } = setUp(t);
  const [one, two] = [channel[Symbol.asyncIterator](), channel[Symbol.asyncIterator]()];
  const firsts = [one.next(), two.next()];
  await gateway.settled();
  news.publish(1);
  news.publish(2);
  assert.deepEqual((await Promise.all(firsts)).map(({ value }) => value?.data), [1, 1]);
  assert.equal((await one.next()).value?.data, 2);
  await one.return();
  assert.equal(news.subscribers.length, 1);
  assert.equal((await two.next()).value?.data, 2);
  await two.return();
  await gateway.settled();
  assert.equal(news.subscribers.length, 0);
});

test("a loop over a channel that is refused throws", async (t) => {
  const { channel, news } = setUp(t);
  news.refuse("members only");
  await assert.rejects(channel[Symbol.asyncIterator]().next(), { code: "refused" });
});

test("a loop that falls too far behind throws once it has read what was kept", async (t) => {
  const { gateway, channel, news } = setUp(t);
  const loop = channel[Symbol.asyncIterator]();
  const first = loop.next();
  await gateway.settled();
  news.publish(0);
  assert.equal((await first).value?.data, 0);
  for (let data = 1; data <= 10_000; data++) news.publish(data);
  await gateway.settled();
  assert.equal((await loop.next()).value?.data, 1);
  for (let data = 10_001; data <= 10_002; data++) news.publish(data);
  await gateway.settled();
  for (let data = 2; data <= 10_001; data++) assert.equal((await loop.next()).value?.data, data);
  await assert.rejects(loop.next(), { code: "full" });
  await gateway.settled();
  assert.deepEqual(news.subscribers, []);
});

test("a loop that the gateway ends leaves the subscriptions of others alone", async (t) => {
  const { gateway, channel, news } = setUp(t);
  const loop = channel[Symbol.asyncIterator]();
  const next = loop.next();
  await gateway.settled();
  news.end("no more", "no");
  await gateway.settled();
  void channel.subscribe();
  await gateway.settled();
  await assert.rejects(next, { code: "refused" });
  await gateway.settled();
  assert.equal(news.subscribers.length, 1);
});

test("a gateway that offers no channels is found out", async (t) => {
  // As the handlers of an application that are not there: plain events get no answer, the outbox is told.
  const { channel, pass } = setUp(t, { channels: false });
  const refused = assert.rejects(channel.subscribe(), { code: "unhandled" });
  await pass(10_000);
  await refused;
  assert.equal(channel.state.get().status, "unsubscribed");
});
