import { guarded } from "../listeners.js";
import type { Abort, Failure } from "./http.js";
import { RecordSplitter } from "./records.js";

export interface DownstreamHooks {
  /** Opens a response that goes on after `ack` records; the callbacks are those of `exchange`. */
  connect(ack: number, onEnd: (failure?: Failure) => void, onText: (text: string) => void): Abort;
  /** A response, or more of it, is there. */
  onText(): void;
  onRecord(record: string): void;
  /** There is no going on. */
  onFail(reason: string, cause?: Failure): void;
  /** Returns what stops it. */
  setTimer(callback: () => void, ms: number): () => void;
  /** Silence after which a response is taken for dead; 0 for never. Asked anew each time. */
  stallMs(): number;
  /** How long the first packet may take. */
  readonly firstMs: number;
}

/** An enum, which leaves no more of a name than its value in a bundle. */
const enum Fixed {
  /** What the server ends a response with when an upgrade asks for it. Padding is a noop too, with spaces. */
  NOOP = "6",
  TRIES = 8,
  FIRST_DELAY_MS = 100,
  MAX_DELAY_MS = 3_000,
  /** Between responses that carry only the noop of an upgrade under way. */
  UPGRADE_PAUSE_MS = 50,
}

/**
 * Many responses, one sequence of records: each once, in order.
 *
 * ```
 *            confirm()            drain()
 * starting ────────────► running ─────────► draining ───► closed
 *     │  end, silence: fail  │ ▲                │  ended by the server's noop: drained
 *     └──► closed            └─┘ end: the next  └─► any other end: the next
 * ```
 *
 * Until it is confirmed (that a stream works here at all is shown by its first packet) every end is a failure.
 * After that a response that ends is followed by the next, and one that broke off or fell silent by another
 * that says how many records are here, after a pause that grows. The server keeps what was not counted.
 */
export class Downstream {
  /** Records received whole, on all responses. */
  received = 0;

  readonly #hooks: DownstreamHooks;
  #state: "starting" | "running" | "draining" | "closed" = "starting";
  #abort: Abort | undefined;
  #stopTimer: (() => void) | undefined;
  #tries = 0;
  #onDrained: (() => void) | undefined;
  /** Of the latest response: whether it has brought anything but noops, and its last record. */
  #hasGained = false;
  #lastRecord = "";
  #lastDataAt = 0;

  constructor(hooks: DownstreamHooks) {
    this.#hooks = hooks;
  }

  open(): void {
    const { connect, onText } = this.#hooks;
    const splitter = new RecordSplitter();
    this.#hasGained = false;
    this.#lastRecord = "";
    this.extend();
    this.#watch();
    const abort = (this.#abort = connect(
      this.received,
      (failure) => this.#end(failure ?? (splitter.isInsideRecord ? new Error("inside a record") : undefined)),
      (text) => {
        this.extend();
        onText();
        for (const record of splitter.push(text)) if (abort === this.#abort) this.#take(record);
      },
    ));
  }

  /** The stream has proved to work: from here on it is kept going. */
  confirm(): void {
    if (this.#state !== "starting") return;
    this.#state = "running";
    this.#watch();
  }

  /** Starts what is waited for anew. */
  extend(): void {
    this.#lastDataAt = Date.now();
  }

  /**
   * Calls back once a response was ended by the server with its noop: then it sends no more before the other
   * transport takes over. Any other end does not show that nothing is missing, so the next response is asked.
   */
  drain(callback: () => void): void {
    if (this.#state === "closed") return;
    this.#state = "draining";
    this.#onDrained = callback;
    if (!this.#abort && this.#lastRecord === Fixed.NOOP) this.#finishDrain();
  }

  close(): void {
    this.#state = "closed";
    this.#stopTimer?.();
    this.#abort?.();
    this.#abort = undefined;
  }

  #take(record: string): void {
    this.received++;
    this.#lastRecord = record;
    if (record[0] !== Fixed.NOOP) this.#hasGained = true;
    // A listener's failure is its own: it must cost neither the stream nor the records behind this one.
    guarded(() => this.#hooks.onRecord(record));
  }

  #end(failure?: Failure): void {
    this.#abort = undefined;
    this.#stopTimer?.();
    const status = failure?.status;
    if (this.#state === "starting") {
      return this.#fail(status ? `answered with ${status}` : "ended without a packet", failure);
    }
    if (status && status < 500 && status !== 408 && status !== 429) {
      return this.#fail(`the session is gone (${status})`, failure);
    }
    const wasSentAway = this.#lastRecord === Fixed.NOOP;
    if (this.#state === "draining" && wasSentAway) return this.#finishDrain();
    if (this.#hasGained || wasSentAway) this.#tries = 0;
    if (wasSentAway) return this.#wait(Fixed.UPGRADE_PAUSE_MS);
    if (!failure && this.#hasGained) return this.open();
    if (this.#tries >= Fixed.TRIES) return this.#fail("breaks off again and again", failure);
    // Half of it by chance, so that a thousand clients of a proxy that restarts do not come back as one.
    const delay = Math.min(Fixed.FIRST_DELAY_MS * 2 ** this.#tries++, Fixed.MAX_DELAY_MS);
    this.#wait(delay * (0.5 + Math.random() / 2));
  }

  #finishDrain(): void {
    this.close();
    this.#onDrained?.();
  }

  #fail(reason: string, cause?: Failure): void {
    this.close();
    this.#hooks.onFail(reason, cause);
  }

  #watch(): void {
    const { firstMs, stallMs } = this.#hooks;
    const isStarting = this.#state === "starting";
    // A later response that is not answered: rather a slow network than a proxy.
    const limit = isStarting ? firstMs : this.#lastRecord ? stallMs() : 2 * firstMs;
    const silence = Date.now() - this.#lastDataAt;
    this.#stopTimer?.();
    if (limit <= 0) return;
    if (silence < limit) return this.#wait(limit - silence, () => this.#watch());
    if (isStarting) return this.#fail("buffered by a proxy");
    this.#abort?.();
    this.#end(new Error("silence"));
  }

  #wait(ms: number, callback = () => this.open()): void {
    this.#stopTimer = this.#hooks.setTimer(callback, ms);
  }
}
