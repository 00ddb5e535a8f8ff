import type { Internals, TokenPart } from "./core/client.js";

/** Why a token is asked for. */
export type TokenNeed = "connect" | "expiring" | "refused";

/** Gives a token, at once or later. Called with `refused`: the last one was not accepted, another may be. */
export type TokenSource = (need: TokenNeed) => string | Promise<string>;

export interface TokensOptions {
  /** By which a token that replaces an expiring one is told to the server; default: it is not. */
  readonly event?: string | undefined;
}

/** An enum, which leaves no more of a name than its value in a bundle. */
const enum Fixed {
  /** Of its remaining life, how much is left when a token is replaced; at most half a minute. */
  MARGIN = 0.1,
  MAX_MARGIN_MS = 30_000,
  /** After a source that failed to give a new token in time. */
  RETRY_MS = 5_000,
  MAX_TIMER_MS = 2 ** 31 - 1,
}

/**
 * The token of a client: kept while it is good, replaced before it expires (where it is a JWT, which says when) and
 * when the server refuses it. A token that was fetched because of a refusal and is refused again is final.
 */
export class Tokens {
  readonly #source: TokenSource;
  readonly #event: string | undefined;
  readonly #internals: Internals;
  #need: TokenNeed | undefined = "connect";
  #token = "";
  #wasRefused = false;
  #isStopped = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #fetching: Promise<void> | undefined;

  constructor(source: TokenSource, { event }: TokensOptions, internals: Internals) {
    this.#source = source;
    this.#event = event;
    this.#internals = internals;
    const { socket, connection } = internals;
    const { auth } = socket;
    socket.auth = (send) => void this.#join(auth as object, send);
    connection.hooks.forbidden = () => this.#refused();
    connection.state.subscribe(({ status }) => {
      if (status === "connected") this.#wasRefused = false;
      if (status === "closed") this.#stop();
    });
  }

  /** Sends the token beside `auth`, once it is there; a source that throws fails the attempt. */
  async #join(auth: object, send: (data: object) => void): Promise<void> {
    const { connection } = this.#internals;
    const { attempt } = connection;
    this.#isStopped = false;
    try {
      const token = await this.#get();
      if (attempt === connection.attempt) send({ ...auth, token });
    } catch (error) {
      if (attempt !== connection.attempt) return;
      // Anything may be thrown, and what it has by the name of `data` or `context` is not the server's.
      const message = error instanceof Error ? error.message : String(error);
      connection.fail({ retry: "anew", message, cause: error });
    }
  }

  /** The server has refused. Returns whether another token may help. */
  #refused(): boolean {
    const isWorthIt = !this.#wasRefused;
    this.#wasRefused = true;
    this.#need = "refused";
    return isWorthIt;
  }

  /** Renews nothing any more, until a token is asked for again. */
  #stop(): void {
    this.#isStopped = true;
    this.#unwatch();
  }

  async #get(): Promise<string> {
    // A refusal may come while a token is being fetched: then that one is of no use.
    while (this.#need) await (this.#fetching ??= this.#fetch(this.#need));
    if (this.#timer === undefined) this.#watch();
    return this.#token;
  }

  #unwatch(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #watch(): void {
    const life = expiryOf(this.#token) - Date.now();
    if (life > 0 && life < Infinity) this.#renewIn(life - Math.min(life * Fixed.MARGIN, Fixed.MAX_MARGIN_MS));
  }

  async #fetch(need: TokenNeed): Promise<void> {
    try {
      const token = await this.#source(need);
      if (need !== this.#need) return;
      this.#token = token;
      this.#need = undefined;
      this.#unwatch();
    } finally {
      this.#fetching = undefined;
    }
  }

  #renewIn(ms: number): void {
    if (this.#isStopped) return;
    clearTimeout(this.#timer);
    const renew = (): void => {
      this.#timer = undefined;
      this.#need = "expiring";
      this.#get().then(
        (token) => !this.#isStopped && this.#event && void this.#internals.outbox.add(this.#event, [token]),
        // The connection goes on with what it has.
        () => this.#renewIn(Fixed.RETRY_MS),
      );
    };
    this.#timer = setTimeout(renew, Math.min(ms, Fixed.MAX_TIMER_MS));
  }
}

/** The part by which the client has a token: `source` is asked again before a JWT expires, and when it is refused. */
export function tokens(source: TokenSource, options: TokensOptions = {}): TokenPart {
  return { plug: (internals) => void new Tokens(source, options, internals) };
}

/** When a JWT expires, in ms since 1970; Infinity for other tokens. */
function expiryOf(token: string): number {
  try {
    const payload = atob((token.split(".")[1] as string).replace(/-/g, "+").replace(/_/g, "/"));
    return ((JSON.parse(payload) as { exp?: number }).exp ?? Infinity) * 1_000;
  } catch {
    return Infinity; // not a JWT
  }
}
