import type { Client } from "../client.js";
import type { TidegateError } from "../errors.js";

interface Ask {
  readonly channel: string;
  readonly since?: unknown;
}

interface Room<Page> {
  readonly pages: Set<Page>;
  /** Questions that are not answered yet, by where they go on from: pages at the same place share one. */
  readonly questions: Map<string, Promise<object>>;
}

/**
 * Which pages are subscribed to which channels: the worker to all of them, once. Each page keeps its own position, so
 * the server is asked for what that page has missed.
 */
export class Rooms<Page extends object> {
  readonly #client: Client;
  readonly #rooms = new Map<string, Room<Page>>();

  constructor(client: Client, tell: (page: Page, event: string, message: unknown) => void) {
    this.#client = client;
    for (const event of ["channel:publication", "channel:join", "channel:leave"]) {
      client.on(event, (message: unknown) => {
        for (const page of [...(this.#rooms.get((message as Ask).channel)?.pages ?? [])]) tell(page, event, message);
      });
    }
    client.connection.subscribe(({ status }) => {
      // The pages ask anew, over the new connection.
      if (status !== "connected") for (const { questions } of this.#rooms.values()) questions.clear();
    });
  }

  /** Resolves with the answer to the page. */
  async join(page: Page, ask: Ask): Promise<object> {
    const { channel, since } = ask;
    const room = this.#rooms.get(channel) ?? { pages: new Set(), questions: new Map() };
    this.#rooms.set(channel, room);
    room.pages.add(page);
    const key = JSON.stringify(since ?? null);
    let question = room.questions.get(key);
    if (!question) {
      question = this.#question(ask);
      room.questions.set(key, question);
    }
    const answer = await question;
    if (room.questions.get(key) === question) room.questions.delete(key);
    const { error } = answer as { error?: { retry?: string } };
    // Refused for good: the server has nothing to forget.
    if (error && error.retry !== "later") this.#remove(room, channel, page);
    return answer;
  }

  leave(page: Page, channel: string): void {
    const room = this.#rooms.get(channel);
    if (!room || !this.#remove(room, channel, page) || this.#client.connection.get().status === "closed") return;
    // In the outbox behind the questions; offline too: a connection that is recovered still has the subscription.
    void this.#client.emit("channel:unsubscribe", { channel });
  }

  leaveAll(page: Page): void {
    for (const channel of [...this.#rooms.keys()]) this.leave(page, channel);
  }

  /** Whether it was the last. */
  #remove(room: Room<Page>, channel: string, page: Page): boolean {
    if (!room.pages.delete(page) || room.pages.size > 0) return false;
    if (this.#rooms.get(channel) === room) this.#rooms.delete(channel);
    return true;
  }

  async #question(ask: Ask): Promise<object> {
    try {
      return (await this.#client.emit("channel:subscribe", ask)) as object;
    } catch (error) {
      const { code, message } = error as TidegateError;
      return { error: { message, retry: code === "unhandled" ? "no" : "later" } };
    }
  }
}
