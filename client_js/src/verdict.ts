import { Code, wordsOf } from "./transports/refused.js";

/** What an error of an attempt to connect says about the next one. */
export interface Verdict {
  /** `no`: it would be refused again. `later`: after `afterMs`. `anew`: after the usual back-off. */
  readonly retry: "no" | "anew" | "later";
  /** In the words of the server, where it has said something, or else of the transport. */
  readonly message: string;
  readonly afterMs?: number;
  /** The application has refused it: another token may change that. */
  readonly isForbidden?: boolean;
  /** The error, or what `refusalOf()` takes in its place once the answer of the request is emptied. */
  readonly cause?: unknown;
}

/** An enum, which leaves no more of a name than its value in a bundle. */
const enum Fixed {
  RETRY_AFTER_MS = 5_000,
}
/** Engine.IO's codes, see docs/refusals.md: unknown transport, bad handshake method, unsupported version. */
const USELESS_CODES = [0, 2, 5];
/** Not found, target too long, upgrade required, header too large. */
const USELESS_STATUS = [404, 414, 426, 431];

interface Answer {
  readonly status: number;
  readonly responseText: string;
  getResponseHeader?(name: string): string | null;
}

/** As the gateway's catalogue of refusals has it; `refusalOf()` knows every row, and this no more than what to do. */
export function judge(error: Error & { context?: unknown; data?: unknown }): Verdict {
  const { message, context } = error;
  // Only the error of a refused CONNECT has `data`, be it undefined.
  if ("data" in error) {
    return message === "Internal server error"
      ? { retry: "later", message, afterMs: Fixed.RETRY_AFTER_MS, cause: error }
      : { retry: "no", message, isForbidden: true, cause: error };
  }
  const answer = context as Answer | undefined;
  // No answer, or that of a proxy, which says nothing of the server.
  const words = wordsOf(answer?.responseText);
  if (!answer || !words) return { retry: "anew", message, cause: error };
  const { status, responseText } = answer;
  const retryAfter = answer.getResponseHeader?.("retry-after") ?? null;
  const said = {
    message: words.message,
    cause: { message: words.message, context: { status, responseText, getResponseHeader: () => retryAfter } },
  };
  if (status === 429 || status === 503) {
    return { retry: "later", afterMs: Number(retryAfter) * 1_000 || Fixed.RETRY_AFTER_MS, ...said };
  }
  const isForbidden = words.code === Code.FORBIDDEN;
  const isUseless = isForbidden || USELESS_CODES.includes(words.code) || USELESS_STATUS.includes(status);
  return { retry: isUseless ? "no" : "anew", isForbidden, ...said };
}
