/**
 * What client and server say to each other, as types: `connect<MyContract>(url)`. Each part is an interface of
 * yours; what is left out may be anything.
 *
 * ```ts
 * interface Chat {
 *   toServer: { say(text: string): number };       // the return type is what the server acknowledges
 *   fromServer: { said(line: Line): void };
 *   channels: { news: Article; [room: `room:${string}`]: Line };
 * }
 * ```
 */
export interface Contract {
  readonly toServer?: object;
  readonly fromServer?: object;
  readonly channels?: object;
}

/** One part of a contract, or `Default` where the contract leaves it out. */
type Part<C, Name extends keyof Contract, Default> = C extends { readonly [N in Name]: infer P extends object }
  ? P
  : Default;

export type ToServer<C> = Part<C, "toServer", Record<string, (...args: unknown[]) => unknown>>;
export type FromServer<C> = Part<C, "fromServer", Record<string, (...args: unknown[]) => unknown>>;
export type Channels<C> = Part<C, "channels", Record<string, unknown>>;

export type NameIn<Events> = keyof Events & string;

export type ArgumentsOf<Event> = Event extends (...args: infer A) => unknown ? A : never;

/** What the handler of the other side returns, be it at once or later. */
export type AnswerOf<Event> = Event extends (...args: never[]) => infer R ? Awaited<R> : never;

/** A function that handles the event; it may take its time. */
export type HandlerOf<Event> = Event extends (...args: infer A) => infer R
  ? (...args: A) => R | Promise<Awaited<R>>
  : never;
