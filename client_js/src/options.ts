import type { TransportCtor } from "engine.io-client";
import type { ManagerOptions, SocketOptions } from "socket.io-client";
import { Polling, WebSocket, WebTransport, XhrStreaming, type StreamingOptions } from "./transports/index.js";

const BY_NAME = {
  "xhr-streaming": XhrStreaming,
  polling: Polling,
  websocket: WebSocket,
  webtransport: WebTransport,
} as const satisfies Record<string, TransportCtor>;

export type TransportName = keyof typeof BY_NAME;

export type ClientOptions = Partial<ManagerOptions & SocketOptions>;

/** Options of `io()`, the transports by name, and those of xhr-streaming. */
export interface StreamingClientOptions extends Omit<ClientOptions, "transports" | "transportOptions"> {
  transports?: readonly (TransportName | TransportCtor)[];
  transportOptions?: Record<string, object>;
  streaming?: StreamingOptions;
}

/** Classes for the `transports` option; by default xhr-streaming first, with long-polling to fall back on. */
export function transports(
  names: readonly (TransportName | TransportCtor)[] = ["xhr-streaming", "polling", "websocket"],
): TransportCtor[] {
  return names.map((name) => {
    if (typeof name !== "string") return name;
    // Object.hasOwn() is younger than the browsers we build for.
    if (!Object.prototype.hasOwnProperty.call(BY_NAME, name)) throw new TypeError(`unknown transport "${name}"`);
    return BY_NAME[name];
  });
}

/**
 * Options for `io()` with xhr-streaming among the transports: `io(url, withStreaming({auth}))`.
 *
 * By default the session begins as xhr-streaming, falls back to long-polling where a proxy holds the response
 * back, and moves to WebSocket wherever that works.
 */
export function withStreaming(options: StreamingClientOptions = {}): ClientOptions {
  const { streaming, transports: names, ...others } = options;
  const result: ClientOptions = { tryAllTransports: true, ...others, transports: transports(names) };
  if (streaming) result.transportOptions = { ...others.transportOptions, "xhr-streaming": streaming };
  return result;
}
