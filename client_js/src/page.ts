import type { Reason } from "./connection.js";
import type { Internals, PagePart } from "./core/client.js";

/** `navigator.connection`, where there is one. */
type Network = Pick<EventTarget, "addEventListener">;

const NO_NETWORK: Reason = { code: "network", message: "there is no network" };

/** Whether there is no network, as far as the platform knows. */
export function isOffline(): boolean {
  return globalThis.navigator?.onLine === false;
}

/**
 * The part that heeds the page and the network. Outside of a page (Node.js, workers) only what exists there is
 * listened to.
 *
 * A page that is frozen or put into the back/forward cache leaves its connection first: it could not read from it,
 * and a browser does not keep pages with open connections. It comes back by recovery.
 */
export function pageEvents(): PagePart {
  return { plug: watch };
}

function watch({ socket, connection, outbox }: Internals): void {
  const { document, navigator } = globalThis;
  let controller: AbortController | undefined;
  let asleep: Reason | undefined;
  /** A connection that was there before the network changed, or the page slept, may be dead and not know it. */
  const probe = (): void => {
    const { attempt } = connection;
    if (connection.status !== "connected") return;
    outbox.probe((isAlive) => {
      if (!isAlive && attempt === connection.attempt) connection.lose("the server does not answer");
    });
  };
  const changed = (): void => {
    connection.hooks.networkChanged?.();
    probe();
  };
  const wake = (message = "the page is shown again"): void => {
    asleep = undefined;
    const state = connection.state.get();
    if (state.status === "offline" || ("retryAt" in state && state.retryAt)) {
      connection.renew({ ...state.reason, message });
    } else {
      probe();
    }
  };
  const sleep = (message: string): void => connection.rest((asleep = { code: "page", message }));
  const listenAll = (signal: AbortSignal): void => {
    const listen = (target: Network | undefined, name: string, listener: (event: PageTransitionEvent) => void): void =>
      // React Native has a `window` without.
      target?.addEventListener?.(name, listener as (event: Event) => void, { signal });
    listen(globalThis, "online", () => {
      changed();
      wake("the network is back");
    });
    listen(globalThis, "offline", () => connection.rest(NO_NETWORK));
    listen((navigator as { connection?: Network } | undefined)?.connection, "change", changed);
    listen(document, "visibilitychange", () => document.visibilityState === "visible" && wake());
    // Chrome thaws a page without a change of its visibility.
    listen(document, "resume", () => wake());
    listen(document, "freeze", () => sleep("the page is frozen"));
    listen(globalThis, "pageshow", ({ persisted }) => persisted && wake());
    listen(globalThis, "pagehide", ({ persisted }) => {
      if (persisted) sleep("the page is in the back/forward cache");
      // The server need not keep the place.
      else socket.disconnect();
    });
  };
  connection.hooks.hindrance = () => (isOffline() ? NO_NETWORK : asleep);
  connection.state.subscribe(({ status }) => {
    if (status === "closed") {
      controller?.abort();
      controller = asleep = undefined;
    } else if (!controller) {
      controller = new AbortController();
      listenAll(controller.signal);
    }
  });
}
