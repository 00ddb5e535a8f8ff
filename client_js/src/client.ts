import { Channel } from "./channel.js";
import { Connection, type ConnectionHooks, type ConnectionOptions, type ConnectionState } from "./connection.js";
import type { AnswerOf, ArgumentsOf, Channels, FromServer, HandlerOf, NameIn, ToServer } from "./contract.js";
import type { Observable } from "./listeners.js";
import { Outbox, type OutboxOptions } from "./outbox.js";
import { watchPage } from "./page.js";
import type { SocketLike } from "./socket-like.js";
import { Tokens, type TokenSource } from "./token.js";

export interface ClientOptions extends Partial<ConnectionOptions> {
  /** Sent when joining, beside the token: an object, which the server's connect handler gets as `auth`. */
  auth?: object;
  /** Gives the token that is sent as `auth.token`; asked again before a JWT expires, and when the server refuses it. */
  token?: TokenSource;
  /** The event by which a token that replaces an expiring one is told to the server; default: it is not. */
  tokenEvent?: string;
  outbox?: OutboxOptions;
  /** Begin at once. Default: true. */
  autoConnect?: boolean;
}

/** @internal What `connect()` knows of the transports. */
export interface Pilot extends Required<Pick<ConnectionHooks, "prepare" | "begun" | "networkChanged">> {
  stop(): void;
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
export class Client<C = object> {
  /** What state the connection is in, and why. */
  readonly connection: Observable<ConnectionState>;
  /** Messages on their way to the server. */
  readonly outbox: Outbox;

  readonly #connection: Connection;
  readonly #socket: SocketLike;
  readonly #channels = new Map<string, Channel<never>>();
  readonly #pilot: Pilot | undefined;
  readonly #tokens: Tokens | undefined;
  #stopWatching: (() => void) | undefined;

  /** @internal */
  constructor(socket: SocketLike, options: ClientOptions = {}, pilot?: Pilot) {
    const { auth, token, tokenEvent, outbox, autoConnect } = options;
    this.#socket = socket;
    this.#pilot = pilot;
    this.#tokens = token && new Tokens(token, (value) => tokenEvent && void this.outbox.add(tokenEvent, [value]));
    // Before the connection, so that whoever hears of it sends behind what waits.
    this.outbox = new Outbox(socket, outbox);
    this.#connection = new Connection(
      socket,
      { connectBudget: 20_000, firstDelay: 1_000, maxDelay: 20_000, ...options },
      {
        ...pilot,
        forbidden: () => this.#tokens?.refused() ?? false,
        probe: (answer) => this.outbox.probe(answer),
      },
    );
    this.connection = this.#connection.state;
    socket.auth = (send: (data: object) => void) => void this.#authenticate(auth, send);
    socket.on("connect", () => this.#tokens?.accepted());
    for (const event of ["publication", "join", "leave", "unsubscribed"] as const) {
      socket.on(`channel:${event}`, (message: Message) => this.#channels.get(message.channel)?.received(event, message));
    }
    let last: string | undefined;
    this.connection.subscribe(({ status }) => {
      if (status === last) return; // another transport
      last = status;
      for (const channel of this.#channels.values()) channel.follow(status);
      if (status === "closed") this.#rest();
    });
    if (autoConnect !== false) this.connect();
  }

  /** Begins to connect, where the connection is closed. */
  connect(): void {
    this.#wake();
    this.#connection.open();
  }

  /** Connects now, in place of the connection or of the wait for the next attempt; what is missed is recovered. */
  reconnect(): void {
    this.#wake();
    this.#connection.renew();
  }

  /** Ends the connection, and all that waits: promises are rejected with `closed`. */
  close(): void {
    this.#connection.close();
    this.#rest();
    this.outbox.close();
  }

  /**
   * Sends an event, now or once there is a connection, and again until the server has answered; its handler runs once.
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

  #wake(): void {
    this.outbox.open();
    this.#stopWatching ??= watchPage(this.#connection);
  }

  /** Nothing is watched and nothing renewed until `connect()`. */
  #rest(): void {
    this.#stopWatching?.();
    this.#stopWatching = undefined;
    this.#tokens?.stop();
    this.#pilot?.stop();
  }

  async #authenticate(auth: object | undefined, send: (data: object) => void): Promise<void> {
    const { attempt } = this.#connection;
    if (!this.#tokens) return send({ ...auth });
    try {
      const token = await this.#tokens.get();
      if (attempt === this.#connection.attempt) send({ ...auth, token });
    } catch (error) {
      if (attempt !== this.#connection.attempt) return;
      // Anything may be thrown, and what it has by the name of `data` or `context` is not the server's.
      const message = error instanceof Error ? error.message : String(error);
      this.#connection.fail({ retry: "anew", message, cause: error });
    }
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
