import type { Client } from "../client.js";
import type { ConnectionState } from "../connection.js";
import type { TidegateError } from "../errors.js";
import {
  ANSWERS,
  HEARTBEAT_MS,
  MAX_MISSED,
  MAX_UNREAD,
  ONCE,
  type FromPage,
  type FromWorker,
  type PlainCause,
  type Port,
  type Upstream,
} from "./messages.js";
import { Rooms } from "./rooms.js";

/** How long the connection stays when the last page has gone. A page that is reloaded finds it again. */
const LINGER_MS = 5_000;

/** A page, as its port is known here. */
export interface Page {
  readonly port: Port;
  session: number;
  readonly events: Set<string>;
  sent: number;
  read: number;
  missed: number;
}

interface Message {
  readonly page: Page;
  readonly id: number;
  readonly event: string;
  readonly args: readonly unknown[];
}

/** A question of the server; the first page to answer does. */
interface Question {
  readonly answer: (value: unknown) => void;
  readonly asked: Set<Page>;
}

/**
 * One client, and the pages that share it. Events go to every page that listens, publications to those that are
 * subscribed, messages of all into the one outbox, answers back to whom they are for.
 *
 * A page that closes says so. One that cannot, since its process ends, is found out by the heartbeat, within 40 s;
 * sooner where its port has a `close` event, as in Node.js (Chromium 156 has none for a page that crashes). A Web Lock
 * would tell at once, but only on secure pages, keeps a page out of the back/forward cache, and knows nothing of one
 * that hangs.
 */
export class Hub {
  readonly #open: () => Client;
  #client: Client | undefined;
  /** Those with a session. */
  readonly #pages = new Set<Page>();
  readonly #events = new Map<string, { readonly pages: Set<Page>; readonly end: () => void }>();
  #rooms: Rooms<Page> | undefined;
  readonly #questions = new Map<number, Question>();
  #lastQuestion = 0;
  /** Messages for which the outbox has no room yet, in order; each page's own outbox bounds its part. */
  readonly #held: Message[] = [];
  #underWay = 0;
  #heartbeat: ReturnType<typeof setInterval> | undefined;
  #linger: ReturnType<typeof setTimeout> | undefined;

  constructor(open: () => Client) {
    this.#open = open;
  }

  attach(port: Port): void {
    const page: Page = { port, session: 0, events: new Set(), sent: 0, read: 0, missed: 0 };
    port.addEventListener("message", ({ data }: MessageEvent<unknown>) => this.#received(page, data as FromPage));
    port.addEventListener("close", () => this.#leave(page));
    port.start?.();
  }

  #received(page: Page, message: FromPage): void {
    page.missed = 0;
    switch (message.type) {
      case "hello":
        return this.#join(page, message);
      case "bye":
        return this.#leave(page);
      case "listen":
        return this.#listen(page, message.event);
      case "unlisten":
        return this.#unlisten(page, message.event);
      case "once":
        this.#held.push({ page, ...message });
        return this.#pump();
      case "ask":
        return this.#ask(page, message.id, message.event, message.args);
      case "volatile":
        return this.#client?.emitVolatile(message.event, ...message.args);
      case "answer":
        return this.#answer(message.id, message.values[0]);
      case "read":
        page.read = message.count;
    }
  }

  // -- pages ---------------------------------------------------------------------------------------------------------

  #join(page: Page, { session, events }: Extract<FromPage, { type: "hello" }>): void {
    this.#leave(page);
    Object.assign(page, { session, sent: 0, read: 0 });
    this.#pages.add(page);
    clearTimeout(this.#linger);
    this.#heartbeat ??= setInterval(() => this.#beat(), HEARTBEAT_MS);
    let client: Client;
    try {
      client = this.#start();
    } catch (error) {
      // Nothing that this page, or another attempt, could change.
      const cause = { message: (error as Error).message };
      return this.#post(page, { type: "state", session, upstream: { status: "closed", code: "refused", cause } });
    }
    for (const event of events) this.#listen(page, event);
    if (client.connection.get().status === "closed") client.connect();
    else this.#tellState(page, client.connection.get(), false);
  }

  #start(): Client {
    if (this.#client) return this.#client;
    const client = (this.#client = this.#open());
    this.#rooms = new Rooms(client, (page, event, message) => this.#send(page, event, [message], 0));
    client.connection.subscribe((state) => {
      const recovered = state.status === "connected" && state.recovered;
      for (const page of [...this.#pages]) this.#tellState(page, state, recovered);
    });
    return client;
  }

  #leave(page: Page): void {
    if (!this.#pages.delete(page)) return;
    for (const event of [...page.events]) this.#unlisten(page, event);
    this.#rooms?.leaveAll(page);
    for (const [id, { asked }] of this.#questions) {
      if (asked.delete(page) && asked.size === 0) this.#questions.delete(id);
    }
    if (this.#pages.size > 0) return;
    clearInterval(this.#heartbeat);
    this.#heartbeat = undefined;
    this.#closeLater();
  }

  /** With nobody left, once what they have sent is answered. */
  #closeLater(): void {
    clearTimeout(this.#linger);
    const client = this.#client;
    if (!client || client.connection.get().status === "closed") return;
    this.#linger = setTimeout(() => {
      if (client.outbox.size > 0) this.#closeLater();
      else client.close();
    }, LINGER_MS);
  }

  #drop(page: Page, message: string): void {
    this.#leave(page);
    this.#post(page, { type: "gone", session: page.session, message });
  }

  #beat(): void {
    for (const page of [...this.#pages]) {
      if (++page.missed > MAX_MISSED) this.#drop(page, "the page did not answer the worker");
      else this.#post(page, { type: "ping" });
    }
  }

  #tellState(page: Page, state: ConnectionState, recovered: boolean): void {
    this.#post(page, { type: "state", session: page.session, upstream: upstreamOf(state, recovered) });
  }

  // -- down ----------------------------------------------------------------------------------------------------------

  #listen(page: Page, event: string): void {
    page.events.add(event);
    const known = this.#events.get(event);
    if (known) return void known.pages.add(page);
    const pages = new Set([page]);
    const end = this.#start().on(event, (...args: unknown[]) => {
      // The client looks for the value of what it is given only where the server asks: two turns on, that is known.
      let answer: Question["answer"] | undefined;
      queueMicrotask(() => queueMicrotask(() => this.#fanOut(event, args, pages, answer)));
      return { then: (resolve: Question["answer"]) => void (answer = resolve) };
    });
    this.#events.set(event, { pages, end });
  }

  #unlisten(page: Page, event: string): void {
    page.events.delete(event);
    const known = this.#events.get(event);
    if (!known?.pages.delete(page) || known.pages.size > 0) return;
    known.end();
    this.#events.delete(event);
  }

