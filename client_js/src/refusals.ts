import { REFUSALS, RETRY_AFTER_S } from "./refusals-table.js";

type Group = (typeof REFUSALS)[number];
type KeyOf<T> = T extends unknown ? keyof T : never;

/** Under which the server counts and logs it; docs/refusals.md tells of each. */
export type RefusalName = KeyOf<Group[6]>;

/** What the server has refused. */
export interface Refusal {
  readonly name: RefusalName;
  /** Where the client stood. */
  readonly door: Group[0];
  /** The words of the server, or of the application behind it. */
  readonly message: string;
  readonly ends: Group[1];
  /** `no`: it would be refused again. `anew`: after the usual back-off. `later`: after `retryAfterS`. */
  readonly retry: Group[2];
  /** Of an HTTP answer, with the code of Engine.IO. */
  readonly status?: number;
  readonly code?: number;
  /** Of a WebSocket. */
  readonly closeCode?: number;
  /** Seconds; with `later` only. */
  readonly retryAfterS?: number;
}

/** What the reason of a close frame can hold; a character that would not fit whole is left out. */
const MAX_REASON_BYTES = 123;
const MAX_CHARACTER_BYTES = 4;
const FIELD = /\{\w+\}/;

/**
 * What the server has refused, from what socket.io-client hands to an application: the error of `connect_error`,
 * or the details of `disconnect`, its second argument. Nothing where the error is of another kind, or does not
 * show what the server said (a browser shows nothing of a refused WebSocket handshake).
 *
 * Call it inside the handler: engine.io-client empties the answer of a long-polling request afterwards.
 */
export function refusalOf(error: unknown): Refusal | undefined {
  const context = contextOf(error);
  if (has(context, "code", "number") && has(context, "reason", "string")) return ofClose(context.code, context.reason);
  if (has(context, "status", "number") && has(context, "responseText", "string")) {
    const { status, responseText } = context;
    // Called on the object, as XMLHttpRequest demands.
    const header = has(context, "getResponseHeader", "function") ? context.getResponseHeader("retry-after") : null;
    return ofAnswer(status, responseText, header);
  }
  // CONNECT_ERROR: the client sets `data`, be it undefined, and no other error has it.
  if (error instanceof Error && "data" in error) return ofNamespace(error.message);
  return undefined;
}

/** As `refusalOf`, also for the errors of engine.io-client's `Fetch` transport, whose answer has yet to be read. */
export async function readRefusal(error: unknown): Promise<Refusal | undefined> {
  const context = contextOf(error);
  if (typeof Response !== "function" || !(context instanceof Response)) return refusalOf(error);
  if (context.bodyUsed) return undefined;
  const text = await context
    .clone()
    .text()
    .catch(() => "");
  return ofAnswer(context.status, text, context.headers.get("retry-after"));
}

/** False where the server has said that it would refuse the same again. */
export function shouldRetry(error: unknown): boolean {
  return refusalOf(error)?.retry !== "no";
}

interface Types {
  number: number;
  string: string;
  function: (...args: unknown[]) => unknown;
}

function has<K extends string, T extends keyof Types>(value: unknown, key: K, type: T): value is Record<K, Types[T]> {
  return typeof value === "object" && value !== null && typeof (value as Record<string, unknown>)[key] === type;
}

function contextOf(error: unknown): unknown {
  return typeof error === "object" && error !== null && "context" in error ? error.context : undefined;
}

function ofAnswer(status: number, text: string, retryAfter: unknown): Refusal | undefined {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return undefined; // a proxy's
  }
  if (!has(body, "code", "number") || !has(body, "message", "string")) return undefined;
  const { code, message } = body;
  const found = find(message, false, (group) => group[3] === status && group[4] === code);
  if (!found) return undefined;
  const seconds = typeof retryAfter === "string" && /^\d+$/.test(retryAfter) ? Number(retryAfter) : RETRY_AFTER_S;
  return describe(found, message, { status, code }, seconds);
}

function ofClose(closeCode: number, reason: string): Refusal | undefined {
  const isCut = new TextEncoder().encode(reason).length > MAX_REASON_BYTES - MAX_CHARACTER_BYTES;
  const found = find(reason, isCut, (group) => group[5] !== 0 && group[5] === closeCode);
  return found && describe(found, reason, { closeCode });
}

function ofNamespace(message: string): Refusal | undefined {
  const found = find(message, false, (group) => group[1] === "namespace");
  return found && describe(found, message, {});
}

interface Found {
  readonly name: RefusalName;
  readonly group: Group;
}

function describe(
  { name, group }: Found,
  message: string,
  numbers: { status: number; code: number } | { closeCode: number } | Record<never, never>,
  retryAfterS = RETRY_AFTER_S,
): Refusal {
  const [door, ends, retry] = group;
  return { name, door, message, ends, retry, ...numbers, ...(retry === "later" && { retryAfterS }) };
}

/** The row whose message says most of `text`: one with nothing but a field matches only where no other does. */
function find(text: string, isCut: boolean, isOf: (group: Group) => boolean): Found | undefined {
  let found: Found | undefined;
  let most = -1;
  for (const group of REFUSALS) {
    if (!isOf(group)) continue;
    for (const [name, message] of Object.entries(group[6])) {
      const said = wordsIn(message, text, isCut);
      if (said <= most) continue;
      most = said;
      found = { name: name as RefusalName, group };
    }
  }
  return found;
}

/** How many characters of `text` are those of the message and not of its fields; -1 where it is another text. */
function wordsIn(message: string, text: string, isCut: boolean): number {
  // In an HTTP answer the message of a packet begins with a capital letter.
  const parts = lowerFirst(message).split(FIELD);
  const said = lowerFirst(text);
  const pattern = parts.map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")).join("[^]*");
  if (new RegExp(`^${pattern}$`).test(said)) return parts.join("").length;
  const start = parts[0] ?? "";
  return isCut && start !== "" && (said.startsWith(start) || start.startsWith(said)) ? start.length : -1;
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
