import type { Client } from "../../src/client.js";
import { connectShared, serve, type SharedOptions } from "../../src/worker/index.js";

/** What a SharedWorker's script sees as `self`: pages attach to it by real MessagePorts. */
export class WorkerScope extends EventTarget {
  onconnect = null;
  readonly #ports: MessagePort[] = [];
  readonly #closed: Promise<unknown>[] = [];

  /** The page's end of a new port. */
  attach(): MessagePort {
    const { port1, port2 } = new MessageChannel();
    this.#ports.push(port1, port2);
    this.#closed.push(new Promise((resolve) => port2.addEventListener("close", resolve)));
    this.dispatchEvent(Object.assign(new Event("connect"), { ports: [port2] }));
    return port1;
  }

  /** Resolves when the worker has been told. */
  async closePorts(): Promise<void> {
    for (const port of this.#ports) port.close();
    await Promise.all(this.#closed);
  }
}

/** A worker with its client, and what opens pages on it. */
export function startWorker<C>(open: () => Client<never> | Client<object>) {
  const scope = new WorkerScope();
  serve(scope, open);
  const clients: Client<C>[] = [];
  return {
    scope,
    openPage(options?: SharedOptions<C>): { client: Client<C>; port: MessagePort } {
      const port = scope.attach();
      const client = connectShared<C>(port, options);
      clients.push(client);
      return { client, port };
    },
    async close(): Promise<void> {
      for (const client of clients) client.close();
      await scope.closePorts();
    },
  };
}
