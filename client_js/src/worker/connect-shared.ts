import { Client } from "../client.js";
import type { OutboxOptions } from "../outbox.js";
import type { Port } from "./messages.js";
import { PortSocket } from "./port-socket.js";

/** What has a port to the worker: a SharedWorker, a dedicated Worker, or the port itself. */
export type WorkerLike = Port | ({ readonly port: Port } & Pick<Port, "addEventListener">);

export interface SharedOptions<C> {
  /** Of this page. */
  outbox?: OutboxOptions;
  /** Begin at once. Default: true. */
  autoConnect?: boolean;
  /** Makes a connection of this page's own, where there can be no worker. */
  fallback?: () => Client<C>;
  /** Is told why the fallback is used; default: a warning on the console. */
  onFallback?: (reason: string) => void;
}

const OPTIONS = ["outbox", "autoConnect", "fallback", "onFallback"];
/** The worker keeps the time of attempts; the page only waits for it. */
const PATIENT = { connectBudget: 2 ** 31 - 1, firstDelay: 50, maxDelay: 5_000 };

/**
 * A client on the connection that a worker holds for all pages, see `serve()`.
 *
 * `worker`: one, or what makes one. Throws where there can be none, and no `fallback`.
 *
 * ```ts
 * const client = connectShared<Chat>(() => new SharedWorker(new URL("./worker.js", import.meta.url), { type: "module" }));
 * ```
 */
export function connectShared<C = object>(
  worker: WorkerLike | (() => WorkerLike),
  options: SharedOptions<C> = {},
): Client<C> {
  const { outbox, autoConnect = true, fallback, onFallback = warn } = options;
  const unknown = Object.keys(options).filter((name) => !OPTIONS.includes(name));
  if (unknown.length > 0) {
    throw new TypeError(
      `connectShared: ${unknown.join(", ")} cannot differ from page to page: there is one connection, whose options ` +
        "are those of connect() in the worker. For another connection, use a SharedWorker of another name.",
    );
  }
  let source: WorkerLike;
  try {
    source = typeof worker === "function" ? worker() : worker;
  } catch (error) {
    const reason = `no worker: ${(error as Error).message}`;
    if (!fallback) throw new Error(`connectShared: ${reason}, and there is no fallback`);
    onFallback(reason);
    return fallback();
  }
  const socket = new PortSocket("port" in source ? source.port : source);
  // Its script could not be loaded, or has thrown.
  source.addEventListener("error", ({ message }: Partial<ErrorEvent>) => {
    socket.fail(`the worker has failed: ${message ?? "its script cannot be loaded"}`);
  });
  return new Client<C>(socket, { ...PATIENT, ...(outbox && { outbox }), autoConnect });
}

function warn(reason: string): void {
  console.warn(`tidegate: this page has a connection of its own (${reason})`);
}
