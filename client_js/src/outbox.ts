import type { Part } from "./core/part.js";
import { TidegateError } from "./errors.js";
import { Sender, type Message } from "./sender.js";
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
export class Outbox extends Sender {
  readonly #options: Required<OutboxOptions>;
  readonly #stream: string;
  /** Runs while a probe of this connection is not answered. */
  #probe: ReturnType<typeof setTimeout> | undefined;
  #bytes = 0;
  #n = 0;
  /** Whether the server has ever answered a number, so that a missing answer says something. */
  #isUnderstood = false;

  constructor(socket: SocketLike, options: OutboxOptions = {}) {
    super(socket, Fixed.WINDOW);
    this.#options = { maxMessages: 1_000, maxBytes: 2 ** 20, timeout: 60_000, ...options };
    this.#stream = randomId();
  }

  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Resolves with what the server's handler returned: one value, or an array of several. Throws a TypeError for
   * arguments that are no JSON.
   */
  override add(event: string, args: unknown[], timeout = this.#options.timeout): Promise<unknown> {
    const { maxMessages, maxBytes } = this.#options;
    const bytes = sizeOf(args);
    const refusal =
      this.size >= maxMessages || this.#bytes + bytes > maxBytes
        ? new TidegateError("full", `the outbox holds ${this.size} messages, ${this.#bytes} bytes`)
        : undefined;
    this.#bytes += bytes;
    return super.add(event, args, timeout, () => (this.#bytes -= bytes), refusal);
  }

  /**
   * Whether the server answers at all; `true` also where it has never shown that it knows the question. Who asks again
   * meanwhile is told by the silence that was noticed first, or by an answer.
   */
  override probe(answer: (isAlive: boolean) => void): void {
    if (!this.#isUnderstood) return answer(true);
    const end = (isAlive: boolean): void => {
      this.#endProbe();
      answer(isAlive);
    };
    this.#probe ??= setTimeout(() => end(false), Fixed.PROBE_MS);
    this.socket.emit(ONCE, this.#stream, 0, 0, () => end(true));
  }

  override close(): void {
    this.#endProbe();
    super.close();
  }

  protected override connected(): void {
    for (const message of this.sent) this.send(message);
  }

  protected override disconnected(): void {
    this.#endProbe();
  }

  protected override send(message: Message): void {
    const { event, args, settle } = message;
    message.n ??= ++this.#n;
    const [oldest = message] = this.sent;
    this.socket.emit(ONCE, this.#stream, message.n, oldest.n, event, ...args, (code: number, ...values: unknown[]) => {
      this.#isUnderstood = true;
      const failure = CODES[code];
      if (!failure) return settle(undefined, values);
      settle(new TidegateError(failure, `${event}: ${(values[0] as { message?: string } | undefined)?.message}`));
    });
  }

  #endProbe(): void {
    clearTimeout(this.#probe);
    this.#probe = undefined;
  }
}

/** The part by which messages outlive a lost connection and are handled once. */
export function outbox(options?: OutboxOptions): Part<"outbox", SocketLike, Outbox> {
  return { plug: (socket) => new Outbox(socket, options) };
}

function sizeOf(args: unknown[]): number {
  let binary = 0;
  const text = JSON.stringify(args, function (this: Record<string, unknown>, key, given: unknown) {
    // Not what the toJSON() of a Buffer makes of it.
    const value = this[key];
    const bytes =
      value instanceof ArrayBuffer || ArrayBuffer.isView(value)
        ? value.byteLength
        : value instanceof Blob && value.size;
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
