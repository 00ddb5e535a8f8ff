import { Transport } from "engine.io-client";
import { encodePayload, type Packet } from "engine.io-parser";
import { Downstream } from "./downstream.js";
import { chooseHttp, type Abort, type ErrorAnswer, type Http, type HttpRequest } from "./http.js";
import { handshakeOf, rememberHandshake, transportNames, type TransportOptions } from "./options.js";
import { splitPayload } from "./records.js";
import { LAST_ANSWER_MS, tellsCause, tryNoOthersIfForbidden } from "./refused.js";

const PADDING_WITH_XHR = 2048;
/** More than the bare noop that ends a response for an upgrade, so that the two differ. */
const MIN_PADDING = 3;
const SIGN_OF_LIFE = 16;
const CLOSE_TIMEOUT_MS = 5_000;
const BETTER = ["websocket", "webtransport"];

let stamp = 0;

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
export class XhrStreaming extends Transport {
  declare protected readonly opts: TransportOptions;
  // installTimerFunctions() of the base class sets it beside setTimeoutFn.
  declare protected readonly clearTimeoutFn: typeof clearTimeout;

  private readonly http: Http | undefined;
  private readonly down: Downstream;
  /** From the start of an upgrade to this transport until its upgrade packet is sent. */
  private isProbing: boolean;
  private isGone = false;
  private readonly outbox: string[] = [];
  private abortPost: Abort | undefined;
  /** The close packet, while a `POST` that it must not overtake is under way. */
  private afterPost: (() => void) | undefined;
  private stopWaiting: (() => void) | undefined;
  /** Ends the transport as the server's close packet asks for, while a `POST` is under way. */
  private goodbye: (() => void) | undefined;

  constructor(opts: TransportOptions) {
    super(opts);
    this.isProbing = this.query.sid !== undefined;
    if (!this.isProbing) rememberHandshake(opts.socket);
    this.http = chooseHttp(opts.via);
    this.down = new Downstream({
      connect: (ack, events) => this.platform.stream(this.request(this.streamQuery(ack)), events),
      onResponse: () => {
        if (this.isProbing && this.readyState === "opening") this.onOpen();
      },
      onRecord: (record) => this.onData(record),
      onFail: (reason, cause, isGone, answer) => {
        this.isGone = isGone;
        this.fail(reason, cause, answer);
      },
      setTimer: (callback, ms) => this.setTimer(callback, ms),
      stallTimeoutMs: () => this.stallTimeoutMs(),
      firstRecordTimeoutMs: opts.firstRecordTimeout ?? 3_000,
    });
  }

  override get name(): string {
    return "xhr-streaming";
  }

  override pause(onPause: () => void): void {
    this.readyState = "pausing";
    let pending = this.writable ? 1 : 2;
    const done = (): void => {
      if (--pending > 0 || this.readyState !== "pausing") return;
      this.readyState = "paused";
      onPause();
    };
    if (!this.writable) this.once("drain", done);
    this.down.drain(done);
  }

  override close(): this {
    // The base class closes only what is opening or open; a pausing transport has a response open.
    if (this.readyState === "pausing" || this.readyState === "paused") {
      this.release();
      this.onClose();
      return this;
    }
    return super.close();
  }

  protected override doOpen(): void {
    if (!this.http) {
      // The engine listens only after open().
      this.stopWaiting = this.setTimer(() => this.fail("this platform cannot read a response while it comes", null), 0);
    } else if (this.isProbing) {
      this.leaveTheLeadToBetter();
    } else {
      this.down.open();
    }
  }

  protected override doClose(): void {
    // A close packet from a probe would end the session that goes on without it.
    const hasSession = this.readyState === "open" && !this.isProbing && !this.isGone;
    // A POST under way may carry the upgrade packet, without which the close packet would reach a mere candidate.
    const underWay = this.abortPost;
    if (hasSession) this.abortPost = undefined;
    this.release();
    if (!hasSession) return;
    let abort = underWay;
    const stopTimer = this.setTimer(() => abort?.(), CLOSE_TIMEOUT_MS);
    const sayGoodbye = (): void => {
      abort = this.platform.post(this.request({}), "1", stopTimer);
    };
    if (underWay) this.afterPost = sayGoodbye;
    else sayGoodbye();
  }

  protected override write(packets: Packet[]): void {
    this.writable = false;
    if (packets.some((packet) => packet.type === "upgrade")) this.isProbing = false;
    encodePayload(packets, (payload) => {
      const maxPayload = handshakeOf(this.socket)?.maxPayload ?? 0;
      this.outbox.push(...splitPayload(payload, maxPayload));
      if (!this.abortPost) this.postNext();
    });
  }

