import { io, type ManagerOptions, type SocketOptions } from "socket.io-client";
import { Client, type ClientOptions } from "./client.js";
import type { SocketLike } from "./socket-like.js";
import { transports as byName, type TransportName } from "./options.js";
import { TransportChooser, type AutoOptions, type StreamingOptions, type TransportReport } from "./transports/index.js";
import type { TransportCtor } from "engine.io-client";

/** What `Client` decides itself, or what has another form here. */
type Decided =
  | "auth" | "autoConnect" | "forceNew" | "multiplex" | "rememberUpgrade" | "retries" | "ackTimeout" | "timeout"
  | "transports" | "transportOptions" | "tryAllTransports" | `reconnection${string}` | "randomizationFactor";

type StockOptions = Partial<ManagerOptions & SocketOptions>;

/** Options of a client, and those of `io()` that it leaves to you (`path`, `query`, `withCredentials`, `parser` …). */
export interface ConnectOptions extends ClientOptions, Omit<StockOptions, Decided & keyof StockOptions> {
  /** `auto` (the default) finds out what the network lets through; or names or classes, in order. */
  transports?: "auto" | readonly (TransportName | TransportCtor)[];
  /** Of `auto`. */
  auto?: AutoOptions;
  streaming?: StreamingOptions;
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
export function connect<C = object>(url?: string, options: ConnectOptions = {}): Client<C> {
  const { transports = "auto", auto, streaming, onTransport } = options;
  const isAuto = transports === "auto";
  const socket = io(url ?? location.origin, {
    ...options,
    transports: byName(isAuto ? undefined : transports),
    transportOptions: { "xhr-streaming": streaming },
    tryAllTransports: true,
    autoConnect: false,
    forceNew: true,
    reconnection: false,
    // The budget is the client's, over the transports and the server's welcome.
    timeout: false as unknown as number,
  } as StockOptions);
  // Some of it is private: test/socket-seam.test.ts names what.
  const plain = socket as unknown as SocketLike;
  if (!isAuto) return new Client<C>(plain, options);
  const manager = socket.io;
  const chooser = new TransportChooser(new URL(String((manager as unknown as { uri: string }).uri)).origin, onTransport, auto);
  return new Client<C>(plain, options, {
    prepare: () => void (manager.opts.transports = chooser.next()),
    begun: () => chooser.watch(manager.engine),
    networkChanged: () => chooser.networkChanged(),
    stop: () => chooser.stop(),
  });
}
