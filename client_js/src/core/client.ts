import { Channel } from "../channel.js";
import { Connection, type ConnectionOptions, type ConnectionState } from "../connection.js";
import type { AnswerOf, ArgumentsOf, Channels, FromServer, HandlerOf, NameIn, ToServer } from "../contract.js";
import type { Observable } from "../listeners.js";
import type { Sender } from "../sender.js";
import type { SocketLike } from "../socket-like.js";
import type { Part } from "./part.js";

export interface CoreOptions extends Partial<ConnectionOptions> {
  /** Sent when joining, beside the token: an object, which the server's connect handler gets as `auth`. */
  auth?: object;
  /** `tokens(source)`: what the source gives is sent as `auth.token`. */
  token?: TokenPart | undefined;
  /** `outbox()`: messages are sent again until they are answered, and handled once. Without: they are sent once. */
  outbox?: OutboxPart | undefined;
  /** `pageEvents()`: heeds networks that come and go, and pages that sleep. */
  page?: PagePart | undefined;
  /** Begin at once. Default: true. */
  autoConnect?: boolean;
}

export type TokenPart = Part<"token", Internals, void>;
export type OutboxPart = Part<"outbox", SocketLike, Sender>;
export type PagePart = Part<"page", Internals, void>;
export type TransportsPart = Part<"transports", Internals, void>;

/** @internal What parts are plugged into. */
export interface Internals {
  readonly socket: SocketLike;
  readonly outbox: Sender;
  readonly connection: Connection;
}

/** @internal As `connect()` hands them on. */
export interface AssembledOptions extends CoreOptions {
  outbox: OutboxPart;
  pilot?: TransportsPart | undefined;
}

export interface EmitOptions {
  /** Milliseconds that it may take until it is answered, offline time included. */
  timeout?: number;
}

/**
 * A connection to a gateway, with what is said over it.
 *
 * Made by `connect()`; `C` is the contract of both sides.
 */
export class CoreClient<C = object> {
  /** @internal For the compiler alone, which finds `C` by it. */
  declare protected readonly contract?: C;
  /** What state the connection is in, and why. */
  readonly connection: Observable<ConnectionState>;
  /** Messages on their way to the server. */
  readonly outbox: Sender;

  readonly #connection: Connection;
  readonly #socket: SocketLike;
  readonly #channels = new Map<string, Channel<never>>();

  /** @internal */
  constructor(socket: SocketLike, options: AssembledOptions) {
    const { auth, outbox, autoConnect } = options;
    this.#socket = socket;
    // Before the connection, so that whoever hears of it sends behind what waits.
    this.outbox = outbox.plug(socket);
    const defaults = { connectBudget: 20_000, firstDelay: 1_000, maxDelay: 20_000 };
    const connection = (this.#connection = new Connection(socket, { ...defaults, ...options }));
    socket.auth = auth ?? {};
    const internals = { socket, outbox: this.outbox, connection };
    for (const part of [options.pilot, options.token, options.page]) part?.plug(internals);
    this.connection = connection.state;
    for (const event of ["publication", "join", "leave", "unsubscribed"] as const) {
      socket.on(`channel:${event}`, (message: Message) => this.#channels.get(message.channel)?.received(event, message));
    }
    let last: string | undefined;
    this.connection.subscribe(({ status }) => {
      if (status === last) return; // another transport
      last = status;
      for (const channel of this.#channels.values()) channel.follow(status);
    });
    if (autoConnect !== false) this.connect();
  }

  /** Begins to connect, where the connection is closed. */
  connect(): void {
    this.outbox.open();
    this.#connection.open();
  }

  /** Connects now, in place of the connection or of the wait for the next attempt; what is missed is recovered. */
  reconnect(): void {
    this.outbox.open();
    this.#connection.renew();
  }

  /** Ends the connection, and all that waits: promises are rejected with `closed`. */
  close(): void {
    // In this order, so that nothing ends because the connection does.
    this.outbox.close();
    this.#connection.close();
  }

  /**
   * Sends an event, now or once there is a connection, and again until the server has answered; its handler runs once.
   * (Without the part `outbox()`, which only a client of `tidegate-client/core` can lack, it is sent once.)
   *
   * Resolves with what the handler returned. Rejects with a `TidegateError`; who does not wait for that hears of it by
   * `outbox.onDropped()`.
   */
  emit<E extends NameIn<ToServer<C>>>(
    event: E,
    ...args: ArgumentsOf<ToServer<C>[E]>
  ): Promise<AnswerOf<ToServer<C>[E]>> {
    return this.emitWith({}, event, ...args);
  }

  emitWith<E extends NameIn<ToServer<C>>>(
    { timeout }: EmitOptions,
    event: E,
    ...args: ArgumentsOf<ToServer<C>[E]>
  ): Promise<AnswerOf<ToServer<C>[E]>> {
    return this.outbox.add(event, args, timeout) as Promise<AnswerOf<ToServer<C>[E]>>;
  }

  /** Sends an event if that is possible at this moment, and else never: where a cursor is, who is typing. */
  emitVolatile<E extends NameIn<ToServer<C>>>(event: E, ...args: ArgumentsOf<ToServer<C>[E]>): void {
    if (this.#socket.connected) this.#socket.volatile.emit(event, ...args);
  }

  /**
   * Calls `handler` with the arguments of each such event; what it returns answers a server that asks. Returns what
   * ends it.
   */
  on<E extends NameIn<FromServer<C>>>(event: E, handler: HandlerOf<FromServer<C>[E]>): () => void {
    const listener = (...args: unknown[]): void => {
      const last = args.at(-1);
      const answer = typeof last === "function" ? (last as (...values: unknown[]) => void) : undefined;
      if (answer || hasOffset(this.#socket, last)) args.pop();
      const result = (handler as (...args: unknown[]) => unknown)(...args);
      // A handler that fails answers nothing, and its error is reported as uncaught.
      if (answer) void Promise.resolve(result).then((value) => (value === undefined ? answer() : answer(value)));
    };
    this.#socket.on(event, listener);
    return () => void this.#socket.off(event, listener);
  }

  /** The channel of that name: the same object each time. */
  channel<N extends NameIn<Channels<C>>>(name: N): Channel<Channels<C>[N]> {
    let channel = this.#channels.get(name);
    if (!channel) this.#channels.set(name, (channel = new Channel<never>(name, this.#socket, this.outbox)));
    return channel as unknown as Channel<Channels<C>[N]>;
  }
}

type Message = Parameters<Channel<never>["received"]>[1];

/**
 * With recovery on, the server ends each event with the offset at which to go on, or with null where the event comes
 * late; socket.io-client leaves that among the arguments. It has a place (`_pid`, private) where that is so.
 */
function hasOffset(socket: SocketLike, last: unknown): boolean {
  return (typeof last === "string" || last === null) && (socket as { _pid?: string })._pid !== undefined;
}
