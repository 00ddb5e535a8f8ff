import { NodeXHR } from "socket.io-client";
import { rememberHandshake, transportNames, type TransportOptions } from "./options.js";

/**
 * Long-polling as socket.io-client does it (`NodeXHR` is its default; in a browser that is the browser's own),
 * which tells the server on the handshake what else the client knows, so that it can offer xhr-streaming.
 */
export class Polling extends NodeXHR {
  constructor(opts: TransportOptions) {
    super(opts);
    rememberHandshake(opts.socket);
  }

  protected override uri(): string {
    if (this.query.sid === undefined) {
      this.query.transports = transportNames(this.opts).join(",");
    } else {
      delete this.query.transports;
    }
    return super.uri();
  }
}
