// The clients under test, by name: "<library>:<path>".
//   4, 3            stock socket.io-client 4.8 and 3.1
//   tidegate        the same 4.8 with the transports of client_js
// and the path, as "polling", "websocket", "polling>websocket", "xhr-streaming", "polling>xhr-streaming",
// "xhr-streaming>websocket".
import { createRequire } from "node:module";
import { NodeWebSocket, io as io4 } from "socket.io-client";
import { io as io3 } from "socket.io-client-3";
import { failAndExit, printAndExit } from "./output.mjs";

export const FACTOR = Number(process.env.TEST_TIMEOUT_FACTOR ?? 1);

async function optionsFor(library, path) {
  const names = path.split(">");
  if (library !== "tidegate") return { io: library === "3" ? io3 : io4, options: { transports: names } };
  const { io, withStreaming } = await import("../../../client_js/test/support/client.mjs");
  // On a busy machine the first packet takes its time, and no proxy is to blame.
  const streaming = { firstRecordTimeout: 60_000 * FACTOR };
  return { io, options: withStreaming({ transports: names, streaming }) };
}

/** `open(namespace, options)` gives a socket of the client that `name` describes, each on a connection of its own. */
export async function chooseClient(url, name) {
  const [library, path] = name.split(":");
  const { io, options } = await optionsFor(library, path);
  const open = (namespace = "/", others = {}) =>
    io(url + namespace, { forceNew: true, reconnection: false, timeout: 15_000 * FACTOR, ...options, ...others });
  return { open, path: path.split(">"), last: path.split(">").at(-1) };
}

/** Lets upgrades begin later, so that messages flow before, in and after them: after `ms`, and up to as much again. */
export async function delayUpgrades(name, ms) {
  const [library, path] = name.split(":");
  let Transport;
  if (library === "3") {
    const require = createRequire(createRequire(import.meta.url).resolve("socket.io-client-3"));
    Transport = require("engine.io-client").transports.websocket;
  } else if (library === "4") {
    Transport = NodeWebSocket;
  } else {
    const tidegate = await import("../../../client_js/test/support/client.mjs");
    Transport = path.endsWith("xhr-streaming") ? tidegate.XhrStreaming : tidegate.WebSocket;
  }
  const { doOpen } = Transport.prototype;
  Transport.prototype.doOpen = function () {
    setTimeout(() => this.readyState === "opening" && doOpen.call(this), ms * FACTOR * (1 + Math.random()));
  };
}

/** The transport in use, by name. */
export const transportOf = (socket) => socket.io.engine.transport.name;

export async function until(condition, what, seconds = 15) {
  const deadline = Date.now() + seconds * 1000 * FACTOR;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`never: ${what()}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

export function within(promise, what, seconds = 15) {
  let timer;
  const timeout = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`never: ${what}`)), seconds * 1000 * FACTOR);
  });
  return Promise.race([promise, timeout]).finally(() => clearTimeout(timer));
}

export const connected = (socket) =>
  within(
    new Promise((resolve, reject) => {
      if (socket.connected) return resolve();
      socket.once("connect", resolve);
      socket.once("connect_error", reject);
    }),
    "connect",
  );

/** Waits until the client has come to the end of its path. */
export const settled = (socket, client) =>
  until(
    () => transportOf(socket) === client.last,
    () => `${client.last}; it stays on ${transportOf(socket)}`,
  );

/** The arguments of the ack. (emitWithAck() came with 4.6.) */
export const ask = (socket, ...args) =>
  within(new Promise((resolve) => socket.emit(...args, (...answer) => resolve(answer))), `the ack of ${args[0]}`);

export const next = (socket, event) =>
  within(new Promise((resolve) => socket.once(event, (...args) => resolve(args))), `event ${event}`);

/** Binary as {hex: …}, so that the results survive as JSON. */
export function plain(value) {
  if (value instanceof ArrayBuffer) return { hex: Buffer.from(value).toString("hex") };
  if (ArrayBuffer.isView(value)) {
    return { hex: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("hex") };
  }
  if (Array.isArray(value)) return value.map(plain);
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
  }
  return value;
}

/** Runs one concern: `main(settings)` gets what the first argument holds as JSON; what it returns is printed so. */
export async function run(main) {
  try {
    await printAndExit(plain(await main(JSON.parse(process.argv[2]))));
  } catch (error) {
    await failAndExit(error);
  }
}
