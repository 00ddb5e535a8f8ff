import type { TransportReservedEvents } from "engine.io-client";
import { NodeXHR } from "socket.io-client";
import { inside } from "./engine-seam.js";
import { tellsCause, tryNoOthersIfForbidden } from "./refused.js";

type CloseDetails = Parameters<TransportReservedEvents["close"]>[0];

/** An enum, which leaves no more of a name than its value in a bundle. */
const enum Fixed {
  /**
   * How long the server's close packet waits for the answer to a `POST` under way: the packet does not say why the
   * session ends, but that answer does where it is the `POST` that the server has refused.
   */
  LAST_ANSWER_MS = 1_000,
}

/**
 * Long-polling as socket.io-client does it (`NodeXHR` is its default; in a browser that is the browser's own),
 * which tells the server on the handshake what else the client knows, so that it can offer xhr-streaming, and
 * lets the application see why the server has closed the session.
 */
export class Polling extends NodeXHR {
  /** Ends the transport as the server's close packet asks for; a second call reaches nobody. */
  #goodbye: (() => void) | undefined;

  protected override uri(): string {
    if (this.query.sid) {
      delete this.query.transports;
    } else {
      this.query.transports = inside(this.socket).transports.join();
    }
    return super.uri();
  }

  protected override onClose(details?: CloseDetails): void {
    // Only the close packet has details here.
    if (!details || this.writable) return super.onClose(details);
    // A POST is under way.
    this.readyState = "closed"; // or it would poll on
    this.#goodbye = () => super.onClose(details);
    this.setTimeoutFn(this.#goodbye, Fixed.LAST_ANSWER_MS);
    this.once("drain", this.#goodbye);
  }

  protected override onError(reason: string, description: unknown, context?: unknown): this {
    const text = (context as XMLHttpRequest | undefined)?.responseText;
    if (this.#goodbye && !tellsCause(text)) {
      this.#goodbye();
      return this;
    }
    tryNoOthersIfForbidden(this.socket, text);
    return super.onError(reason, description, context);
  }
}
