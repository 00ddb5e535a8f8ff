import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { Socket } from "engine.io-client";
import { Polling, XhrStreaming } from "../src/index.js";
import { inside, type EngineInside } from "../src/transports/engine-seam.js";

const OPEN =
  '0{"sid":"s","upgrades":["xhr-streaming"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":100000}';

/** What each is expected to be before the handshake. */
const SEAM: { readonly [name in keyof EngineInside]: (value: EngineInside[name]) => void } = {
  opts: ({ upgrade, tryAllTransports }) => assert.deepEqual([upgrade, tryAllTransports], [true, true]),
  transports: (names) => assert.deepEqual(names, ["polling", "xhr-streaming"]),
  _pingInterval: (ms) => assert.equal(ms, -1),
  _pingTimeout: (ms) => assert.equal(ms, -1),
  _maxPayload: (bytes) => assert.equal(bytes, -1),
  _probe: (probe) => assert.equal(typeof probe, "function"),
};

test("what the transports use of the engine is where it was", async (context) => {
  const streams: string[] = [];
  const server = createServer((request, response) => {
    const query = new URL(request.url ?? "", "http://localhost").searchParams;
    if (query.get("transport") === "xhr-streaming") streams.push(query.get("sid") ?? "none");
    else if (!query.has("sid")) response.end(OPEN);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const options = { transports: [Polling, XhrStreaming], tryAllTransports: true };
  const engine = new Socket(`http://127.0.0.1:${port}`, options);
  context.after(() => void engine.close());
  for (const [name, check] of Object.entries(SEAM)) {
    await context.test(name, () => (check as (value: unknown) => void)(inside(engine)[name as keyof EngineInside]));
  }

  await context.test("opts.upgrade: set to false in time, it keeps the engine from probing", async () => {
    inside(engine).opts.upgrade = false;
    await new Promise<void>((resolve, reject) => engine.on("open", resolve).on("error", reject));
    assert.deepEqual(streams, []);
  });
  await context.test("the numbers of the handshake", () => {
    const { _pingInterval, _pingTimeout, _maxPayload } = inside(engine);
    assert.deepEqual([_pingInterval, _pingTimeout, _maxPayload], [25_000, 20_000, 100_000]);
  });
  await context.test("_polling: while it is set, long-polling waits for pollComplete to pause", () => {
    const { transport } = engine;
    assert.equal(inside(transport)._polling, true);
    let isPaused = false;
    transport.pause(() => (isPaused = true));
    assert.equal(isPaused, false);
    (transport as unknown as { emit(event: string): void }).emit("pollComplete");
    assert.equal(isPaused, true);
    Object.assign(transport, { readyState: "open" });
  });
  await context.test("_probe(): tries an upgrade, and upgradeError says that it has failed", async () => {
    const failed = new Promise<Error>((resolve) => engine.on("upgradeError", resolve));
    const probed = new Promise<void>((resolve) => server.on("request", () => streams.length && resolve()));
    inside(engine)._probe("xhr-streaming");
    await probed;
    assert.deepEqual(streams, ["s"]);
    server.closeAllConnections();
    assert.match(String(await failed), /probe error/);
  });
});
