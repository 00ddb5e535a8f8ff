import { CoreClient, type AssembledOptions, type CoreOptions } from "./core/client.js";
import { outbox, type Outbox, type OutboxOptions } from "./outbox.js";
import { pageEvents } from "./page.js";
import type { SocketLike } from "./socket-like.js";
import { tokens, type TokenSource } from "./token.js";

export interface ClientOptions extends Omit<CoreOptions, "outbox" | "page" | "token"> {
  /** Gives the token that is sent as `auth.token`; asked again before a JWT expires, and when the server refuses it. */
  token?: TokenSource;
  /** The event by which a token that replaces an expiring one is told to the server; default: it is not. */
  tokenEvent?: string;
  outbox?: OutboxOptions;
}

/** A client with all parts, as `connect()` makes it. */
export class Client<C = object> extends CoreClient<C> {
  /** Messages on their way to the server. */
  declare readonly outbox: Outbox;

  /** @internal */
  constructor(socket: SocketLike, options: ClientOptions & Pick<AssembledOptions, "pilot"> = {}) {
    const { token, tokenEvent: event } = options;
    const parts = { outbox: outbox(options.outbox), page: pageEvents(), token: token && tokens(token, { event }) };
    super(socket, { ...options, ...parts });
  }
}
