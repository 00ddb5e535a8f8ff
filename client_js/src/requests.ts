import type { OutboxPart } from "./core/client.js";
import { TidegateError } from "./errors.js";
import { Sender, type Message } from "./sender.js";

/**
 * Messages that are sent once, as plain events with an acknowledgement: what a client has in place of an outbox.
 *
 * ```
 * queued ──► sent ──► answered
 *    │ time    │ time, or the connection is lost
 *    ▼         ▼
 *  expired   timeout, lost
 * ```
 */
class Requests extends Sender {
  override probe(): void {
    // No event is known that any server would answer.
  }

  protected override disconnected(): void {
    for (const { event, settle } of this.sent) {
      settle(new TidegateError("lost", `${event}: the connection was lost`));
    }
  }

  protected override send({ event, args, settle }: Message): void {
    try {
      this.socket.emit(event, ...args, (...values: unknown[]) => settle(undefined, values));
    } catch (error) {
      // Arguments that are no JSON, or a name that socket.io-client has for itself.
      settle(new TidegateError("refused", `${event}: ${(error as Error).message}`));
    }
  }
}

export const requests: OutboxPart = { plug: (socket) => new Requests(socket) };
