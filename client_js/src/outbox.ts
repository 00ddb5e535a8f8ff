import { TidegateError, orNobody } from "./errors.js";
import { Listeners } from "./listeners.js";
import type { SocketLike } from "./socket-like.js";
import { utf8Length } from "./transports/records.js";

export interface OutboxOptions {
  /** How many messages may wait, those that were sent and not answered included. Default: 1,000. */
  maxMessages?: number;
  /** Bytes of JSON and of binary data in them. Default: 1 MiB. */
  maxBytes?: number;
  /** Milliseconds that a message may take until it is answered, offline time included. Default: 60,000. */
  timeout?: number;
}

interface Message {
  readonly event: string;
  readonly args: unknown[];
  readonly bytes: number;
  /** Its number in the stream, from when it is first sent. */
  n: number;
  readonly timer: ReturnType<typeof setTimeout>;
  readonly settle: (error: TidegateError | undefined, values?: unknown[]) => void;
}

/** An enum, which leaves no more of a name than its value in a bundle. */
const enum Fixed {
  /** Of those not answered, so many are under way at a time; the gateway remembers up to 1,000 of a stream. */
  WINDOW = 100,
  PROBE_MS = 3_000,
}
const ONCE = "tidegate:once";
/** The gateway's answers by their number; 0 is the handler's own. */
const CODES = [undefined, "failed", "unhandled", "forgotten", "refused"] as const;

/**
 * Messages on their way up. Each is numbered, kept until it is answered and sent again after a reconnect; the gateway
 * knows the numbers it has seen, so that its handler runs once (docs/delivery-from-clients.md).
 *
 * ```
 * queued ──► sent ⇄ sent again ──► answered
 *    │ time      │ time
 *    ▼           ▼
 *  expired    timeout
 * ```
 */
export class Outbox {
  readonly #socket: SocketLike;
  readonly #options: Required<OutboxOptions>;
  readonly #dropped = new Listeners<[TidegateError, string, readonly unknown[]]>();
  readonly #stream: string;
  readonly #sent: Message[] = [];
  readonly #queued: Message[] = [];
  /** Runs while a probe of this connection is not answered. */
  #probe: ReturnType<typeof setTimeout> | undefined;
  #bytes = 0;
  #n = 0;
  /** Whether the server has ever answered a number, so that a missing answer says something. */
  #isUnderstood = false;
  #isClosed = false;

