import { Variable } from "./listeners.js";
import type { EngineLike, SocketLike } from "./socket-like.js";
import { judge, type Verdict } from "./verdict.js";

/**
 * Why a connection is in the state it is in:
 * - `start`: it was asked for.
 * - `lost`: the connection has ended, by whatever means.
 * - `failed`: an attempt did not succeed.
 * - `refused`: the server refused an attempt. In `closed`: and would again.
 * - `network`: the platform says that there is no network.
 * - `page`: the page is frozen, or in the back/forward cache.
 * - `server`: the server has disconnected this client, which is final.
 * - `client`: `close()` or `reconnect()` was called.
 */
export type ReasonCode = "start" | "lost" | "failed" | "refused" | "network" | "page" | "server" | "client";

export interface Reason {
  readonly code: ReasonCode;
  /** For people. */
  readonly message: string;
  /** What `refusalOf()` takes, where the server has said something. */
  readonly cause?: unknown;
}

/**
 * - `connecting`: no connection has come about yet.
 * - `connected`: messages go both ways. `recovered`: after a loss, and nothing was missed.
 * - `recovering`: the connection was lost and is being sought again.
 * - `offline`: there is no network, or the page is asleep; nothing is tried before that ends.
 * - `closed`: nothing is tried until `connect()` is called.
 */
export type ConnectionState =
  | {
      readonly status: "connecting" | "recovering";
      /** How many times in a row it has failed; a loss is the first. */
      readonly failures: number;
      /** When the next attempt begins, in ms since 1970; undefined: it is under way. */
      readonly retryAt: number | undefined;
      readonly reason: Reason;
    }
  | { readonly status: "connected"; readonly transport: string; readonly recovered: boolean; readonly reason: Reason }
  | { readonly status: "offline" | "closed"; readonly reason: Reason };

export interface ConnectionOptions {
  /**
   * Milliseconds that one attempt may take, over all transports, until the server has let the client in. After a loss
   * the first two have a quarter and half of it: they may hang in a connection that the browser has kept and that has
   * died with the last network.
   */
  connectBudget: number;
  /** Milliseconds: the first delay is a random one up to this, each further one up to twice as much … */
  firstDelay: number;
  /** … but not more than this. */
  maxDelay: number;
}

export interface ConnectionHooks {
  /** Before each attempt: which transports it may use. */
  prepare?(): void;
  /** Right after an attempt has begun, when the engine is there. */
  begun?(): void;
  networkChanged?(): void;
  /** What stands against an attempt now: nothing is tried before `renew()` is called. */
  hindrance?(): Reason | undefined;
  /** An attempt was refused by the application. True: something was changed, so it is worth another one at once. */
  forbidden?(): boolean | undefined;
}

/**
 * When to connect, and what state that leads to.
 *
 * ```
 *                 connected ◄────────────┐
 *  open()            │ lost              │ let in
 *    │               ▼                   │
 *    └─► connecting / recovering ─► attempt ─► failed: wait, a random time up to twice the last
 *              ▲            │                    │
 *   online,    │            │ no network,        │ refused for good, close()
 *   page shown │            ▼ page asleep        ▼
 *              └───────── offline              closed
 * ```
 *
 * socket.io-client's own reconnection is off: it knows neither of refusals nor of the network and the page.
 */
export class Connection {
  readonly state = new Variable<ConnectionState>({ status: "closed", reason: { code: "client", message: "not opened" } });

  /** Parts hook in here. */
  readonly hooks: ConnectionHooks = {};

  readonly #socket: SocketLike;
  readonly #options: ConnectionOptions;
  #failures = 0;
  #wasConnected = false;
  #isDropping = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Counts attempts and what ends them, so that what belongs to an older one is told apart. */
  attempt = 0;

