import type { TransportCtor } from "engine.io-client";
import type { ManagerOptions, SocketOptions } from "socket.io-client";
import { Polling, WebSocket, WebTransport, XhrStreaming, type StreamingOptions } from "./transports/index.js";

export type TransportName = "xhr-streaming" | "polling" | "websocket" | "webtransport";

const BY_NAME = new Map<TransportName, TransportCtor>([
  ["xhr-streaming", XhrStreaming],
  ["polling", Polling],
  ["websocket", WebSocket],
  ["webtransport", WebTransport],
]);

export type ClientOptions = Partial<ManagerOptions & SocketOptions>;

/** Options of `io()`, the transports by name, and those of xhr-streaming. */
export interface StreamingClientOptions extends Omit<ClientOptions, "transports" | "transportOptions"> {
  transports?: readonly (TransportName | TransportCtor)[];
  transportOptions?: Record<string, object>;
  streaming?: StreamingOptions;
}

/** Classes for the `transports` option; by default long-polling first, which works everywhere. */
export function transports(
  names: readonly (TransportName | TransportCtor)[] = ["polling", "xhr-streaming", "websocket"],
): TransportCtor[] {
  return names.map((name) => {
    if (typeof name !== "string") return name;
    const found = BY_NAME.get(name);
    if (!found) throw new TypeError(`unknown transport "${name}"`);
    return found;
  });
}

/**
 * Options for `io()` with xhr-streaming among the transports: `io(url, withStreaming({auth}))`.
 *
 * By default the session begins as long-polling, and moves to WebSocket or, where that does not work, to
 * xhr-streaming. One that begins as xhr-streaming is not warned of a proxy that lets the beginning of a response
 * pass and holds back the rest: the handshake is at the beginning. As an upgrade it is probed later in the stream.
 */
export function withStreaming(options: StreamingClientOptions = {}): ClientOptions {
  const { streaming, transports: names, ...others } = options;
  const result: ClientOptions = { tryAllTransports: true, ...others, transports: transports(names) };
  if (streaming) result.transportOptions = { ...others.transportOptions, "xhr-streaming": streaming };
  return result;
}
