/**
 * What became of a message or a request that did not succeed:
 * - `full`: the outbox holds as much as it may; the message was not taken.
 * - `expired`: its time ran out before it was sent.
 * - `timeout`: it was sent, and its time ran out before it was answered; the server may have handled it.
 * - `closed`: the client was closed; as with `timeout`, what was sent may have been handled.
 * - `lost`: there is no outbox, and the connection was lost after it was sent; as with `timeout`.
 * - `failed`: the server's handler has failed.
 * - `unhandled`: the server has no handler for the event.
 * - `forgotten`: the server no longer knows whether it has handled the message, and did not handle it again.
 * - `refused`: the server refuses it, and says why in `message`; without an outbox also what cannot be sent.
 */
export type ErrorCode =
  | "full"
  | "expired"
  | "timeout"
  | "closed"
  | "lost"
  | "failed"
  | "unhandled"
  | "forgotten"
  | "refused";

/** What promises of this library are rejected with. */
export class TidegateError extends Error {
  override readonly name = "TidegateError";

  constructor(
    readonly code: ErrorCode,
    message: string,
  ) {
    super(message);
  }
}

/** The same promise, which is no unhandled rejection where nobody waits for it: its end is told elsewhere too. */
export function orNobody<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}
