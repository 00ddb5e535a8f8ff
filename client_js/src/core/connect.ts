import type { TransportCtor } from "engine.io-client";
import { io, type ManagerOptions, type SocketOptions } from "socket.io-client";
import { transports as byName, type TransportName } from "../options.js";
import { requests } from "../requests.js";
import type { SocketLike } from "../socket-like.js";
import type { StreamingOptions } from "../transports/index.js";
import { CoreClient, type CoreOptions, type TransportsPart } from "./client.js";

/** What a client decides itself, or what has another form here. */
type Decided =
  | "auth" | "autoConnect" | "forceNew" | "multiplex" | "rememberUpgrade" | "retries" | "ackTimeout" | "timeout"
  | "transports" | "transportOptions" | "tryAllTransports" | `reconnection${string}` | "randomizationFactor";

type StockOptions = Partial<ManagerOptions & SocketOptions>;

/** Options of `io()` that it leaves to you (`path`, `query`, `withCredentials`, `parser` …). */
export interface NetworkOptions extends Omit<StockOptions, Decided & keyof StockOptions> {
  streaming?: StreamingOptions;
}

type Names = readonly (TransportName | TransportCtor)[];

/** Options of a client, its parts among them, and those of `io()`. */
export interface CoreConnectOptions extends CoreOptions, NetworkOptions {
  /**
   * Names or classes, in order; by default long-polling, with upgrades to WebSocket or xhr-streaming.
   * `autoTransports()`: finds out what the network lets through.
   */
  transports?: Names | TransportsPart;
  /** Options of parts, in `tidegate-client`; here they are given to the functions that make the parts. */
  auto?: never;
  onTransport?: never;
  tokenEvent?: never;
}

const MAKERS = { outbox: "outbox", page: "pageEvents", token: "tokens", transports: "autoTransports" } as const;

/**
 * A client of the gateway at `url`, whose path is the namespace, as with `io()`; without one, the origin of the page.
 * It has states, channels and streaming; what else it needs are parts.
 *
 * ```ts
 * const client = connect<Chat>("https://example.com", { outbox: outbox(), page: pageEvents() });
 * ```
 */
export function connect<C = object>(url?: string, options: CoreConnectOptions = {}): CoreClient<C> {
  for (const [name, maker] of Object.entries(MAKERS)) {
    const part = options[name as keyof typeof MAKERS] as { readonly plug?: unknown } | undefined;
    if (part && !part.plug && !Array.isArray(part)) {
      throw new TypeError(`${name}: not made by ${maker}() of "tidegate-client/core"`);
    }
  }
  return assemble(CoreClient<C>, url, { ...options, outbox: options.outbox ?? requests }, options.transports);
}

/** @internal */
export function assemble<Client, Options extends NetworkOptions>(
  Kind: new (socket: SocketLike, options: Options & { pilot?: TransportsPart | undefined }) => Client,
  url: string | undefined,
  options: Options,
  transports?: Names | TransportsPart,
): Client {
  let names: Names | undefined;
  let pilot: TransportsPart | undefined;
  if (transports && "plug" in transports) pilot = transports;
  else names = transports;
  const socket = io(url ?? location.origin, {
    ...options,
    transports: byName(names),
    transportOptions: { "xhr-streaming": options.streaming },
    tryAllTransports: true,
    autoConnect: false,
    forceNew: true,
    reconnection: false,
    // The budget is the client's, over the transports and the server's welcome.
    timeout: false as unknown as number,
  } as StockOptions);
  // Some of it is private: test/socket-seam.test.ts names what.
  return new Kind(socket as unknown as SocketLike, { ...options, pilot });
}