  constructor(socket: SocketLike, options: OutboxOptions = {}) {
    this.#socket = socket;
    this.#options = { maxMessages: 1_000, maxBytes: 2 ** 20, timeout: 60_000, ...options };
    this.#stream = randomId();
    // What socket.io-client keeps itself, once a ping is overdue, is among ours.
    socket.on("disconnect", () => void (socket.sendBuffer = []));
    socket.on("connect", () => {
      this.#endProbe();
      for (const message of this.#sent) this.#send(message);
      this.#pump();
    });
  }

  /** Messages that wait or are not answered yet. */
  get size(): number {
    return this.#sent.length + this.#queued.length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Calls `listener` for each message that comes to nothing. Returns what ends that. */
  onDropped(listener: (error: TidegateError, event: string, args: readonly unknown[]) => void): () => void {
    return this.#dropped.add(listener);
  }

  /**
   * Resolves with what the server's handler returned: one value, or an array of several. Throws a TypeError for
   * arguments that are no JSON.
   */
  add(event: string, args: unknown[], timeout = this.#options.timeout): Promise<unknown> {
    const bytes = sizeOf(args);
    const result = new Promise<unknown>((resolve, reject) => {
      const { maxMessages, maxBytes } = this.#options;
      const drop = (error: TidegateError): void => {
        reject(error);
        this.#dropped.tell(error, event, args);
      };
      if (this.#isClosed) return drop(new TidegateError("closed", "client closed"));
      if (this.size >= maxMessages || this.#bytes + bytes > maxBytes) {
        return drop(new TidegateError("full", `the outbox holds ${this.size} messages, ${this.#bytes} bytes`));
      }
      const timer = setTimeout(() => {
        const [code, what] = message.n ? (["timeout", "answered"] as const) : (["expired", "sent"] as const);
        settle(new TidegateError(code, `${event}: not ${what} within ${timeout} ms`));
      }, timeout);
      const settle = (error?: TidegateError, values: unknown[] = []): void => {
        const list = message.n ? this.#sent : this.#queued;
        const index = list.indexOf(message);
        if (index < 0) return;
        list.splice(index, 1);
        clearTimeout(timer);
        this.#bytes -= bytes;
        if (error) drop(error);
        else resolve(values.length > 1 ? values : values[0]);
        this.#pump();
      };
      const message: Message = { event, args, bytes, n: 0, timer, settle };
      this.#bytes += bytes;
      this.#queued.push(message);
      this.#pump();
    });
    // Who does not wait for the answer is told by onDropped(), and not by an unhandled rejection.
    return orNobody(result);
  }

  /**
   * Whether the server answers at all; `true` also where it has never shown that it knows the question. Who asks again
   * meanwhile is told by the silence that was noticed first, or by an answer.
   */
  probe(answer: (isAlive: boolean) => void): void {
    if (!this.#isUnderstood) return answer(true);
    const end = (isAlive: boolean): void => {
      this.#endProbe();
      answer(isAlive);
    };
    this.#probe ??= setTimeout(() => end(false), Fixed.PROBE_MS);
    this.#socket.emit(ONCE, this.#stream, 0, 0, () => end(true));
  }

  /** Takes messages again. */
  open(): void {
    this.#isClosed = false;
  }

  /** Rejects what waits, and whatever comes until `open()`. */
  close(): void {
    this.#isClosed = true;
    this.#endProbe();
    const error = new TidegateError("closed", "client closed");
    // Those that wait first: they would be sent in the place of those that go.
    for (const message of [...this.#queued, ...this.#sent]) message.settle(error);
  }

  #endProbe(): void {
    clearTimeout(this.#probe);
    this.#probe = undefined;
  }

  #pump(): void {
    while (this.#socket.connected && this.#sent.length < Fixed.WINDOW) {
      const message = this.#queued.shift();
      if (!message) return;
      message.n = ++this.#n;
      this.#sent.push(message);
      this.#send(message);
    }
  }

  #send({ event, args, n, settle }: Message): void {
    const floor = this.#sent[0]?.n ?? n;
    this.#socket.emit(ONCE, this.#stream, n, floor, event, ...args, (code: number, ...values: unknown[]) => {
      this.#isUnderstood = true;
      const failure = CODES[code];
      if (!failure) return settle(undefined, values);
      settle(new TidegateError(failure, `${event}: ${(values[0] as { message?: string } | undefined)?.message}`));
    });
  }
}

function sizeOf(args: unknown[]): number {
  let binary = 0;
  const text = JSON.stringify(args, function (this: Record<string, unknown>, key, given: unknown) {
    // Not what the toJSON() of a Buffer makes of it.
    const value = this[key];
    const bytes =
      value instanceof ArrayBuffer || ArrayBuffer.isView(value)
        ? value.byteLength
        : typeof Blob === "function" && value instanceof Blob && value.size;
    if (bytes === false) return given;
    binary += bytes;
    return 0;
  });
  return utf8Length(text) + binary;
}

function randomId(): string {
  // crypto.randomUUID() is for secure pages only, and this must work on others; Node.js 18 has no global crypto.
  const bytes = Uint8Array.from({ length: 16 }, () => Math.random() * 256);
  globalThis.crypto?.getRandomValues(bytes);
  // One or two characters each: 16 to 32 in all.
  return Array.from(bytes, (byte) => byte.toString(36)).join("");
}
