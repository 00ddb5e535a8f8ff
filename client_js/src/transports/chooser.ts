import type { Socket as Engine, SocketReservedEvents, Transport, TransportCtor } from "engine.io-client";
import { NodeWebSocket } from "socket.io-client";
import { isOffline } from "../page.js";
import { inside } from "./engine-seam.js";
import { TransportMemory, type MemoryOptions } from "./memory.js";
import type { TransportOptions } from "./options.js";
import { Polling } from "./polling.js";
import { XhrStreaming } from "./xhr-streaming.js";

export interface TransportReport {
  readonly transport: string;
  /** opened: carries the session from now on. failed: did not come to that. left: carried it, and does no more. */
  readonly outcome: "opened" | "failed" | "left";
  /** Why it was tried. */
  readonly as: "first" | "remembered" | "fallback" | "upgrade" | "retried upgrade";
  /** That it took, or that it carried. */
  readonly ms: number;
  /** Why it failed or was left; empty for opened. */
  readonly reason: string;
}

/** All times in milliseconds. */
export interface AutoOptions extends MemoryOptions {
  /** Within which these have to open. Default: 10000 and 5000; xhr-streaming has `firstRecordTimeout`. */
  readonly openTimeout?: { readonly polling?: number; readonly websocket?: number };
  /** After which the better transports are tried again; doubles each time, up to 15 minutes. Default: a minute. */
  readonly retryDelay?: number;
}

interface Attempt {
  readonly name: string;
  readonly as: TransportReport["as"];
  readonly since: number;
  /** What it took to open. */
  readonly ms?: number;
  /** Ends it where it does not end by itself. */
  readonly giveUp: (reason: string) => void;
  readonly timer: Timer | undefined;
}

type Timer = ReturnType<typeof setTimeout>;

const BEST = "websocket";
const STREAMING = "xhr-streaming";
const BEST_FIRST = [BEST, STREAMING, "polling"];
/** An enum, which leaves no more of a name than its value in a bundle. */
const enum Fixed {
  MAX_RETRY_DELAY_MS = 900_000,
  MIN_KNOWN_TIMEOUT_MS = 2_000,
  /** Of the 20 seconds that a client gives a connection by default: there is time left for another. */
  MAX_TIMEOUT_MS = 10_000,
  YOUNG_MS = 60_000,
}

/**
 * Chooses transports by what this network lets through: `transports: "auto"`.
 *
 * ```
 * remembered      begins with                         tries at once                   after 1, 2, 4 … 15 min
 * nothing         polling                             websocket, else xhr-streaming   what is better
 * websocket       websocket, else as with nothing     xhr-streaming                   websocket
 *                 (within 4 × what it took, 2 to 10 s)
 * xhr-streaming   polling                             xhr-streaming, else websocket   websocket
 * polling         polling                             nothing                         websocket, xhr-streaming
 * ```
 *
 * - Where the first cannot connect, the engine goes on to the others in the order of `next()` (`tryAllTransports`).
 * - One upgrade at a time, by the engine's own probe, at once and later. The answer to that comes late in a stream,
 *   so that a proxy which lets the beginning of a response pass and holds back the rest is found out.
 * - What carries a session once there is nothing more to try is remembered, per network and origin, and as long as
 *   it carries. Where it fails the next time, that is forgotten.
 * - What breaks within a minute of opening three times in a row, while the page is visible and online, is left
 *   alone for 10 minutes, unless nothing else connects. Goodbyes, from either side, are no deaths.
 * - When the network changes, failures are forgotten, and what is better is tried at once.
 */
export class TransportChooser {
  readonly #memory: TransportMemory;
  readonly #report: ((report: TransportReport) => void) | undefined;
  readonly #options: AutoOptions;
  readonly #classes: TransportCtor[];
  #engine: Engine | undefined;
  /** What the server lets a session go on to. */
  #offered: readonly string[] = [];
  #attempt: Attempt | undefined;
  /** What carries the session. */
  #carrier: Attempt | undefined;
  #remembered: string | undefined;
  /** Since the client began to connect. */
  #failed: string[] = [];
  /** To be tried one after another, until one carries the session. */
  #queue: string[] = [];
  #isRetry = false;
  #retries = 0;
  #timer: Timer | undefined;

