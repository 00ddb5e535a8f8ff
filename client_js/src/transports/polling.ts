import type { TransportReservedEvents } from "engine.io-client";
import { NodeXHR } from "socket.io-client";
import { rememberHandshake, transportNames, type TransportOptions } from "./options.js";
import { LAST_ANSWER_MS, tellsCause, tryNoOthersIfForbidden } from "./refused.js";

type CloseDetails = Parameters<TransportReservedEvents["close"]>[0];

/**
 * Long-polling as socket.io-client does it (`NodeXHR` is its default; in a browser that is the browser's own),
 * which tells the server on the handshake what else the client knows, so that it can offer xhr-streaming, and
 * lets the application see why the server has closed the session.
 */
export class Polling extends NodeXHR {
  // installTimerFunctions() of the base class sets it beside setTimeoutFn.
  declare protected readonly clearTimeoutFn: typeof clearTimeout;

  /** Ends the transport as the server's close packet asks for, while a `POST` is under way. */
  private goodbye: (() => void) | undefined;
  private goodbyeTimer: ReturnType<typeof setTimeout> | undefined;

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

  protected override onClose(details?: CloseDetails): void {
    // Only the close packet has details here.
    if (!details || this.writable) return super.onClose(details);
    this.readyState = "closed"; // or it would poll on
    this.goodbye = () => {
      this.clearTimeoutFn(this.goodbyeTimer);
      super.onClose(details);
    };
    this.goodbyeTimer = this.setTimeoutFn(this.goodbye, LAST_ANSWER_MS);
    this.once("drain", this.goodbye);
  }

  protected override onError(reason: string, description: unknown, context?: unknown): this {
    const text = (context as XMLHttpRequest | undefined)?.responseText;
    if (this.goodbye && !tellsCause(text)) {
      this.goodbye();
      return this;
    }
    this.clearTimeoutFn(this.goodbyeTimer);
    tryNoOthersIfForbidden(this.socket, text);
    return super.onError(reason, description, context);
  }
}
