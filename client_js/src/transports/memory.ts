/** What is stored. Anybody may have changed it: compare its members, do not rely on their types. */
interface Entry {
  /** The transport that carried a session last, how many milliseconds it took to, and until when that is of use. */
  readonly name?: string;
  readonly ms?: number;
  readonly until?: number;
  /** What is left alone, and until when. */
  readonly demoted?: Readonly<Record<string, number>>;
}

export type MemoryStorage = Pick<Storage, "getItem" | "setItem">;

export interface MemoryOptions {
  /** How long what worked last is remembered; it counts from when it worked last. Default: an hour. */
  readonly rememberFor?: number;
  /** How long a transport that keeps dying young is left alone. Default: 10 minutes. */
  readonly demoteFor?: number;
  /** Default: the page's `localStorage`. What it does not take lasts as long as the page. */
  readonly storage?: MemoryStorage;
}

const MAX_DEATHS = 3;

/** By key, what storage did not take. */
const inPage = new Map<string, string>();

/** What is known about the transports, per network (as far as the page can tell one from another) and origin. */
export class TransportMemory {
  readonly #origin: string;
  readonly #options: MemoryOptions;
  /** In a row, by transport. */
  #deaths: Record<string, number> = {};

  constructor(origin: string, options: MemoryOptions) {
    this.#origin = origin;
    this.#options = options;
  }

  /** What carried a session last. */
  get last(): Entry {
    const entry = this.#read();
    return (entry.until ?? 0) > Date.now() ? entry : {};
  }

  remember(name: string, ms: number): void {
    this.#write({ name, ms, until: Date.now() + (this.#options.rememberFor ?? 3_600_000) });
  }

  /** What was remembered holds no more; what is demoted still does. */
  forget(): void {
    this.#write({});
  }

  /** The network is another: what was learnt about failures is worth nothing. */
  forgive(): void {
    this.#deaths = {};
    const { last } = this;
    this.#write({ ...(last.name === "websocket" && last), demoted: {} });
  }

  isDemoted(name: string): boolean {
    return (this.#read().demoted?.[name] ?? 0) > Date.now();
  }

  lived(name: string): void {
    this.#deaths[name] = 0;
  }

  /** Returns for how many milliseconds it is demoted, having died too often. */
  died(name: string): number {
    const deaths = (this.#deaths[name] ?? 0) + 1;
    this.#deaths[name] = deaths % MAX_DEATHS;
    if (deaths < MAX_DEATHS) return 0;
    const { demoteFor = 600_000 } = this.#options;
    this.#write({ demoted: { ...this.#read().demoted, [name]: Date.now() + demoteFor } });
    return demoteFor;
  }

  #read(): Entry {
    try {
      return JSON.parse(inPage.get(this.#key) ?? this.#storage.getItem(this.#key) ?? "{}") ?? {};
    } catch {
      // There is no storage (a TypeError), it is blocked (a SecurityError) or the entry is broken (a SyntaxError).
      return {};
    }
  }

  #write(entry: Entry): void {
    const text = JSON.stringify({ demoted: this.#read().demoted, ...entry });
    try {
      this.#storage.setItem(this.#key, text);
      inPage.delete(this.#key);
    } catch {
      // There is none, or it is blocked or full, as in some private windows.
      inPage.set(this.#key, text);
    }
  }

  get #storage(): MemoryStorage {
    // Node.js has one too, and warns where it is touched without having been set up.
    return this.#options.storage ?? (globalThis.document && localStorage);
  }

  get #key(): string {
    const { connection } = (globalThis.navigator ?? {}) as { connection?: { type?: string } };
    // The type is "undefined" where the page cannot tell.
    return `tidegate transport ${connection?.type} ${this.#origin}`;
  }
}
