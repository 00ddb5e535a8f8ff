import type { Inputs } from "./connection.js";

/** `navigator.connection`, where there is one. */
type Network = Pick<EventTarget, "addEventListener">;

/** Whether there is no network, as far as the platform knows. */
export function isOffline(): boolean {
  return globalThis.navigator?.onLine === false;
}

/**
 * Tells a connection what happens to the page and to the network. Returns what ends that. Outside of a page (Node.js,
 * workers) only what exists there is listened to.
 *
 * A page that is frozen or put into the back/forward cache leaves its connection first: it could not read from it,
 * and a browser does not keep pages with open connections. It comes back by recovery.
 */
export function watchPage(to: Inputs): () => void {
  const { document, navigator } = globalThis;
  const controller = new AbortController();
  const listen = (target: Network | undefined, name: string, listener: (event: PageTransitionEvent) => void): void =>
    // React Native has a `window` without.
    target?.addEventListener?.(name, listener as (event: Event) => void, { signal: controller.signal });
  const wake = (): void => to.wake("the page is shown again");

  listen(globalThis, "online", () => to.online());
  listen(globalThis, "offline", () => to.offline());
  listen((navigator as { connection?: Network } | undefined)?.connection, "change", () => to.networkChanged());
  listen(document, "visibilitychange", () => document.visibilityState === "visible" && wake());
  // Chrome thaws a page without a change of its visibility.
  listen(document, "resume", wake);
  listen(document, "freeze", () => to.sleep("the page is frozen"));
  listen(globalThis, "pageshow", ({ persisted }) => persisted && wake());
  listen(globalThis, "pagehide", ({ persisted }) =>
    persisted ? to.sleep("the page is in the back/forward cache") : to.leave(),
  );
  return () => controller.abort();
}