  #fanOut(event: string, args: readonly unknown[], pages: Set<Page>, answer: Question["answer"] | undefined): void {
    const id = answer ? ++this.#lastQuestion : 0;
    if (answer && pages.size > 0) this.#questions.set(id, { answer, asked: new Set(pages) });
    for (const page of [...pages]) this.#send(page, event, args, id);
  }

  #answer(id: number, value: unknown): void {
    this.#questions.get(id)?.answer(value);
    this.#questions.delete(id);
  }

  #send(page: Page, event: string, args: readonly unknown[], id: number): void {
    if (page.sent - page.read >= MAX_UNREAD) return this.#drop(page, `the page left ${MAX_UNREAD} events unread`);
    page.sent++;
    this.#post(page, { type: "event", session: page.session, id, event, args });
  }

  #post({ port }: Page, message: FromWorker): void {
    port.postMessage(message);
  }

  // -- up ------------------------------------------------------------------------------------------------------------

  #ask(page: Page, id: number, event: string, args: readonly unknown[]): void {
    const acknowledge = (...values: unknown[]): void => this.#post(page, { type: "ack", id: -id, values });
    const channel = (args[0] as { channel: string } | undefined)?.channel ?? "";
    if (event === ONCE) return acknowledge(0);
    if (event === "channel:subscribe") return void this.#rooms?.join(page, args[0] as never).then(acknowledge);
    if (event === "channel:unsubscribe") this.#rooms?.leave(page, channel);
    acknowledge();
  }

  #pump(): void {
    for (let message = this.#held[0]; message; message = this.#held[0]) {
      const { page, id, event, args } = message;
      const client = this.#start();
      let isFull = false;
      // Told within the call; a promise would tell later, and the next message might overtake.
      const end = client.outbox.onDropped((error) => (isFull ||= error.code === "full"));
      const result = client.emit(event, ...args);
      end();
      if (isFull && this.#underWay > 0) return;
      this.#held.shift();
      this.#underWay++;
      const acknowledge = (...values: unknown[]): void => {
        this.#underWay--;
        this.#post(page, { type: "ack", id, values });
        this.#pump();
      };
      result.then(
        (value) => acknowledge(0, value),
        (error: TidegateError) => acknowledge(codeOf(error), { message: withoutEvent(error.message, event) }),
      );
    }
  }
}

function codeOf({ code }: TidegateError): number {
  if (code === "full" || code === "expired") return ANSWERS.refused;
  if (code === "timeout" || code === "closed" || code === "lost") return ANSWERS.forgotten;
  return ANSWERS[code];
}

/** The page's outbox puts the event before it again. */
function withoutEvent(message: string, event: string): string {
  return message.startsWith(`${event}: `) ? message.slice(event.length + 2) : message;
}

function upstreamOf(state: ConnectionState, recovered: boolean): Upstream {
  const { status, reason } = state;
  if (status === "connected") return { status, transport: state.transport, recovered };
  if (status !== "closed") return { status: "seeking", message: reason.message };
  return { status, code: reason.code, cause: plainCause(reason.message, reason.cause) };
}

function plainCause(message: string, cause: unknown): PlainCause {
  const { data, context } = (cause ?? {}) as {
    data?: unknown;
    context?: { status: number; responseText: string; getResponseHeader(name: string): string | null };
  };
  if (!context) return { message, data };
  const { status, responseText } = context;
  return { message, answer: { status, responseText, retryAfter: context.getResponseHeader("retry-after") } };
}
