import type { Abort, ErrorAnswer, StreamEnd, StreamEvents } from "./http.js";

export interface DownstreamHooks {
  /** Opens a response that goes on after `ack` records. */
  connect(ack: number, events: StreamEvents): Abort;
  onResponse(): void;
  onRecord(record: string): void;
  /** There is no going on. `isGone`: the server says that it does not know the session. `answer`: how it says so. */
  onFail(reason: string, cause: unknown, isGone: boolean, answer?: ErrorAnswer): void;
  setTimer(callback: () => void, ms: number): () => void;
  /** Silence after which a response is taken for dead; 0 for never. Asked anew each time. */
  stallTimeoutMs(): number;
  readonly firstRecordTimeoutMs: number;
}

/** What the server ends a response with when an upgrade asks for it. Padding is a noop too, with spaces. */
const NOOP = "6";
const TRIES = 8;
const FIRST_DELAY_MS = 100;
const MAX_DELAY_MS = 3_000;
/** Between responses that carry only the noop of an upgrade under way. */
const UPGRADE_PAUSE_MS = 50;

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

  private state: "starting" | "running" | "draining" | "closed" = "starting";
  private abort: Abort | undefined;
  private cancelTimer: (() => void) | undefined;
  private timerIsForFirst = false;
  private tries = 0;
  private onDrained: (() => void) | undefined;
  /** Of the latest response: whether it has begun, has brought anything but noops, and its last record. */
  private hasHead = false;
  private hasGained = false;
  private lastRecord = "";
  private lastDataAt = 0;

  constructor(private readonly hooks: DownstreamHooks) {}

  open(): void {
    this.hasHead = false;
    this.hasGained = false;
    this.lastRecord = "";
    this.watchForFirst();
    let isCurrent = true;
    let abort: Abort | undefined;
    const leave = (): void => {
      isCurrent = false;
      abort?.();
    };
    this.abort = leave;
    try {
      abort = this.hooks.connect(this.received, {
        onResponse: () => {
          if (!isCurrent) return;
          this.hasHead = true;
          if (this.lastRecord === "") this.watchForFirst();
          this.hooks.onResponse();
        },
        onData: () => {
          this.lastDataAt = Date.now();
        },
        onRecord: (record) => isCurrent && this.take(record),
        onEnd: (how) => isCurrent && this.end(how),
      });
    } catch (error) {
      return this.end({ kind: "cut", cause: error });
    }
    // connect() may have called back already, and that may have closed us.
    if (!isCurrent) abort();
  }

  /** The stream has proved to work: from here on it is kept going. */
  confirm(): void {
    if (this.state !== "starting") return;
    this.state = "running";
    this.watchForSilence();
  }

  /** Starts the wait for the first record anew. */
  extend(): void {
    if (this.state === "starting") this.watchForFirst();
  }

  /**
   * Calls back once a response was ended by the server with its noop: then it sends no more before the other
   * transport takes over. Any other end does not show that nothing is missing, so the next response is asked.
   */
  drain(callback: () => void): void {
    if (this.state === "closed") return;
    this.state = "draining";
    this.onDrained = callback;
    if (this.abort === undefined && this.lastRecord === NOOP) this.finishDrain();
  }

  close(): void {
    this.state = "closed";
    this.onDrained = undefined;
    this.stopTimer();
    this.abort?.();
    this.abort = undefined;
  }

  private take(record: string): void {
    this.received++;
    this.lastRecord = record;
    if (record.charAt(0) !== NOOP) this.hasGained = true;
    if (this.state !== "starting" && this.timerIsForFirst) this.watchForSilence();
    try {
      this.hooks.onRecord(record);
    } catch (error) {
      // A listener's failure is its own: it must cost neither the stream nor the records behind this one.
      queueMicrotask(() => {
        throw error;
      });
    }
  }

  private end(how: StreamEnd): void {
    this.abort = undefined;
    this.stopTimer();
    if (this.state === "starting") {
      if (how.kind === "refused") return this.refused(`answered with ${how.answer.status}`, how.answer, false);
      const reason = this.hasHead ? "the response ended before its first packet" : "the request failed";
      return this.fail(reason, how.kind === "cut" ? how.cause : null, false);
    }
    if (how.kind === "refused") {
      const { status } = how.answer;
      if (status < 500 && status !== 408 && status !== 429) {
        return this.refused(`the session is gone (${status})`, how.answer, true);
      }
    }
    const wasSentAway = this.lastRecord === NOOP;
    if (this.state === "draining" && wasSentAway) return this.finishDrain();
    if (this.hasGained || wasSentAway) this.tries = 0;
    if (wasSentAway) return this.wait(UPGRADE_PAUSE_MS);
    if (how.kind === "whole" && this.hasGained) return this.open();
    if (this.tries >= TRIES) return this.fail("the response breaks off again and again", how, false);
    // Half of it by chance, so that a thousand clients of a proxy that restarts do not come back as one.
    const delay = Math.min(FIRST_DELAY_MS * 2 ** this.tries++, MAX_DELAY_MS);
    this.wait(delay * (0.5 + Math.random() / 2));
  }

  private finishDrain(): void {
    const callback = this.onDrained;
    this.close();
    callback?.();
  }

  private refused(reason: string, answer: ErrorAnswer, isGone: boolean): void {
    this.fail(reason, answer.status, isGone, answer);
  }

  private fail(reason: string, cause: unknown, isGone: boolean, answer?: ErrorAnswer): void {
    this.close();
    this.hooks.onFail(reason, cause, isGone, answer);
  }

  private dropAsDead(reason: string): void {
    this.abort?.();
    this.end({ kind: "cut", cause: reason });
  }

  private watchForFirst(): void {
    const ms = this.hooks.firstRecordTimeoutMs;
    if (this.state === "starting") {
      this.startTimer(ms, true, () =>
        this.fail(`no packet within ${ms} ms: the response is buffered by a proxy`, "timeout", false),
      );
    } else {
      // Here the stream has worked before: rather a slow network than a proxy.
      this.startTimer(2 * ms, true, () => this.dropAsDead("no answer"));
    }
  }

  private watchForSilence(): void {
    const limit = this.hooks.stallTimeoutMs();
    if (limit <= 0) return this.stopTimer();
    const left = this.lastDataAt + limit - Date.now();
    this.startTimer(Math.max(left, 0), false, () => {
      if (Date.now() - this.lastDataAt < limit) return this.watchForSilence();
      this.dropAsDead("silence");
    });
  }

  private wait(ms: number): void {
    this.startTimer(ms, false, () => this.open());
  }

  private startTimer(ms: number, isForFirst: boolean, callback: () => void): void {
    this.stopTimer();
    this.timerIsForFirst = isForFirst;
    this.cancelTimer = this.hooks.setTimer(() => {
      this.cancelTimer = undefined;
      callback();
    }, ms);
  }

  private stopTimer(): void {
    this.timerIsForFirst = false;
    this.cancelTimer?.();
    this.cancelTimer = undefined;
  }
}
