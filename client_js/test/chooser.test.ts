import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { Emitter } from "@socket.io/component-emitter";
import type { Socket, Transport, TransportCtor } from "engine.io-client";
import { TransportChooser, type AutoOptions, type TransportReport } from "../src/transports/index.js";

const MINUTE = 60_000;
const OFFERED = ["xhr-streaming", "websocket"];

type Emit = { emitReserved(event: string, ...args: unknown[]): void };
const emit = (target: unknown, event: string, ...args: unknown[]): void => (target as Emit).emitReserved(event, ...args);

/** As much of the engine as decisions depend on; tests/js has the real one decide. */
class FakeEngine extends Emitter<Record<never, never>, Record<never, never>, Record<never, never>> {
  readyState = "opening";
  readonly opts = { upgrade: true };
  transport!: Transport;
  readonly probes: Transport[] = [];

  constructor(readonly classes: TransportCtor[]) {
    super();
    this.transport = this.create(classes[0] as TransportCtor);
  }

  private create(Class: TransportCtor, query: object = {}): Transport {
    const transport = new Class({ socket: this, query, setTimeoutFn: setTimeout });
    // What opens and closes is the test's to say.
    transport.close = () => transport;
    return transport;
  }

  open(upgrades: string[] = OFFERED): void {
    this.readyState = "open";
    emit(this, "handshake", { upgrades });
    emit(this, "open");
  }

  failFirst(): void {
    this.classes.shift();
    emit(this.transport, "error", new Error("refused"));
    this.transport = this.create(this.classes[0] as TransportCtor);
  }

  _probe(name: string): void {
    const Class = this.classes.find((each) => (each.prototype as Transport).name === name);
    this.probes.push(this.create(Class as TransportCtor, { sid: "s" }));
  }

  get probed(): string[] {
    return this.probes.map(({ name }) => name);
  }

  failProbe(): void {
    const probe = this.probes.at(-1) as Transport;
    emit(probe, "error", new Error("refused"));
    emit(this, "upgradeError", new Error("probe error"));
  }

  upgrade(): void {
    this.transport = this.probes.at(-1) as Transport;
    emit(this, "upgrading", this.transport);
    emit(this, "upgrade", this.transport);
  }

  end(reason: string, details?: unknown): void {
    this.readyState = "closed";
    emit(this, "close", reason, details);
  }
}

let origins = 0;

function setUp(options: AutoOptions = {}) {
  const entries = new Map<string, string>();
  const storage = { getItem: (key: string) => entries.get(key) ?? null, setItem: (key: string, text: string) => void entries.set(key, text) };
  const origin = `https://${++origins}.test`;
  const reports: TransportReport[] = [];
  const chooser = new TransportChooser(origin, (report) => reports.push(report), { storage, ...options });
  return {
    chooser,
    reports,
    entries,
    connect(): FakeEngine {
      const engine = new FakeEngine(chooser.next());
      chooser.watch(engine as unknown as Socket);
      return engine;
    },
    /** As a page would that is loaded anew. */
    remember(entry: object): void {
      entries.set(`tidegate transport undefined ${origin}`, JSON.stringify({ until: Date.now() + MINUTE, ...entry }));
    },
    get last(): TransportReport | undefined {
      return reports.at(-1);
    },
    steps: () => reports.map(({ outcome, as, transport }) => `${outcome} ${as} ${transport}`),
  };
}

const names = (classes: TransportCtor[]): string[] => classes.map((each) => (each.prototype as Transport).name);

beforeEach(() => {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000_000 });
});
afterEach(() => {
  for (const name of ["document", "navigator"]) Reflect.deleteProperty(globalThis, name);
});

