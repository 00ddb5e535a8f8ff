import assert from "node:assert/strict";
import { test } from "node:test";
import { io } from "socket.io-client";
import { Polling, WebSocket, XhrStreaming, transports, withStreaming } from "../src/index.js";

test("by default long-polling is first, so that a proxy that holds back streams is found out", () => {
  const options = withStreaming();
  assert.deepEqual(options.transports, [Polling, XhrStreaming, WebSocket]);
  assert.equal(options.tryAllTransports, true);
});

test("transports are taken by name or as classes, other options are kept", () => {
  class Mine extends XhrStreaming {}
  const options = withStreaming({ transports: ["polling", Mine], auth: { a: 1 }, tryAllTransports: false });
  assert.deepEqual(options.transports, [Polling, Mine]);
  assert.deepEqual(options.auth, { a: 1 });
  assert.equal(options.tryAllTransports, false);
});

test("settings of the transport go where the engine looks for them", () => {
  const transportOptions = { websocket: { extraHeaders: {} } };
  const options = withStreaming({ transportOptions, streaming: { padding: 4096 } });
  assert.deepEqual(options.transportOptions, { ...transportOptions, "xhr-streaming": { padding: 4096 } });
  assert.equal("streaming" in options, false);
});

test("an unknown transport is refused", () => {
  // @ts-expect-error: no such name
  assert.throws(() => transports(["carrier-pigeon"]), TypeError);
  // @ts-expect-error: a name of every object, none of ours
  assert.throws(() => transports(["constructor"]), TypeError);
});

test("the engine finds the names", () => {
  assert.equal(XhrStreaming.prototype.name, "xhr-streaming");
  assert.equal(Polling.prototype.name, "polling");
  // Type-checks as an option of the stock client.
  io({ ...withStreaming({ streaming: { via: "fetch" } }), autoConnect: false });
});
