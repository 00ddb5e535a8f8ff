import { TidegateError, orNobody } from "./errors.js";
import { Listeners } from "./listeners.js";
import type { SocketLike } from "./socket-like.js";

export interface Message {
  readonly event: string;
  readonly args: unknown[];
  /** Of those that are numbered: its number, from when it is first sent. */
  n?: number;
  readonly settle: (error?: TidegateError, values?: unknown[]) => void;
}

/** An enum, which leaves no more of a name than its value in a bundle. */
const enum Fixed {
  TIMEOUT_MS = 60_000,
}

/** Messages on their way up: each waits for a connection, and then for its answer. How it is sent varies. */
export abstract class Sender {
  /** Not answered yet; oldest first, as those that wait. */
  protected readonly sent = new Set<Message>();
  readonly #waiting = new Set<Message>();
  readonly #dropped = new Listeners<[TidegateError, string, readonly unknown[]]>();
  #isClosed = false;

  constructor(
    protected readonly socket: SocketLike,
    /** So many are under way at a time. */
    protected readonly window = Infinity,
  ) {
    socket.on("connect", () => {
      this.connected();
      this.#pump();
    });
    socket.on("disconnect", () => {
      // What socket.io-client keeps itself, once a ping is overdue, is among ours.
      socket.sendBuffer = [];
      this.disconnected();
    });
  }

  /** Messages that wait or are not answered yet. */
  get size(): number {
    return this.sent.size + this.#waiting.size;
  }

  /** Calls `listener` for each message that comes to nothing. Returns what ends that. */
  onDropped(listener: (error: TidegateError, event: string, args: readonly unknown[]) => void): () => void {
    return this.#dropped.add(listener);
  }

  /**
   * Resolves with what the server's handler returned: one value, or an array of several. `ended` is told at once that
   * something has become of the message, also of one that is not taken because of `refusal`.
   *
   * @internal
   */
  add(
    event: string,
    args: unknown[],
    timeout: number = Fixed.TIMEOUT_MS,
    ended?: () => void,
    refusal?: TidegateError,
  ): Promise<unknown> {
    const result = new Promise<unknown>((resolve, reject) => {
      const timer = setTimeout(() => {
        const [code, what] = this.sent.has(message) ? (["timeout", "answered"] as const) : (["expired", "sent"] as const);
        message.settle(new TidegateError(code, `${event}: not ${what} within ${timeout} ms`));
      }, timeout);
      const message: Message = {
        event,
        args,
        settle: (error, values = []) => {
          if (!this.sent.delete(message) && !this.#waiting.delete(message)) return;
          clearTimeout(timer);
          ended?.();
          if (error) {
            reject(error);
            this.#dropped.tell(error, event, args);
          } else {
            resolve(values.length > 1 ? values : values[0]);
          }
          this.#pump();
        },
      };
      this.#waiting.add(message);
      const error = this.#isClosed ? closed() : refusal;
      if (error) message.settle(error);
      this.#pump();
    });
    // Who does not wait for the answer is told by onDropped(), and not by an unhandled rejection.
    return orNobody(result);
  }

  /** @internal Takes messages again. */
  open(): void {
    this.#isClosed = false;
  }

  /** @internal Rejects what waits, and whatever comes until `open()`. */
  close(): void {
    this.#isClosed = true;
    // Those that wait first: they would be sent in the place of those that go.
    for (const { settle } of [...this.#waiting, ...this.sent]) settle(closed());
  }

  /** @internal Answers whether the server does, where that can be told. */
  abstract probe(answer: (isAlive: boolean) => void): void;

  /** Some may have been sent over this connection: socket.io-client tells events that came early before it tells of it. */
  protected connected(): void {}

  /** What was sent and should not be sent again is settled here. */
  protected abstract disconnected(): void;

  protected abstract send(message: Message): void;

  #pump(): void {
    for (const message of this.#waiting) {
      if (!this.socket.connected || this.sent.size >= this.window) return;
      this.#waiting.delete(message);
      this.sent.add(message);
      this.send(message);
    }
  }
}

function closed(): TidegateError {
  return new TidegateError("closed", "client closed");
}
