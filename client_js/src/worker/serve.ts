import type { Client } from "../client.js";
import { Hub } from "./hub.js";
import type { Port } from "./messages.js";

/** `self` of a SharedWorker or of a dedicated worker, or a MessagePort. */
export interface ServeScope {
  addEventListener(type: string, listener: (event: Event) => void): void;
}

/**
 * In the worker's script: one connection for all pages that use the worker by `connectShared()`. `open` is called when
 * the first one comes. Call it right away, not after an `await`: a page that connects before is not heard.
 *
 * ```ts
 * serve(self, () => connect("https://example.com", { token }));
 * ```
 */
export function serve(scope: ServeScope, open: () => Client<never> | Client<object>): void {
  if ("document" in scope) throw new TypeError("serve() belongs in the script of a worker, not in a page");
  const hub = new Hub(open as () => Client);
  if ("onconnect" in scope) {
    scope.addEventListener("connect", (event) => hub.attach((event as MessageEvent).ports[0] as Port));
  } else {
    hub.attach(scope as Port);
  }
}
