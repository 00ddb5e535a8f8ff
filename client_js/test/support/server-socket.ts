import type { SocketLike } from "../../src/socket-like.js";

type Handler = (...args: never[]) => unknown;

/** A socket whose server is the test: it handles events by `handlers`, and remembers what it was sent. */
export class ServerSocket implements SocketLike {
  connected = false;
  recovered = false;
  auth: SocketLike["auth"] = {};
  sendBuffer: unknown[] = [];
  readonly io = {
    engine: { transport: { name: "test" }, on: (): void => {} },
    _close: (): void => this.lose("forced close"),
  };
  readonly volatile = { emit: (event: string, ...args: unknown[]): void => this.emit(event, ...args) };
  /** By event; what they return, be it later, is the ack. Those of `tidegate:once` are found by the event within. */
  readonly handlers: Record<string, Handler> = {};
  /** Events and their arguments, without acks. */
  readonly sent: [event: string, ...args: unknown[]][] = [];
  /** While true, connecting does not come to an end; see `comeBack()`. */
  isAway = false;
  /** How often it was told to connect. */
  attempts = 0;
  readonly #listeners = new Map<string, Set<(...args: never[]) => void>>();

  connect(): void {
    this.attempts++;
    queueMicrotask(() => {
      if (this.connected || this.isAway) return;
      this.connected = true;
      this.tell("connect");
    });
  }

  comeBack(): void {
    this.isAway = false;
    this.connect();
  }

  disconnect(): void {
    this.connected = false;
  }

  /** The connection breaks. */
  lose(reason = "transport close"): void {
    if (!this.connected) return;
    this.connected = false;
    this.tell("disconnect", reason);
  }

  on(event: string, listener: (...args: never[]) => void): void {
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners.add(listener));
  }

  off(event: string, listener: (...args: never[]) => void): void {
    this.#listeners.get(event)?.delete(listener);
  }

  listenersOf(event: string): number {
    return this.#listeners.get(event)?.size ?? 0;
  }

  /** The server sends an event. */
  tell(event: string, ...args: unknown[]): void {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) listener(...(args as never[]));
  }

  emit(event: string, ...args: unknown[]): void {
    const ack = typeof args.at(-1) === "function" ? (args.pop() as (...values: unknown[]) => void) : undefined;
    const isOnce = event === "tidegate:once";
    const [name, ...values] = isOnce ? (args.slice(3) as [string, ...unknown[]]) : [event, ...args];
    if (isOnce && name === undefined) return ack?.(0);
    this.sent.push([name, ...values]);
    const handler = this.handlers[name];
    if (!handler) return isOnce ? ack?.(2, { message: `no handler for '${name}'` }) : undefined;
    const answer = (...answers: unknown[]): void => {
      if (this.connected) ack?.(...answers);
    };
    void Promise.resolve()
      .then(() => handler(...(values as never[])))
      .then(
        (value) => (isOnce ? answer(0, value) : answer(value)),
        (error: Error) => answer(1, { message: error.message }),
      );
  }

  sentOf(event: string): unknown[][] {
    return this.sent.filter(([name]) => name === event).map(([, ...args]) => args);
  }
}
