import assert from "node:assert/strict";
import { test } from "node:test";
import { MemoryGateway } from "../src/testing/index.js";

/** One seed is a whole run: `TIDEGATE_SEED=7 TIDEGATE_STEPS=10000` repeats or extends one. */
const SEEDS = process.env.TIDEGATE_SEED ? [Number(process.env.TIDEGATE_SEED)] : [1, 2, 3, 4, 5, 6, 7, 8];
const STEPS = Number(process.env.TIDEGATE_STEPS ?? 600);

/** mulberry32: small, and the same everywhere. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface Contract {
  toServer: { say(n: number): number };
  fromServer: { told(n: number): void };
  channels: { kept: number; bare: number };
}

for (const seed of SEEDS) {
  test(`whatever happens, nothing is lost without a word or comes twice: seed ${seed}`, async (t) => {
    const random = randomOf(seed);
    t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
    t.mock.method(Math, "random", random);
    const gateway = new MemoryGateway<Contract>({
      // Packets take up to 40 ms, or no time at all.
      schedule: (deliver) => (random() < 0.3 ? queueMicrotask(deliver) : setTimeout(deliver, random() * 40)),
      channels: { history: 8 },
      recovery: 30,
    });
    const handled: number[] = [];
    gateway.on("say", async (n) => {
      handled.push(n);
      if (random() < 0.3) await new Promise<void>((resolve) => setTimeout(resolve, random() * 200));
      return -n;
    });
    gateway.channel("bare", { history: 0 });
    const client = gateway.connect({ outbox: { timeout: 1e9, maxMessages: 1e6, maxBytes: 1e9 } });

    const answered = new Map<number, unknown>();
    const dropped: number[] = [];
    client.outbox.onDropped((_error, _event, [n]) => void dropped.push(n as number));
    const told: number[] = [];
    let sentTo = 0;
    let toldUpTo = 0;
    client.on("told", (n) => {
      // Told of a gap only by recovered: false, which the listener below takes into account.
      assert.equal(n, toldUpTo + 1, `told ${n} after ${toldUpTo}`);
      toldUpTo = n;
      told.push(n);
    });
    client.connection.subscribe((state) => {
      if (state.status === "connected" && !state.recovered) toldUpTo = lastBeforePlace();
    });
    /** What was sent before the place there is now was made: the client knows that it has missed that. */
    const placeBegins = new Map<unknown, number>();
    const lastBeforePlace = (): number => placeBegins.get(gateway.socketOf(client)) ?? sentTo;

    const read: Record<"kept" | "bare", { last: number; gaps: number }> = {
      kept: { last: 0, gaps: 0 },
      bare: { last: 0, gaps: 0 },
    };
    const mayJump = { kept: true, bare: true };
    for (const name of ["kept", "bare"] as const) {
      client.channel(name).state.subscribe((state) => {
        if (state.status === "subscribed" && state.recovered !== true) mayJump[name] = true;
      });
      client.channel(name).on("publication", ({ data }) => {
        const { last } = read[name];
        assert.ok(data > last, `${name}: ${data} after ${last}`);
        if (!mayJump[name]) assert.equal(data, last + 1, `${name}: a gap of which nobody was told`);
        mayJump[name] = false;
        read[name].last = data;
      });
      void client.channel(name).subscribe();
    }

    let emitted = 0;
    const published = { kept: 0, bare: 0 };
    const step = async (ms: number): Promise<void> => {
      for (let turn = 0; turn < 4; turn++) await new Promise((resolve) => setImmediate(resolve));
      t.mock.timers.tick(ms);
      for (let turn = 0; turn < 4; turn++) await new Promise((resolve) => setImmediate(resolve));
    };
    const acts: [number, () => void][] = [
      [30, () => {
        const n = ++emitted;
        client.emit("say", n).then((value) => answered.set(n, value), () => {});
      }],
      [15, () => {
        const socket = gateway.socketOf(client);
        if (!socket) return;
        if (!placeBegins.has(socket)) placeBegins.set(socket, sentTo);
        gateway.emit("told", ++sentTo);
      }],
      [25, () => void gateway.channel("kept").publish(++published.kept)],
      [10, () => void gateway.channel("bare").publish(++published.bare)],
      [2, () => void gateway.channel("kept").publishUnheard(++published.kept)],
      [2, () => gateway.channel("kept").repeat()],
      [4, () => gateway.cut()],
      [2, () => gateway.lose()],
      [1, () => gateway.channel("kept").forgetHistory()],
      [1, () => gateway.goOffline()],
      [1, () => gateway.goSilent()],
      [8, () => gateway.goOnline()],
      [2, () => gateway.refuse({ status: 503, code: 4, message: "draining", retryAfter: 1 }, { times: 1 })],
    ];
    const total = acts.reduce((sum, [weight]) => sum + weight, 0);
    for (let i = 0; i < STEPS; i++) {
      let at = random() * total;
      const [, act] = acts.find(([weight]) => (at -= weight) < 0) ?? [];
      act?.();
      if (random() < 0.6) await step(random() * random() * 1_500);
    }
    // And then all is well again.
    gateway.goOnline();
    gateway.accept();
    gateway.cut();
    for (let i = 0; i < 200 && (client.outbox.size > 0 || client.connection.get().status !== "connected"); i++) {
      await step(1_000);
    }
    for (let i = 0; i < 30; i++) await step(1_000);
    gateway.channel("kept").publish(++published.kept);
    gateway.channel("bare").publish(++published.bare);
    gateway.emit("told", ++sentTo);
    for (let i = 0; i < 3; i++) await step(1_000);

    assert.equal(client.connection.get().status, "connected");
    assert.equal(client.outbox.size, 0);
    assert.deepEqual(dropped, []);
    assert.deepEqual([...handled].sort((a, b) => a - b), Array.from({ length: emitted }, (_, i) => i + 1));
    assert.deepEqual(handled, [...handled].sort((a, b) => a - b), "handlers ran out of order");
    assert.deepEqual([...answered].filter(([n, value]) => value !== -n), []);
    assert.equal(answered.size, emitted);
    assert.deepEqual([read.kept.last, read.bare.last], [published.kept, published.bare]);
    assert.equal(toldUpTo, sentTo);
    assert.ok(STEPS < 600 || (emitted > 50 && told.length > 0), "too little has happened");
    assert.deepEqual(gateway.failures, []);
    client.close();
  });
}
