import type { ConnectionState } from "./connection.js";
import { TidegateError, orNobody } from "./errors.js";
import { Listeners, Variable, type Observable } from "./listeners.js";
import type { Sender } from "./sender.js";
import type { SocketLike } from "./socket-like.js";

/** A message of a channel. */
export interface Publication<T> {
  readonly channel: string;
  readonly data: T;
  /** Its place in the channel, from 1; undefined in a channel without history. */
  readonly offset?: number;
}

/** Where a subscriber stands: after this offset, in the stream that this epoch names. */
export interface Position {
  readonly offset: number;
  readonly epoch: string;
}

/** A subscriber, as presence, join and leave tell of it. */
export interface Subscriber {
  readonly client: string;
  readonly info?: unknown;
}

export interface History<T> extends Position {
  /** Oldest first, unless asked in reverse. */
  readonly publications: readonly Publication<T>[];
}

export interface HistoryOptions {
  readonly limit?: number;
  readonly since?: Position;
  readonly reverse?: boolean;
}

/**
 * - `unsubscribed`: not asked for, or refused: then `reason` says why.
 * - `subscribing`: asked for, or to be asked for once there is a connection.
 * - `subscribed`: `recovered` says whether all that was published since the last time has been delivered; undefined the
 *   first time. If false, state built from publications has a gap: load it anew.
 */
export type ChannelState =
  | { readonly status: "unsubscribed"; readonly reason: TidegateError | undefined }
  | { readonly status: "subscribing" }
  | { readonly status: "subscribed"; readonly recovered: boolean | undefined };

export interface ChannelEvents<T> {
  publication(publication: Publication<T>): void;
  join(subscriber: Subscriber): void;
  leave(subscriber: Subscriber): void;
}

/** @internal What the server sends, without the `channel:` before it. */
export type ChannelEventName = keyof ChannelEvents<never> | "unsubscribed";

interface Subscribed<T> extends Partial<Position> {
  readonly recovered?: boolean;
  readonly publications?: readonly Publication<T>[];
}

export interface Refused {
  readonly error: { readonly message: string; readonly retry?: "no" | "later" };
}

/** An enum, which leaves no more of a name than its value in a bundle. */
const enum Fixed {
  ANSWER_MS = 10_000,
  RETRY_MS = 2_000,
  /** What an iterator that is not read holds before it gives up. */
  MAX_UNREAD = 10_000,
}

/**
 * A subscription: the publications of a channel, each once and in order.
 *
 * ```
 *                subscribe()                    answer
 * unsubscribed ──────────────► subscribing ◄──────────────► subscribed
 *       ▲                          │        connection lost,
 *       └──────────────────────────┘        or a gap: asked again,
 *          unsubscribe(), refused           since the last offset
 * ```
 */
export class Channel<T = unknown> implements AsyncIterable<Publication<T>> {
  readonly #state = new Variable<ChannelState>({ status: "unsubscribed", reason: undefined });
  readonly state: Observable<ChannelState> = this.#state;

