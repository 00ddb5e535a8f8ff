import type { Position, Publication, Subscriber } from "../channel.js";
import { overTheWire } from "./wire.js";

export interface ChannelOptions {
  /** How many publications are kept; 0: none, and publications have no offsets. */
  history?: number;
  /** Whether subscribers are told of each other. */
  presence?: boolean;
}

export type Question = "subscribe" | "publish" | "presence" | "history";

export interface ChannelRefusal {
  /** `no` ends a subscription for good, `later` has the client ask again. Default: `no`. */
  retry?: "no" | "later";
  /** What is refused. Default: all. */
  questions?: readonly Question[];
}

/** A client, as a channel needs it. */
export interface Member {
  readonly id: string;
  tell(event: string, message: object): void;
}

type Body = Readonly<Record<string, unknown>>;

/** What is wrong with a question, in words for who has sent it. */
class Refused extends Error {
  constructor(
    message: string,
    readonly retry: "no" | "later" = "no",
  ) {
    super(message);
  }
}

/** A channel of a `MemoryGateway`, from the side of the server. `docs/design/channels.md` has what it says. */
export class MemoryChannel<T = unknown> {
  readonly #options: Required<ChannelOptions>;
  readonly #infoOf: (member: Member) => unknown;
  readonly #members = new Map<Member, Subscriber>();
  readonly #refusals = new Map<Question, Refused>();
  #history: Publication<T>[] = [];
  #offset = 0;
  #epoch = 1;

  /** @internal */
  constructor(
    readonly name: string,
    options: Required<ChannelOptions>,
    infoOf: (member: Member) => unknown,
  ) {
    this.#options = options;
    this.#infoOf = infoOf;
  }

  /** What is kept, oldest first. */
  get history(): readonly Publication<T>[] {
    return this.#history;
  }

  /** Of the last publication; without history there are no positions. */
  get position(): Position | undefined {
    return this.#options.history > 0 ? { offset: this.#offset, epoch: `epoch-${this.#epoch}` } : undefined;
  }

  get subscribers(): readonly Subscriber[] {
    return [...this.#members.values()];
  }

  publish(data: T): Partial<Position> {
    const publication = this.publishUnheard(data);
    for (const member of this.#members.keys()) member.tell("channel:publication", publication);
    return this.position ?? {};
  }

  /** A publication that is lost between the nodes: it is in the history, and no subscriber is told. */
  publishUnheard(data: T): Publication<T> {
    const copy = overTheWire(data) as T;
    const { history } = this.#options;
    const offset = history > 0 ? { offset: ++this.#offset } : {};
    const publication = { channel: this.name, ...offset, data: copy };
    if (history > 0) this.#history = [...this.#history, publication].slice(-history);
    return publication;
  }

  /** Delivers the last publication of the history once more, as nodes do when they are not sure. */
  repeat(): void {
    const last = this.#history.at(-1);
    if (last) for (const member of this.#members.keys()) member.tell("channel:publication", last);
  }

  /** Has questions answered with an error from now on. */
  refuse(message: string, { retry = "no", questions = ["subscribe", "publish", "presence", "history"] }: ChannelRefusal = {}): void {
    for (const question of questions) this.#refusals.set(question, new Refused(message, retry));
  }

  /** Undoes `refuse()`. */
  accept(): void {
    this.#refusals.clear();
  }

  /** Ends all subscriptions. `no`: for good, as where a right was taken away; `later`: clients may ask again. */
  end(message: string, retry: "no" | "later" = "no"): void {
    for (const member of [...this.#members.keys()]) {
      this.left(member);
      member.tell("channel:unsubscribed", { channel: this.name, error: { message, retry } });
    }
  }

  /** The stream is lost, as where a broker was started anew: another begins, with an epoch of its own. */
  forgetHistory(): void {
    this.#history = [];
    this.#offset = 0;
    this.#epoch++;
    this.end("the stream has begun anew", "later");
  }

  /** @internal Answers a client. */
  answer(question: string, body: Body, member: Member): object {
    try {
      return this.#answer(question, body, member);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      return refusal(error.message, error.retry);
    }
  }

  /** @internal */
  left(member: Member): void {
    const subscriber = this.#members.get(member);
    if (!this.#members.delete(member) || !this.#options.presence) return;
    for (const other of this.#members.keys()) other.tell("channel:leave", { channel: this.name, ...subscriber });
  }

  #answer(question: string, body: Body, member: Member): object {
    const refused = this.#refusals.get(question as Question);
    if (refused) throw refused;
    switch (question) {
      case "subscribe":
        return this.#subscribe(member, sinceOf(body));
      case "unsubscribe":
        this.left(member);
        return {};
      case "publish":
        if (!("data" in body)) throw new Refused("data is missing");
        return this.publish(body.data as T);
      case "presence":
        if (!this.#options.presence) throw new Refused(`${this.name} has no presence`);
        return { subscribers: this.subscribers };
      default:
        return this.#page(body);
    }
  }

  #subscribe(member: Member, since: Position | undefined): object {
    if (!this.#members.has(member)) {
      const info = overTheWire(this.#infoOf(member));
      const subscriber = { client: member.id, ...(info !== undefined && { info }) };
      if (this.#options.presence) {
        for (const other of this.#members.keys()) other.tell("channel:join", { channel: this.name, ...subscriber });
      }
      this.#members.set(member, subscriber);
    }
    const { position } = this;
    if (!since) return { ...position };
    const oldest = this.#history[0]?.offset ?? this.#offset + 1;
    const recovered =
      position?.epoch === since.epoch && since.offset <= this.#offset && since.offset + 1 >= oldest;
    if (!recovered) return { ...position, recovered };
    return { ...position, recovered, publications: this.#history.filter(({ offset = 0 }) => offset > since.offset) };
  }

  #page(body: Body): object {
    const { position } = this;
    if (!position) throw new Refused(`${this.name} has no history`);
    const since = sinceOf(body);
    const { limit = this.#options.history, reverse = false } = body;
    if (!isCount(limit)) throw new Refused("limit must be an integer of 0 or more");
    if (typeof reverse !== "boolean") throw new Refused("reverse must be true or false");
    if (since && since.epoch !== position.epoch) throw new Refused(`the stream ${since.epoch} is no more`);
    const all = reverse ? [...this.#history].reverse() : this.#history;
    const asked = all.filter(({ offset = 0 }) => !since || (reverse ? offset < since.offset : offset > since.offset));
    return { publications: asked.slice(0, limit), ...position };
  }
}

/** The channel that a question is about, or what is wrong with it. */
export function channelNameOf(body: unknown): { name: string; body: Body } | { error: object } {
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    return refusal("a question is one object: {channel, ...}", "no");
  }
  const { channel } = body as Body;
  if (typeof channel !== "string" || channel.length < 1 || channel.length > MAX_NAME) {
    return refusal(`channel must be text of 1 to ${MAX_NAME} characters`, "no");
  }
  return { name: channel, body: body as Body };
}

const MAX_NAME = 255;

function refusal(message: string, retry: "no" | "later"): { error: object } {
  return { error: { message, retry } };
}

function sinceOf({ since }: Body): Position | undefined {
  if (since === undefined || since === null) return undefined;
  const { offset, epoch } = since as Partial<Position>;
  if (!isCount(offset) || typeof epoch !== "string") {
    throw new Refused("since must be {offset, epoch}: an integer of 0 or more, and text");
  }
  return { offset, epoch };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
