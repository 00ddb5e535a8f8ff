// What refusalOf() finds in the errors of real clients, one attempt after another. `steps` names them and their
// servers; what comes back is the refusal, or null, by step.
import { Fetch, NodeXHR, NodeWebSocket, io as stock } from "socket.io-client";
import { io, readRefusal, refusalOf, shouldRetry, withStreaming } from "../../../client_js/test/support/client.mjs";
import { FACTOR, run, within } from "./clients.mjs";

const CLIENTS = {
  "stock polling": { io: stock, options: { transports: [NodeXHR] } },
  "stock fetch": { io: stock, options: { transports: [Fetch] } },
  "stock websocket": { io: stock, options: { transports: [NodeWebSocket] } },
  "tidegate polling": { io, options: withStreaming({ transports: ["polling"] }) },
  "tidegate streaming": { io, options: withStreaming({ transports: ["xhr-streaming"] }) },
  // With a way back to other transports, of which the last one shows nothing of a refused handshake.
  "tidegate all": { io, options: withStreaming({ upgrade: false }) },
  "tidegate websocket": { io, options: withStreaming({ transports: ["websocket"] }) },
};

async function describe(error) {
  const refusal = refusalOf(error);
  if (shouldRetry(error) !== (refusal?.retry !== "no")) throw new Error("shouldRetry() differs");
  return refusal ?? (await readRefusal(error)) ?? null;
}

run(async ({ client: name, steps }) => {
  const client = CLIENTS[name];
  const results = {};
  for (const { step, url, namespace = "/", options = {}, write } of steps) {
    const socket = client.io(url + namespace, {
      forceNew: true,
      reconnection: false,
      timeout: 15_000 * FACTOR,
      ...client.options,
      ...options,
    });
    const ended = new Promise((resolve) => {
      socket.once("connect_error", (error) => resolve(describe(error)));
      socket.once("disconnect", (reason, details) => resolve(describe(details)));
    });
    socket.once("connect", () => {
      if (write !== undefined) socket.io.engine.write(write);
    });
    results[step] = await within(ended, `the end of ${step}`);
    socket.disconnect();
  }
  return results;
});