  constructor(origin: string, report?: (report: TransportReport) => void, options: AutoOptions = {}) {
    this.#memory = new TransportMemory(origin, options);
    this.#report = report;
    this.#options = options;
    const begin = this.#begin.bind(this);
    // The three are made alike, and no more is used of them than all have from Transport.
    this.#classes = ([Polling, XhrStreaming, NodeWebSocket] as unknown as (typeof XhrStreaming)[]).map(
      (Base) =>
        class extends Base {
          constructor(opts: TransportOptions) {
            super(opts);
            begin(this, (reason) => {
              // In this order: the engine takes a transport that closes for a session that closes.
              this.onError(reason, null);
              this.close();
            });
          }
        },
    );
  }

  /** Classes for the next attempt to connect, in order. */
  next(): TransportCtor[] {
    this.#remembered = this.#memory.last.name;
    this.#failed = [];
    this.#isRetry = false;
    const classes = [...this.#classes];
    if (this.#remembered === BEST) classes.unshift(classes.pop() as TransportCtor);
    return classes;
  }

  /** Call with the engine of the attempt to connect that has begun. */
  watch(engine: Engine): void {
    // The one before may still have something to send before it closes.
    const on = <E extends keyof SocketReservedEvents>(event: E, listener: SocketReservedEvents[E]): void => {
      const ifCurrent = (...args: never[]): void => {
        if (engine === this.#engine) (listener as (...args: never[]) => void)(...args);
      };
      engine.on(event, ifCurrent as never);
    };
    const { opts } = inside(engine);
    const mayUpgrade = opts.upgrade;
    opts.upgrade = false; // it would probe all at the same time, and never again
    this.#leave("replaced");
    this.#engine = engine;
    this.#retries = 0;
    on("handshake", ({ upgrades }) => {
      this.#offered = mayUpgrade ? upgrades : [];
    });
    on("open", () => {
      this.#opened();
      const better = this.#better().filter((name) => !this.#failed.includes(name));
      if (this.#remembered === STREAMING) better.reverse();
      this.#try(this.#carrier?.name === this.#remembered ? [] : better);
    });
    // From here on the engine waits for the old transport to pause, and cannot go back.
    on("upgrading", () => clearTimeout(this.#attempt?.timer));
    on("upgrade", ({ name }) => {
      this.#leave(`upgraded to ${name}`);
      this.#opened();
      this.#try([]);
    });
    on("upgradeError", ({ message }) => {
      const attempt = this.#attempt;
      if (!attempt) return this.#try(this.#queue);
      // After a wrong answer the engine leaves the transport as it is; once it has ended, this comes again.
      this.#fail(attempt, message);
      attempt.giveUp(message);
    });
    on("ping", () => this.#remember());
    on("close", (reason, details) => {
      clearTimeout(this.#timer);
      this.#fail(this.#attempt, `session ended: ${reason}`);
      if (this.#carrier) this.#leave(reason + this.#judge(reason, details as object));
    });
  }

  /** The network has come back or changed: what was learnt about failures is worth nothing. */
  networkChanged(): void {
    this.#memory.forgive();
    this.#retries = 0;
    this.#retry();
  }

  /** No more timers. */
  stop(): void {
    this.#engine = undefined;
    clearTimeout(this.#timer);
    clearTimeout(this.#attempt?.timer);
  }

  #begin(transport: Transport, giveUp: Attempt["giveUp"]): void {
    const { name, query } = transport;
    const isRemembered = name === this.#remembered;
    const limits: Record<string, number> = { polling: Fixed.MAX_TIMEOUT_MS, websocket: 5_000, ...this.#options.openTimeout };
    let limit = limits[name];
    if (isRemembered && name === BEST) {
      // What is stored may be no number, and then Math.max() is none.
      limit = Math.min(
        Math.max(Fixed.MIN_KNOWN_TIMEOUT_MS, 4 * (this.#memory.last.ms as number)) || Fixed.MAX_TIMEOUT_MS,
        Fixed.MAX_TIMEOUT_MS,
      );
    }
    const [again, anew] = query.sid
      ? ([this.#isRetry && "retried upgrade", "upgrade"] as const)
      : ([this.#failed.length && "fallback", "first"] as const);
    const as = again || (isRemembered ? "remembered" : anew);
    const timer = limit ? later(() => giveUp(`not open within ${limit} ms`), limit) : undefined;
    const attempt: Attempt = (this.#attempt = { name, as, since: Date.now(), giveUp, timer });
    transport.once("error", ({ message }) => this.#fail(attempt, message));
    transport.once("close", () => this.#fail(attempt, "closed"));
  }

  #settle({ name, as, since, timer }: Attempt, outcome: TransportReport["outcome"], reason: string): number {
    const ms = Date.now() - since;
    clearTimeout(timer);
    this.#report?.({ transport: name, outcome, as, ms, reason });
    return ms;
  }

  #fail(attempt: Attempt | undefined, reason: string): void {
    if (!attempt || attempt !== this.#attempt) return;
    this.#attempt = undefined;
    this.#failed.push(attempt.name);
    if (attempt.as === "remembered") {
      this.#memory.forget();
      this.#remembered = undefined;
    }
    this.#settle(attempt, "failed", reason);
  }

  #opened(): void {
    const attempt = this.#attempt as Attempt;
    this.#attempt = undefined;
    this.#carrier = { ...attempt, ms: this.#settle(attempt, "opened", ""), since: Date.now() };
  }

  #leave(reason: string): void {
    const carrier = this.#carrier;
    this.#carrier = undefined;
    if (carrier) this.#settle(carrier, "left", reason);
  }

  /** Counts a young death. Returns what there is to add to the reason. */
  #judge(reason: string, details: { readonly context?: unknown } = {}): string {
    const { name, since } = this.#carrier as Attempt;
    const isBroken =
      reason === "transport close"
        ? (details.context as Partial<CloseEvent> | undefined)?.wasClean === false
        : reason !== "forced close";
    if (Date.now() - since >= Fixed.YOUNG_MS) this.#memory.lived(name);
    else if (isBroken && globalThis.document?.visibilityState !== "hidden" && !isOffline()) {
      const ms = this.#memory.died(name);
      if (ms) return `, again and again: not used for ${ms / 1000} s`;
    }
    return "";
  }

  #better(): string[] {
    // Where nothing carries, nothing is better.
    return BEST_FIRST.slice(0, BEST_FIRST.indexOf(this.#carrier?.name ?? BEST)).filter(
      (name) => this.#offered.includes(name) && !this.#memory.isDemoted(name),
    );
  }

  #try([name, ...queue]: string[]): void {
    const engine = this.#engine;
    clearTimeout(this.#timer);
    if (engine?.readyState !== "open") return;
    this.#queue = queue;
    if (name) return inside(engine)._probe(name);
    this.#remember();
    if (this.#carrier?.name === BEST) return;
    const { retryDelay = 60_000 } = this.#options;
    this.#timer = later(() => this.#retry(), Math.min(retryDelay * 2 ** this.#retries++, Fixed.MAX_RETRY_DELAY_MS));
  }

  #retry(): void {
    if (!this.#carrier) return;
    this.#isRetry = true;
    // What is being tried already has its end first.
    if (this.#attempt) this.#queue = this.#better();
    else this.#try(this.#better());
  }

  #remember(): void {
    if (this.#carrier && !this.#attempt) this.#memory.remember(this.#carrier.name, this.#carrier.ms as number);
  }
}

function later(callback: () => void, ms: number): Timer {
  const timer = setTimeout(callback, ms);
  // In Node.js it must not keep the process alive; elsewhere it is a number.
  (timer as { unref?: () => void }).unref?.();
  return timer;
}
