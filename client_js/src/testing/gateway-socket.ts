import type { AnswerOf, ArgumentsOf, FromServer, NameIn } from "../contract.js";
import type { Member } from "./memory-channel.js";
import { overTheWire, type Wire } from "./wire.js";

interface Kept {
  readonly offset: string;
  readonly data: readonly unknown[];
}

interface Asked {
  resolve(values: readonly unknown[]): void;
  reject(error: Error): void;
}

/** A client as the gateway sees it, and the place that is kept for it while it is away. */
export class GatewaySocket<C = object> implements Member {
  #wire: Wire | undefined;
  /** Events after `#since`, for a client that comes back. */
  #kept: Kept[] = [];
  /** The offset behind which `#kept` begins; undefined: the beginning. */
  #since: string | undefined;
  readonly #asked = new Map<number, Asked>();
  #ids = 0;

  /** @internal */
  constructor(
    readonly id: string,
    /** What the client has sent to be let in. */
    readonly auth: Readonly<Record<string, unknown>>,
    /** How many events are kept; undefined: there is no recovery. */
    private readonly maxKept: number | undefined,
    private readonly nextOffset: () => string,
  ) {}

  get isConnected(): boolean {
    return this.#wire !== undefined;
  }

  /** Sends an event: at once, or when the client comes back to its place. */
  emit<E extends NameIn<FromServer<C>>>(event: E, ...args: ArgumentsOf<FromServer<C>[E]>): void {
    if (this.maxKept === undefined) return this.#wire?.down({ type: "event", data: [event, ...args] });
    const offset = this.nextOffset();
    // As it is now, should the client take it later.
    const data = overTheWire([event, ...args, offset]) as unknown[];
    this.#kept.push({ offset, data });
    if (this.#kept.length > this.maxKept) this.#since = this.#kept.shift()?.offset;
    this.#wire?.down({ type: "event", data });
  }

  /** Sends an event that wants an answer. Rejects where the connection ends before that, or there is none. */
  ask<E extends NameIn<FromServer<C>>>(
    event: E,
    ...args: ArgumentsOf<FromServer<C>[E]>
  ): Promise<AnswerOf<FromServer<C>[E]>> {
    return new Promise((resolve, reject) => {
      const wire = this.#wire;
      if (!wire) return reject(new Error("the client is not connected"));
      const id = this.#ids++;
      this.#asked.set(id, { resolve: ([value]) => resolve(value as AnswerOf<FromServer<C>[E]>), reject });
      wire.down({ type: "event", data: [event, ...args], id });
    });
  }

  /** Sends the client away for good; a `Client` does not come back before its `connect()` is called. */
  disconnect(): void {
    const wire = this.#wire;
    if (!wire) return;
    wire.down({ type: "disconnect" });
    wire.server?.closed("disconnected");
    wire.end("io server disconnect");
  }

  /** @internal An event of a channel: channels have a recovery of their own. */
  tell(event: string, message: object): void {
    this.#wire?.down({ type: "event", data: [event, message] });
  }

  /** @internal */
  answered(id: number, values: readonly unknown[]): void {
    this.#asked.get(id)?.resolve(values);
    this.#asked.delete(id);
  }

  /** @internal Whether all after that offset is still there. */
  canResume(offset: string | undefined): boolean {
    return offset === this.#since || this.#kept.some((each) => each.offset === offset);
  }

  /** @internal The client has come (back): tells it so, and what it has missed. */
  attach(wire: Wire, pid: string | undefined, offset: string | undefined): void {
    this.#wire = wire;
    wire.down({ type: "connect", sid: this.id, ...(pid !== undefined && { pid }) });
    if (offset !== undefined) {
      this.#kept = this.#kept.slice(this.#kept.findIndex((each) => each.offset === offset) + 1);
      this.#since = offset;
    }
    for (const { data } of this.#kept) wire.down({ type: "event", data: [...data] });
  }

  /** @internal */
  detach(): Wire | undefined {
    const wire = this.#wire;
    this.#wire = undefined;
    for (const { reject } of this.#asked.values()) reject(new Error("the connection of the client has ended"));
    this.#asked.clear();
    return wire;
  }
}
