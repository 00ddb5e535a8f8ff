import type { Socket, SocketOptions } from "engine.io-client";

/** Engine.IO's codes. */
const UNKNOWN_SESSION = 1;
const FORBIDDEN = 4;

/**
 * How long the server's close packet waits for the answer to a `POST` under way: the packet does not say why the
 * session ends, but that answer does where it is the `POST` that the server has refused.
 */
export const LAST_ANSWER_MS = 1_000;

function codeIn(responseText: unknown): unknown {
  try {
    return (JSON.parse(String(responseText)) as { code?: unknown } | null)?.code;
  } catch {
    return undefined; // not the server's own answer
  }
}

/** Whether an answer after the close packet says more than that the session is closed. */
export function tellsCause(responseText: unknown): boolean {
  const code = codeIn(responseText);
  return code !== undefined && code !== UNKNOWN_SESSION;
}

/**
 * Before a handshake's error is passed on: where the server itself turns the client away, `tryAllTransports` would
 * have it asked as often as there are transports, and leave the application with the error of the last one, which
 * in a browser says nothing.
 */
export function tryNoOthersIfForbidden(socket: Socket, responseText: unknown): void {
  if (codeIn(responseText) !== FORBIDDEN) return;
  // The options are the engine's own copy; the next attempt to connect has another engine.
  (socket as unknown as { opts: SocketOptions }).opts.tryAllTransports = false;
}
