import { useMemo, useSyncExternalStore } from "react";
import type { CoreClient } from "../core/client.js";
import type { ConnectionState } from "../connection.js";

/** What a server renders, which is also what hydration begins with. */
const CONNECTING: ConnectionState = {
  status: "connecting",
  failures: 0,
  retryAt: undefined,
  reason: { code: "start", message: "" },
};

/** What state the connection is in, and why. */
export function useConnection<C>({ connection }: CoreClient<C>): ConnectionState {
  return useSyncExternalStore(
    useMemo(() => (tell: () => void) => connection.subscribe(tell), [connection]),
    () => connection.get(),
    () => CONNECTING,
  );
}