test("what is remembered decides what is first and what is tried at once", () => {
  for (const [entry, first, probes] of [
    [{}, "polling", ["websocket", "xhr-streaming"]],
    [{ name: "carrier-pigeon", ms: 1 }, "polling", ["websocket", "xhr-streaming"]],
    [{ name: "websocket", ms: 1, until: 0 }, "polling", ["websocket", "xhr-streaming"]],
    [{ name: "websocket", ms: 1 }, "websocket", []],
    [{ name: "xhr-streaming", ms: 1 }, "polling", ["xhr-streaming", "websocket"]],
    [{ name: "polling", ms: 1 }, "polling", []],
    [{ demoted: { websocket: 2_000_000 } }, "polling", ["xhr-streaming"]],
    [{ demoted: { websocket: 2_000_000, "xhr-streaming": 2_000_000 } }, "polling", []],
    [{ demoted: { websocket: 1_000_000 } }, "polling", ["websocket", "xhr-streaming"]],
  ] as const) {
    const { connect, remember } = setUp();
    remember(entry);
    const engine = connect();
    assert.equal(engine.transport.name, first, JSON.stringify(entry));
    engine.open(first === "websocket" ? [] : OFFERED);
    for (const [i] of probes.entries()) {
      assert.deepEqual(engine.probed, probes.slice(0, i + 1), JSON.stringify(entry));
      engine.failProbe();
    }
    assert.deepEqual(engine.probed, probes, JSON.stringify(entry));
  }
});

test("every transport is there to fall back on", () => {
  const { chooser, remember } = setUp();
  assert.deepEqual(names(chooser.next()), ["polling", "xhr-streaming", "websocket"]);
  remember({ name: "websocket", ms: 1 });
  assert.deepEqual(names(chooser.next()), ["websocket", "polling", "xhr-streaming"]);
});

test("after a fallback what has just failed is not tried at once, and no longer remembered", () => {
  const page = setUp();
  page.remember({ name: "websocket", ms: 1 });
  const engine = page.connect();
  engine.failFirst();
  engine.open();
  assert.deepEqual(engine.probed, ["xhr-streaming"]);
  assert.deepEqual(page.steps(), ["failed remembered websocket", "opened fallback polling"]);
  engine.end("forced close");
  assert.equal(names(page.chooser.next())[0], "polling");
});

test("what the server does not offer is not tried", () => {
  const { connect } = setUp();
  const engine = connect();
  engine.open(["websocket"]);
  engine.failProbe();
  mock.timers.tick(MINUTE);
  assert.deepEqual(engine.probed, ["websocket", "websocket"]);
});

test("better ones are tried again after 1, 2, 4, 8 and from then on 15 minutes, and the times begin anew with a session", () => {
  const page = setUp();
  for (let session = 0; session < 2; session++) {
    page.remember({ name: "polling", ms: 1 });
    const engine = page.connect();
    engine.open();
    for (const [round, minutes] of [1, 2, 4, 8, 15, 15].entries()) {
      mock.timers.tick(minutes * MINUTE - 1);
      assert.equal(engine.probes.length, 2 * round);
      mock.timers.tick(1);
      engine.failProbe();
      engine.failProbe();
      assert.equal(engine.probes.length, 2 * round + 2);
    }
    assert.equal(page.last?.as, "retried upgrade");
    engine.end("forced close");
    mock.timers.tick(60 * MINUTE);
    assert.equal(engine.probes.length, 12);
  }
});

test("an upgrade to xhr-streaming leaves websocket to be retried, one to websocket nothing", () => {
  const { connect, steps } = setUp();
  const engine = connect();
  engine.open();
  engine.failProbe();
  engine.upgrade();
  assert.deepEqual(engine.probed, ["websocket", "xhr-streaming"]);
  mock.timers.tick(MINUTE);
  engine.upgrade();
  mock.timers.tick(60 * MINUTE);
  assert.deepEqual(engine.probed, ["websocket", "xhr-streaming", "websocket"]);
  assert.deepEqual(steps().slice(-2), ["left upgrade xhr-streaming", "opened retried upgrade websocket"]);
});

