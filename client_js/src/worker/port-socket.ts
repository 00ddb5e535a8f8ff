import type { EngineLike, SocketLike } from "../socket-like.js";
import {
  ANSWERS,
  HEARTBEAT_MS,
  MAX_MISSED,
  ONCE,
  READ_BATCH,
  type FromPage,
  type FromWorker,
  type PlainCause,
  type Port,
  type Upstream,
} from "./messages.js";

type Listener = (...args: never[]) => void;
type Ack = (...values: unknown[]) => void;
type OnUpgrade = (transport: { readonly name: string }) => void;
type EventFromWorker = Extract<FromWorker, { type: "event" }>;

/**
 * A page's end of the connection that the worker holds: connected while that is, and the page has a session.
 *
 * Messages of the outbox outlive a session: the worker answers them when it can, and what the outbox sends again
 * meanwhile is known to be under way.
 */
export class PortSocket implements SocketLike {
  connected = false;
  recovered = false;
  auth: SocketLike["auth"] = {};
  sendBuffer: unknown[] = [];
  readonly io: { engine?: EngineLike; _close(): void } = { _close: () => this.disconnect() };
  readonly volatile = {
    emit: (event: string, ...args: unknown[]): void => this.#post({ type: "volatile", id: 0, event, args }),
  };

