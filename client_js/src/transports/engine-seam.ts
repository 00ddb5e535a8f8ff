import type { Socket, SocketOptions, Transport } from "engine.io-client";

/** What the transports use of the engine although it is private there, as of engine.io-client 6.6. */
export interface EngineInside {
  /** The engine's own copy; the next attempt to connect has another engine. */
  readonly opts: SocketOptions;
  /** By name, the one being tried first. */
  readonly transports: string[];
  /** -1 before the handshake. */
  readonly _pingInterval: number;
  readonly _pingTimeout: number;
  readonly _maxPayload: number;
  /** Tries an upgrade to the transport of that name. */
  _probe(name: string): void;
}

/** What xhr-streaming uses of long-polling. */
export interface PollingInside {
  /** While true, `pause()` waits for the event `pollComplete`. */
  _polling: boolean;
}

/** The one place where privacy is broken; test/engine-seam.test.ts fails by name where something has moved. */
export function inside(engine: Socket): EngineInside;
export function inside(transport: Transport): PollingInside;
export function inside(object: unknown): unknown {
  return object;
}