  protected override onPacket(packet: Packet): void {
    switch (packet.type) {
      case "noop":
        // While probing the engine takes the first packet for the answer; later it has no use for it.
        return;
      case "open":
        this.down.confirm();
        if (this.readyState === "opening") this.onOpen();
        break;
      case "pong":
        if (this.isProbing) this.down.confirm();
        break;
      case "close":
        this.closedByServer();
        return;
    }
    super.onPacket(packet);
  }

  private closedByServer(): void {
    const goodbye = (): void => {
      this.release();
      this.onClose({ description: "transport closed by the server" });
    };
    if (!this.abortPost) return goodbye();
    this.isGone = true;
    this.down.close();
    this.goodbye = goodbye;
    this.stopWaiting = this.setTimer(goodbye, LAST_ANSWER_MS);
  }

  /** One `POST` at a time: the upgrade packet must not be overtaken, nor overtake the probe. */
  private postNext(): void {
    if (this.readyState === "closed") return;
    const payload = this.outbox.shift();
    if (payload === undefined) {
      this.writable = true;
      this.emitReserved("drain");
      return;
    }
    this.abortPost = this.platform.post(this.request({}), payload, (failure) => {
      this.abortPost = undefined;
      if (this.afterPost) {
        this.afterPost();
        return;
      }
      const answer = failure instanceof Error ? undefined : failure;
      // Whether the server has had packets that failed is unknown, so they cannot be sent again.
      if (this.goodbye && !tellsCause(answer?.responseText)) {
        this.goodbye();
      } else if (answer) {
        this.isGone = answer.status >= 400 && answer.status < 500;
        this.fail("post error", answer.status, answer);
      } else if (failure) {
        this.fail("post error", failure);
      } else {
        this.down.extend();
        this.postNext();
      }
    });
  }

  /** Waits until WebSocket and WebTransport, being probed at the same time, have failed or had their time. */
  private leaveTheLeadToBetter(): void {
    const better = new Set(transportNames(this.opts).filter((name) => BETTER.includes(name)));
    const delay = this.opts.upgradeDelay ?? 3_000;
    if (better.size === 0 || delay <= 0) return this.down.open();
    const start = (): void => {
      this.stopWaiting?.();
      this.down.open();
    };
    const onUpgradeError = (error: Error & { transport?: string }): void => {
      better.delete(error.transport ?? "");
      if (better.size === 0) start();
    };
    const stopTimer = this.setTimer(start, delay);
    this.socket.on("upgradeError", onUpgradeError);
    this.stopWaiting = () => {
      this.stopWaiting = undefined;
      stopTimer();
      this.socket.off("upgradeError", onUpgradeError);
    };
  }

  private get platform(): Http {
    if (!this.http) throw new Error("not opened");
    return this.http;
  }

  private streamQuery(ack: number): Record<string, string> {
    const wanted = this.opts.padding ?? (this.platform.name === "xhr" ? PADDING_WITH_XHR : 0);
    const padding = Math.max(wanted, this.query.sid === undefined ? 0 : SIGN_OF_LIFE);
    const query = { ack: String(ack) };
    return padding > 0 ? { ...query, padding: String(Math.max(padding, MIN_PADDING)) } : query;
  }

  private request(query: Record<string, string>): HttpRequest {
    const { secure, timestampParam, timestampRequests, extraHeaders, withCredentials } = this.opts;
    const all: Record<string, string> = { ...this.query, ...query };
    if (timestampRequests !== false) all[timestampParam ?? "t"] = (Date.now() + stamp++).toString(36);
    return {
      url: this.createUri(secure ? "https" : "http", all),
      headers: extraHeaders ?? {},
      withCredentials: withCredentials ?? false,
      cookies: this.socket._cookieJar,
    };
  }

  private stallTimeoutMs(): number {
    const handshake = handshakeOf(this.socket);
    return this.opts.stallTimeout ?? (handshake ? handshake.pingInterval + handshake.pingTimeout / 4 : 0);
  }

  private setTimer(callback: () => void, ms: number): () => void {
    const timer = this.setTimeoutFn(callback, ms);
    if (this.opts.autoUnref) (timer as unknown as { unref?: () => void }).unref?.();
    return () => this.clearTimeoutFn(timer);
  }

  private fail(reason: string, description: unknown, answer?: ErrorAnswer): void {
    this.release();
    if (answer) tryNoOthersIfForbidden(this.socket, answer.responseText);
    this.onError(`xhr-streaming: ${reason}`, description, answer);
  }

  private release(): void {
    this.stopWaiting?.();
    this.down.close();
    this.abortPost?.();
    this.abortPost = undefined;
  }
}
