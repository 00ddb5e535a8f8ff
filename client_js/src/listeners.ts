/** Functions that are told something. One that throws costs the others nothing; its error is reported as uncaught. */
export class Listeners<A extends unknown[]> {
  readonly #all = new Set<(...args: A) => void>();

  /** Returns what takes the listener out again. */
  add(listener: (...args: A) => void): () => void {
    // The same function may be added twice, and is then told twice.
    const own = (...args: A): void => listener(...args);
    this.#all.add(own);
    return () => void this.#all.delete(own);
  }

  tell(...args: A): void {
    for (const listener of [...this.#all]) guarded(() => listener(...args));
  }
}

/** Makes a call whose error costs the caller nothing, and is reported as uncaught. */
export function guarded(call: () => void): void {
  try {
    call();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

/** A value that can be read at any time and watched; `subscribe` fits React's `useSyncExternalStore`. */
export interface Observable<T> {
  get(): T;
  /** Calls `listener` with each new value, not with the one there is. Returns what ends that. */
  subscribe(listener: (value: T) => void): () => void;
}

/** An `Observable` from its owner's side. */
export class Variable<T> implements Observable<T> {
  #value: T;
  readonly #listeners = new Listeners<[T]>();

  constructor(value: T) {
    this.#value = value;
  }

  get(): T {
    return this.#value;
  }

  set(value: T): void {
    this.#value = value;
    this.#listeners.tell(value);
  }

  subscribe(listener: (value: T) => void): () => void {
    return this.#listeners.add((value) => {
      // Who sets another value on hearing of this one has told the others: they would hear of this one after that.
      if (value === this.#value) listener(value);
    });
  }
}