test("a websocket has 5 seconds, a remembered one four times what it took, from 2 to 10", () => {
  for (const [ms, limit] of [[undefined, 5_000], [1, 2_000], [700, 2_800], [1e9, 10_000], ["x", 10_000], [null, 2_000]] as const) {
    const { connect, remember, last, reports } = setUp();
    if (ms !== undefined) remember({ name: "websocket", ms });
    const engine = connect();
    if (ms === undefined) engine.open();
    const before = reports.length;
    mock.timers.tick(limit - 1);
    assert.equal(reports.length, before, String(ms));
    mock.timers.tick(1);
    assert.equal(reports.at(-1)?.reason, `not open within ${limit} ms`);
    assert.deepEqual([reports.at(-1)?.outcome, reports.at(-1)?.ms, last], ["failed", limit, undefined]);
  }
});

test("an upgrade that is being completed is not given up", () => {
  const { connect, steps } = setUp();
  const engine = connect();
  engine.open();
  emit(engine, "upgrading", engine.probes[0]);
  mock.timers.tick(MINUTE);
  assert.deepEqual(steps(), ["opened first polling"]);
  engine.upgrade();
  assert.equal(steps().at(-1), "opened upgrade websocket");
});

test("polling is not remembered while there is better to be tried", () => {
  const page = setUp();
  const engine = page.connect();
  engine.open();
  emit(engine, "ping");
  engine.end("transport error");
  const next = page.connect();
  next.open();
  assert.deepEqual(next.probed, ["websocket"]);
  next.failProbe();
  next.failProbe();
  next.end("transport error");
  const third = page.connect();
  third.open();
  assert.deepEqual([third.probed, page.last?.as], [[], "remembered"]);
});

test("what carries is remembered for as long as it does", () => {
  const page = setUp();
  const engine = page.connect();
  engine.open();
  engine.upgrade();
  for (let i = 0; i < 10; i++) {
    mock.timers.tick(30 * MINUTE);
    emit(engine, "ping");
  }
  mock.timers.tick(59 * MINUTE);
  engine.end("transport close");
  assert.equal(names(page.chooser.next())[0], "websocket");
});

const BROKEN = ["transport close", { description: "", context: { code: 1006, wasClean: false } }] as const;

test("a websocket that breaks three times while it is young is demoted, and its end says so", () => {
  for (const [reason, details] of [BROKEN, ["transport error", undefined], ["ping timeout", undefined]] as const) {
    const page = setUp();
    for (let i = 0; i < 3; i++) {
      const engine = page.connect();
      engine.open(i ? [] : OFFERED);
      if (!i) engine.upgrade();
      mock.timers.tick(MINUTE - 1);
      engine.end(reason, details);
      assert.deepEqual([page.last?.outcome, page.last?.transport, page.last?.ms], ["left", "websocket", MINUTE - 1]);
      assert.equal(page.last?.reason, i < 2 ? reason : `${reason}, again and again: not used for 600 s`);
    }
    const engine = page.connect();
    engine.open();
    assert.deepEqual([page.last?.transport, engine.probed], ["polling", ["xhr-streaming"]]);
    engine.upgrade();
    // Tried again once its time is over: 1, 2, 4 and 8 minutes.
    mock.timers.tick(7 * MINUTE);
    assert.deepEqual(engine.probed, ["xhr-streaming"]);
    mock.timers.tick(8 * MINUTE);
    assert.deepEqual(engine.probed, ["xhr-streaming", "websocket"]);
  }
});

test("no death: a goodbye, a long life, a hidden page, no network", () => {
  const clean = ["transport close", { description: "", context: { code: 1012, wasClean: true } }] as const;
  const set = (name: string, value: object): void => void Object.defineProperty(globalThis, name, { configurable: true, value });
  for (const [why, [reason, details], lived, prepare] of [
    ["the client's goodbye", ["forced close", undefined], 10, () => {}],
    ["the server's goodbye", clean, 10, () => {}],
    ["the server's close packet", ["transport close", { description: "transport closed by the server" }], 10, () => {}],
    ["a long life", BROKEN, MINUTE, () => {}],
    ["a hidden page", BROKEN, 10, () => set("document", { visibilityState: "hidden" })],
    ["no network", BROKEN, 10, () => set("navigator", { onLine: false })],
  ] as const) {
    const page = setUp();
    page.remember({ name: "websocket", ms: 1 });
    prepare();
    for (let i = 0; i < 4; i++) {
      const engine = page.connect();
      engine.open([]);
      mock.timers.tick(lived);
      engine.end(reason, details);
      assert.deepEqual([page.last?.transport, page.last?.reason], ["websocket", reason], why);
    }
    for (const name of ["document", "navigator"]) Reflect.deleteProperty(globalThis, name);
  }
});

