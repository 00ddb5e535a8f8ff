import { decodePacket } from "engine.io-parser";
import { Downstream } from "./downstream.js";
import { inside } from "./engine-seam.js";
import { chooseHttp, exchange, viaXhr, type Abort, type Failure, type Http } from "./http.js";
import type { TransportOptions } from "./options.js";
import { Polling } from "./polling.js";
import { splitPayload } from "./records.js";

/** An enum, which leaves no more of a name than its value in a bundle. */
const enum Fixed {
  /** The packet that completes an upgrade, which the engine sends alone. */
  UPGRADE = "5",
  /** Nothing that takes part in a probe: it ends one. */
  NOOP = "6",
  PADDING_WITH_XHR = 2048,
  /** More than the bare noop that ends a response for an upgrade, so that the two differ. */
  MIN_PADDING = 3,
  SIGN_OF_LIFE = 16,
  CLOSE_TIMEOUT_MS = 5_000,
}
const BETTER = ["websocket", "webtransport"];

/**
 * xhr-streaming for socket.io-client: packets come in one long response after another and go by `POST`.
 *
 * ```
 * polling → xhr-streaming          this transport        server
 *   waits for WebSocket to fail         │
 *   GET sid, ack=0                      ├────────────────► 200, padding
 *   "open"; the engine sends 2probe     ├── POST ────────►
 *                                       ◄──── stream ───── 3probe
 *   the engine pauses polling           │
 *   the engine sends 5                  ├── POST ────────► packets go into the stream
 *
 * xhr-streaming → websocket: the engine calls pause(), which is done when the server has ended the response with
 * its noop and no POST is under way.
 * ```
 */
export class XhrStreaming extends Polling {
  declare protected readonly opts: TransportOptions;
  // installTimerFunctions() of the base class sets it beside setTimeoutFn.
  declare protected readonly clearTimeoutFn: typeof clearTimeout;

  readonly #http: Http;
  readonly #down: Downstream;
  /** From the start of an upgrade to this transport until its upgrade packet is sent. */
  #isProbing: boolean;
  /** The server has said that it does not know the session, or that the session ends. */
  #isGone = false;
  readonly #outbox: string[] = [];
  #abortPost: Abort | undefined;
  /** Our close packet, once the `POST` under way has ended. */
  #afterPost: (() => void) | undefined;
  #stopWaiting: (() => void) | undefined;

