/** Calls `deliver` later: one packet arrives with each call. The order of packets does not depend on it. */
export type Scheduler = (deliver: () => void) => void;

/** Socket.IO's packets, without their encoding. */
export type PacketUp =
  | { readonly type: "connect"; readonly auth: unknown; readonly pid?: string; readonly offset?: string }
  | Common;

export type PacketDown =
  | { readonly type: "connect"; readonly sid: string; readonly pid?: string }
  | { readonly type: "connect_error"; readonly message: string; readonly data?: unknown }
  | Common;

type Common =
  | { readonly type: "event"; readonly data: unknown[]; readonly id?: number }
  | { readonly type: "ack"; readonly data: unknown[]; readonly id: number }
  | { readonly type: "disconnect" };

/** One side of a wire. */
export interface End<Packet> {
  received(packet: Packet): void;
  closed(reason: string): void;
}

/** What is under way anywhere in a gateway; `settled()` waits for its end. */
export class UnderWay {
  #count = 0;
  #waiting: (() => void)[] = [];

  begin(): void {
    this.#count++;
  }

  end(): void {
    if (--this.#count > 0) return;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  get isNothing(): boolean {
    return this.#count === 0;
  }

  nothing(): Promise<void> {
    return this.isNothing ? Promise.resolve() : new Promise((resolve) => this.#waiting.push(resolve));
  }
}

/**
 * A connection: packets arrive in order, later, as copies.
 *
 * ```
 * open ──► closed   by the client: what it has sent arrives first
 *   │  └─► cut      what is under way is lost, both ways
 *   └────► dead     nothing arrives any more, and neither side is told
 * ```
 */
export class Wire {
  client: End<PacketDown> | undefined;
  server: End<PacketUp> | undefined;
  isOpen = true;
  #isDead = false;
  readonly #up: (() => void)[] = [];
  readonly #down: (() => void)[] = [];

  constructor(
    private readonly schedule: Scheduler,
    private readonly underWay: UnderWay,
  ) {}

  up(packet: PacketUp): void {
    if (!this.isOpen) return;
    const copy = overTheWire(packet) as PacketUp;
    this.#push(this.#up, () => this.server?.received(copy));
  }

  down(packet: PacketDown): void {
    if (!this.isOpen) return;
    const copy = overTheWire(packet) as PacketDown;
    this.#push(this.#down, () => this.client?.received(copy));
  }

  /** By the client, which knows. */
  close(): void {
    if (!this.isOpen) return;
    this.#push(this.#up, () => this.server?.closed("client"));
    this.#leave();
  }

  /** The server has nothing more to say, and the client is told after what was said. */
  end(reason: string): void {
    if (!this.isOpen) return;
    this.server = undefined;
    this.#push(this.#down, () => this.#tellClient(reason));
  }

  cut(): void {
    if (!this.isOpen) return;
    const { server } = this;
    this.#loseAll();
    this.#isDead = false;
    this.#push(this.#down, () => this.#tellClient("transport close"));
    this.server = undefined;
    server?.closed("cut");
  }

  die(): void {
    this.#loseAll();
    this.#isDead = true;
  }

  #loseAll(): void {
    this.#up.length = 0;
    this.#down.length = 0;
  }

  #tellClient(reason: string): void {
    const { client } = this;
    this.#leave();
    client?.closed(reason);
  }

  #leave(): void {
    this.isOpen = false;
    this.client = undefined;
    this.#down.length = 0;
  }

  #push(queue: (() => void)[], arrive: () => void): void {
    if (this.#isDead) return;
    queue.push(arrive);
    this.underWay.begin();
    this.schedule(() => {
      try {
        // Nothing where it was lost meanwhile.
        queue.shift()?.();
      } finally {
        this.underWay.end();
      }
    });
  }
}

/** A key that data does not have. */
const BINARY = "\u0000binary";

interface Placeholder {
  readonly [BINARY]: number;
}

/**
 * A copy as the other side would read it: JSON, beside which binary data goes as it is. A Blob is not copied, since
 * nobody can change it.
 */
export function overTheWire(value: unknown): unknown {
  const binaries: unknown[] = [];
  const text = JSON.stringify(value, function (this: Record<string, unknown>, key, given: unknown) {
    // What toJSON() of a Buffer makes of it is not what goes over the wire.
    const own = this[key];
    if (!isBinary(own)) return given;
    return { [BINARY]: binaries.push(own) - 1 } satisfies Placeholder;
  });
  if (text === undefined) return undefined;
  const taken = binaries.map(copyOf);
  return JSON.parse(text, (_, each: unknown) => (isPlaceholder(each) ? taken[each[BINARY]] : each)) as unknown;
}

function isPlaceholder(value: unknown): value is Placeholder {
  return typeof value === "object" && value !== null && BINARY in value;
}

function isBinary(value: unknown): value is ArrayBuffer | ArrayBufferView | Blob {
  return value instanceof ArrayBuffer || ArrayBuffer.isView(value) || (typeof Blob === "function" && value instanceof Blob);
}

/** As socket.io-client hands it over: a Buffer in Node.js, an ArrayBuffer elsewhere. */
function copyOf(binary: unknown): unknown {
  if (!(binary instanceof ArrayBuffer || ArrayBuffer.isView(binary))) return binary;
  const bytes = ArrayBuffer.isView(binary)
    ? new Uint8Array(binary.buffer, binary.byteOffset, binary.byteLength)
    : new Uint8Array(binary);
  const { buffer } = new Uint8Array(bytes);
  const { Buffer } = globalThis as { Buffer?: { from(buffer: ArrayBuffer): Uint8Array } };
  return Buffer ? Buffer.from(buffer) : buffer;
}