test("another network: all is tried at once, what failed and what was demoted too", () => {
  const page = setUp();
  page.remember({ demoted: { websocket: 9_000_000 } });
  const engine = page.connect();
  page.chooser.networkChanged(); // nothing is open yet
  assert.deepEqual(engine.probed, []);
  engine.end("transport error");
  page.remember({ demoted: { websocket: 9_000_000 } });
  const second = page.connect();
  second.open();
  second.failProbe();
  mock.timers.tick(MINUTE);
  second.failProbe();
  assert.deepEqual(second.probed, ["xhr-streaming", "xhr-streaming"]);
  page.chooser.networkChanged();
  second.failProbe();
  second.failProbe();
  assert.deepEqual(second.probed.slice(2), ["websocket", "xhr-streaming"]);
  mock.timers.tick(MINUTE); // and not the four that it had come to
  assert.equal(second.probed.length, 5);
});

test("another network while something is tried: that has its end, and then all is tried once more", () => {
  const { chooser, connect } = setUp();
  const engine = connect();
  engine.open();
  chooser.networkChanged();
  assert.deepEqual(engine.probed, ["websocket"]);
  engine.failProbe();
  engine.failProbe();
  assert.deepEqual(engine.probed, ["websocket", "websocket", "xhr-streaming"]);
});

test("a wrong answer to a probe is a failure, reported once, and the next is tried", () => {
  const { connect, steps } = setUp();
  const engine = connect();
  engine.open();
  const probe = engine.probes[0] as Transport;
  // As the engine does: it says so and leaves the transport, whose end it hears.
  probe.once("error", () => emit(engine, "upgradeError", new Error("probe error")));
  emit(engine, "upgradeError", new Error("probe error"));
  assert.deepEqual(engine.probed, ["websocket", "xhr-streaming"]);
  assert.deepEqual(steps(), ["opened first polling", "failed upgrade websocket"]);
});

test("an end while something is tried is reported, and nothing more is tried", () => {
  const page = setUp();
  const engine = page.connect();
  engine.open();
  mock.timers.tick(7);
  engine.end("ping timeout");
  engine.failProbe();
  mock.timers.tick(60 * MINUTE);
  assert.deepEqual(engine.probed, ["websocket"]);
  assert.deepEqual(page.reports.slice(1), [
    { transport: "websocket", outcome: "failed", as: "upgrade", ms: 7, reason: "session ended: ping timeout" },
    { transport: "polling", outcome: "left", as: "first", ms: 7, reason: "ping timeout" },
  ]);
});

test("the engine before, which may close late, has no more say", () => {
  const page = setUp();
  const old = page.connect();
  old.open();
  old.failProbe();
  const engine = page.connect();
  assert.equal(page.last?.reason, "replaced");
  engine.open();
  const before = page.reports.length;
  old.end("forced close");
  old.failProbe();
  mock.timers.tick(1);
  assert.equal(page.reports.length, before);
  engine.upgrade();
  assert.equal(page.last?.outcome, "opened");
});

test("after stop no timer is left", () => {
  for (const state of ["opening", "probing", "waiting"]) {
    const page = setUp();
    if (state === "waiting") page.remember({ name: "polling", ms: 1 });
    const engine = page.connect();
    if (state !== "opening") engine.open();
    const before = page.reports.length;
    page.chooser.stop();
    mock.timers.tick(60 * MINUTE);
    assert.equal(page.reports.length, before, state);
    assert.equal(engine.probes.length, state === "probing" ? 1 : 0);
  }
});