  constructor(opts: TransportOptions) {
    super(opts);
    this.#isProbing = !!this.query.sid;
    this.#http = chooseHttp(opts.via);
    this.#down = new Downstream({
      connect: (ack, onEnd, onText) => this.#request(onEnd, "", this.#streamQuery(ack), onText),
      onText: () => this.#isProbing && this.#openOnce(),
      onRecord: (record) => this.onData(record),
      onFail: (reason, cause) => this.#fail(reason, cause),
      setTimer: (callback, ms) => this.#setTimer(callback, ms),
      stallMs: () => opts.stallTimeout ?? inside(this.socket)._pingInterval + inside(this.socket)._pingTimeout / 4,
      firstMs: opts.firstRecordTimeout ?? 3_000,
    });
    this.once("close", () => this.#release());
  }

  override get name(): string {
    return "xhr-streaming";
  }

  override pause(onPause: () => void): void {
    // Long-polling waits until it is writable, and for the end of what is a poll to it.
    inside(this)._polling = true;
    super.pause(onPause);
    this.#down.drain(() => this.emitReserved("pollComplete"));
  }

  override close(): this {
    // The base class closes only what is opening or open; a pausing transport has a response open.
    if (!this.readyState.startsWith("paus")) return super.close();
    this.#release();
    this.onClose();
    return this;
  }

  override doOpen(): void {
    if (this.#isProbing) this.#leaveTheLeadToBetter();
    else this.#down.open();
  }

  override doClose(): void {
    // A close packet from a probe would end the session that goes on without it.
    const hasSession = this.readyState === "open" && !this.#isProbing && !this.#isGone;
    // A POST under way may carry the upgrade packet, without which the close packet would reach a mere candidate.
    let abort = this.#abortPost;
    if (hasSession) this.#abortPost = undefined;
    this.#release();
    // The server keeps a candidate for a while, and would repeat to the next what this one was sent.
    if (this.#isProbing && this.writable) this.#request(() => {}, Fixed.NOOP);
    if (!hasSession) return;
    const stopTimer = this.#setTimer(() => abort?.(), Fixed.CLOSE_TIMEOUT_MS);
    this.#afterPost = () => {
      abort = this.#request(stopTimer, "1");
    };
    if (!abort) this.#afterPost();
  }

  override doWrite(payload: string, done: () => void): void {
    if (payload === Fixed.UPGRADE) this.#isProbing = false;
    this.#outbox.push(...splitPayload(payload, inside(this.socket)._maxPayload));
    if (!this.#abortPost) this.#postNext(done);
  }

  override onData(record: string): void {
    const packet = decodePacket(record, this.socket.binaryType);
    const { type } = packet;
    // While probing the engine takes the first packet for the answer; later it has no use for a noop.
    if (type === "noop") return;
    if (type === "close") {
      this.#isGone = true;
      this.#down.close();
      return this.onClose({ description: "transport closed by the server" });
    }
    if (type === "open") this.#openOnce();
    if (type === "open" || type === "pong") this.#down.confirm();
    this.onPacket(packet);
  }

  #openOnce(): void {
    if (this.readyState === "opening") this.onOpen();
  }

  /** One `POST` at a time: the upgrade packet must not be overtaken, nor overtake the probe. */
  #postNext(done: () => void): void {
    const payload = this.#outbox.shift();
    if (payload === undefined || this.readyState === "closed") return done();
    const onEnd = (failure?: Failure): void => {
      this.#abortPost = undefined;
      if (this.#afterPost) {
        this.#afterPost();
      } else if (failure) {
        // Whether the server has had packets that failed is unknown, so they cannot be sent again.
        this.#fail("post error", failure);
      } else {
        this.#down.extend();
        this.#postNext(done);
      }
    };
    this.#abortPost = this.#request(onEnd, payload);
  }

  /** Waits until WebSocket and WebTransport, being probed at the same time, have failed or had their time. */
  #leaveTheLeadToBetter(): void {
    const { opts, transports } = inside(this.socket);
    let better = opts.upgrade ? transports.filter((name) => BETTER.includes(name)).length : 0;
    const start = (): void => {
      this.#stopWaiting?.();
      this.#down.open();
    };
    const onUpgradeError = (): void => {
      if (!--better) start();
    };
    const delay = better && (this.opts.upgradeDelay ?? 3_000);
    if (delay <= 0) return start();
    const stopTimer = this.#setTimer(start, delay);
    this.socket.on("upgradeError", onUpgradeError);
    this.#stopWaiting = () => {
      stopTimer();
      this.socket.off("upgradeError", onUpgradeError);
    };
  }

  #streamQuery(ack: number): Record<string, number> {
    const wanted = this.opts.padding ?? (this.#http === viaXhr ? Fixed.PADDING_WITH_XHR : 0);
    const padding = Math.max(wanted, this.query.sid ? Fixed.SIGN_OF_LIFE : 0);
    return { ack, ...(padding > 0 && { padding: Math.max(padding, Fixed.MIN_PADDING) }) };
  }

  #request(
    onEnd: (failure?: Failure) => void,
    body: string,
    query?: Record<string, number>,
    onText?: (text: string) => void,
  ): Abort {
    const own = this.query;
    this.query = { ...own, ...(query as object) };
    const url = this.uri();
    this.query = own;
    return exchange(this.#http, { ...this.opts, url, body, cookies: this.socket._cookieJar }, onEnd, onText);
  }

  #setTimer(callback: () => void, ms: number): () => void {
    const timer = this.setTimeoutFn(callback, ms);
    if (this.opts.autoUnref) (timer as unknown as { unref?: () => void }).unref?.();
    return () => this.clearTimeoutFn(timer);
  }

  #fail(reason: string, cause?: Failure): void {
    const status = cause?.status;
    this.#release();
    if (status && status < 500) this.#isGone = true;
    this.onError(`xhr-streaming: ${reason}`, status ?? cause, status && cause);
  }

  #release(): void {
    this.#stopWaiting?.();
    this.#down.close();
    this.#abortPost?.();
    this.#abortPost = undefined;
  }
}
