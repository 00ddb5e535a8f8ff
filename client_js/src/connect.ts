import type { TransportCtor } from "engine.io-client";
import { autoTransports } from "./auto.js";
import { Client, type ClientOptions } from "./client.js";
import { assemble, type NetworkOptions } from "./core/connect.js";
import type { TransportName } from "./options.js";
import type { AutoOptions, TransportReport } from "./transports/index.js";

/** Options of a client, and those of `io()` that it leaves to you (`path`, `query`, `withCredentials`, `parser` …). */
export interface ConnectOptions extends ClientOptions, NetworkOptions {
  /** `auto` (the default) finds out what the network lets through; or names or classes, in order. */
  transports?: "auto" | readonly (TransportName | TransportCtor)[];
  /** Of `auto`. */
  auto?: AutoOptions;
  /** Is told what became of each transport that was tried. */
  onTransport?: (report: TransportReport) => void;
}

/**
 * A client of the gateway at `url`, whose path is the namespace, as with `io()`; without one, the origin of the page.
 *
 * ```ts
 * const client = connect<Chat>("https://example.com");
 * client.on("said", show);
 * await client.emit("say", "hello");
 * ```
 */
export function connect<C = object>(
  url?: string,
  { transports = "auto", auto, onTransport, ...options }: ConnectOptions = {},
): Client<C> {
  return assemble(Client<C>, url, options, transports === "auto" ? autoTransports({ ...auto, onTransport }) : transports);
}
