import type { TestContext } from "node:test";
import type { CoreClient } from "../../src/core/index.js";
import type { ConnectionState } from "../../src/index.js";

/** A state in few words: `recovering/lost 1 +250` has failed once and tries again in 250 ms. */
export function inWords(state: ConnectionState): string {
  const words = `${state.status}/${state.reason.code}`;
  if (state.status === "connected") return `${words}${state.recovered ? " recovered" : ""}`;
  if (!("failures" in state)) return words;
  const wait = state.retryAt === undefined ? "" : ` +${Math.round(state.retryAt - Date.now())}`;
  return `${words} ${state.failures}${wait}`;
}

/** States as they come, from now on; `take()` empties the list. */
export function watch<C>(client: CoreClient<C>): { states: string[]; take(): string[] } {
  const states: string[] = [];
  client.connection.subscribe((state) => void states.push(inWords(state)));
  return { states, take: () => states.splice(0) };
}

/** Timers and the date by hand; the returned set holds the timers that are set. */
export function mockTimers(t: TestContext): { tick(ms: number): void; timers: Set<unknown> } {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const { setTimeout: set, clearTimeout: clear } = globalThis;
  const timers = new Set<unknown>();
  globalThis.setTimeout = ((what: () => void, ms: number) => {
    const timer: unknown = set(() => {
      timers.delete(timer);
      what();
    }, ms);
    timers.add(timer);
    return timer;
  }) as typeof setTimeout;
  globalThis.clearTimeout = ((timer: never) => {
    timers.delete(timer);
    clear(timer);
  }) as typeof clearTimeout;
  t.after(() => Object.assign(globalThis, { setTimeout: set, clearTimeout: clear }));
  return { tick: (ms) => t.mock.timers.tick(ms), timers };
}

/** `Math.random()` gives this. */
export function mockRandom(t: TestContext, value: number): void {
  t.mock.method(Math, "random", () => value);
}

/** What promises that nobody has caught were rejected with. */
export function unhandled(t: TestContext): unknown[] {
  const errors: unknown[] = [];
  const listener = (error: unknown): void => void errors.push(error);
  const others = process.listeners("unhandledRejection");
  process.removeAllListeners("unhandledRejection");
  process.on("unhandledRejection", listener);
  t.after(() => {
    process.off("unhandledRejection", listener);
    for (const other of others) process.on("unhandledRejection", other);
  });
  return errors;
}

/** Beyond all microtasks, when Node.js reports rejections; mocked timers leave it alone. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** A page of a browser, as far as the client listens to one; `leave()` when the client is closed. */
export class Page {
  static #current: Page | undefined;

  static leave(): void {
    if (Page.#current) Page.#current.#restore();
    Page.#current = undefined;
  }

  readonly document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  readonly network = new EventTarget();
  readonly navigator = { onLine: true, connection: this.network };
  readonly #window = new EventTarget();

  /** Those of the client that listen to anything here. */
  listeners = 0;
  readonly #restore: () => void;

  constructor() {
    Page.leave();
    Page.#current = this;
    const { document, navigator, network } = this;
    for (const target of [document, network, this.#window]) {
      const { addEventListener: add, removeEventListener: remove } = target;
      target.addEventListener = (...args: Parameters<typeof add>) => (this.listeners++, add.apply(target, args));
      target.removeEventListener = (...args: Parameters<typeof remove>) => (this.listeners--, remove.apply(target, args));
    }
    const parts: Record<string, unknown> = {
      window: {},
      document,
      navigator,
      addEventListener: this.#window.addEventListener.bind(this.#window),
      removeEventListener: this.#window.removeEventListener.bind(this.#window),
    };
    const before = Object.keys(parts).map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)] as const);
    for (const [name, value] of Object.entries(parts)) {
      Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    }
    this.#restore = () => {
      for (const [name, descriptor] of before) {
        if (descriptor) Object.defineProperty(globalThis, name, descriptor);
        else Reflect.deleteProperty(globalThis, name);
      }
    };
  }

  online(isOnline: boolean): void {
    this.navigator.onLine = isOnline;
    this.#window.dispatchEvent(new Event(isOnline ? "online" : "offline"));
  }

  changeNetwork(): void {
    this.network.dispatchEvent(new Event("change"));
  }

  show(isVisible: boolean): void {
    this.document.visibilityState = isVisible ? "visible" : "hidden";
    this.document.dispatchEvent(new Event("visibilitychange"));
  }

  freeze(): void {
    this.document.dispatchEvent(new Event("freeze"));
  }

  resume(): void {
    this.document.dispatchEvent(new Event("resume"));
  }

  /** `persisted`: into, or out of, the back/forward cache. */
  hide(persisted: boolean): void {
    this.#window.dispatchEvent(Object.assign(new Event("pagehide"), { persisted }));
  }

  showAgain(persisted: boolean): void {
    this.#window.dispatchEvent(Object.assign(new Event("pageshow"), { persisted }));
  }
}