  readonly #listeners = {
    publication: new Listeners<[Publication<T>]>(),
    join: new Listeners<[Subscriber]>(),
    leave: new Listeners<[Subscriber]>(),
  };
  readonly #socket: SocketLike;
  readonly #sender: Sender;
  #subscribers = 0;
  /** Counts the times that all were unsubscribed at once. */
  #term = 0;
  /** Undefined from `subscribe()` to the first answer; empty in a channel without history. */
  #position: Partial<Position> | undefined;
  /** Publications that came while an answer is due, which may hold some of before. */
  #early: Publication<T>[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Counts questions: only the answer to the latest is of interest. */
  #asked = 0;

  /** @internal */
  constructor(
    readonly name: string,
    socket: SocketLike,
    sender: Sender,
  ) {
    this.#socket = socket;
    this.#sender = sender;
  }

  /**
   * Asks for the publications. Each call is undone by one of `unsubscribe()`. Resolves when the server has agreed;
   * rejects where it refuses for good, or `unsubscribe()` comes first. Survives reconnects by itself.
   */
  subscribe(): Promise<void> {
    if (!this.#subscribers++) {
      this.#position = undefined;
      this.#ask();
    }
    return orNobody(
      new Promise((resolve, reject) => {
        const check = (state: ChannelState): void => {
          if (state.status === "subscribing") return;
          end();
          if (state.status === "subscribed") resolve();
          else reject(state.reason ?? new TidegateError("closed", `${this.name}: unsubscribed`));
        };
        const end = this.#state.subscribe(check);
        check(this.#state.get());
      }),
    );
  }

  /** Behind which publication this subscriber stands; undefined before the first answer. */
  get position(): Partial<Position> | undefined {
    return this.#position;
  }

  unsubscribe(): void {
    if (!this.#subscribers || --this.#subscribers > 0) return;
    this.#leave(undefined);
    if (this.#socket.connected) this.#socket.emit("channel:unsubscribe", { channel: this.name }, () => {});
  }

  /** Returns what ends it. Listening alone does not subscribe. */
  on<E extends keyof ChannelEvents<T>>(event: E, listener: ChannelEvents<T>[E]): () => void {
    return this.#listeners[event].add(listener as (each: Publication<T> | Subscriber) => void);
  }

  /** Through the outbox: offline too, and once. Resolves with the position of the publication. */
  publish(data: T): Promise<Partial<Position>> {
    return orNobody(this.#request("publish", { data }) as Promise<Partial<Position>>);
  }

  /** Who is subscribed now. */
  async presence(): Promise<readonly Subscriber[]> {
    return ((await this.#request("presence", {})) as { subscribers: Subscriber[] }).subscribers;
  }

  history(options: HistoryOptions = {}): Promise<History<T>> {
    return this.#request("history", options) as Promise<History<T>>;
  }

  /**
   * Publications from now on: subscribes at the start of the loop, and undoes that at its end. Throws what
   * `subscribe()` rejects with, and `full` where the loop falls too far behind.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<Publication<T>, void, undefined> {
    const unread: Publication<T>[] = [];
    let failure: TidegateError | undefined;
    let notify = (): void => {};
    const ends = [
      this.on("publication", (publication) => {
        if (failure) return;
        if (unread.length < Fixed.MAX_UNREAD) unread.push(publication);
        else failure = new TidegateError("full", `${this.name}: ${Fixed.MAX_UNREAD} publications unread`);
        notify();
      }),
      this.#state.subscribe((state) => {
        if (state.status !== "unsubscribed") return;
        failure ??= state.reason ?? new TidegateError("closed", `${this.name}: unsubscribed`);
        notify();
      }),
    ];
    const subscribed = this.subscribe();
    const term = this.#term;
    try {
      await subscribed;
      for (;;) {
        const next = unread.shift();
        if (next) yield next;
        else if (failure) throw failure;
        else await new Promise<void>((resolve) => (notify = resolve));
      }
    } finally {
      ends.forEach((end) => end());
      // After an end by the server there is nothing of ours to undo.
      if (term === this.#term) this.unsubscribe();
    }
  }

  /** @internal The connection has come, is gone, or is gone for good. */
  follow(status: ConnectionState["status"]): void {
    if (!this.#subscribers) return;
    if (status === "closed") this.#leave(new TidegateError("closed", "client closed"));
    else this.#ask();
  }

  /** @internal */
  received(event: ChannelEventName, message: Publication<T> & Subscriber & Partial<Refused>): void {
    if (event === "join" || event === "leave") return this.#listeners[event].tell(message);
    if (!this.#subscribers) return; // left meanwhile
    if (event === "unsubscribed") this.#refused(message as Refused);
    else if (this.#state.get().status === "subscribed") this.#take(message);
    else this.#early.push(message);
  }

  #take(publication: Publication<T>): void {
    const { offset } = publication;
    const last = this.#position?.offset;
    if (offset !== undefined && last !== undefined) {
      if (offset <= last) return;
      if (offset > last + 1) {
        // Something is missing: ask for it, and keep this one until it is there.
        this.#ask();
        this.#early.push(publication);
        return;
      }
    }
    if (offset !== undefined) this.#position = { ...this.#position, offset };
    this.#listeners.publication.tell(publication);
  }

  /** What was asked for is of no interest any more. */
  #forget(): void {
    this.#asked++;
    this.#early = [];
    clearTimeout(this.#timer);
  }

  /** Not subscribed, but wants to be. */
  #seek(): void {
    this.#forget();
    if (this.#state.get().status !== "subscribing") this.#state.set({ status: "subscribing" });
  }

  #ask(): void {
    this.#seek();
    if (!this.#socket.connected) return;
    const asked = this.#asked;
    const since = this.#position?.epoch && this.#position;
    this.#timer = setTimeout(() => this.#doubt(), Fixed.ANSWER_MS);
    this.#socket.emit("channel:subscribe", { channel: this.name, since }, (answer: Subscribed<T> | Refused) => {
      if (asked !== this.#asked) return;
      if ("error" in answer) return this.#refused(answer);
      clearTimeout(this.#timer);
      this.#subscribed(answer);
    });
  }

  /** There is no answer. A gateway without channels gives none, and says so to the outbox alone. */
  #doubt(): void {
    this.#ask();
    this.#request("history", { limit: 0 }).catch(({ code, message }: TidegateError) => {
      if (code === "unhandled" && this.#subscribers > 0) this.#leave(new TidegateError(code, message));
    });
  }

  #refused({ error: { message, retry } }: Refused): void {
    if (retry === "later") {
      this.#seek();
      this.#timer = setTimeout(() => this.#ask(), Fixed.RETRY_MS * (1 + Math.random()));
    } else {
      this.#leave(new TidegateError("refused", `${this.name}: ${message}`));
    }
  }

  #subscribed({ offset, epoch, publications = [], recovered }: Subscribed<T>): void {
    const isFirst = !this.#position;
    const early = this.#early;
    const asked = this.#asked;
    // Of a stream that goes on, what was missed begins behind the last one; of another there is nothing to go on from.
    if (isFirst || !recovered) this.#position = { offset, epoch } as Partial<Position>;
    this.#state.set({ status: "subscribed", recovered: isFirst ? undefined : recovered === true });
    for (const publication of publications) {
      // Whoever hears of it may have unsubscribed.
      if (asked !== this.#asked) return;
      this.#take(publication);
    }
    for (const publication of early) this.received("publication", publication as never);
  }

  #leave(reason: TidegateError | undefined): void {
    if (reason) this.#term++;
    this.#subscribers = 0;
    this.#forget();
    this.#state.set({ status: "unsubscribed", reason });
  }

  async #request(what: string, options: object): Promise<unknown> {
    const answer = (await this.#sender.add(`channel:${what}`, [{ channel: this.name, ...options }])) as object;
    if ("error" in answer) throw new TidegateError("refused", (answer as Refused).error.message);
    return answer;
  }
}