  constructor(socket: SocketLike, options: ConnectionOptions) {
    this.#socket = socket;
    this.#options = options;
    socket.on("connect", () => this.#connected());
    socket.on("connect_error", (error: Error) => this.fail(judge(error)));
    socket.on("disconnect", (reason: string, cause?: unknown) => {
      if (reason === "io server disconnect") this.#end({ code: "server", message: "disconnected by the server" });
      else if (this.#isOpen && !this.#isDropping) this.#seek({ code: "lost", message: reason, cause });
    });
  }

  get status(): ConnectionState["status"] {
    return this.state.get().status;
  }

  open(): void {
    if (this.#isOpen) return;
    this.#failures = 0;
    this.#wasConnected = false;
    this.#seek({ code: "start", message: "" }, 0);
  }

  close(): void {
    this.#end({ code: "client", message: "closed" });
  }

  /** Leaves what there is, and begins an attempt now. */
  renew(reason: Reason = { code: "client", message: "asked for" }): void {
    if (!this.#isOpen) return this.open();
    this.#drop();
    this.#failures = 0;
    this.#seek(reason, 0);
  }

  /** Takes the connection for lost. */
  lose(message: string): void {
    this.#drop();
    this.#seek({ code: "lost", message });
  }

  /** Leaves what there is, and tries nothing until `renew()`. */
  rest(reason: Reason): void {
    if (!this.#isOpen) return;
    this.#drop();
    this.#rest(reason);
  }

  /** An attempt has failed. */
  fail({ retry, message, afterMs, isForbidden, cause }: Verdict): void {
    if (!this.#isOpen) return;
    this.#drop();
    if (isForbidden && this.hooks.forbidden?.()) retry = "anew";
    else if (retry === "no") return this.#end({ code: "refused", message, cause });
    const reason: Reason = { code: retry === "anew" && !isForbidden ? "failed" : "refused", message, cause };
    // With some chance in it, so that many who were sent away do not come back as one.
    this.#seek(reason, afterMs && afterMs * (1 + Math.random() / 2));
  }

  get #isOpen(): boolean {
    return this.status !== "closed";
  }

  /** Begins an attempt after `delay`; by default it counts a failure, and waits the longer the more there were. */
  #seek(reason: Reason, delay = this.#backOff()): void {
    this.#leaveAttempt();
    const hindrance = this.hooks.hindrance?.();
    if (hindrance) return this.#rest(hindrance);
    const { attempt } = this;
    // The loss itself is the first failure.
    const budget = this.#options.connectBudget / (this.#wasConnected ? Math.max(8 / 2 ** (this.#failures || 1), 1) : 1);
    this.#timer = delay
      ? setTimeout(() => this.#seek(reason, 0), delay)
      : setTimeout(() => this.fail({ retry: "anew", message: `not connected within ${budget} ms` }), budget);
    this.state.set({
      status: this.#wasConnected ? "recovering" : "connecting",
      failures: this.#failures,
      reason,
      retryAt: delay ? Date.now() + delay : undefined,
    });
    // Whoever watches the state may have closed us.
    if (delay || attempt !== this.attempt) return;
    this.hooks.prepare?.();
    this.#socket.connect();
    this.#watch(this.#socket.io.engine);
    this.hooks.begun?.();
  }

  /** Follows the moves of a session from one transport to another. */
  #watch(engine: EngineLike | undefined): void {
    const { attempt } = this;
    engine?.on("upgrade", ({ name }) => {
      const state = this.state.get();
      if (attempt === this.attempt && state.status === "connected") this.state.set({ ...state, transport: name });
    });
    engine?.on("upgradeError", () => {
      if (attempt !== this.attempt || !engine.upgrading) return;
      // The old transport is paused and the new one dead: engine.io-client would wait for it until a ping times out.
      engine.upgrading = false;
      this.lose("broke off in a move to another transport");
    });
  }

  #connected(): void {
    clearTimeout(this.#timer);
    this.#failures = 0;
    this.#wasConnected = true;
    const { recovered, io } = this.#socket;
    this.state.set({
      status: "connected",
      transport: io.engine?.transport.name ?? "",
      // socket.io-client has undefined there where the server keeps no place.
      recovered: recovered === true,
      reason: this.state.get().reason,
    });
  }

  #backOff(): number {
    const { firstDelay, maxDelay } = this.#options;
    // All of it by chance: a thousand clients of a server that restarts come back spread out.
    return Math.max(Math.random() * Math.min(firstDelay * 2 ** this.#failures++, maxDelay), 1);
  }

  #leaveAttempt(): void {
    clearTimeout(this.#timer);
    this.attempt++;
  }

  #rest(reason: Reason): void {
    this.#leaveAttempt();
    const last = this.state.get();
    if (last.status !== "offline" || last.reason.code !== reason.code) this.state.set({ status: "offline", reason });
  }

  #end(reason: Reason): void {
    if (!this.#isOpen) return;
    this.#leaveAttempt();
    this.state.set({ status: "closed", reason });
    this.#socket.disconnect();
  }

  /** Lets go of the connection or the attempt, without a word that would cost the place at the server. */
  #drop(): void {
    this.#isDropping = true;
    this.#socket.io._close();
    this.#isDropping = false;
  }
}
