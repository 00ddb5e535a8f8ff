import type { Socket } from "engine.io-client";
import { inside } from "./engine-seam.js";

/** Engine.IO's. */
export const enum Code {
  UNKNOWN_SESSION = 1,
  FORBIDDEN = 4,
}

/** The server's own words; none where the answer is another's, as of a proxy. */
export function wordsOf(responseText: unknown): { readonly code: number; readonly message: string } | undefined {
  try {
    const { code, message } = JSON.parse(responseText as string) as { code: unknown; message: unknown };
    if (typeof code === "number") return { code, message: String(message) };
  } catch {
    // not JSON, or null
  }
  return undefined;
}

/** Whether an answer after the close packet says more than that the session is closed. */
export function tellsCause(responseText: unknown): boolean {
  return (wordsOf(responseText)?.code ?? Code.UNKNOWN_SESSION) !== Code.UNKNOWN_SESSION;
}

/**
 * Before a handshake's error is passed on: where the server itself turns the client away, `tryAllTransports` would
 * have it asked as often as there are transports, and leave the application with the error of the last one, which
 * in a browser says nothing.
 */
export function tryNoOthersIfForbidden(socket: Socket, responseText: unknown): void {
  if (wordsOf(responseText)?.code === Code.FORBIDDEN) inside(socket).opts.tryAllTransports = false;
}
