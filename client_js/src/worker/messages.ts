import type { ReasonCode } from "../connection.js";

/** What goes through the port between a page and the worker that holds the connection. Ports keep the order. */
export type FromPage =
  /** Begins a session, in place of one there may be: what is listened to. */
  | { readonly type: "hello"; readonly session: number; readonly events: readonly string[] }
  /** Ends it, with its listeners and subscriptions; messages that are under way are still answered. */
  | { readonly type: "bye" }
  | { readonly type: "listen" | "unlisten"; readonly event: string }
  /** `once`: through the outbox. `ask`: with an ack, over this connection or not at all. `volatile`: `id` is 0. */
  | {
      readonly type: "once" | "ask" | "volatile";
      readonly id: number;
      readonly event: string;
      readonly args: readonly unknown[];
    }
  | { readonly type: "answer"; readonly id: number; readonly values: readonly unknown[] }
  /** How many events of the session have been delivered. Also the answer to `ping`. */
  | { readonly type: "read"; readonly count: number };

export type FromWorker =
  | { readonly type: "state"; readonly session: number; readonly upstream: Upstream }
  /** `id` other than 0: the server asks. */
  | {
      readonly type: "event";
      readonly session: number;
      readonly id: number;
      readonly event: string;
      readonly args: readonly unknown[];
    }
  | { readonly type: "ack"; readonly id: number; readonly values: readonly unknown[] }
  | { readonly type: "ping" }
  /** The worker has ended the session. */
  | { readonly type: "gone"; readonly session: number; readonly message: string };

/** The state of the one connection, as far as a page needs it. */
export type Upstream =
  | { readonly status: "connected"; readonly transport: string; readonly recovered: boolean }
  | { readonly status: "seeking"; readonly message: string }
  | { readonly status: "closed"; readonly code: ReasonCode; readonly cause: PlainCause };

/** What an error of `connect_error` says, as data: the application's refusal, or the server's answer to a request. */
export interface PlainCause {
  readonly message: string;
  readonly data?: unknown;
  readonly answer?: { readonly status: number; readonly responseText: string; readonly retryAfter: string | null };
}

/** The worker asks each page so often whether it is there; who misses as many in a row is given up, by either side. */
export const HEARTBEAT_MS = 10_000;
export const MAX_MISSED = 3;
/** Events that a page may leave unread; then its session ends, as a slow client's does at the gateway. */
export const MAX_UNREAD = 1_000;
/** Of those read, how many are reported together. */
export const READ_BATCH = 100;
/** The event by which the outbox sends. */
export const ONCE = "tidegate:once";
/** How it is answered (see `Outbox`), other than with success. */
export const ANSWERS = { failed: 1, unhandled: 2, forgotten: 3, refused: 4 } as const;

/** The part of a MessagePort that is used; a dedicated worker and its global scope have it too. */
export interface Port {
  postMessage(message: unknown): void;
  addEventListener(type: string, listener: (event: MessageEvent<unknown>) => void): void;
  start?(): void;
}
