import type { Client } from "../client.js";
import type { ConnectionState } from "../connection.js";
import { connect } from "../connect.js";
import { refusalOf } from "../refusals.js";
import type { Settings } from "./arguments.js";
import { EXIT, Failure } from "./failure.js";
import type { Output } from "./output.js";
import { tap } from "./tap.js";

/** A client for one command. `onFatal` is told when the connection ends for good. */
export function openClient(
  { url, auth, token, transports, path, timeoutMs }: Settings,
  output: Output,
  onFatal: (failure: Failure) => void,
  onEvent?: (event: string, args: readonly unknown[]) => void,
): Client {
  const client = connect(url, {
    path,
    transports,
    ...(auth && { auth }),
    ...(token !== undefined && { token: () => token }),
    ...(onEvent && { parser: tap(onEvent) }),
    outbox: { timeout: timeoutMs, maxBytes: 2 ** 28 },
    onTransport: ({ transport, outcome, as, ms, reason }) =>
      output.detail(`transport ${transport}: ${outcome} as ${as} after ${ms} ms${reason && `: ${reason}`}`),
    autoConnect: false,
  });
  let before: ConnectionState["status"] = "closed";
  const timer = setTimeout(() => {
    const { reason } = client.connection.get();
    onFatal(new Failure(EXIT.timeout, `no connection to ${url} within ${timeoutMs / 1_000} s${reason.message && `: ${reason.message}`}`));
  }, timeoutMs);
  client.connection.subscribe((state) => {
    const { status, reason } = state;
    const why = reason.message && `: ${reason.message}`;
    if (state.status === "connected") {
      clearTimeout(timer);
      const how = before === "connected" ? "now" : `connected${before === "recovering" ? again(state.recovered) : ""}`;
      output.detail(`${how} by ${state.transport}`);
    } else if (status === "closed") {
      clearTimeout(timer);
      if (reason.code === "client") return;
      const refusal = refusalOf(reason.cause);
      const hint = refusal ? ` (${refusal.name})` : "";
      onFatal(new Failure(EXIT.refused, reason.code === "server" ? reason.message : `refused${why}${hint}`));
    } else {
      const waits = "retryAt" in state && state.retryAt !== undefined ? `, next attempt in ${state.retryAt - Date.now()} ms` : "";
      output.detail(`${status}${why}${waits}`);
    }
    before = status;
  });
  client.connect();
  return client;
}

function again(isRecovered: boolean): string {
  return isRecovered ? " again, with what was missed," : " again";
}