  readonly #port: Port;
  readonly #listeners = new Map<string, Set<Listener>>();
  /** Of messages under way, by their number in the outbox's stream. */
  readonly #once = new Map<number, Ack>();
  /** Of the rest. */
  readonly #asks = new Map<number, Ack>();
  #upgraded: OnUpgrade[] = [];
  #session = 0;
  #hasSession = false;
  #isSeeking = false;
  #upstream: Upstream | undefined;
  /** Whether something was missed since the last time that it was connected. */
  #hasMissed = true;
  /** Events that came before the connection was told. */
  #early: EventFromWorker[] = [];
  #read = 0;
  #lastId = 0;
  #missed = 0;
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(port: Port) {
    this.#port = port;
    port.addEventListener("message", ({ data }: MessageEvent<unknown>) => this.#received(data as FromWorker));
    port.start?.();
  }

  connect(): void {
    this.#isSeeking = true;
    // The worker tries anew where its connection is closed.
    if (!this.#hasSession || this.#upstream?.status === "closed") this.#hello();
    else queueMicrotask(() => this.#settle());
  }

  disconnect(): void {
    if (this.#hasSession) this.#post({ type: "bye" });
    this.#end();
  }

  /** The worker has failed: what was under way may come to an end or not. */
  fail(message: string): void {
    const { connected } = this;
    const isSeeking = this.#isSeeking;
    this.#end();
    if (connected) this.#tell("disconnect", message);
    else if (isSeeking) this.#tell("connect_error", new Error(message));
  }

  on(event: string, listener: Listener): void {
    const listeners = this.#listeners.get(event);
    if (listeners) return void listeners.add(listener);
    this.#listeners.set(event, new Set([listener]));
    if (this.#hasSession && isOfServer(event)) this.#post({ type: "listen", event });
  }

  off(event: string, listener: Listener): void {
    const listeners = this.#listeners.get(event);
    if (!listeners?.delete(listener) || listeners.size > 0) return;
    this.#listeners.delete(event);
    if (this.#hasSession && isOfServer(event)) this.#post({ type: "unlisten", event });
  }

  emit(event: string, ...args: unknown[]): void {
    const ack = typeof args.at(-1) === "function" ? (args.pop() as Ack) : undefined;
    if (event === ONCE && ack) return this.#emitOnce(args as [string, number, number, string, ...unknown[]], ack);
    const id = ++this.#lastId;
    if (ack) this.#asks.set(id, ack);
    this.#post({ type: "ask", id, event, args });
  }

  #emitOnce([, n, , event, ...args]: [string, number, number, string, ...unknown[]], ack: Ack): void {
    // Number 0 asks whether anybody is there. Whether the server is, the worker finds out itself.
    if (n === 0) {
      const id = ++this.#lastId;
      this.#asks.set(id, ack);
      return this.#post({ type: "ask", id, event: ONCE, args: [] });
    }
    const isUnderWay = this.#once.has(n);
    this.#once.set(n, ack);
    if (isUnderWay) return;
    try {
      this.#post({ type: "once", id: n, event, args });
    } catch (error) {
      // What cannot be cloned.
      this.#once.delete(n);
      queueMicrotask(() => ack(ANSWERS.refused, { message: (error as Error).message }));
    }
  }

  #post(message: FromPage): void {
    this.#port.postMessage(message);
  }

  #hello(): void {
    this.#end();
    this.#isSeeking = true;
    this.#hasSession = true;
    this.#read = 0;
    this.#missed = 0;
    const events = [...this.#listeners.keys()].filter(isOfServer);
    this.#post({ type: "hello", session: ++this.#session, events });
    this.#timer = setInterval(() => {
      if (++this.#missed > MAX_MISSED) this.fail("the worker does not answer");
    }, HEARTBEAT_MS);
  }

  #end(): void {
    clearInterval(this.#timer);
    this.connected = this.#hasSession = this.#isSeeking = false;
    this.#hasMissed = true;
    this.#upstream = undefined;
    this.#early = [];
    this.#asks.clear();
  }

  #received(message: FromWorker): void {
    this.#missed = 0;
    if (message.type === "ack") return this.#acknowledged(message);
    if (!this.#hasSession) return;
    if (message.type === "ping") return this.#post({ type: "read", count: this.#read });
    if (message.session !== this.#session) return;
    if (message.type === "gone") this.fail(message.message);
    else if (message.type === "state") this.#told(message.upstream);
    else if (this.connected) this.#deliver(message);
    else this.#early.push(message);
  }

  #acknowledged({ id, values }: Extract<FromWorker, { type: "ack" }>): void {
    // Numbers of the outbox are positive, ids of the rest negative.
    const acks = id > 0 ? this.#once : this.#asks;
    const ack = acks.get(Math.abs(id));
    acks.delete(Math.abs(id));
    ack?.(...values);
  }

  #told(upstream: Upstream): void {
    const before = this.#upstream;
    this.#upstream = upstream;
    if (upstream.status === "connected") {
      if (!this.connected) {
        this.#hasMissed ||= !upstream.recovered;
        this.#settle();
      } else if (before?.status === "connected" && before.transport !== upstream.transport) {
        this.#upgraded.forEach((listener) => listener({ name: upstream.transport }));
      }
    } else if (this.connected) {
      this.connected = false;
      this.#asks.clear();
      const isFinal = upstream.status === "closed" && upstream.code === "server";
      const message = upstream.status === "seeking" ? upstream.message : upstream.cause.message;
      this.#tell("disconnect", isFinal ? "io server disconnect" : message);
    } else {
      this.#settle();
    }
  }

  /** Ends an attempt, where it can be told how. */
  #settle(): void {
    const upstream = this.#upstream;
    if (!this.#isSeeking || !upstream || upstream.status === "seeking") return;
    this.#isSeeking = false;
    if (upstream.status === "closed") return this.#tell("connect_error", errorOf(upstream.cause));
    this.connected = true;
    this.recovered = !this.#hasMissed;
    this.#hasMissed = false;
    const upgraded: OnUpgrade[] = (this.#upgraded = []);
    this.io.engine = {
      transport: { name: upstream.transport },
      on: (_, listener) => void upgraded.push(listener),
    };
    this.#tell("connect");
    for (const event of this.#early.splice(0)) this.#deliver(event);
  }

  #deliver({ id, event, args }: EventFromWorker): void {
    if (++this.#read % READ_BATCH === 0) this.#post({ type: "read", count: this.#read });
    const answer = (...values: unknown[]): void => this.#post({ type: "answer", id, values });
    this.#tell(event, ...args, ...(id ? [answer] : []));
  }

  #tell(event: string, ...args: unknown[]): void {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) listener(...(args as never[]));
  }
}

/** Not of the socket itself. The worker knows by the subscriptions who is told of a channel. */
function isOfServer(event: string): boolean {
  return !["connect", "connect_error", "disconnect"].includes(event) && !event.startsWith("channel:");
}

function errorOf({ message, data, answer }: PlainCause): Error {
  const error = new Error(message);
  if (!answer) return Object.assign(error, { data });
  const { retryAfter, ...others } = answer;
  return Object.assign(error, { context: { ...others, getResponseHeader: () => retryAfter } });
}
